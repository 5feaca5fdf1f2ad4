"""Conjugate gradients that start from, and leave out, a Krylov space that is at hand.

Deflated CG (Saad, Yeung, Erhel and Guyomarc'h, SIAM J. Sci. Comput. 21, 1909 (2000)): the residual
stays orthogonal to the space, where large eigenvalues are, so that the steps depend on the rest of
the spectrum alone. One product with a block serves all right-hand sides.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float

from .block_lanczos import BlockLanczos

__all__ = ["Deflation", "Solved"]

Product = Callable[[np.ndarray], np.ndarray]


class Solved(NamedTuple):
    """X ≈ A⁻¹B with what is left.

    Attributes
    ----------
    x, residual
        X and B − A X, shape (row, b).
    products
        Number of products with K_0 that were taken.
    """

    x: np.ndarray
    residual: np.ndarray
    products: int


class Deflation:
    """Solves with A = T·1 + s·K_0 + U diag(w) Uᵀ in the presence of a run of block Lanczos.

    Parameters
    ----------
    run
        Block Lanczos of K_0 that started with U among its vectors.
    scale, columns, temperature
        s, U diag(√w) of shape (row, term), T.
    """

    def __init__(
        self, run: BlockLanczos, scale: float, columns: np.ndarray, temperature: float
    ) -> None:
        self.run, self._scale, self._columns, self._temperature = run, scale, columns, temperature
        inside = run.basis.T @ columns
        whole = scale * run.projection + inside @ inside.T
        whole[np.diag_indices(run.size)] += temperature
        self._factor = scipy.linalg.cho_factor(whole, lower=True, overwrite_a=True)
        self._last = slice(run.size - run.sizes[-1], run.size)

    def galerkin(self, b: Float[np.ndarray, "row b"]) -> tuple[np.ndarray, np.ndarray]:
        """Return the solution within the space and its residual; no product is needed."""
        basis = self.run.basis
        inside = basis.T @ b
        coefficients = scipy.linalg.cho_solve(self._factor, inside)
        outside = self.run.following @ (self.run.coupling @ coefficients[self._last])
        return basis @ coefficients, b - basis @ inside - self._scale * outside

    def solve(
        self,
        product: Product,
        b: Float[np.ndarray, "row b"],
        tolerance: Callable[[np.ndarray], np.ndarray],
        most: int,
    ) -> Solved:
        """Return A⁻¹ `b`, each column to its own tolerance.

        Parameters
        ----------
        product
            Takes a block to K_0 times it.
        b
            Right-hand sides.
        tolerance
            bᵀX, shape (b,) -> the largest |residual|² of each column.
        most
            Largest number of products.
        """
        x, r = self.galerkin(b)
        run, at = self.run, np.arange(b.shape[1])
        square = np.einsum("ij,ij->j", r, r)
        p, rho, taken = np.empty((b.shape[0], 0)), square, 0
        while taken < most:
            wanted = tolerance(np.einsum("ij,ij->j", b, x))
            left = square[at] > wanted[at]
            if not left.any():
                break
            if not left.all():
                at, rho = at[left], rho[left]
                p = p[:, left] if p.shape[1] else p
            residual = r[:, at]
            p = residual + square[at] / rho * p if p.shape[1] else residual.copy()
            p -= self._within(residual)
            rho = square[at]
            image = self._scale * product(p) + self._temperature * p
            image += self._columns @ (self._columns.T @ p)
            taken += 1
            step = rho / np.einsum("ij,ij->j", p, image)
            x[:, at] += step * p
            residual = residual - step * image
            residual -= run.basis @ (run.basis.T @ residual)  # by rounding
            r[:, at] = residual
            square[at] = np.einsum("ij,ij->j", residual, residual)
        return Solved(x, r, taken)

    def _within(self, r: np.ndarray) -> np.ndarray:
        """Return V (VᵀAV)⁻¹ VᵀA r for r orthogonal to V."""
        inside = np.zeros((self.run.size, r.shape[1]))
        inside[self._last] = self._scale * self.run.coupling.T @ (self.run.following.T @ r)
        return self.run.basis @ scipy.linalg.cho_solve(self._factor, inside)
