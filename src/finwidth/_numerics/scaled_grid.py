"""Predictions of many solutions that share a kernel and differ in its scale.

All of them have A = T·1 + s·K_0 + U diag(w) Uᵀ. In the basis where K_0 is tridiagonal, one pass
over the training patterns, for all scales and test patterns side by side, gives every inner
product aᵀ(T·1 + s·𝒯)⁻¹b between test patterns, labels and the columns of U; the low-rank term then
follows from Woodbury's formula. A solution costs O(P) a test pattern, not O(P²).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from .tridiagonal import ScaledKernel

__all__ = ["ScaledPoints", "predict_many"]

_POINTS = 256  # grid points at a time


@dataclasses.dataclass(frozen=True, eq=False)
class ScaledPoints:
    """The values of s, w and T at the grid points.

    Parameters
    ----------
    scale, temperature
        s and T, shape (point,).
    weights
        w, shape (point, term).
    """

    scale: Float[np.ndarray, " point"]
    weights: Float[np.ndarray, "point term"]
    temperature: Float[np.ndarray, " point"]


class _Products(NamedTuple):
    """Inner products in the metric (T·1 + s·𝒯)⁻¹; k: test patterns, y: labels, u: columns of U."""

    kk: Array
    ky: Array
    ku: Array
    uy: Array
    uu: Array


@jax.jit
def _products(
    diagonal: Array, off_diagonal: Array, rows: Array, scale: Array, temperature: Array, k: Array
) -> _Products:
    """One pass over the patterns; `rows` holds y and U side by side, `k` the test patterns."""
    n_points, n_test, n_side = scale.shape[0], k.shape[1], rows.shape[1]

    def step(carry: tuple, row: tuple) -> tuple[tuple, None]:
        pivot, k_half, side_half, kk, k_side, side_side = carry
        d, e, k_row, side_row = row
        ratio = scale * e / pivot
        pivot = temperature + scale * d - ratio * scale * e
        k_half = k_row[None, :] - ratio[:, None] * k_half
        side_half = side_row[None, :] - ratio[:, None] * side_half
        scaled = side_half / pivot[:, None]
        kk = kk + k_half**2 / pivot[:, None]
        k_side = k_side + k_half[:, :, None] * scaled[:, None, :]
        side_side = side_side + side_half[:, :, None] * scaled[:, None, :]
        return (pivot, k_half, side_half, kk, k_side, side_side), None

    dtype = k.dtype
    start = (
        jnp.ones(n_points, dtype),
        jnp.zeros((n_points, n_test), dtype),
        jnp.zeros((n_points, n_side), dtype),
        jnp.zeros((n_points, n_test), dtype),
        jnp.zeros((n_points, n_test, n_side), dtype),
        jnp.zeros((n_points, n_side, n_side), dtype),
    )
    before = jnp.concatenate([jnp.zeros(1, dtype), off_diagonal])
    (_, _, _, kk, k_side, side), _ = lax.scan(step, start, (diagonal, before, k, rows))
    return _Products(kk, k_side[:, :, 0], k_side[:, :, 1:], side[:, 1:, 0], side[:, 1:, 1:])


def predict_many(
    kernel: ScaledKernel,
    points: ScaledPoints,
    cross: Float[np.ndarray, "test_pattern pattern"],
    diagonal: Float[np.ndarray, " test_pattern"],
    columns: Float[np.ndarray, "test_pattern term"],
) -> tuple[Float[np.ndarray, "point test_pattern"], Float[np.ndarray, "point test_pattern"]]:
    """Return mean and variance of f at test patterns for every grid point.

    Parameters
    ----------
    kernel
        K_0 and U on the training set.
    points
        The grid points.
    cross, diagonal
        K_0 between test and training patterns, and its diagonal at the test patterns.
    columns
        Rows of U for the test patterns.
    """
    k = kernel.rotate(cross.T)
    sides = np.column_stack([kernel.y, kernel.columns])
    means, variances = [], []
    for start in range(0, points.scale.size, _POINTS):
        chunk = slice(start, start + _POINTS)
        s, w, t = points.scale[chunk], points.weights[chunk], points.temperature[chunk]
        arrays = (kernel.diagonal, kernel.off_diagonal, sides, s, t, k)
        given = _products(*(jnp.asarray(array, jnp.float64) for array in arrays))
        kk, ky, ku, uy, uu = (np.asarray(value) for value in given)
        s = s[:, None]
        at_test = w[:, None, :] * columns  # diag(w) Uᵀ at the test patterns
        inside = np.einsum("gnc,gcd->gnd", at_test, uu)
        mean = s * ky + np.einsum("gnc,gc->gn", at_test, uy)
        explained = s**2 * kk + 2.0 * s * np.sum(ku * at_test, -1) + np.sum(inside * at_test, -1)
        prior = s * diagonal + np.sum(at_test * columns, -1)
        if w.shape[1]:
            cross_u = s[:, :, None] * ku + inside
            # (diag(1/w) + UᵀB⁻¹U)⁻¹, in the form that w = 0 is allowed in
            unit, diagonal_w = np.eye(w.shape[1]), w[:, :, None] * np.eye(w.shape[1])
            core = np.linalg.solve(unit + w[:, :, None] * uu, diagonal_w)
            reduced = np.einsum("gnc,gcd->gnd", cross_u, core)
            mean = mean - np.einsum("gnc,gc->gn", reduced, uy)
            explained = explained - np.sum(reduced * cross_u, -1)
        means.append(mean)
        variances.append(prior - explained)
    return np.concatenate(means), np.concatenate(variances)
