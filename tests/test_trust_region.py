"""Trust-region Newton: minima of known functions, from hard starts."""

import dataclasses

import numpy as np
import pytest

from finwidth._numerics.trust_region import minimise


@dataclasses.dataclass
class Place:
    x: np.ndarray
    value: float
    gradient: np.ndarray
    hessian: np.ndarray
    noise: float = 1e-14

    @property
    def residual(self) -> float:
        return float(np.max(np.abs(self.gradient)))


class Rosenbrock:
    """(1 − x)² + 100 (y − x²)², minimum at (1, 1)."""

    def at(self, x: np.ndarray) -> Place:
        a, b = x
        gradient = np.array([2 * (a - 1) - 400 * a * (b - a * a), 200 * (b - a * a)])
        hessian = np.array([[2 - 400 * (b - 3 * a * a), -400 * a], [-400 * a, 200.0]])
        return Place(x, (1 - a) ** 2 + 100 * (b - a * a) ** 2, gradient, hessian)

    def hessian(self, point: Place):
        return lambda v: point.hessian @ v

    def move(self, point: Place, step: np.ndarray) -> Place | None:
        return self.at(point.x + step)


class Well(Rosenbrock):
    """x⁴/4 − x²/2 + y²/2: minima at (±1, 0), a saddle at the origin; undefined beyond |x| = 2."""

    def at(self, x: np.ndarray) -> Place:
        a, b = x
        gradient = np.array([a**3 - a, b])
        return Place(x, a**4 / 4 - a * a / 2 + b * b / 2, gradient, np.diag([3 * a * a - 1, 1.0]))

    def move(self, point: Place, step: np.ndarray) -> Place | None:
        x = point.x + step
        return self.at(x) if abs(x[0]) < 2 else None


@pytest.mark.parametrize("start", [(-1.2, 1.0), (3.0, -4.0), (0.0, 0.0)])
def test_rosenbrock_is_minimised_to_rounding(start: tuple[float, float]) -> None:
    found = minimise(Rosenbrock(), Rosenbrock().at(np.array(start)))
    assert found.converged and found.message == ""
    np.testing.assert_allclose(found.point.x, [1.0, 1.0], rtol=1e-10)


@pytest.mark.parametrize("start", [(0.01, 1.0), (-1e-4, 0.0), (1.99, 0.5)])
def test_negative_curvature_leads_to_a_minimum_not_to_the_saddle(
    start: tuple[float, float],
) -> None:
    found = minimise(Well(), Well().at(np.array(start)))
    assert found.converged
    np.testing.assert_allclose(found.point.x, [np.sign(start[0]), 0.0], atol=1e-10)


def test_a_search_that_is_cut_off_says_so_and_keeps_its_best_point() -> None:
    start = Rosenbrock().at(np.array([-1.2, 1.0]))
    found = minimise(Rosenbrock(), start, max_steps=3)
    assert not found.converged
    assert "3 Newton steps" in found.message
    assert found.point.value < start.value
