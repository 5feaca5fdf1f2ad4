"""The data term of the action when only a scale of a fixed kernel varies.

With one hidden layer the renormalised kernel is s·K_0 + U diag(w) Uᵀ with K_0 and the one or two
columns of U fixed. One Householder reduction K_0 = H 𝒯 Hᵀ to tridiagonal form, cheaper than an
eigendecomposition, then makes every evaluation of the data term and its gradient O(P).
"""

# SciPy makes the LAPACK wrappers at run time:
# pyright: reportAttributeAccessIssue=false

from typing import Any

import numpy as np
import scipy.linalg.lapack as lapack
from jaxtyping import Float

from ._errors import InputError

__all__ = ["ScaledKernel"]


def _workspace(query: Any) -> int:
    return int(np.real(query))


def _factor(d: np.ndarray, e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pivots and ratios of L D Lᵀ of a tridiagonal matrix; LinAlgError if not positive definite."""
    if d.size == 1:  # LAPACK's wrapper refuses an empty off-diagonal
        pivots, ratios, info = d, e, int(not d[0] > 0)
    else:
        pivots, ratios, info = lapack.dpttrf(d, e)
    if info != 0:
        raise np.linalg.LinAlgError("not positive definite")
    return pivots, ratios


def _solve(pivots: np.ndarray, ratios: np.ndarray, block: np.ndarray) -> np.ndarray:
    if pivots.size == 1:
        return block / pivots[0]
    return lapack.dpttrs(pivots, ratios, block)[0]


class ScaledKernel:
    """T·1 + s·K_0 + U diag(w) Uᵀ for varying s > 0, w ≥ 0 and T ≥ 0.

    Parameters
    ----------
    kernel
        K_0, symmetric positive semidefinite, shape (pattern, pattern).
    columns
        U, shape (pattern, term); no columns where only the scale varies.
    y
        Labels, shape (pattern,).
    """

    def __init__(
        self,
        kernel: Float[np.ndarray, "pattern pattern"],
        columns: Float[np.ndarray, "pattern term"],
        y: Float[np.ndarray, " pattern"],
    ) -> None:
        n = kernel.shape[0]
        work, _ = lapack.dsytrd_lwork(n, lower=1)
        reflectors, self._diagonal, self._offdiagonal, self._tau, info = lapack.dsytrd(
            np.asfortranarray(kernel), lower=1, lwork=_workspace(work), overwrite_a=0
        )
        if info != 0:
            raise InputError(f"expected kernel = a finite symmetric matrix, got LAPACK info {info}")
        self._reflectors = np.asfortranarray(reflectors[1:, : n - 1])
        self.n_patterns = n
        self._y = self.rotate(y[:, None])[:, 0]
        self._columns = self.rotate(columns) if columns.shape[1] else columns

    def rotate(self, block: Float[np.ndarray, "pattern b"]) -> Float[np.ndarray, "pattern b"]:
        """Return Hᵀ `block`: into the basis where K_0 is tridiagonal."""
        block = np.array(block, dtype=np.float64, order="F")
        if self.n_patterns > 1:
            tail = np.asfortranarray(block[1:])
            _, work, _ = lapack.dormqr("L", "T", self._reflectors, self._tau, tail, -1)
            rotated, _, info = lapack.dormqr(
                "L", "T", self._reflectors, self._tau, tail, _workspace(work[0])
            )
            if info != 0:  # pragma: no cover - only for malformed arguments
                raise RuntimeError(f"dormqr returned info {info}")
            block[1:] = rotated
        return block

    def data_term(
        self, scale: float, weights: Float[np.ndarray, " term"], temperature: float
    ) -> tuple[float, float, Float[np.ndarray, " term"]]:
        """Return logdet A + yᵀA⁻¹y and its derivatives.

        Parameters
        ----------
        scale
            s > 0.
        weights
            w ≥ 0, shape (term,).
        temperature
            T ≥ 0.

        Returns
        -------
        value, d/d log s, d/d log w
            Scalars and an array of shape (term,); NaN where A is not positive definite.
        """
        d, e = scale * self._diagonal, scale * self._offdiagonal
        weights = np.asarray(weights, dtype=np.float64)
        try:
            pivots, ratios = _factor(temperature + d, e)
        except np.linalg.LinAlgError:
            return np.nan, np.nan, np.full(weights.shape, np.nan)
        columns = self._columns * np.sqrt(weights)
        solved = _solve(pivots, ratios, np.column_stack([self._y, columns]))
        a, x = solved[:, 0], solved[:, 1:]
        # diagonal and first off-diagonal of the tridiagonal inverse: a sum of positive terms,
        # x_i = 1/δ_i + l_i² x_{i+1}
        band = np.ones((2, pivots.size))
        band[0, 1:] = -(ratios**2)
        inverse_diagonal = lapack.dtbtrs(band, 1.0 / pivots[:, None])[0][:, 0]
        inverse_off = -ratios * inverse_diagonal[1:]
        trace = float(d @ inverse_diagonal + 2.0 * (e @ inverse_off))
        value = float(np.sum(np.log(pivots)))
        d_weights = np.zeros(weights.shape)
        if weights.size:
            capacitance = np.eye(weights.size) + columns.T @ x
            factor, info = lapack.dpotrf(capacitance, lower=1)
            solve = lambda b: lapack.dpotrs(factor, b, lower=1)[0]  # noqa: E731
            a = a - x @ solve(columns.T @ a)
            value += 2.0 * float(np.sum(np.log(np.diag(factor))))
            trace -= float(np.trace(solve(x.T @ self._tridiagonal_times(d, e, x))))
            gram = columns.T @ x
            d_weights = np.diag(gram - gram @ solve(gram)) - (columns.T @ a) ** 2
        value += float(self._y @ a)
        d_scale = trace - float(a @ self._tridiagonal_times(d, e, a[:, None])[:, 0])
        return value, d_scale, d_weights

    @staticmethod
    def _tridiagonal_times(d: np.ndarray, e: np.ndarray, block: np.ndarray) -> np.ndarray:
        product = d[:, None] * block
        product[:-1] += e[:, None] * block[1:]
        product[1:] += e[:, None] * block[:-1]
        return product
