"""Probabilities that one of several Gaussian numbers is positive, or the largest of all."""

import functools

import numpy as np
from scipy.special import ndtr, ndtri, owens_t

from .._basics.errors import warn

__all__ = ["bivariate", "largest", "positive", "share_of_largest"]

_FAR = 40.0  # standard deviations beyond which a Gaussian has no probability that float64 holds
_REACH = 6.8  # … beyond which it has 1e-11
_REPLICATES = 8
_TOLERANCE = 1e-4
_LARGEST_POWER = 12  # 4096 points in each replicate
_CHUNK = 2**19  # entries of an array at a time


def positive(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return P(f > 0) for f ~ N(mean, variance), elementwise; a certain 0 counts half.

    Variances that rounding made negative count as zero.
    """
    return ndtr(_ratio(mean, np.sqrt(np.maximum(variance, 0.0))))


def _ratio(mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Return mean/sd, infinite for sd = 0, where 0/0 is 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = mean / sd
    return np.where((mean == 0) & (sd == 0), 0.0, ratio)


def bivariate(h: np.ndarray, k: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    """Return P(x < h, y < k) for standard normal x and y of this correlation, elementwise.

    References
    ----------
    D. B. Owen, Ann. Math. Stat. 27, 1075 (1956), eq. 2.1.
    """
    # at ±_FAR all is decided, and ratios stay finite
    h, k, r = np.clip(h, -_FAR, _FAR), np.clip(k, -_FAR, _FAR), np.clip(correlation, -1.0, 1.0)
    root = np.sqrt((1.0 - r) * (1.0 + r))

    def term(h: np.ndarray, k: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            slope = (k - r * h) / (h * root)
        # on the line k = r h nothing is left; h = 0 is a limit from above
        slope = np.where(k - r * h == 0, 0.0, np.where(h == 0, np.copysign(np.inf, k), slope))
        return owens_t(h, slope)

    apart = (h * k < 0) | ((h * k == 0) & (h + k < 0))
    value = 0.5 * (ndtr(h) + ndtr(k) - apart) - term(h, k) - term(k, h)
    both = (h == 0) & (k == 0)
    return np.clip(np.where(both, 0.25 + np.arcsin(r) / (2 * np.pi), value), 0.0, 1.0)


def share_of_largest(f: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return 1 where f[…, t, index[t]] is the largest of the last axis, else 0; ties share the 1.

    Parameters
    ----------
    f
        Shape (…, point, output).
    index
        Shape (point,).
    """
    top = f == f.max(axis=-1, keepdims=True)
    share = top[..., np.arange(index.size), index] / np.maximum(top.sum(axis=-1), 1)
    return np.where(np.isnan(f).any(axis=-1), np.nan, share)


def largest(
    mean: np.ndarray, variance: np.ndarray, covariance: np.ndarray | None, index: np.ndarray
) -> np.ndarray:
    """Return the probability that f[t, index[t]] is the largest of the outputs, for Gaussian f.

    Two and three outputs: closed form (normal and bivariate normal probabilities). More of them,
    independent with one standard deviation: a one-dimensional integral, to 1e-10. Else a
    separation of variables with scrambled Sobol points, more of them until the standard error of
    the average over all points, as replicates tell it, is 1e-4 (AccuracyWarning where it is not).

    Parameters
    ----------
    mean, variance
        Shape (…, point, output). Variances that rounding made negative count as zero.
    covariance
        Of the outputs at a point, shape (…, point, output, output); None where they are
        independent.
    index
        Shape (point,).

    References
    ----------
    theory.md, section 14; A. Genz, J. Comput. Graph. Stat. 1, 141 (1992).
    """
    certain = share_of_largest(mean, index)
    still = ~(variance > 0).any(axis=-1)
    if still.all():
        return certain
    n_outputs = mean.shape[-1]
    if covariance is None and n_outputs > 3:
        sd = np.sqrt(np.maximum(variance, 0.0))
        if np.all(np.ptp(sd, axis=-1) <= 1e-12 * sd.max(axis=-1)):
            value = _independent(_ahead(mean, index), sd[..., :1])
            return np.where(still, certain, value)
    ahead, spread = _ahead(mean, index), _spread(variance, covariance, index)
    own = np.sqrt(np.maximum(np.diagonal(spread, axis1=-2, axis2=-1), 0.0))
    h = _ratio(ahead, own)
    if n_outputs == 2:
        value = ndtr(h[..., 0])
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            correlation = spread / (own[..., :, None] * own[..., None, :])
        correlation = np.where(np.isfinite(correlation), correlation, 0.0)
        if n_outputs == 3:
            value = bivariate(h[..., 0], h[..., 1], correlation[..., 0, 1])
        else:
            n = n_outputs - 1
            value = _orthant(h.reshape(-1, n), correlation.reshape(-1, n, n)).reshape(still.shape)
    return np.where(still, certain, value)


def _order(index: np.ndarray, n_outputs: int) -> np.ndarray:
    """Return the other outputs of each point, shape (point, output − 1)."""
    others = np.arange(n_outputs - 1)
    return others + (others >= index[:, None])


def _ahead(mean: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return f[index] − f[other], shape (…, point, output − 1)."""
    rows = np.arange(index.size)
    others = mean[..., rows[:, None], _order(index, mean.shape[-1])]
    return mean[..., rows, index][..., None] - others


def _spread(variance: np.ndarray, covariance: np.ndarray | None, index: np.ndarray) -> np.ndarray:
    """Return the covariance of these differences."""
    rows, order = np.arange(index.size), _order(index, variance.shape[-1])
    if covariance is None:
        others = variance[..., rows[:, None], order]
        own = variance[..., rows, index][..., None, None]
        return own + others[..., None] * np.eye(order.shape[1])
    own = covariance[..., rows, index, index][..., None, None]
    cross = covariance[..., rows[:, None], index[:, None], order]
    others = covariance[..., rows[:, None, None], order[:, :, None], order[:, None, :]]
    return own - cross[..., :, None] - cross[..., None, :] + others


def _independent(ahead: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """E_z Π_d Φ(ahead_d/sd + z) by the trapezoidal rule, which converges geometrically.

    The integrand grows like exp(D y²/2) at distance y from the real line, D outputs, so that the
    error at spacing h is exp(−2π²/(D h²)).
    """
    n_outputs = ahead.shape[-1] + 1
    ahead = np.clip(_ratio(ahead, sd), -_FAR, _FAR)
    spacing = np.sqrt(2 * np.pi**2 / (n_outputs * np.log(1e11)))
    nodes = spacing * np.arange(-np.ceil(_REACH / spacing), np.ceil(_REACH / spacing) + 1)
    total = np.zeros(ahead.shape[:-1])
    for z in nodes:
        total += np.exp(-0.5 * z**2) * np.prod(ndtr(ahead + z), axis=-1)
    return np.clip(spacing / np.sqrt(2 * np.pi) * total, 0.0, 1.0)


def _orthant(h: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    """Return P(all x_i < h_i), shape (point,), for standard normals of these correlations."""
    # the least likely first: the others are then averaged where they matter
    order = np.argsort(h, axis=-1)
    h = np.clip(np.take_along_axis(h, order, -1), -_FAR, _FAR)
    root = _cholesky(
        correlation[np.arange(len(h))[:, None, None], order[:, :, None], order[:, None, :]]
    )
    power = 5 if len(h) <= 10_000 else 2
    while True:
        values = _separated(h, root, power)
        means = values.mean(axis=0)
        error = means.std(ddof=1) / np.sqrt(_REPLICATES)
        if not error > _TOLERANCE or power == _LARGEST_POWER:
            break
        power += 1
    if error > _TOLERANCE:
        warn(
            f"expected a standard error of {_TOLERANCE:g} on the average probability of the "
            f"largest output, got {error:.1e}"
        )
    return values.mean(axis=1)


def _cholesky(matrix: np.ndarray) -> np.ndarray:
    """Factorise many small correlation matrices, which may be singular: such pivots are 0."""
    n = matrix.shape[-1]
    root = np.zeros_like(matrix)
    for k in range(n):
        rest = matrix[:, k:, k] - np.einsum("pij,pj->pi", root[:, k:, :k], root[:, k, :k])
        pivot = np.where(rest[:, 0] > 1e-14, rest[:, 0], 0.0)
        root[:, k, k] = np.sqrt(pivot)
        with np.errstate(divide="ignore", invalid="ignore"):
            below = rest[:, 1:] / root[:, k, k][:, None]
        root[:, k + 1 :, k] = np.where(pivot[:, None] > 0, below, 0.0)
    return root


@functools.cache
def _points(dimension: int, power: int) -> np.ndarray:
    """Return replicates of 2^power Sobol points, shape (dimension, replicate · point)."""
    from scipy.stats import qmc  # a second, which fewer outputs need not spend

    replicates = [
        qmc.Sobol(dimension, rng=np.random.default_rng(seed)).random_base2(power)
        for seed in range(_REPLICATES)
    ]
    return np.concatenate(replicates).T


def _separated(h: np.ndarray, root: np.ndarray, power: int) -> np.ndarray:
    """Return averages over each replicate, shape (point, replicate)."""
    n = h.shape[-1]
    nodes = _points(n - 1, power)
    result = np.empty((len(h), _REPLICATES))
    step = max(_CHUNK // nodes.shape[1], 1)
    for start in range(0, len(h), step):
        rows = slice(start, start + step)
        limits, factor = h[rows], root[rows]
        product = np.ones((len(limits), nodes.shape[1]))
        drawn: list[np.ndarray] = []
        for k in range(n):
            rest = np.repeat(limits[:, k, None], nodes.shape[1], axis=1)
            for j, x in enumerate(drawn):
                rest -= factor[:, k, j, None] * x
            inside = ndtr(_ratio(rest, factor[:, k, k, None]))
            product *= inside
            if k < n - 1:
                drawn.append(ndtri(np.maximum(nodes[k] * inside, 1e-300)))
        result[rows] = product.reshape(len(limits), _REPLICATES, -1).mean(axis=-1)
    return result
