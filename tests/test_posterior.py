"""A posterior of one's own goes through `sample` whole, and is refused by name where it is none."""

import dataclasses
import json
import subprocess
import sys
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr

import finwidth as fw
from finwidth._layers.layer import Site
from finwidth._numerics.chains import summarize
from finwidth.models._posterior import Posterior
from finwidth.models._sites import sample_site

RNG = np.random.default_rng(41)
X, Y = RNG.normal(size=(8, 3)), RNG.normal(size=8)
X_TEST, Y_TEST = RNG.normal(size=(2, 3)), RNG.normal(size=2)
PRECISION, T = 1.5, 0.3
# as wide as one likes: of the identity only the product of the precisions matters
NET = fw.Network((7,), "identity", (PRECISION, 1.0))


def linear_model(X, y, precision, temperature):
    site = Site(("input",), (X.shape[1],), precision)
    f = X @ sample_site("w", site) / X.shape[1] ** 0.5
    numpyro.sample("y", dist.Normal(f, jnp.sqrt(temperature)), obs=y)


@dataclasses.dataclass(frozen=True)
class LinearProgram:
    keep: tuple[str, ...]

    def density(self, inputs):
        return linear_model, (inputs["X"], inputs["y"], inputs["precision"], inputs["T"]), {}

    def reduce(self, inputs, rng_key, sites):
        stored = {f"site:{name}": sites[name] for name in self.keep}
        if inputs["X_test"] is None:
            return stored
        return stored | {"f": inputs["X_test"] @ sites["w"] / sites["w"].size ** 0.5}


@dataclasses.dataclass(frozen=True, eq=False)
class Linear(Posterior):
    """Linear regression, y = w·x/√n + noise: the infinitely wide linear network."""

    name: ClassVar[str] = "linear"
    kind: ClassVar[str] = "exact"
    predictions: ClassVar[tuple[str, ...]] = ("f",)

    @property
    def sites(self):
        return {"w": Site(("input",), (self.X.shape[1],), self.network.weight_precision[0])}

    def inputs(self):
        arrays = {
            "X": self.X,
            "y": self.y,
            "precision": np.asarray(self.network.weight_precision[0]),
            "T": np.asarray(self.temperature),
            "X_test": self.X_test,
        }
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, float), arrays)

    def program(self, keep):
        return LinearProgram(keep)


def run(model=Linear, **changes):
    arguments = {
        "temperature": T,
        "X_test": X_TEST,
        "y_test": Y_TEST,
        "num_samples": 1000,
        "num_chains": 2,
        "progress": False,
    } | changes
    return fw.sample(NET, X, Y, model=model, **arguments)


@pytest.fixture(scope="module")
def tree():
    return run()


def test_moments_are_exact(tree):
    """Bishop, Pattern Recognition and Machine Learning (2006), eqs. (3.50) and (3.51)."""
    features = X / 3**0.5
    inverse = features.T @ features / T + PRECISION * np.eye(3)
    mean, covariance = np.linalg.solve(inverse, features.T @ Y / T), np.linalg.inv(inverse)
    w = tree["posterior"]["w"].transpose("chain", "draw", "input").values
    centred = w - mean
    squares = np.einsum("cdi,cdj->cdij", centred, centred).reshape(2, -1, 9)
    for values, exact in ((w, mean), (squares, covariance.ravel())):
        series = summarize(values)
        assert np.all(np.abs(series.mean - exact) < 4 * series.mcse)
        assert np.all(series.r_hat < 1.02)
        assert np.all(series.ess_bulk > 200)


def test_tree_and_comparison(tree):
    """The wide linear network has the same posterior, so its theory and the draws agree."""
    record = json.loads(tree.attrs["provenance"])
    assert (record["model"], record["sampler"], record["keep"]) == ("linear", "split_hmc", ["w"])
    assert set(tree["predictions"].data_vars) == {"f"}
    theory = fw.solve(NET, X, Y, temperature=T, theory="infinite")
    report = fw.compare(theory, tree)
    assert report.attrs["posterior"] == "exact"
    assert report.outcome.item() == "no disagreement", report.verdict.item()


def test_checkpoint(tree, tmp_path):
    run(checkpoint=tmp_path / "c", num_samples=975)  # whole blocks: the rest comes as it would have
    again = run(checkpoint=tmp_path / "c")
    for group in ("posterior", "sample_stats", "predictions"):
        xr.testing.assert_equal(again[group].to_dataset(), tree[group].to_dataset())

    class Other(Linear):
        pass

    with pytest.raises(
        fw.InputError, match=r"expected a checkpoint of the same run, got posterior_digest ="
    ):
        run(Other, checkpoint=tmp_path / "c")


def test_arguments_of_its_own():
    @dataclasses.dataclass(frozen=True, eq=False)
    class Chosen(Linear):
        theory: str = "plain"

        def check(self):
            if self.theory != "plain":
                raise fw.InputError(f"expected theory = 'plain', got {self.theory!r}")

    few = {"num_warmup": 0, "num_samples": 1, "num_chains": 1, "keep": ["w"]}
    assert json.loads(run(Chosen, **few).attrs["provenance"])["theory"] == "plain"
    with pytest.raises(fw.InputError, match="expected theory = 'plain', got 'odd'"):
        run(Chosen, theory="odd")
    with pytest.raises(
        fw.InputError, match="expected theory = None with model='linear', got 'odd'"
    ):
        run(theory="odd")


class Nameless(Linear):
    name = ""


class Shapeless(Linear):
    sites = {"w": ("input",)}


class Unsized(Linear):
    sites = {"w": Site(("input",), ())}


class Listed(Linear):
    sites = ["w"]


class Empty(Linear):
    sites = {}


class Abstract(Posterior):
    name = "abstract"
    kind = "exact"


class Unknown(Linear):
    default_sampler = "none"


class NotGaussian(Linear):
    sites = {"w": Site(("input",), (3,))}


class Numbers(Linear):
    def inputs(self):
        return super().inputs() | {"T": self.temperature}


def other(part):
    """A program with another `density` or `reduce`."""

    class Changed(LinearProgram):
        pass

    for name, function in part.items():
        setattr(Changed, name, function)

    class Model(Linear):
        def program(self, keep):
            return Changed(keep)

    return Model


def nan(X, y, *_):
    numpyro.factor("y", jnp.nan * jnp.sum(sample_site("w", Site(("input",), (X.shape[1],), 1.0))))


def reduced(**changes):
    """A reduction with some entries changed; None leaves one out."""

    def reduce(self, inputs, rng_key, sites):
        stored = LinearProgram.reduce(self, inputs, rng_key, sites) | changes
        return {name: value for name, value in stored.items() if value is not None}

    return other({"reduce": reduce})


class NoProgram(Linear):
    def program(self, keep):
        return list(keep)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (Nameless, fw.PluginError, "expected name of the posterior Nameless = a non-empty string"),
        (Abstract, fw.PluginError, "expected model 'abstract' with inputs, program, sites, got"),
        (Shapeless, fw.PluginError, "expected site 'w' of model 'linear' = a Site with the name"),
        (Unsized, fw.PluginError, "expected site 'w' of model 'linear' = a Site with the name"),
        (Listed, fw.PluginError, "expected sites of model 'linear' = a dict of Site"),
        (Empty, fw.PluginError, "expected sites of model 'linear' = a dict of Site, at least one"),
        (Unknown, fw.PluginError, "expected default_sampler of model 'linear' = one of"),
        (NotGaussian, fw.InputError, "with model='linear', whose sites are not Gaussian, got 's"),
        (Numbers, fw.PluginError, "expected inputs of model 'linear' = a pytree of arrays, got 0"),
        (NoProgram, fw.PluginError, "expected a program of model 'linear' with density and reduce"),
        (other({"__hash__": None}), fw.PluginError, "of model 'linear' that has a hash, got"),
        (
            other({"density": lambda *_: linear_model}),
            fw.PluginError,
            r"expected density of model 'linear' = \(NumPyro model, arguments, keywords\), got",
        ),
        (
            other({"density": lambda _, inputs: (nan, (inputs["X"], inputs["y"]), {})}),
            fw.InputError,
            "expected a finite log density and gradient of model 'linear' where the chains start",
        ),
        (
            other({"reduce": lambda *_: jnp.zeros(3)}),
            fw.PluginError,
            "expected a dict of what model 'linear' stores of a draw, got",
        ),
        (
            reduced(**{"site:w": jnp.zeros((3, 1))}),
            fw.PluginError,
            r"expected 'site:w' of shape \(3,\) of a draw of model 'linear', got shape \(3, 1\)",
        ),
        (
            reduced(**{"site:w": None}),
            fw.PluginError,
            r"expected 'site:w' of shape \(3,\) of a draw of model 'linear', got none",
        ),
        (reduced(f=jnp.zeros(())), fw.PluginError, r"expected 'f' of shape \(2,\) of a draw"),
        (reduced(g=jnp.zeros(2)), fw.PluginError, "of a draw of model 'linear', got 'g', too"),
    ],
)
def test_what_is_no_posterior_is_refused_by_name(model, error, message):
    with pytest.raises(error, match=message) as info:
        run(model, num_chains=1)
    assert "\n" not in str(info.value)


@pytest.mark.slow
def test_shapes_are_those_of_one_chain_where_all_advance_side_by_side():
    few = {"num_warmup": 0, "num_samples": 1, "chain_method": "vectorized"}
    assert run(**few)["posterior"]["w"].shape == (2, 1, 3)
    with pytest.raises(fw.PluginError, match=r"'f' of shape \(2,\) .*, got shape \(2, 2\)"):
        run(reduced(f=jnp.zeros((2, 2))), **few)


def test_sampling_the_weights_loads_no_theory():
    code = (
        "import sys, finwidth.models, finwidth._sampling.sample\n"
        "loaded = [name for name in sys.modules if name.startswith('finwidth.theories')]\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
