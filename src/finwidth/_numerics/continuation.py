"""The saddle point of the effective action, followed from infinite width.

The stationarity equations are g_prior(θ) + s·g_data(θ) = 0 with θ the logarithms of the order
parameters, every width N_ℓ replaced by N_ℓ/s. At s = 0 (infinite width) θ = 0 solves them; the
solution at s = 1 is the one reached along the curve that starts there, also where the curve
turns back in s (a fold), as long as it arrives.
"""

import numpy as np

from .newton import (
    HELPED,
    TOLERANCE,
    Slope,
    StationarityEquations,
    TrackResult,
    Vector,
    newton,
)

__all__ = ["LARGEST_LOG", "distinct_roots", "track"]

LARGEST_LOG = 700.0  # what float64 holds: inputs of any scale, and so order parameters
_LARGEST_ROOT = 40.0  # starts that end further out, and the solution is not there, have run away


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
                found, residual, sign_found = newton(equations, guess, 20)
                close = np.max(np.abs(found - guess)) <= 0.1 + 0.5 * np.max(np.abs(move))
                if residual <= TOLERANCE and close and sign_found == sign:
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
            found, residual, _ = newton(equations, guess, 40)
            if residual <= TOLERANCE and np.max(np.abs(found - guess)) <= length:
                return TrackResult(found, residual, True, "")
            length *= 0.25
            continue
        if candidate[n] < -1e-12 or np.max(np.abs(candidate[:n])) > LARGEST_LOG:
            reason = "the branch ends before these widths are reached"
            break
        direction = tangent
        z = candidate
        length = min(1.5 * length, max(1.0, 0.1 * float(np.max(np.abs(z[:n])))))
    found, residual, _ = newton(equations, z[:n], 40)
    if np.isfinite(residual):
        return TrackResult(found, residual, False, reason)
    if reason.startswith("the branch"):
        reason = f"{reason}, or the equations are too flat there for float64"
    return TrackResult(z[:n], float("inf"), False, reason)


def _correct(equations: StationarityEquations, target: Vector, tangent: Vector) -> Vector | None:
    """Newton back to the curve in the plane through `target` normal to `tangent`."""
    n = equations.size
    z = target
    slope = Slope(equations)
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
        jacobian = slope.at(z[:n], data, residual <= HELPED * last)
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
        theta, residual, _ = newton(equations, theta, 40)
        if residual > TOLERANCE:
            continue
        distances = [np.max(np.abs(theta - root)) for root in roots]
        nearest = int(np.argmin(distances))
        if distances[nearest] > 1e-5:
            roots.append(theta)
            counts.append(1)
        else:
            counts[nearest] += 1
    return roots, counts
