"""Runs of the sampler: what they return, and that it is the posterior."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import reference
import xarray as xr

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth._sampling import engine as _engine
from finwidth.models._rotation import rotate_inputs

RNG = np.random.default_rng(13)
X = RNG.normal(size=(14, 5))
Y = np.where(RNG.random(14) < 0.5, -1.0, 1.0)
X_TEST = RNG.normal(size=(4, 5))
Y_TEST = np.where(RNG.random(4) < 0.5, -1.0, 1.0)


def run(net, **changes):
    arguments = {
        "temperature": 0.1,
        "X_test": X_TEST,
        "y_test": Y_TEST,
        "num_warmup": 100,
        "num_samples": 100,
        "progress": False,
    } | changes
    return fw.sample(net, X, Y, **arguments)


@pytest.fixture(scope="module")
def small():
    net = fw.Network((3,), "erf", (1.0, 0.8), 2.0)
    return net, run(net, num_chains=2, num_samples=30, seed=3)


def estimates(tree):
    """Mean and MCSE of the test error and of f(x), over chains and draws."""
    import arviz as az

    predictions = tree["predictions"]
    f = predictions["f"]
    if "f_mean" in predictions:
        squares = (Y_TEST - predictions["f_mean"]) ** 2 + predictions["f_variance"]
        f = predictions["f_mean"]
    else:
        squares = (Y_TEST - f) ** 2
    everything = xr.Dataset({"error": squares.mean("test_pattern"), "f": f})
    mcse = az.mcse(everything)
    mean = everything.mean(("chain", "draw"))
    pack = lambda data: np.append(data["f"].values, float(data["error"]))  # noqa: E731
    return pack(mean), pack(mcse)


def test_groups_and_dimensions(small):
    _, tree = small
    assert set(tree.children) == {
        "posterior",
        "sample_stats",
        "observed_data",
        "constant_data",
        "predictions",
        "predictions_constant_data",
        "log_likelihood",
        "log_prior",
        "posterior_predictive",
    }
    dims = {name: value.dims for name, value in tree["posterior"].data_vars.items()}
    assert dims == {
        "W_1": ("chain", "draw", "unit", "input"),
        "b_1": ("chain", "draw", "unit"),
        "v": ("chain", "draw", "unit"),
        "b_out": ("chain", "draw"),
    }
    for name in ("f", "f_mean", "f_variance"):
        assert tree["predictions"][name].dims == ("chain", "draw", "test_pattern")
        assert tree["predictions"][name].shape == (2, 30, 4)
    assert tree["observed_data"]["y"].dims == ("pattern",)
    assert tree["constant_data"]["X"].dims == ("pattern", "input")
    assert tree["predictions_constant_data"]["X_test"].dims == ("test_pattern", "input")
    statistics = set(tree["sample_stats"].data_vars)
    assert {"energy", "lp", "diverging", "n_steps", "acceptance_rate", "step_size"} <= statistics
    assert tree["sample_stats"]["diverging"].dtype == bool
    for node in tree.subtree:
        assert "sample" not in node.dims


def test_provenance(small):
    net, tree = small
    record = json.loads(tree.attrs["provenance"])
    assert record["network"]["widths"] == [3]
    assert record["network"]["weight_precision"] == [1.0, 0.8]
    expected = {"temperature": 0.1, "model": "marginal", "sampler": "split_hmc", "seed": 3}
    assert expected.items() <= record.items()
    assert {"versions", "device", "plugins", "created"} <= set(record)


def test_round_trip_through_a_file(small, tmp_path):
    import arviz as az

    _, tree = small
    fw.save(tree, tmp_path / "run.nc")
    for loaded in (fw.load(tmp_path / "run.nc"), az.from_netcdf(tmp_path / "run.nc")):
        xr.testing.assert_identical(
            loaded["posterior"].to_dataset(), tree["posterior"].to_dataset()
        )
        assert loaded.attrs["provenance"] == tree.attrs["provenance"]
    summary = az.summary(tree, var_names=["v"])
    assert len(summary) == 3


def test_stored_readout_and_weights_give_the_stored_f(small):
    net, tree = small
    posterior = tree["posterior"].isel(chain=1, draw=7)
    values = {name: jnp.asarray(value.values) for name, value in posterior.data_vars.items()}
    features = fw.models.hidden_features(net, values, jnp.asarray(X_TEST))
    f = features @ values["v"] / np.sqrt(3) + values["b_out"]
    # eager JAX here is float32
    np.testing.assert_allclose(tree["predictions"]["f"][1, 7], f, atol=1e-5)


def test_same_seed_same_draws_and_chains_differ(small):
    net, tree = small
    again = run(net, num_chains=2, num_samples=30, seed=3)
    xr.testing.assert_equal(again["posterior"].to_dataset(), tree["posterior"].to_dataset())
    xr.testing.assert_equal(again["predictions"].to_dataset(), tree["predictions"].to_dataset())
    assert not np.allclose(tree["predictions"]["f"][0], tree["predictions"]["f"][1])


def test_draws_do_not_depend_on_the_number_of_threads(small, monkeypatch):
    net, tree = small
    monkeypatch.setattr(_engine, "cpu_count", lambda: 1)
    again = run(net, num_chains=2, num_samples=30, seed=3)
    xr.testing.assert_equal(again["posterior"].to_dataset(), tree["posterior"].to_dataset())


def test_keep_and_thin(small):
    net, _ = small
    tree = run(net, num_chains=2, num_samples=30, keep=["b_out", "v"], thin=3)
    assert set(tree["posterior"].data_vars) == {"v", "b_out"}
    plain = run(net, num_chains=2, num_samples=90)
    for group, name in (("posterior", "v"), ("posterior", "b_out"), ("predictions", "f_mean")):
        np.testing.assert_array_equal(tree[group][name], plain[group][name][:, 2::3])
    steps = plain["sample_stats"]["n_steps"].values.reshape(2, 30, 3).sum(axis=2)
    np.testing.assert_array_equal(tree["sample_stats"]["n_steps"], steps)


def test_large_hidden_weights_are_not_stored_by_default(monkeypatch, small):
    import finwidth._sampling.plan as module

    monkeypatch.setattr(module, "_DEFAULT_STORE", 1000)
    tree = run(small[0], num_chains=2, num_samples=10, thin=3)
    assert set(tree["posterior"].data_vars) == {"v", "b_out"}


@pytest.mark.slow
def test_seeds_that_differ_anywhere_give_other_draws():
    """With ints of 32 bits, too, of which JAX would take the lower half alone."""
    seeds = [3, 2**31 + 3, 2**32 + 3, 2**33 + 3, 2**62 + 3]
    settings = {"num_warmup": 0, "num_samples": 1, "num_chains": 1, "dtype": "float32"}
    trees = [run(fw.Network((3,), "erf"), seed=seed, **settings) for seed in seeds]
    draws = [float(tree["posterior"]["v"].values.ravel()[0]) for tree in trees]
    assert len(set(draws)) == len(seeds)


def test_float32_runs():
    tree = run(fw.Network((3,), "erf"), num_chains=1, num_samples=10, dtype="float32")
    assert tree["posterior"]["W_1"].dtype == np.float32
    assert np.all(np.isfinite(tree["predictions"]["f"]))


def dependent_inputs(n_patterns, n_inputs, n_free):
    """Patterns whose inputs are combinations of `n_free` of them; the last one is always 0."""
    X = RNG.normal(size=(n_patterns, n_free)) @ RNG.normal(size=(n_free, n_inputs))
    X[:, -1] = 0.0
    return X


@pytest.mark.parametrize(
    ("n_inputs", "n_patterns", "n_free", "coordinates"),
    [(5, 3, 5, 3), (40, 12, 40, 12), (40, 12, 5, 6), (8, 20, 3, 4), (2, 30, 1, 1)],
)
def test_input_rotation_keeps_every_covariance(n_inputs, n_patterns, n_free, coordinates):
    X = dependent_inputs(n_patterns, n_inputs, n_free)
    X_test = RNG.normal(size=(6, n_inputs))
    rotation = rotate_inputs(X, X_test)
    rank = rotation.train.shape[1]
    assert rank == coordinates
    scale = lambda a, b: a @ b.T / a.shape[1]  # noqa: E731
    np.testing.assert_allclose(scale(rotation.train, rotation.train), scale(X, X), atol=1e-12)
    np.testing.assert_allclose(
        scale(rotation.test, rotation.test), scale(X_test, X_test), atol=1e-12
    )
    extended = rotation.test[:, :rank] * np.sqrt(rotation.test.shape[1] / rank)
    # the shared coordinates give the covariance of training and test preactivations
    cross = rotation.train @ rotation.test[:, :rank].T / np.sqrt(rank * rotation.test.shape[1])
    np.testing.assert_allclose(cross, X @ X_test.T / n_inputs, atol=1e-12)
    assert extended.shape == (6, rank)
    # restored weights act on the training set as the rotated ones do
    import jax

    with float64():
        weights = jnp.asarray(RNG.normal(size=(4, rank)))
        full = rotation.restore(jax.random.key(0), weights, 0.7)
        np.testing.assert_allclose(
            X @ full.T / np.sqrt(n_inputs),
            rotation.train @ weights.T / np.sqrt(rank),
            atol=1e-12,
        )
        # and have the prior's covariance in every direction: 1/0.7 where they had it
        many = jnp.asarray(RNG.normal(size=(20_000, rank)) / np.sqrt(0.7))
        full = np.asarray(rotation.restore(jax.random.key(1), many, 0.7))
        covariance = full.T @ full / len(full)
        assert np.max(np.abs(covariance - np.eye(n_inputs) / 0.7)) < 6 * np.sqrt(2 / 20_000) / 0.7


@pytest.mark.parametrize("n_inputs", [pytest.param(3, marks=pytest.mark.slow), 9])
def test_one_chain_without_test_points(n_inputs):
    X = RNG.normal(size=(6, n_inputs))
    tree = fw.sample(
        fw.Network((3,), "erf"), X, RNG.normal(size=6), temperature=0.1, num_chains=1,
        num_samples=10, progress=False,
    )  # fmt: skip
    assert tree["posterior"]["W_1"].shape == (1, 10, 3, n_inputs)
    assert "predictions" not in tree


def test_rotation_is_not_used_where_it_saves_nothing():
    assert rotate_inputs(RNG.normal(size=(5, 5)), np.ones((2, 5))) is None
    assert rotate_inputs(RNG.normal(size=(9, 5)), np.ones((2, 5))) is None
    # data of the same shapes share a program, whatever their ranks from half of the inputs up
    assert rotate_inputs(dependent_inputs(9, 8, 5), np.ones((2, 8))) is None
    assert rotate_inputs(np.zeros((9, 5)), np.ones((2, 5))) is None


@pytest.mark.parametrize(
    ("n_inputs", "n_patterns", "n_free"),
    [(25, 6, 25), pytest.param(8, 9, 4, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("keep", [pytest.param(["v"], marks=pytest.mark.slow), ["W_1", "v"]])
def test_rotated_run_agrees_with_the_exact_mixture(n_inputs, n_patterns, n_free, keep):
    """Identity network, N_0 > P or dependent inputs: every direction of the test points counts."""
    wide = dependent_inputs(n_patterns, n_inputs, n_free) / np.sqrt(n_free)
    test = RNG.normal(size=(4, n_inputs))
    labels = RNG.normal(size=n_patterns)
    net = fw.Network((4,), "identity")
    _, mean, variance = reference.identity_mixture(net, wide, labels, 0.2, test, nodes=300)
    exact_error = np.mean((Y_TEST - mean) ** 2 + variance)
    tree = fw.sample(
        net, wide, labels, temperature=0.2, X_test=test, y_test=Y_TEST, keep=keep,
        num_samples=1500, progress=False,
    )  # fmt: skip
    value, mcse = estimates(tree)
    z = (value - np.append(mean, exact_error)) / mcse
    assert np.max(np.abs(z)) < 4
    if "W_1" in keep:
        assert tree["posterior"]["W_1"].shape[2:] == (4, n_inputs)


@pytest.mark.parametrize(
    ("activation", "seed"),
    [
        ("erf", 0),
        ("erf", 1),
        ("relu", 0),
        ("relu", 1),
    ],
)
@pytest.mark.slow
def test_both_models_have_the_same_posterior(activation, seed):
    net = fw.Network((4,), activation, bias_precision=1.5)
    marginal = estimates(run(net, num_samples=800, seed=seed))
    network = estimates(run(net, num_samples=2500, seed=seed, model="network"))
    z = (marginal[0] - network[0]) / np.hypot(marginal[1], network[1])
    assert np.max(np.abs(z)) < 4


@pytest.mark.parametrize("sampler", ["split_hmc", pytest.param("nuts", marks=pytest.mark.slow)])
@pytest.mark.parametrize("model", [pytest.param("marginal", marks=pytest.mark.slow), "network"])
def test_identity_network_reproduces_the_exact_mixture(model, sampler):
    """theory.md, section 6: the identity network's prior is the mixture, exactly."""
    net = fw.Network((5,), "identity")
    _, mean, variance = reference.identity_mixture(net, X, Y, 0.1, X_TEST, nodes=300)
    exact = np.append(mean, np.mean((Y_TEST - mean) ** 2 + variance))
    tree = run(net, model=model, sampler=sampler, num_samples=1500, num_warmup=300)
    value, mcse = estimates(tree)
    assert np.max(np.abs((value - exact) / mcse)) < 4
    assert mcse[-1] < 0.02 * exact[-1]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["marginal", "network"])
def test_identity_network_on_digits_has_the_error_of_the_quadrature(model):
    """theory.md, section 6: 0.08271 by quadrature for N_1 = 5 at T = 0.01."""
    data = fw.load_dataset("digits", classes=(0, 1), n_train=100, n_test=100)
    net = fw.Network((5,), "identity")
    arguments = (data.X_train, data.y_train)
    _, mean, variance = reference.identity_mixture(net, *arguments, 0.01, data.X_test, nodes=400)
    exact = np.mean((data.y_test - mean) ** 2 + variance)
    assert exact == pytest.approx(0.08271, abs=6e-6)
    tree = fw.sample(
        net, *arguments, temperature=0.01, X_test=data.X_test, y_test=data.y_test,
        model=model, num_samples=4000, progress=False,
    )  # fmt: skip
    theory = fw.solve(net, *arguments, temperature=0.01)
    report = fw.compare(theory, tree).sel(quantity="error")
    assert abs(float(report.exact) - exact) < 4 * float(report.mcse)
    assert float(theory.generalization_error(data.X_test, data.y_test).error) == pytest.approx(
        0.08242, abs=6e-6
    )


BAD = [
    ({"temperature": 0.0}, "expected temperature = a finite float > 0, got 0"),
    ({"temperature": -1.0}, "expected temperature"),
    ({"sampler": "nut"}, r"expected sampler = one of .* \(did you mean 'nuts'\?\)"),
    ({"model": "margnal"}, r"expected model = one of .* \(did you mean 'marginal'\?\)"),
    ({"num_samples": 0}, "expected num_samples = an int of at least 1, got 0"),
    ({"num_warmup": -1}, "expected num_warmup"),
    ({"num_chains": 0}, "expected num_chains"),
    ({"seed": -1}, "expected seed"),
    ({"thin": 0}, "expected thin"),
    ({"keep": ["w"]}, "expected keep = names out of"),
    ({"dtype": "float16"}, "expected dtype = one of"),
    ({"X_test": X_TEST[:, :-1]}, r"expected X_test = an array of shape \(pattern, 5\)"),
    ({"y_test": Y_TEST[:-1]}, "expected y_test = an array of shape"),
    ({"X_test": None}, "expected X_test together with y_test"),
    ({"X_test": X_TEST * np.nan}, "expected X_test = finite"),
    ({"sampler_options": {"trajektory": 1.0}}, "expected sampler_options"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_input_is_one_clear_line(change, message, unchecked_types):
    with pytest.raises(fw.InputError, match=message) as info:
        run(fw.Network((3,), "erf"), **change)
    assert "got" in str(info.value)
    assert "\n" not in str(info.value)


def test_the_warm_up_computes_nothing_that_nobody_sees(monkeypatch, small):
    net, tree = small
    advance = _engine.Engine.advance
    seen, stored = [], []

    def watched(self, count, *rest, reduced=True, **more):
        if not seen:
            numbers = (jnp.asarray(1), jnp.asarray(1), jnp.asarray(False))
            *_, block = self._chains.block(
                self.states[0], self._draw_keys[0], *numbers, self._inputs
            )
            stored.extend(np.asarray(block[name]) for name in ("f", "f_mean", "site:W_1"))
        seen.append(reduced)
        return advance(self, count, *rest, **more)  # reduced, whatever was asked

    monkeypatch.setattr(_engine.Engine, "advance", watched)
    again = run(net, num_chains=2, num_samples=30, seed=3)
    assert seen == [False] * (len(seen) - 2) + [True] * 2 and len(seen) > 2
    assert all(values.size and not np.any(values) for values in stored)
    np.testing.assert_array_equal(again["predictions"]["f"], tree["predictions"]["f"])


def test_interruption_keeps_the_draws(monkeypatch, small):
    net, tree = small
    advance = _engine.Engine.advance
    calls = []

    def interrupted(self, count, *rest, **more):
        calls.append(count)
        if len(calls) == 7:  # five blocks of warm-up, one of draws
            raise KeyboardInterrupt
        return advance(self, count, *rest, **more)

    monkeypatch.setattr(_engine.Engine, "advance", interrupted)
    with pytest.raises(fw.SamplingInterrupted, match="interrupted after 25 of 30 draws") as info:
        run(net, num_chains=2, num_samples=30, seed=3)
    kept = info.value.tree
    np.testing.assert_array_equal(kept["predictions"]["f"], tree["predictions"]["f"][:, :25])
    assert json.loads(kept.attrs["provenance"])["interrupted"] is True


class FullDisk:
    """A stream to a file on a disk without space."""

    encoding = "utf-8"

    def isatty(self):
        return False

    def write(self, _):
        raise OSError(28, "No space left on device")

    flush = fileno = lambda self: self.write("")


@pytest.mark.parametrize("stream", [FullDisk(), None], ids=["full disk", "no stderr"])
def test_progress_that_cannot_be_shown_does_not_cost_the_run(monkeypatch, stream):
    monkeypatch.setattr("sys.stderr", stream)
    settings = {"num_warmup": 0, "num_samples": 1, "num_chains": 1, "dtype": "float32"}
    tree = run(fw.Network((3,), "erf"), progress=True, **settings)
    assert tree["posterior"].sizes["draw"] == 1
