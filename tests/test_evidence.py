"""The temperature of largest evidence, and λ_L with it: stationary, in the user's units."""

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize

import finwidth as fw
from finwidth.theories.infinite import Infinite

RNG = np.random.default_rng(3)
X = RNG.normal(size=(30, 4))
Y = np.tanh(X @ RNG.normal(size=4)) + 0.4 * RNG.normal(size=30)
NET = fw.Network((12,), "erf", (1.0, 0.8))


def slope(net: fw.Network, temperature: float, theory: str) -> float:
    """Derivative of the log evidence with respect to log T."""
    step = 1e-4
    up, down = (
        fw.solve(net, X, Y, temperature=temperature * np.exp(s), theory=theory).log_evidence
        for s in (step, -step)
    )
    return (up - down) / (2 * step)


@pytest.mark.parametrize("theory", ["nested", "mixture"])
def test_the_evidence_is_stationary_and_largest_there(theory):
    solution = fw.solve(NET, X, Y, temperature="evidence", theory=theory)
    assert abs(slope(NET, solution.temperature, theory)) < 1e-4
    curve = solution.evidence_curve
    assert float(curve.log_evidence.max()) == solution.log_evidence
    assert (
        float(curve.temperature[int(np.argmax(curve.log_evidence.values))]) == solution.temperature
    )
    same = fw.solve(NET, X, Y, temperature=solution.temperature, theory=theory)
    np.testing.assert_array_equal(same.predict(X).mean, solution.predict(X).mean)
    assert same.evidence_curve is None


def test_noise_and_readout_of_infinite_width_are_those_of_a_dense_search():
    solution = fw.solve(
        NET, X, Y, temperature="evidence", readout_precision="evidence", theory="infinite"
    )
    kernel = fw.nngp_kernel(NET, X) * NET.weight_precision[-1]

    def cost(logs):
        a = np.exp(logs[0]) * np.eye(30) + kernel / np.exp(logs[1])
        return np.linalg.slogdet(a)[1] + Y @ np.linalg.solve(a, Y)

    best = minimize(cost, [np.log(0.1), 0.0], method="BFGS", options={"gtol": 1e-7})
    found = [solution.temperature, solution.network.weight_precision[-1]]
    np.testing.assert_allclose(np.log(found), best.x, atol=1e-4)
    assert solution.evidence_curve.attrs["readout_precision"] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize("theory", [pytest.param("nested", marks=pytest.mark.slow), "infinite"])
def test_units_of_the_labels_are_found_again(theory):
    """y → cy is T → c²T and λ_L → λ_L/c²."""
    choice = {"temperature": "evidence", "readout_precision": "evidence", "theory": theory}
    one, other = (fw.solve(NET, X, unit * Y, **choice) for unit in (1.0, 3.0))
    assert other.temperature == pytest.approx(9 * one.temperature, rel=1e-3)
    precisions = [s.network.weight_precision[-1] for s in (one, other)]
    assert precisions[0] == pytest.approx(9 * precisions[1], rel=1e-3)
    np.testing.assert_allclose(other.predict(X).mean, 3 * one.predict(X).mean, rtol=1e-3)


def test_labels_without_noise_are_at_the_end_of_the_range_and_it_is_said():
    clean = np.asarray(fw.nngp_kernel(NET, X) @ RNG.normal(size=30))
    with pytest.warns(fw.AccuracyWarning, match="still grows at"):
        solution = fw.solve(NET, X, clean, temperature="evidence", theory="infinite")
    assert solution.temperature == pytest.approx(1e-5 * np.mean(clean**2))


def test_steps_of_the_search_say_nothing():
    flat = np.repeat(X[:6], 5, axis=0)  # ill-conditioned where T is small
    labels = np.repeat(Y[:6], 5) + 0.3 * RNG.normal(size=30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fw.solve(NET, flat, labels, temperature="evidence", theory="infinite")


def test_what_has_no_evidence_to_choose_by_is_refused():
    with pytest.raises(fw.InputError, match="expected y with labels other than 0"):
        fw.solve(NET, X, np.zeros(30), temperature="evidence")
    with pytest.raises(fw.InputError, match="expected temperature = "):
        fw.solve(NET, X, Y, temperature="evidense")
    with pytest.raises(fw.InputError, match="expected readout_precision = None unless"):
        fw.solve(NET, X, Y, temperature=0.1, readout_precision="evidence")
    with pytest.raises(fw.InputError, match="expected readout_precision = "):
        fw.solve(NET, X, Y, temperature="evidence", readout_precision="evidense")


class _Refusing(Infinite):
    """Infinite width, which refuses some temperatures as a kernel does that is singular there."""

    def __init__(self, above: float) -> None:
        self.above = above

    def solve(self, problem):
        if problem.temperature < self.above:
            raise fw.InputError("expected a larger temperature, got a small one")
        return super().solve(problem)


def test_temperatures_at_which_a_kernel_is_singular_are_passed_over():
    free = fw.solve(NET, X, Y, temperature="evidence", theory="infinite")
    assert free.temperature > 0.02
    some = fw.solve(NET, X, Y, temperature="evidence", theory=_Refusing(1e-3))
    np.testing.assert_allclose(some.temperature, free.temperature, rtol=1e-6)
    refused = some.evidence_curve["temperature"] < 1e-3
    assert np.isnan(some.evidence_curve["log_evidence"][refused.values]).all() and refused.any()
    with pytest.raises(fw.InputError, match="a larger temperature, got a small one"):
        fw.solve(NET, X, Y, temperature="evidence", theory=_Refusing(np.inf))
