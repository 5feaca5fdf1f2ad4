"""Kernels of which only a scale varies: s·K_0 + U diag(w) Uᵀ with K_0 and U fixed.

That is the renormalised kernel of one hidden layer, and of any depth where the order parameters
enter through their product. One Householder reduction K_0 = H 𝒯 Hᵀ to tridiagonal form, at half
the cost of an eigendecomposition, then makes every evaluation of the data term and its gradient
O(P), and every factorisation of A = T·1 + s·K_0 + U diag(w) Uᵀ as well.
"""

# SciPy makes the LAPACK wrappers at run time:
# pyright: reportAttributeAccessIssue=false

import copy
import functools
from typing import Any

import numpy as np
import scipy.linalg.lapack as lapack
from jaxtyping import Float

from .._basics.errors import InputError
from .data_term import DataTerm
from .factor import Factorization, check_conditioning

__all__ = ["ScaledKernel", "TridiagonalFactor"]


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


class ScaledKernel(DataTerm):
    """T·1 + s·K_0 + U diag(w) Uᵀ for varying s > 0, w ≥ 0 and T ≥ 0.

    Parameters
    ----------
    kernel
        K_0, symmetric positive semidefinite, shape (pattern, pattern).
    columns
        U, shape (pattern, term); no columns where only the scale varies.
    y
        Labels, shape (pattern,), or (pattern, output) of several outputs, of which `along` makes
        labels of one.
    overwrite
        Whether `kernel`, in Fortran order, may be overwritten to save memory.

    Attributes
    ----------
    diagonal, off_diagonal
        Of 𝒯, shapes (pattern,) and (pattern − 1,).
    y
        Hᵀy, of the shape of y.
    columns
        HᵀU, shape (pattern, term).
    """

    def __init__(
        self,
        kernel: Float[np.ndarray, "pattern pattern"],
        columns: Float[np.ndarray, "pattern term"],
        y: Float[np.ndarray, " pattern"] | Float[np.ndarray, "pattern output"],
        overwrite: bool = False,
    ) -> None:
        n = kernel.shape[0]
        work, _ = lapack.dsytrd_lwork(n, lower=1)
        reflectors, self.diagonal, self.off_diagonal, self._tau, info = lapack.dsytrd(
            kernel, lower=1, lwork=_workspace(work), overwrite_a=int(overwrite)
        )
        if info != 0:
            raise InputError(f"expected kernel = a finite symmetric matrix, got LAPACK info {info}")
        # the reflectors start one row below the diagonal: the same memory, one entry on
        flat = reflectors.reshape(-1, order="F")
        self._reflectors = flat[1 : 1 + n * (n - 1)].reshape((n, n - 1), order="F")
        self.n_patterns = n
        self._labels = y
        self.y = self.rotate(y.reshape(n, -1)).reshape(y.shape)
        self.columns = self.rotate(columns) if columns.shape[1] else columns

    def rotate(
        self, block: Float[np.ndarray, "pattern b"], back: bool = False
    ) -> Float[np.ndarray, "pattern b"]:
        """Return Hᵀ `block`, in the basis where K_0 is tridiagonal; H `block` with `back`."""
        block = np.array(block, dtype=np.float64, order="F")
        if self.n_patterns > 1:
            side, trans = "L", "N" if back else "T"
            tail = np.asfortranarray(block[1:])
            # LAPACK writes ones into the reflectors for a while, which a memory map may not allow
            reflectors = np.require(self._reflectors, requirements=["F", "W"])
            _, work, _ = lapack.dormqr(side, trans, reflectors, self._tau, tail, -1)
            rotated, _, info = lapack.dormqr(
                side,
                trans,
                reflectors,
                self._tau,
                tail,
                _workspace(work[0]),
                overwrite_c=1,
            )
            if info != 0:  # pragma: no cover - only for malformed arguments
                raise RuntimeError(f"dormqr returned info {info}")
            block[1:] = rotated
        return block

    def rotated(self, y: Float[np.ndarray, " pattern"]) -> Float[np.ndarray, " pattern"]:
        """Return Hᵀ `y`, which is at hand for the labels."""
        return self.y if y is self._labels else self.rotate(y[:, None])[:, 0]

    def along(
        self, y: Float[np.ndarray, " pattern"], direction: Float[np.ndarray, " output"]
    ) -> "ScaledKernel":
        """Return the same reduction with the labels `y` = Y o of one direction o of the outputs."""
        if y is self._labels:
            return self
        _ = self.extreme_eigenvalues  # found once for all directions
        other = copy.copy(self)
        other._labels, other.y = y, self.y @ direction
        return other

    @functools.cached_property
    def extreme_eigenvalues(self) -> tuple[float, float]:
        """The smallest and the largest eigenvalue of K_0."""
        n = self.n_patterns
        if n == 1:
            return float(self.diagonal[0]), float(self.diagonal[0])
        # LAPACK squares entries: in a unit of their size, a power of two, none overflows
        size = max(float(np.max(np.abs(self.diagonal))), float(np.max(np.abs(self.off_diagonal))))
        unit = float(np.ldexp(1.0, np.frexp(size)[1] - 1))
        ends = []
        for index in (1, n):
            arguments = (2, 0.0, 0.0, index, index, 0.0, "E")
            count, values, _, _, info = lapack.dstebz(
                self.diagonal / unit, self.off_diagonal / unit, *arguments
            )
            if info != 0 or count != 1:  # pragma: no cover - only for NaN
                raise InputError(
                    f"expected kernel = a finite symmetric matrix, got LAPACK info {info}"
                )
            ends.append(unit * float(values[0]))
        return ends[0], ends[1]

    def parts(
        self, scale: float, temperature: float, block: Float[np.ndarray, "pattern b"]
    ) -> tuple[float, Float[np.ndarray, "pattern b"], float]:
        """Return logdet B, B⁻¹ `block` and tr B⁻¹s𝒯 for B = T·1 + s·𝒯, without U.

        Raises
        ------
        LinAlgError
            If B is not positive definite.
        """
        d, e = scale * self.diagonal, scale * self.off_diagonal
        pivots, ratios = _factor(temperature + d, e)
        solved = _solve(pivots, ratios, block)
        # diagonal and first off-diagonal of the tridiagonal inverse: a sum of positive terms,
        # x_i = 1/δ_i + l_i² x_{i+1}
        band = np.ones((2, pivots.size))
        band[0, 1:] = -(ratios**2)
        inverse_diagonal = lapack.dtbtrs(band, 1.0 / pivots[:, None])[0][:, 0]
        inverse_off = -ratios * inverse_diagonal[1:]
        trace = float(d @ inverse_diagonal + 2.0 * (e @ inverse_off))
        return float(np.sum(np.log(pivots))), solved, trace

    def times(
        self, scale: float, block: Float[np.ndarray, "pattern b"]
    ) -> Float[np.ndarray, "pattern b"]:
        """Return s·𝒯 `block`."""
        d, e = scale * self.diagonal, scale * self.off_diagonal
        product = d[:, None] * block
        product[:-1] += e[:, None] * block[1:]
        product[1:] += e[:, None] * block[:-1]
        return product


class TridiagonalFactor(Factorization):
    """A⁻¹ for A = T·1 + s·K_0 + U diag(w) Uᵀ, from the tridiagonal form of K_0 in O(P).

    With B = T·1 + s·𝒯 = L D Lᵀ and V = D^{-1/2} L⁻¹ HᵀU diag(√w), A⁻¹ = WᵀW for
    W = (1 + V Vᵀ)^{-1/2} D^{-1/2} L⁻¹ Hᵀ.

    Parameters
    ----------
    kernel
        K_0 and U.
    scale, weights, temperature
        s, w (shape (term,)), T.

    Raises
    ------
    InputError
        If A is singular to working precision.
    """

    def __init__(
        self,
        kernel: ScaledKernel,
        scale: float,
        weights: Float[np.ndarray, " term"],
        temperature: float,
    ) -> None:
        low, high = kernel.extreme_eigenvalues
        columns = kernel.columns * np.sqrt(weights)
        largest = temperature + scale * high + float(np.sum(columns**2))
        smallest = temperature + scale * low
        n = kernel.n_patterns
        self.rounding = check_conditioning(n, max(smallest, 0.0) / largest, temperature)
        d, e = scale * kernel.diagonal, scale * kernel.off_diagonal
        self._kernel = kernel
        self._pivots, self._ratios = _factor(temperature + d, e)
        self._columns = self._half(columns)
        # (1 + V Vᵀ)^{-1/2} = 1 + V C Vᵀ
        values, vectors = np.linalg.eigh(self._columns.T @ self._columns)
        values = np.maximum(values, 0.0)  # of a Gram matrix
        shrink = np.expm1(-0.5 * np.log1p(values))
        shrink = np.divide(shrink, values, out=np.full(values.shape, -0.5), where=values > 0)
        self._correction = (vectors * shrink) @ vectors.T
        self._logdet = float(np.sum(np.log(self._pivots)) + np.sum(np.log1p(values)))

    @property
    def logdet(self) -> float:
        """logdet A."""
        return self._logdet

    def _half(self, rotated: np.ndarray) -> np.ndarray:
        """Return D^{-1/2} L⁻¹ of a rotated block."""
        root = np.sqrt(self._pivots)[:, None]
        if self._pivots.size > 1 and rotated.shape[1]:
            band = np.ones((2, self._pivots.size))
            band[1, :-1] = self._ratios
            half = lapack.dtbtrs(band, rotated, uplo="L", diag="U")[0]
            half /= root
            return half
        return rotated / root

    def _half_transposed(self, block: np.ndarray) -> np.ndarray:
        block = block / np.sqrt(self._pivots)[:, None]
        if self._pivots.size > 1:
            band = np.ones((2, self._pivots.size))
            band[1, :-1] = self._ratios
            block = lapack.dtbtrs(band, block, uplo="L", trans="T", diag="U")[0]
        return block

    def whiten_rotated(self, rotated: Float[np.ndarray, "pattern b"]) -> np.ndarray:
        """Return W b for Hᵀb."""
        half = self._half(rotated)
        if not self._columns.shape[1]:
            return half
        return half + self._columns @ (self._correction @ (self._columns.T @ half))

    def whiten(self, b: np.ndarray) -> np.ndarray:
        """Return W b with WᵀW = A⁻¹."""
        return self.whiten_rotated(self._kernel.rotate(b))

    def quadratic(self, y: np.ndarray) -> float:
        """Return yᵀA⁻¹y."""
        return float(np.sum(self.whiten_rotated(self._kernel.rotated(y)[:, None]) ** 2))

    def solve(self, b: np.ndarray) -> np.ndarray:
        """Return A⁻¹ b, for b of shape (pattern,) or (pattern, b)."""
        rotated = self._kernel.rotate(b.reshape(b.shape[0], -1))
        return self._kernel.rotate(self.solve_rotated(rotated), back=True).reshape(b.shape)

    def solve_rotated(self, rotated: Float[np.ndarray, "pattern b"]) -> np.ndarray:
        """Return HᵀA⁻¹ b for Hᵀb."""
        block = self.whiten_rotated(rotated)
        if self._columns.shape[1]:
            block = block + self._columns @ (self._correction @ (self._columns.T @ block))
        return self._half_transposed(block)
