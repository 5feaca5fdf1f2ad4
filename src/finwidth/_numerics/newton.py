"""Newton's method for the stationarity equations of an action, from a point close by.

The equations are g_prior(θ) + s·g_data(θ) = 0, of which the data's part is the costly one: its
Jacobian is carried along with Broyden's updates for as long as they help.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

__all__ = [
    "HELPED",
    "TOLERANCE",
    "Matrix",
    "Slope",
    "StationarityEquations",
    "TrackResult",
    "Vector",
    "newton",
    "polish",
]

Vector = np.ndarray
Matrix = np.ndarray


@dataclasses.dataclass(frozen=True)
class StationarityEquations:
    """∂𝒮/∂θ split into the prior's and the data's part.

    Parameters
    ----------
    prior
        θ -> (gradient, Hessian) of the prior term, each row divided by `scale`.
    data
        θ -> gradient of the data term, likewise; NaN where the kernel is not positive definite.
    size
        Number of unknowns.
    """

    prior: Callable[[Vector], tuple[Vector, Matrix]]
    data: Callable[[Vector], Vector]
    size: int

    def value(self, theta: Vector, s: float = 1.0) -> Vector:
        """Return the left side of the equations."""
        return self.prior(theta)[0] + s * self.data(theta)

    def data_jacobian(self, theta: Vector, value: Vector | None = None) -> Matrix:
        """Return the Jacobian of the data's part by differences.

        Central ones; with the `value` at θ given, one-sided ones, which cost half. Only the
        speed of Newton's method depends on their accuracy, never the solution.
        """
        if value is not None:
            step = 1e-7
            columns = [
                (self.data(theta + step * unit) - value) / step for unit in np.eye(self.size)
            ]
            return np.column_stack(columns)
        step = 1e-5
        columns = [
            (self.data(theta + step * unit) - self.data(theta - step * unit)) / (2 * step)
            for unit in np.eye(self.size)
        ]
        return np.column_stack(columns)


@dataclasses.dataclass(frozen=True)
class TrackResult:
    """Where the curve was left: θ, the residual there, whether it arrived, and why not."""

    theta: Vector
    residual: float
    converged: bool
    message: str


TOLERANCE = 1e-9


class Slope:
    """The Jacobian of the data's part along an iteration: by differences, or carried on.

    Differences cost an evaluation for each unknown; Broyden's update (Math. Comput. 19, 577,
    1965) of the Jacobian before costs none, and serves as long as steps made with it help.
    """

    def __init__(self, equations: StationarityEquations) -> None:
        self.equations = equations
        self.matrix: Matrix = np.zeros((equations.size, equations.size))
        self.made: Vector | None = None  # where the differences were taken
        self._theta = self._data = np.zeros(equations.size)

    def at(self, theta: Vector, data: Vector, helped: bool) -> Matrix:
        """Return the Jacobian at θ; `helped` says that the last step was a good one."""
        if self.made is None or not helped:
            self.matrix = self.equations.data_jacobian(theta, data)
            self.made = theta
        else:
            self.matrix = _updated(self.matrix, theta - self._theta, data - self._data)
        self._theta, self._data = theta, data
        return self.matrix


def _updated(jacobian: Matrix, step: Vector, change: Vector) -> Matrix:
    """Return Broyden's update of a Jacobian for the change that a step has made."""
    squared = float(step @ step)
    if squared == 0.0:
        return jacobian
    return jacobian + np.outer(change - jacobian @ step, step) / squared


HELPED = 0.1  # a step is good if it leaves this much of the residual, or less
# Where the equations are flatter than this, rounding and not they decide on the solution: with as
# many units as patterns the terms that do not vanish with the labels' scale cancel.
_FLAT = 1e-7
_NEAR = 1e-3  # distance at which the Jacobian's determinant is that of the solution


def newton(
    equations: StationarityEquations, theta: Vector, steps: int
) -> tuple[Vector, float, float]:
    """Newton at s = 1: the best point seen, its residual, and the sign of its Jacobian."""
    best, best_residual, last, sign = theta, np.inf, np.inf, 0.0
    best_data = theta
    slope = Slope(equations)
    for _ in range(steps):
        gradient, hessian = equations.prior(theta)
        data = equations.data(theta)
        value = gradient + data
        residual = float(np.max(np.abs(value)))
        if not np.isfinite(residual):
            break
        if residual < best_residual:
            best, best_residual, best_data = theta, residual, data
        elif best_residual < TOLERANCE:
            break  # rounding: no further progress
        jacobian = hessian + slope.at(theta, data, residual <= HELPED * last)
        last = residual
        sign = float(np.sign(np.linalg.det(jacobian)))
        if best_residual == 0.0 or sign == 0.0:
            break
        step = np.linalg.solve(jacobian, value)
        if not np.all(np.isfinite(step)) or np.max(np.abs(step)) > 5.0:
            break
        if best_residual < TOLERANCE and np.max(np.abs(step)) < 1e-14:
            break
        theta = theta - step
    if best_residual <= TOLERANCE and np.max(np.abs(best - slope.made)) > _NEAR:
        jacobian = equations.prior(best)[1] + equations.data_jacobian(best, best_data)
        sign = float(np.sign(np.linalg.det(jacobian)))
    if best_residual <= TOLERANCE and _is_flat(equations, best, slope.matrix):
        return best, np.inf, 0.0
    return best, best_residual, sign


def _is_flat(equations: StationarityEquations, theta: Vector, data_jacobian: Matrix) -> bool:
    """Say whether rounding decides on a solution; `data_jacobian` may be off by rounding."""

    def smallest(matrix: Matrix) -> float:
        whole = equations.prior(theta)[1] + matrix
        return float(np.linalg.svd(whole, compute_uv=False)[-1])

    return (
        smallest(data_jacobian) < 1e3 * _FLAT and smallest(equations.data_jacobian(theta)) < _FLAT
    )


def polish(
    equations: StationarityEquations,
    theta: Vector,
    data_jacobian: Matrix,
    tolerance: float = TOLERANCE,
    max_steps: int = 20,
) -> tuple[TrackResult, Matrix]:
    """Solve the equations from a point close by, with one evaluation of the data's part a step.

    Parameters
    ----------
    equations
        The stationarity equations.
    theta
        Starting point.
    data_jacobian
        An approximate Jacobian of the data's part; the prior's is exact.
    tolerance
        Largest residual to accept.
    max_steps
        Bound on the number of evaluations.

    Returns
    -------
    TrackResult
        ``converged=False`` where Newton's method did not stay close or ran out of steps.
    Matrix
        The Jacobian, with Broyden's updates.
    """
    start, jacobian = theta, data_jacobian
    data = equations.data(theta)
    residual = np.inf
    for _ in range(max_steps):
        gradient, hessian = equations.prior(theta)
        value = gradient + data
        residual = float(np.max(np.abs(value)))
        if residual <= tolerance:
            return TrackResult(theta, residual, True, ""), jacobian
        if not np.isfinite(residual):
            break
        step = -np.linalg.solve(hessian + jacobian, value)
        step *= min(1.0, 0.3 / max(float(np.max(np.abs(step))), 1e-300))
        if not np.all(np.isfinite(step)) or np.max(np.abs(theta + step - start)) > 1.5:
            break
        theta = theta + step
        previous, data = data, equations.data(theta)
        jacobian = _updated(jacobian, step, data - previous)
    return TrackResult(theta, residual, False, "the start was not close enough"), jacobian
