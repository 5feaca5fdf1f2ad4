"""The cavity theory of two classes: what its sites have to match, limits, what it refuses."""

import numpy as np
import pytest
from scipy.special import expit

import finwidth as fw
from finwidth.theories.cavity import Cavity

FEW = Cavity(points=64, progress=False)

X = np.array([[1.0, 2.0], [-0.3, -0.6], [0.6, 1.2], [-1.5, -3.0]])
Y = np.array([1.0, -1.0, -1.0, -1.0])
X_TEST = np.array([[2.0, -1.0], [0.5, 1.0], [1.0, 0.0]])


def solve(width, theory=FEW, **kwargs):
    net = fw.Network((width,), "erf", weight_precision=(0.4, 0.1))
    return fw.solve(net, X, Y, likelihood="logit", theory=theory, **kwargs)


def test_the_dual_and_its_response_are_averages_over_f() -> None:
    """a = ⟨∂ log p⟩ and C = −⟨∂² log p⟩ − Var ∂ log p, under the others' Gaussian times p."""
    solution = solve(4)
    laws = [replicate.law for replicate in solution.fit.replicates]
    a = np.mean([law.dual for law in laws], axis=0)
    moments = np.mean([law.moments for law in laws], axis=0)
    response = np.diag(np.linalg.inv(moments + solution.given.noise))
    mean = solution.given.y - a / response
    deviation = np.sqrt(1 / response - np.diag(solution.given.noise))
    f = mean + deviation * np.linspace(-9, 9, 2001)[:, None]
    weight = np.exp(-0.5 * ((f - mean) / deviation) ** 2) * expit(Y * f)
    weight /= np.sum(weight, axis=0)
    slope, bend = Y * expit(-Y * f), -expit(f) * expit(-f)
    average = np.sum(weight * slope, axis=0)
    np.testing.assert_allclose(a, average, rtol=5e-3)
    spread = np.sum(weight * (slope - average) ** 2, axis=0)
    np.testing.assert_allclose(response, -np.sum(weight * bend, axis=0) - spread, rtol=5e-3)
    # and this is not infinite width
    assert abs(float(solution.order_parameters.q_bar[0]) - 1) > 0.1


def test_infinite_width_is_that_of_expectation_propagation() -> None:
    found, exact = (solve(10**9, theory).predict(X_TEST) for theory in (FEW, "infinite"))
    np.testing.assert_allclose(found.mean, exact.mean, atol=1e-5)
    np.testing.assert_allclose(found.variance, exact.variance, atol=1e-5)
    np.testing.assert_allclose(found.probabilities, exact.probabilities, atol=1e-5)


def test_other_approximations_are_refused_before_any_work() -> None:
    with pytest.raises(fw.InputError, match="expected approximation = 'ep' with theory='cavity'"):
        solve(4, approximation="laplace")


@pytest.mark.slow
def test_log_loss_on_the_digits_has_an_error_bar() -> None:
    """The exact one is 0.3096 ± 0.0007 (docs/explanation/theory.md, section 15)."""
    data = fw.load_dataset("digits", n_train=60, n_test=100)
    net = fw.Network((50,), "erf")
    theory = Cavity(progress=False)
    solution = fw.solve(net, data.X_train, data.y_train, likelihood="logit", theory=theory)
    scores = solution.scores(data.X_test, data.y_test)
    assert "error" not in scores and 0 < float(scores.log_loss_se) < 1e-3
    assert float(scores.log_loss) == pytest.approx(0.3096, abs=4 * 0.0007)
