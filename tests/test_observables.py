"""Observables of a user's own go through solve, sample and compare; broken ones are refused."""

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import reference
import xarray as xr
from scipy.special import ndtr

import finwidth as fw
from finwidth._observables import SHELF, Draws, Estimate, accuracy, squared_error
from finwidth._observables._observable import estimates, observables, predictions
from finwidth._observables.squared_error import SquaredError
from finwidth._plugins import registry

QUANTITIES = (*squared_error.QUANTITIES, *accuracy.QUANTITIES)
RNG = np.random.default_rng(5)
NETWORK = fw.Network((8,), "erf")
X, Y = RNG.normal(size=(6, 3)), np.sign(RNG.normal(size=6))
X_TEST, Y_TEST = RNG.normal(size=(5, 3)), np.sign(RNG.normal(size=5))


class RightSign(fw.Observable):
    """The probability that f has the sign of the label, and how far the posterior mean is off."""

    name = "right_sign"
    quantities = ("right_sign", "mean_deviation")

    def defined(self, y_test):
        return bool(np.all(np.abs(y_test) == 1))

    def of_prediction(self, prediction, y_test):
        share = ndtr(y_test * prediction.mean / np.sqrt(prediction.variance)).mean()
        return {
            "right_sign": share,
            "mean_deviation": np.mean(np.abs(y_test - prediction.mean)),
        }

    def of_draws(self, draws, y_test):
        with np.errstate(divide="ignore"):
            share = ndtr(y_test * draws.mean / np.sqrt(draws.variance)).mean(axis=-1)
        difference = y_test - draws.patterns.mean
        deviation = draws.of_posterior_mean(
            np.mean(np.abs(difference)), -np.sign(difference) / y_test.size
        )
        return {"mean_deviation": deviation, "right_sign": share}


def plugin(*items: fw.Observable) -> Any:
    class Plugin:
        @fw.hookimpl
        def finwidth_register_observables(self) -> list:
            return list(items)

    return Plugin()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(registry.VARIABLE, "")
    registry.reset()
    yield
    registry.reset()


@pytest.fixture(scope="module")
def run() -> tuple[fw.Solution, xr.DataTree]:
    solution = fw.solve(NETWORK, X, Y, temperature=0.2)
    return solution, reference.made_up_run(solution, X_TEST, Y_TEST)


def test_an_observable_of_one_s_own_is_compared(run: tuple[fw.Solution, xr.DataTree]) -> None:
    solution, tree = run
    before = fw.compare(solution, tree)
    assert before["quantity"].values.tolist() == list(QUANTITIES)
    fw.register_plugin(plugin(RightSign()), "signs")
    report = fw.compare(solution, tree)
    assert report["quantity"].values.tolist() == [*QUANTITIES, *RightSign.quantities]
    old = report.sel(quantity=list(QUANTITIES))
    for name in ("theory", "exact", "mcse", "z"):
        np.testing.assert_array_equal(old[name], before[name])

    prediction, draws = solution.predict(X_TEST), tree["predictions"]
    theory = ndtr(Y_TEST * prediction.mean / np.sqrt(prediction.variance)).mean()
    exact = ndtr(Y_TEST * draws.f_mean.values / np.sqrt(draws.f_variance.values)).mean()
    one = report.sel(quantity="right_sign")
    assert float(one.theory) == pytest.approx(theory, rel=1e-12)
    assert float(one.exact) == pytest.approx(exact, rel=1e-12)
    assert 0 < float(one.mcse) < 0.1
    one = report.sel(quantity="mean_deviation")
    mean = draws.f_mean.values.mean(axis=(0, 1))
    assert float(one.exact) == pytest.approx(np.mean(np.abs(Y_TEST - mean)), rel=1e-12)

    group = fw.attach(tree.copy(), solution)["theory/nested"]
    assert float(group["right_sign"]) == pytest.approx(theory, rel=1e-12)
    assert set(QUANTITIES) < set(group.data_vars)


def test_what_is_not_defined_for_the_labels_is_left_out() -> None:
    fw.register_plugin(plugin(RightSign()), "signs")
    assert "right_sign" in [one.name for one in observables(Y_TEST)]
    assert [one.name for one in observables(0.5 * Y_TEST)] == ["squared_error"]


def test_what_a_prediction_or_draws_lack_is_left_out(run: tuple[fw.Solution, xr.DataTree]) -> None:
    class OfProbabilities(RightSign):
        def covers(self, given, y_test):
            return given.probabilities is not None

    fw.register_plugin(plugin(OfProbabilities()), "probabilities")
    solution, tree = run
    names = [*QUANTITIES]
    assert list(solution.scores(X_TEST, Y_TEST)) == names
    assert [name for name in fw.scores(tree) if not str(name).endswith("_mcse")] == names
    assert fw.compare(solution, tree)["quantity"].values.tolist() == names


def test_estimates_scatter_as_their_mcse_says() -> None:
    """Of independent Gaussians, whose right_sign and mean_deviation are known."""
    mean, sd = np.array([0.8, -0.6, 1.2, 0.3, -0.9]), np.array([0.9, 0.3, 0.7, 1.2, 0.6])
    truth = RightSign().of_prediction(SimpleNamespace(mean=mean, variance=sd**2), Y_TEST)
    z = []
    for seed in range(100):
        f = mean + sd * np.random.default_rng(seed).normal(size=(2, 200, 5))
        draws = Draws(f, np.zeros_like(f))
        found = estimates([RightSign()], draws, Y_TEST)
        for name, one in found.items():
            error = one.series.std() / math.sqrt(one.series.size)  # independent draws
            z.append((one.series.mean() + one.offset - truth[name]) / error)
    # 200 numbers of variance 1: mean and variance are within 4 of their standard deviations
    assert abs(np.mean(z)) < 4 / math.sqrt(100)
    assert abs(np.var(z) - 1) < 4 * math.sqrt(2 / 100)


def test_a_share_that_no_draw_changes_has_no_z(run: tuple[fw.Solution, xr.DataTree]) -> None:
    class Constant(RightSign):
        name, quantities = "certain", ("certain",)

        def of_prediction(self, prediction, y_test):
            return {"certain": 0.99}

        def of_draws(self, draws, y_test):
            return {"certain": np.ones(draws.mean.shape[:2])}

    fw.register_plugin(plugin(Constant()), "constant")
    solution, tree = run
    report = fw.compare(solution, tree, ess_per_chain=1.0, r_hat_limit=2.0, z_limit=1e6)
    assert np.isnan(float(report.z.sel(quantity="certain")))
    assert report.attrs["outcome"] == "no disagreement"
    assert "certain" not in report.attrs["verdict"]


class Broken(RightSign):
    """One observable for each way to break the protocol."""

    def __init__(self, prediction: Any = 0.5, draws: Any = None) -> None:
        self.prediction, self.draws = prediction, draws

    name, quantities = "broken", ("share",)

    def defined(self, y_test):
        return True

    def of_prediction(self, prediction, y_test):
        return (
            self.prediction
            if callable(getattr(self.prediction, "get", None))
            else {"share": self.prediction}
        )

    def of_draws(self, draws, y_test):
        value = np.zeros(draws.mean.shape[:2]) if self.draws is None else self.draws(draws)
        return value if isinstance(value, dict) else {"share": value}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prediction": math.nan}, "share of a prediction = a finite float, got nan"),
        ({"prediction": "0.5"}, "share of a prediction = a finite float, got '0.5'"),
        ({"prediction": np.ones(5)}, "share of a prediction = a finite float, got array"),
        ({"prediction": {}}, r"of_prediction = a mapping with \['share'\], got \[\]"),
        ({"prediction": {"x": 1}}, r"of_prediction = a mapping with \['share'\], got \['x'\]"),
        ({"draws": lambda d: d.mean}, r"shape \(2, 4\), \(chain, draw\), got \(2, 4, 5\)"),
        ({"draws": lambda d: d.mean[0, :, 0]}, r"shape \(2, 4\), .*, got \(4,\)"),
        ({"draws": lambda d: d.mean[..., 0].T}, r"shape \(2, 4\), .*, got \(4, 2\)"),
        ({"draws": lambda d: 0.5}, r"shape \(2, 4\), .*, got \(\)"),
        ({"draws": lambda d: np.full((2, 4), np.nan)}, "finite numbers, got 8 of 10 .*first nan"),
        ({"draws": lambda d: Estimate(np.ones((2, 4)), math.inf)}, "finite numbers, got 1 of 10"),
        ({"draws": lambda d: {"x": 1}}, r"of_draws = a mapping with \['share'\], got \['x'\]"),
        ({"draws": lambda d: "many"}, "expected share = a real numeric array"),
        ({"draws": lambda d: d.of_posterior_mean(1.0, 1.0)}, r"slopes of shape \(5,\), got \(\)"),
    ],
)
def test_a_broken_observable_is_refused_by_name(arguments: dict, message: str) -> None:
    f = RNG.normal(size=(2, 4, 5))
    draws, broken = Draws(f, np.zeros_like(f)), Broken(**arguments)
    with pytest.raises(fw.PluginError, match=f"^observable 'broken': .*{message}") as caught:
        predictions([broken], SimpleNamespace(mean=f[0, 0], variance=f[0, 0] ** 2), Y_TEST)
        estimates([broken], draws, Y_TEST)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "expected a list of finwidth.Observable, each with a non-empty name"),
        ({"name": None}, "each with a non-empty name, got name = None of Changed"),
        ({"quantities": ()}, "expected quantities of observable 'broken' = a tuple of different"),
        ({"quantities": "share"}, "= a tuple of different names, got 'share'"),
        ({"quantities": ("share", "share")}, "= a tuple of different names, got"),
        ({"name": "squared_error"}, "'squared_error' from finwidth itself"),
    ],
)
def test_an_observable_without_names_is_not_registered(changes: dict, message: str) -> None:
    changed, names = type("Changed", (Broken,), changes), SHELF.names()
    with pytest.raises(fw.PluginError, match=message):
        fw.register_plugin(plugin(changed()), "broken")
    assert SHELF.names() == names


def test_what_is_no_observable_is_refused() -> None:
    with pytest.raises(fw.PluginError, match=r"a list of finwidth.Observable, got .* in it"):
        fw.register_plugin(plugin(RightSign), "class")  # pyright: ignore[reportArgumentType]


def test_a_quantity_belongs_to_one_observable() -> None:
    class Second(RightSign):
        name, quantities = "second", ("bias2",)

    fw.register_plugin(plugin(Second()), "second")
    with pytest.raises(fw.PluginError, match="'bias2' of 'squared_error' and of 'second'"):
        observables(Y_TEST)


def test_numbers_that_are_not_finite_stay_the_theory_s_fault() -> None:
    """A theory or chains that hold NaN are for `compare` to judge."""
    bad = SimpleNamespace(mean=np.full(5, np.nan), variance=np.ones(5))
    assert math.isnan(predictions([SquaredError()], bad, Y_TEST)["error"])
    huge = SimpleNamespace(mean=np.full(5, 1e200), variance=np.ones(5))
    with np.errstate(over="ignore"):
        assert predictions([SquaredError()], huge, Y_TEST)["error"] == math.inf
