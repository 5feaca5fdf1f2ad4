"""Expectation propagation: Gaussian sites whose marginals match (theory.md, section 15).

The sites are improved all at once. Near the fixed point Newton's method takes over: the Jacobian
of the map from sites to sites is a product of matrices at hand, so that its equations are solved
by products with them and each step costs one factorisation.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse.linalg
from jaxtyping import Float

from .._basics.errors import ConvergenceError
from .._numerics.tilted import Tilted
from ._sites import SiteFactor, SitesConditioned

__all__ = ["Sites", "expectation_propagation"]

_STEPS = 200
_TOLERANCE = 1e-12
_ACCEPTED = 1e-9  # residual at which no further progress is rounding
_CLOSE = 0.3  # residual from which Newton's method is tried

# means and variances of cavities -> moments of each tilted distribution
Match = Callable[[np.ndarray, np.ndarray], Tilted]


class Sites(NamedTuple):
    """exp(ν f − τ f²/2), pattern by pattern: ν and τ, shape (pattern,) each."""

    linear: np.ndarray
    precision: np.ndarray


class _State(NamedTuple):
    """Sites, what they make of f, and the sites that would match."""

    sites: Sites
    factor: SiteFactor
    covariance: np.ndarray  # Σ
    mean: np.ndarray
    cavity: tuple[np.ndarray, np.ndarray]  # means and variances
    tilted: Tilted
    change: Sites  # to the matching sites
    residual: float


def expectation_propagation(
    match: Match,
    kernel: Float[np.ndarray, "pattern pattern"],
    start: Sites | None = None,
) -> tuple[SitesConditioned, Sites]:
    """Return f ~ N(0, kernel) given the labels, and the sites.

    Parameters
    ----------
    match
        Moments of the tilted distributions.
    kernel
        K on the training set.
    start
        A guess of the sites, which only the number of steps depends on.

    Raises
    ------
    ConvergenceError
        If the marginals do not match to rounding.
    """
    zeros = np.zeros(kernel.shape[0])
    state = _evaluate(match, kernel, start or Sites(zeros, zeros))
    if state is None and start is not None:
        state = _evaluate(match, kernel, Sites(zeros, zeros))
    damping, sweeps = 1.0, 0  # sweeps: how many must pass before Newton's method is tried again
    for _ in range(_STEPS):
        if state is None:
            break
        if state.residual <= _TOLERANCE:
            return _conditioned(state), state.sites
        if sweeps == 0 and state.residual < _CLOSE:
            other = _evaluate(match, kernel, _newton(state))
            if other is not None and other.residual < 0.5 * state.residual:
                state = other
                continue
            if state.residual < _ACCEPTED:
                return _conditioned(state), state.sites
            sweeps = 3
        other = _evaluate(match, kernel, _moved(state.sites, state.change, damping))
        if other is None or other.residual > state.residual:
            damping *= 0.5
            if damping < 1e-3:
                break
            if other is None or other.residual > 2.0 * state.residual:
                continue
        state, sweeps = other, max(0, sweeps - 1)
    reached = math.inf if state is None else state.residual
    raise ConvergenceError(
        f"expected expectation propagation to converge, got sites that differ by {reached:.1e}"
    )


def _moved(sites: Sites, change: Sites, length: float) -> Sites:
    linear = sites.linear + length * change.linear
    return Sites(linear, sites.precision + length * change.precision)


def _evaluate(match: Match, kernel: np.ndarray, sites: Sites) -> _State | None:
    """Return the state at the sites, or None where they leave no marginals or cavities."""
    nu, tau = sites
    if not (np.all(np.isfinite(nu)) and np.all(np.isfinite(tau)) and np.all(tau >= 0)):
        return None
    factor = SiteFactor(kernel, tau)
    covariance = factor.covariance() if np.any(tau) else kernel
    mean, v = covariance @ nu, np.diag(covariance)
    share = 1.0 - tau * v
    if np.any(share <= 0) or np.any(v < 0):
        return None
    cavity = (mean - nu * v) / share, v / share
    moments = match(*cavity)
    q = moments.shrinkage
    precision = -moments.second / q
    linear = (moments.first - cavity[0] * moments.second) / q
    change = Sites(linear - nu, precision - tau)
    residual = max(
        float(np.max(np.abs(change.linear) * np.sqrt(v))),
        float(np.max(np.abs(change.precision) * v)),
    )
    if not np.isfinite(residual):
        return None
    return _State(sites, factor, covariance, mean, cavity, moments, change, residual)


def _newton(state: _State) -> Sites:
    """Return the sites where the linearised map from sites to sites has its fixed point."""
    sigma, n = state.covariance, state.mean.size
    (nu, tau), (mu, s2), moments = state.sites, state.cavity, state.tilted
    v = np.diag(sigma)
    share = 1.0 - tau * v
    squared = sigma**2
    a, b, c3, c4, q = (moments.first, -moments.second, *moments[3:])
    matching_tau, matching_nu = b / q, (a + mu * b) / q
    scale = np.concatenate([np.sqrt(v), v])
    scale = np.where(scale > 0, scale, 1.0)

    def change(x: np.ndarray) -> np.ndarray:
        """The change of the matching sites for a change x of the sites, minus x."""
        d_nu, d_tau = (x / scale).reshape(2, n)
        d_mean, d_v = sigma @ (d_nu - state.mean * d_tau), -squared @ d_tau
        d_s2 = d_v / share**2 + s2**2 * d_tau
        d_mu = (d_mean + (mu * tau - nu) * d_v) / share - s2 * (d_nu - mu * d_tau)
        # derivatives of log Z in the variance are half of first² + second
        d_a = -b * d_mu + (0.5 * c3 - a * b) * d_s2
        d_b = -c3 * d_mu - (0.5 * c4 + b**2 + a * c3) * d_s2
        d_q = -(s2 * d_b + b * d_s2)
        new_tau = (d_b - matching_tau * d_q) / q
        new_nu = (d_a + b * d_mu + mu * d_b - matching_nu * d_q) / q
        return scale * np.concatenate([new_nu - d_nu, new_tau - d_tau])

    size = (2 * n, 2 * n)
    # its stubs know the class from before it has an operation
    operator = scipy.sparse.linalg.LinearOperator(size, matvec=change, dtype=float)  # pyright: ignore[reportCallIssue]
    right = -scale * np.concatenate(state.change)
    tight = max(1e-10, min(1e-3, state.residual))
    step, _ = scipy.sparse.linalg.gmres(operator, right, rtol=tight, restart=60, maxiter=5)
    return _moved(state.sites, Sites(*(step / scale).reshape(2, n)), 1.0)


def _conditioned(state: _State) -> SitesConditioned:
    (nu, tau), (mu, s2) = state.sites, state.cavity
    weights = state.factor.reduced(nu)
    # log of the sites' own scale: each with its cavity integrates to what the likelihood does
    grown = 1.0 + tau * s2
    scales = state.tilted.log_norm + 0.5 * np.log(grown)
    scales -= 0.5 * (nu**2 * s2 + 2.0 * mu * nu - mu**2 * tau) / grown
    log_z = float(np.sum(scales) + 0.5 * nu @ state.mean) - 0.5 * state.factor.logdet
    action = -2.0 * log_z - nu.size * math.log(2 * math.pi)
    return SitesConditioned(state.factor, weights, action)
