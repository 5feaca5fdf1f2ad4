"""The prior laws of the scalars that a finite width leaves random.

Q̄ ~ Gamma(N/2, rate N/2) for each layer, the product of several of them, and the direction of the
readout weights relative to the mean term (theory.md, section 5).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import elementwise
from scipy.special import digamma, gammaln, loggamma, polygamma

from .integrate import DROP, TOLERANCE

__all__ = [
    "inverse_gamma_nodes",
    "log_gamma_density",
    "log_product_density",
    "projection_moments",
    "projection_nodes",
]

_ROWS = 64


def log_gamma_density(width: int, x: np.ndarray) -> np.ndarray:
    """Return the log density of x = log Q̄ where Q̄ ~ Gamma(N/2, rate N/2)."""
    half = 0.5 * width
    constant = half * math.log(half) - half - gammaln(half)
    return half * (x - np.expm1(x)) + constant


def log_product_density(
    widths: tuple[int, ...], x: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the law of x = log Π_ℓ Q̄_ℓ, and of each Q̄_ℓ given the product.

    The density is the inverse Mellin transform of Π_ℓ Γ(N_ℓ/2 + z)/Γ(N_ℓ/2)·(2/N_ℓ)^z (a Meijer
    G-function), by the trapezoidal rule along the vertical line through its saddle point.

    Parameters
    ----------
    widths
        N_1 … N_L.
    x
        Points, shape (node,).

    Returns
    -------
    log density, means, mean squares
        Shapes (node,), (node, layer), (node, layer): of x, and of Q̄_ℓ and Q̄_ℓ² given x.
    """
    if len(widths) == 1:
        q_bar = np.exp(x)[:, None]
        return log_gamma_density(widths[0], x), q_bar, q_bar**2
    half = 0.5 * np.asarray(widths, dtype=np.float64)
    offset = half - half.min()
    # r = c + min N_ℓ/2 > 0 is the distance of the line from the nearest pole; at the saddle
    # Σ ψ(N_ℓ/2 + c) − log(N_ℓ/2) = x. Far in the left tail it is kept off the pole.
    nearest = min(0.5, 0.3 * half.min())

    def slope(log_r: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.sum(digamma(np.exp(log_r)[..., None] + offset) - np.log(half), axis=-1) - x

    start = math.log(nearest)
    inside = slope(np.full(x.shape, start), x) < 0
    r = np.full(x.shape, nearest)
    r[inside] = np.exp(_root(slope, start, 60.0, x[inside]))
    spread = np.sqrt(np.sum(polygamma(1, r[:, None] + offset), axis=1))
    # aliases lie 2π/step away, where the tilted density must have died
    step = 2 * np.pi / (13.0 * spread + (DROP + 8.0) / r)
    # |Γ(a + iω)| falls like a Gaussian of variance a, then like exp(−π|ω|/2)
    tail = 2 * (DROP + 8.0) / (np.pi * half.size)
    length = np.maximum(12.0 / spread, tail + 2.0 / spread)
    counts = np.ceil(length / step).astype(int)
    log_p, first, second = (np.empty((*x.shape, *s)) for s in ((), half.shape, half.shape))
    order = np.argsort(counts)
    for start in range(0, x.size, _ROWS):
        rows = order[start : start + _ROWS]
        omega = step[rows, None] * np.arange(counts[rows].max() + 1)
        z = (r[rows, None] - half.min()) + 1j * omega
        exponent = -z * x[rows, None]
        for a in half:
            exponent = exponent + loggamma(a + z) - gammaln(a) - z * math.log(a)
        top = exponent.real[:, :1]
        terms = np.exp(exponent - top)
        terms[:, 1:] *= 2.0  # ω and −ω are complex conjugates
        total = np.sum(terms.real, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_p[rows] = np.log(np.maximum(total, 0.0) * step[rows] / (2 * np.pi)) + top[:, 0]
            for i, a in enumerate(half):
                factor = 1 + z / a
                first[rows, i] = np.sum((terms * factor).real, axis=1) / total
                factor = factor * (1 + (z + 1) / a)
                second[rows, i] = np.sum((terms * factor).real, axis=1) / total
    return log_p, np.nan_to_num(first), np.nan_to_num(second)


def _root(function: Callable[..., np.ndarray], low: float, high: float, *args: Any) -> np.ndarray:
    """Return, for each entry of the arguments, where the function changes its sign."""
    ends = np.full(args[0].shape, low), np.full(args[0].shape, high)
    found = elementwise.find_root(function, ends, args=args)
    assert np.all(found.success), "expected a change of sign between the ends, got none"
    return found.x


def projection_moments(
    width: int, alpha: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integrate exp(α t − β t²/2) over the projection t of a random direction in N dimensions.

    t has density ∝ (1 − t²)^((N−3)/2) on (−1, 1), or is ±1 where N = 1.

    Parameters
    ----------
    width
        N.
    alpha, beta
        Shapes (node,), beta ≥ 0.

    Returns
    -------
    log integral, mean, variance
        Of the exponential, and of t under it, shapes (node,).
    """
    if width == 1:
        log_mean = np.logaddexp(alpha, -alpha) - math.log(2)
        mean = np.tanh(alpha)
        return log_mean - beta / 2, mean, 1 / np.cosh(np.clip(alpha, -300, 300)) ** 2
    n = width - 1.0
    mode, ends = _projection_range(n, alpha, beta)
    constant = gammaln(0.5 * width) - gammaln(0.5 * n) - 0.5 * math.log(math.pi)
    log_value, mean, variance = (np.empty(alpha.shape) for _ in range(3))
    for start in range(0, alpha.size, _ROWS):
        rows = slice(start, start + _ROWS)
        a, b = alpha[rows, None], beta[rows, None]
        previous = np.full(a.shape[0], np.inf)
        for count in (128, 256, 512, 1024, 2048, 4096, 8192):
            u = np.linspace(ends[0][rows], ends[1][rows], count + 1, axis=1)
            t = np.tanh(u)
            centre = np.tanh(mode[rows, None])
            values = -n * _log_cosh(u) + a * t - 0.5 * b * t**2
            top = values.max(axis=1, keepdims=True)
            weights = np.exp(values - top)
            total = weights.sum(axis=1)
            log_value[rows] = constant + top[:, 0] + np.log(total * (u[:, 1] - u[:, 0]))
            shift = np.sum(weights * (t - centre), axis=1) / total
            mean[rows] = centre[:, 0] + shift
            variance[rows] = np.sum(weights * (t - centre) ** 2, axis=1) / total - shift**2
            if np.all(np.abs(log_value[rows] - previous) <= 0.01 * TOLERANCE):
                break
            previous = log_value[rows].copy()
    return log_value, mean, variance


# t = tanh u makes the integrand analytic and decaying on the line; its logarithm is unimodal in u
def _log_cosh(u: np.ndarray) -> np.ndarray:
    return np.abs(u) + np.log1p(np.exp(-2 * np.abs(u))) - math.log(2)


def _projection_range(
    n: float, alpha: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the mode in u of exp(α t − β t²/2)(1 − t²)^(n/2), and where it is negligible."""

    def g(u: np.ndarray, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
        t = np.tanh(u)
        return -n * _log_cosh(u) + alpha * t - 0.5 * beta * t**2

    def slope(u: np.ndarray, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
        t = np.tanh(u)
        return np.exp(-2 * _log_cosh(u)) * (alpha - beta * t) - n * t

    def above(
        distance: np.ndarray, alpha: np.ndarray, beta: np.ndarray, mode: Any, sign: Any
    ) -> Any:
        there = g(mode + sign * np.exp(distance), alpha, beta)
        return there - g(mode, alpha, beta) + DROP

    mode = _root(slope, -200.0, 200.0, alpha, beta)
    ends = [
        mode + sign * np.exp(_root(above, -30.0, 8.0, alpha, beta, mode, np.full_like(mode, sign)))
        for sign in (-1.0, 1.0)
    ]
    return mode, ends


def projection_nodes(
    width: int, alpha: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return points t, and their probabilities, that stand for the law of `projection_moments`.

    Parameters
    ----------
    width, alpha, beta
        As there.

    Returns
    -------
    t, weights
        Shape (node, point).
    """
    if width == 1:
        weights = 1 / (1 + np.exp(np.clip(2 * np.stack([alpha, -alpha], axis=1), -700, 700)))
        return np.broadcast_to([-1.0, 1.0], weights.shape), weights
    n = width - 1.0
    _, ends = _projection_range(n, alpha, beta)
    for count in (128, 256, 512, 1024):
        u = np.linspace(ends[0], ends[1], count + 1, axis=1)
        t = np.tanh(u)
        values = -n * _log_cosh(u) + alpha[:, None] * t - 0.5 * beta[:, None] * t**2
        weights = np.exp(values - values.max(axis=1, keepdims=True))
        total = weights.sum(axis=1)
        if np.all(np.abs(2 * weights[:, ::2].sum(axis=1) / total - 1) <= TOLERANCE):
            break
    return t, weights / total[:, None]


def inverse_gamma_nodes(shape: float) -> tuple[np.ndarray, np.ndarray]:
    """Return points s, and their probabilities, that stand for s with 1/s ~ Gamma(a, rate a).

    Parameters
    ----------
    shape
        a > 1.

    Returns
    -------
    s, weights
        Shape (node,).
    """
    # x = −log s has density ∝ exp(a(x − eˣ)), which is below exp(−DROP) of its maximum outside
    reach = math.sqrt(2 * DROP / shape) + DROP / shape
    x = np.linspace(-reach, math.log1p(reach), 129)  # a seventh of a standard deviation apart
    weights = np.exp(shape * (x - np.expm1(x)))
    return np.exp(-x), weights / weights.sum()
