"""Following the saddle point: simple curves with known solutions, folds among them."""

import numpy as np
import pytest

from finwidth._numerics.continuation import distinct_roots, track
from finwidth._numerics.newton import StationarityEquations


def equations(data, size=1):
    """Prior e^θ − 1, as that of one odd layer; data as given."""
    return StationarityEquations(
        lambda theta: (np.expm1(theta), np.diag(np.exp(theta))), data, size
    )


@pytest.mark.parametrize("force", [-50.0, -0.5, 0.0, 0.5, 0.999])
def test_constant_force_moves_the_root_to_its_closed_form(force):
    result = track(equations(lambda theta: np.full(1, force)))
    assert result.converged
    assert result.theta[0] == pytest.approx(np.log1p(-force), abs=1e-9)


def test_a_force_with_no_solution_is_reported():
    # e^θ − 1 + s·2 = 0 has no solution beyond s = 1/2
    result = track(equations(lambda theta: np.full(1, 2.0)))
    assert not result.converged
    assert result.message


@pytest.mark.parametrize("strength", [3.0, 6.0, 12.0])
def test_of_several_roots_the_one_connected_to_infinite_width_is_taken(strength):
    """The curve s(θ) = (e^θ − 1)/g(θ) is known: the first crossing of s = 1 is the answer."""

    def force(theta):
        return 0.2 + strength * np.exp(-0.5 * ((theta - 2.0) / 0.4) ** 2)

    result = track(equations(lambda theta: -force(theta)))
    grid = np.linspace(1e-4, 4, 400_001)
    s = np.expm1(grid) / force(grid)
    first = grid[np.argmax(s >= 1)]
    assert result.converged
    assert result.theta[0] == pytest.approx(first, abs=2e-5)
    crossings = np.count_nonzero(np.diff(np.sign(s - 1)))
    starts = [np.array([x]) for x in np.linspace(-1, 4, 26)]
    found, counts = distinct_roots(equations(lambda theta: -force(theta)), starts, result.theta)
    assert len(found) == crossings


def test_a_curve_that_turns_back_is_followed_through_its_folds():
    """s(θ) rises, falls and rises again before it first reaches 1."""

    def force(theta):
        return np.expm1(theta) / (0.7 * np.sin(theta * 1.2) ** 2 + 0.16 * theta)

    grid = np.linspace(1e-3, 5, 500_001)
    s = np.expm1(grid) / force(grid)
    first = grid[np.argmax(s >= 1)]
    assert np.any(np.diff(s[grid < first]) < 0)  # there is a fold on the way

    def data(theta):
        small = np.abs(theta) < 1e-6
        return -np.where(small, 1 / 0.16, force(np.where(small, 1.0, theta)))

    result = track(equations(data))
    assert result.converged
    assert result.theta[0] == pytest.approx(first, abs=2e-5)


def test_several_unknowns_are_followed_together():
    matrix = np.array([[0.3, -0.8], [0.5, 0.1]])
    result = track(equations(lambda theta: -1.5 + matrix @ np.tanh(theta), size=2))
    assert result.converged
    residual = np.expm1(result.theta) - 1.5 + matrix @ np.tanh(result.theta)
    np.testing.assert_allclose(residual, 0, atol=1e-9)


def test_a_kernel_that_is_not_positive_definite_is_reported():
    result = track(equations(lambda theta: np.full(1, np.nan)))
    assert not result.converged
    assert "positive definite" in result.message


def test_many_unknowns_cost_a_few_jacobians():
    """Differences cost an evaluation for each unknown, so they are taken at few points."""
    size, calls = 30, 0
    rng = np.random.default_rng(2)
    matrix = rng.normal(size=(size, size)) / size
    target = rng.uniform(-0.5, 0.5, size)

    def data(theta):
        nonlocal calls
        calls += 1
        return -np.expm1(target) + matrix @ (np.sin(theta) - np.sin(target))

    result = track(equations(data, size))
    np.testing.assert_allclose(result.theta, target, atol=1e-12)
    assert calls < 6 * size  # Newton's method with fresh Jacobians takes 8
