"""f given labels, where each label counts as a Gaussian site: what Laplace and EP both end with."""

# SciPy makes the LAPACK wrappers at run time:
# pyright: reportAttributeAccessIssue=false
import functools

import numpy as np
import scipy.linalg
from jaxtyping import Float

from .._basics.errors import InputError
from ._likelihood import Conditioned, Tile

__all__ = ["SiteFactor", "SitesConditioned"]


class SiteFactor:
    """The factorisation of B = 1 + SᵀK S, for sites of precision W = S Sᵀ ≥ 0 that may vanish.

    Parameters
    ----------
    kernel
        K, shape (pattern, pattern), positive semi-definite.
    precision
        W, shape (pattern,).
    """

    def __init__(
        self,
        kernel: Float[np.ndarray, "pattern pattern"],
        precision: np.ndarray,
    ) -> None:
        self.kernel, self.precision, self.root = kernel, precision, self.square_root(precision)
        b = np.asfortranarray(self.rooted(self.rooted(kernel).T))
        b[np.diag_indices(len(b))] += 1.0
        self.lower, info = scipy.linalg.lapack.dpotrf(b, lower=1, overwrite_a=1, clean=0)
        if info != 0 or not np.all(np.isfinite(np.diag(self.lower))):
            raise InputError(
                "expected a finite kernel on the training set that is positive semi-definite to "
                "working precision, got one that is not"
            )

    def square_root(self, precision: np.ndarray) -> np.ndarray:
        """Return W^½."""
        return np.sqrt(precision)

    def rooted(self, b: np.ndarray) -> np.ndarray:
        """Return Sᵀ b with W = S Sᵀ, S = W^½, for b of shape (pattern, b)."""
        return self.root[:, None] * b

    def unrooted(self, b: np.ndarray) -> np.ndarray:
        """Return S b."""
        return self.rooted(b)

    def weigh(self, f: np.ndarray) -> np.ndarray:
        """Return W f, for f of shape (pattern,)."""
        return self.precision * f

    @property
    def logdet(self) -> float:
        """logdet(1 + W K)."""
        return 2.0 * float(np.sum(np.log(np.diag(self.lower))))

    def whiten(self, b: np.ndarray) -> np.ndarray:
        """Return V b with VᵀV = R = S B⁻¹ Sᵀ, (W⁻¹ + K)⁻¹ if that exists; b is (pattern, b)."""
        return scipy.linalg.solve_triangular(self.lower, self.rooted(b), lower=True)

    def solve(self, b: np.ndarray) -> np.ndarray:
        """Return R b, for b of shape (pattern,)."""
        solved = scipy.linalg.cho_solve((self.lower, True), self.rooted(b[:, None]))
        return self.unrooted(solved)[:, 0]

    def reduced(self, b: np.ndarray) -> np.ndarray:
        """Return (1 + W K)⁻¹ b, for b of shape (pattern,)."""
        return b - self.solve(self.kernel @ b)

    def inverse(self) -> np.ndarray:
        """Return R; only the entries on and below the diagonal hold it."""
        inverse, _ = scipy.linalg.lapack.dpotri(self.lower, lower=1)
        inverse *= self.root
        inverse *= self.root[:, None]
        return inverse

    def covariance(self) -> np.ndarray:
        """Return Σ = (K⁻¹ + W)⁻¹ = K − K R K."""
        half = self.whiten(self.kernel)
        return self.kernel - half.T @ half


class SitesConditioned(Conditioned):
    """f given labels, its law approximated by the prior times Gaussian sites.

    Parameters
    ----------
    factor
        Factorisation with the sites' precisions.
    weights
        a with E f(x) = k(x)·a, shape (pattern,).
    action
        −2 log Z − P log 2π.
    moved
        c, shape (pattern,): ∂action/∂K = R − a aᵀ + ½(a cᵀ + c aᵀ), the last where the sites move
        with K.
    """

    def __init__(
        self,
        factor: SiteFactor,
        weights: np.ndarray,
        action: float,
        moved: np.ndarray | None = None,
    ) -> None:
        self.factor = factor
        self._weights, self._action, self._moved = weights, action, moved

    @property
    def action(self) -> float:
        """−2 log Z − P log 2π."""
        return self._action

    @property
    def weights(self) -> np.ndarray:
        """a with E f(x) = k(x)·a, shape (pattern,)."""
        return self._weights

    def whiten(self, b: np.ndarray) -> np.ndarray:
        """Return V b with VᵀV = R."""
        return self.factor.whiten(b)

    @functools.cached_property
    def mean(self) -> np.ndarray:
        """E f on the training set, shape (pattern,)."""
        return self.factor.kernel @ self._weights

    def gradient(self) -> Tile:
        """Return the tiles of ∂action/∂K."""
        inverse, a = self.factor.inverse(), self._weights
        # −a aᵀ + ½(a cᵀ + c aᵀ) as one symmetric product
        d = a if self._moved is None else a - self._moved

        def tile(rows: slice, columns: slice) -> np.ndarray:
            outer = np.outer(a[rows], d[columns]) + np.outer(d[rows], a[columns])
            return inverse[rows, columns] - 0.5 * outer

        return tile
