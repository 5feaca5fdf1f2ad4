"""A Gaussian times one factor of each pattern: its integral and cumulants, by the trapezoidal rule.

The rule converges geometrically for integrands that are analytic in a strip, and how fast is known
from the strip alone: so the nodes are as many as float64 can use, and no more.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

__all__ = ["Factor1D", "Strip", "Terms", "Tilted", "gaussian_mean", "tilted"]

_DROP = 38.0  # nats below the largest value, or relative error exp(−38): what is left out
_REACH = math.sqrt(2 * _DROP) + 0.1
_LARGEST = 2**19  # nodes times patterns at a time


class Terms(NamedTuple):
    """log p and its first three derivatives in f; log p is concave."""

    value: np.ndarray
    first: np.ndarray
    second: np.ndarray
    third: np.ndarray


class Strip(NamedTuple):
    """Where exp(log p) is analytic: |Im f| < `width`, and there at most exp(growth(Im f)) larger.

    Larger, that is, than at the same real part.
    """

    width: float
    growth: Callable[[np.ndarray], np.ndarray]


# f of shape (pattern, node), and which patterns -> the factor of each pattern there
Factor1D = Callable[[np.ndarray, slice], Terms]


class Tilted(NamedTuple):
    """Z = ∫ N(f; μ, s²) p(f) df and cumulants of N(f; μ, s²) p(f)/Z, each of shape (pattern,).

    Attributes
    ----------
    log_norm
        log Z.
    first, second, third, fourth
        Derivatives of log Z in μ.
    shrinkage
        Variance over s², which is 1 + s²·second.
    """

    log_norm: np.ndarray
    first: np.ndarray
    second: np.ndarray
    third: np.ndarray
    fourth: np.ndarray
    shrinkage: np.ndarray


def tilted(
    factor: Factor1D,
    mean: Float[np.ndarray, " pattern"],
    variance: Float[np.ndarray, " pattern"],
    strip: Strip,
) -> Tilted:
    """Return the moments of N(f; mean, variance) p(f), pattern by pattern."""
    scale = np.sqrt(variance)
    step = _steps(scale, strip)
    parts = []
    for rows in _chunks(step):
        mu, s = mean[rows, None], scale[rows, None]
        z = _mode(factor, mu, s, rows) + _nodes(step[rows])
        terms = factor(mu + s * z, rows)
        parts.append(_cumulants(terms, z, s))
    return Tilted(*np.concatenate(parts, axis=1))


def _cumulants(terms: Terms, z: np.ndarray, s: np.ndarray) -> np.ndarray:
    exponent = terms.value - 0.5 * z**2
    top = exponent.max(axis=1, keepdims=True)
    weights = np.exp(exponent - top)
    total = weights.sum(axis=1, keepdims=True)
    log_norm = top[:, 0] + np.log(total[:, 0] * (z[:, 1] - z[:, 0]) / math.sqrt(2 * math.pi))
    weights /= total

    def mean(values: np.ndarray) -> np.ndarray:
        return np.einsum("ij,ij->i", weights, values)

    centred = z - mean(z)[:, None]
    squared = centred * centred
    c2, c3, c4 = mean(squared), mean(squared * centred), mean(squared * squared)
    first = mean(terms.first)
    # the second derivative from the factor's own where it is weak, from the variance where it is
    # strong: neither cancels there
    weak = mean(terms.second + (terms.first - first[:, None]) ** 2)
    s = s[:, 0]
    second = np.where(c2 < 0.5, (c2 - 1.0) / np.maximum(s, 1e-150) ** 2, weak)
    # narrower Gaussians see no curvature beyond rounding
    wide = np.where(s > 1e-5, s, np.inf)
    third, fourth = c3 / wide**3, (c4 - 3 * c2**2) / wide**4
    return np.array([log_norm, first, second, third, fourth, c2])


def _mode(factor: Factor1D, mu: np.ndarray, s: np.ndarray, rows: slice) -> np.ndarray:
    """Return z near the largest value of log p(μ + s z) − z²/2, by Newton between two bounds."""
    z = np.zeros_like(mu)
    low, high = np.full_like(mu, -np.inf), np.full_like(mu, np.inf)
    for _ in range(200):
        terms = factor(mu + s * z, rows)
        slope = s * terms.first - z  # decreases with z
        low, high = np.where(slope >= 0, z, low), np.where(slope <= 0, z, high)
        step = slope / (1.0 - s**2 * terms.second)
        if np.all(np.abs(step) < 1e-2):
            return z + step
        new = z + step
        outside = (new <= low) | (new >= high)
        bounded = outside & np.isfinite(low) & np.isfinite(high)
        z = np.where(bounded, 0.5 * (low + high), new)
    return z


def _steps(scale: np.ndarray, strip: Strip) -> np.ndarray:
    """Return the spacing of z at which the rule is as accurate as float64 allows."""
    widest = np.minimum(strip.width / np.maximum(scale, 1e-300), _REACH)
    candidates = []
    for share in (0.25, 0.5, 0.7, 0.85, 1.0):
        d = share * widest  # in units of the scale; a Gaussian grows by exp(d²/2)
        candidates.append(2 * np.pi * d / (_DROP + 0.5 * d**2 + strip.growth(d * scale)))
    return np.max(candidates, axis=0)


def _nodes(step: np.ndarray) -> np.ndarray:
    """Return the nodes for all patterns, as many as the finest needs."""
    half = math.ceil(_REACH / float(step.min()))
    return np.linspace(-_REACH, _REACH, 2 * half + 1)


def _chunks(step: np.ndarray) -> list[slice]:
    count = 2 * math.ceil(_REACH / float(step.min())) + 1
    size = max(1, _LARGEST // count)
    return [slice(begin, begin + size) for begin in range(0, step.size, size)]


def gaussian_mean(
    function: Callable[[np.ndarray], np.ndarray],
    mean: Float[np.ndarray, " point"],
    variance: Float[np.ndarray, " point"],
    strip: Strip,
) -> Any:
    """Return E function(f) for f ~ N(mean, variance), point by point."""
    scale = np.sqrt(variance)
    step = _steps(scale, strip)
    result = np.empty(mean.shape)
    for rows in _chunks(step):
        z = _nodes(step[rows])
        weights = np.exp(-0.5 * z**2)
        result[rows] = function(mean[rows, None] + scale[rows, None] * z) @ (
            weights / weights.sum()
        )
    return result
