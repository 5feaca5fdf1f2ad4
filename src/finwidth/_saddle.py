"""The saddle point of the effective action, followed from infinite width.

The stationarity equations are g_prior(θ) + s·g_data(θ) = 0 with θ the logarithms of the order
parameters, every width N_ℓ replaced by N_ℓ/s. At s = 0 (infinite width) θ = 0 solves them; the
solution at s = 1 is the one reached along the curve that starts there, also where the curve
turns back in s (a fold), as long as it arrives.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

__all__ = ["StationarityEquations", "TrackResult", "distinct_roots", "polish", "track"]

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


_TOLERANCE = 1e-9
_LARGEST_LOG = 700.0  # what float64 holds: inputs of any scale, and so order parameters
_LARGEST_ROOT = 40.0  # starts that end further out, and the solution is not there, have run away


class _Slope:
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


_HELPED = 0.1  # a step is good if it leaves this much of the residual, or less
# Where the equations are flatter than this, rounding and not they decide on the solution: with as
# many units as patterns the terms that do not vanish with the labels' scale cancel.
_FLAT = 1e-7
_NEAR = 1e-3  # distance at which the Jacobian's determinant is that of the solution


def _newton(
    equations: StationarityEquations, theta: Vector, steps: int
) -> tuple[Vector, float, float]:
    """Newton at s = 1: the best point seen, its residual, and the sign of its Jacobian."""
    best, best_residual, last, sign = theta, np.inf, np.inf, 0.0
    best_data = theta
    slope = _Slope(equations)
    for _ in range(steps):
        gradient, hessian = equations.prior(theta)
        data = equations.data(theta)
        value = gradient + data
        residual = float(np.max(np.abs(value)))
        if not np.isfinite(residual):
            break
        if residual < best_residual:
            best, best_residual, best_data = theta, residual, data
        elif best_residual < _TOLERANCE:
            break  # rounding: no further progress
        jacobian = hessian + slope.at(theta, data, residual <= _HELPED * last)
        last = residual
        sign = float(np.sign(np.linalg.det(jacobian)))
        if best_residual == 0.0 or sign == 0.0:
            break
        step = np.linalg.solve(jacobian, value)
        if not np.all(np.isfinite(step)) or np.max(np.abs(step)) > 5.0:
            break
        if best_residual < _TOLERANCE and np.max(np.abs(step)) < 1e-14:
            break
        theta = theta - step
    if best_residual <= _TOLERANCE and np.max(np.abs(best - slope.made)) > _NEAR:
        jacobian = equations.prior(best)[1] + equations.data_jacobian(best, best_data)
        sign = float(np.sign(np.linalg.det(jacobian)))
    if best_residual <= _TOLERANCE and _is_flat(equations, best, slope.matrix):
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


def track(equations: StationarityEquations, max_steps: int = 400) -> TrackResult:
    """Follow the solution from θ = 0 at infinite width to the requested widths.

    Parameters
    ----------
    equations
        The stationarity equations.
    max_steps
        Bound on the number of steps along the curve.

    Returns
    -------
    TrackResult
        ``converged=False`` with the last point and the reason where the curve was lost.

    Notes
    -----
    Each step first tries to finish with Newton's method from the tangent predictor; it is taken
    only if it stays close to the predictor on the same sheet (same sign of the Jacobian).
    Otherwise a pseudo-arclength step (Keller 1977) advances, so folds are passed.
    """
    n = equations.size
    z = np.zeros(n + 1)  # (θ, s)
    direction: Vector | None = None
    length = 0.5
    reason = f"the branch was not finished within {max_steps} steps"
    for _ in range(max_steps):
        theta, s = z[:n], z[n]
        gradient, hessian = equations.prior(theta)
        data = equations.data(theta)
        if not np.all(np.isfinite(data)):
            reason = "the kernel stopped being positive definite"
            break
        jacobian = hessian + s * equations.data_jacobian(theta, data) if s > 0 else hessian
        # tangent of the curve: the null vector of the n × (n + 1) matrix [∂F/∂θ, ∂F/∂s]
        tangent = np.linalg.svd(np.column_stack([jacobian, data]))[2][-1]
        if direction is None:
            direction = np.append(np.zeros(n), 1.0)
        tangent *= 1.0 if tangent @ direction >= 0 else -1.0

        sign = np.sign(np.linalg.det(jacobian))
        if tangent[n] > 1e-8 and s < 1:
            slope = tangent[:n] / tangent[n]
            move = (1.0 - s) * slope
            if np.max(np.abs(move)) < 0.5:
                guess = theta + move
                found, residual, sign_found = _newton(equations, guess, 20)
                close = np.max(np.abs(found - guess)) <= 0.1 + 0.5 * np.max(np.abs(move))
                if residual <= _TOLERANCE and close and sign_found == sign:
                    return TrackResult(found, residual, True, "")

        accepted = False
        while length > 1e-7:
            target = z + length * tangent
            candidate = _correct(equations, target, tangent)
            if candidate is not None and np.linalg.norm(candidate - target) <= 0.3 * min(
                length, 1.0
            ):
                accepted = True
                break
            length *= 0.5
        if not accepted:
            reason = "the branch could not be followed further"
            break
        assert candidate is not None
        if (candidate[n] - 1.0) * (s - 1.0) <= 0 and s < 1:
            fraction = (1.0 - s) / (candidate[n] - s)
            guess = theta + fraction * (candidate[:n] - theta)
            found, residual, _ = _newton(equations, guess, 40)
            if residual <= _TOLERANCE and np.max(np.abs(found - guess)) <= length:
                return TrackResult(found, residual, True, "")
            length *= 0.25
            continue
        if candidate[n] < -1e-12 or np.max(np.abs(candidate[:n])) > _LARGEST_LOG:
            reason = "the branch ends before these widths are reached"
            break
        direction = tangent
        z = candidate
        length = min(1.5 * length, max(1.0, 0.1 * float(np.max(np.abs(z[:n])))))
    found, residual, _ = _newton(equations, z[:n], 40)
    if np.isfinite(residual):
        return TrackResult(found, residual, False, reason)
    if reason.startswith("the branch"):
        reason = f"{reason}, or the equations are too flat there for float64"
    return TrackResult(z[:n], float("inf"), False, reason)


def polish(
    equations: StationarityEquations,
    theta: Vector,
    data_jacobian: Matrix,
    tolerance: float = _TOLERANCE,
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


def _correct(equations: StationarityEquations, target: Vector, tangent: Vector) -> Vector | None:
    """Newton back to the curve in the plane through `target` normal to `tangent`."""
    n = equations.size
    z = target
    slope = _Slope(equations)
    last = np.inf
    for _ in range(10):
        gradient, hessian = equations.prior(z[:n])
        data = equations.data(z[:n])
        if not np.all(np.isfinite(data)):
            return None
        value = np.append(gradient + z[n] * data, tangent @ (z - target))
        residual = float(np.max(np.abs(value)))
        if residual < 1e-8:
            return z
        jacobian = slope.at(z[:n], data, residual <= _HELPED * last)
        last = residual
        matrix = np.vstack([np.column_stack([hessian + z[n] * jacobian, data]), tangent])
        try:
            step = np.linalg.solve(matrix, value)
        except np.linalg.LinAlgError:
            return None
        if not np.all(np.isfinite(step)) or np.max(np.abs(step)) > 2.0:
            return None
        z = z - step
    return None


def distinct_roots(
    equations: StationarityEquations, starts: list[Vector], known: Vector
) -> tuple[list[Vector], list[int]]:
    """Return the distinct solutions found from several starts, and how many starts lead to each.

    Parameters
    ----------
    equations
        The stationarity equations.
    starts
        Starting points.
    known
        A solution that is in the list already.
    """
    import scipy.optimize

    roots, counts = [known], [0]
    largest = max(_LARGEST_ROOT, 2.0 * float(np.max(np.abs(known), initial=0.0)))
    for start in starts:
        with np.errstate(over="ignore", invalid="ignore"):  # a start that runs away is dropped
            result = scipy.optimize.root(
                equations.value,
                start,
                jac=lambda theta: equations.prior(theta)[1] + equations.data_jacobian(theta),
                method="hybr",
            )
        theta = np.asarray(result.x)
        if not result.success or np.max(np.abs(theta)) > largest:
            continue
        theta, residual, _ = _newton(equations, theta, 40)
        if residual > _TOLERANCE:
            continue
        distances = [np.max(np.abs(theta - root)) for root in roots]
        nearest = int(np.argmin(distances))
        if distances[nearest] > 1e-5:
            roots.append(theta)
            counts.append(1)
        else:
            counts[nearest] += 1
    return roots, counts
