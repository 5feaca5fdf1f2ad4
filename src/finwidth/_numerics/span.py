"""The span of some vectors: an orthonormal basis, and how many directions it has."""

import dataclasses

import numpy as np
from jaxtyping import Float

__all__ = ["Span"]


@dataclasses.dataclass(frozen=True, eq=False)
class Span:
    """The rows of a matrix X in coordinates of their own span, X = U S Vᵀ.

    Attributes
    ----------
    left, values
        U and S, largest first, shapes (row, k) and (k,) with k the smaller size of X.
    right
        Vᵀ, shape (k, column).
    rank
        Number of singular values above rounding.
    """

    left: Float[np.ndarray, "row k"]
    values: Float[np.ndarray, " k"]
    right: Float[np.ndarray, "k column"]
    rank: int

    @classmethod
    def of(cls, X: Float[np.ndarray, "row column"]) -> "Span":
        """Return the span of the rows of X."""
        left, values, right = np.linalg.svd(X, full_matrices=False)
        cut = values[0] * max(X.shape) * np.finfo(np.float64).eps
        return cls(left, values, right, int(np.sum(values > cut)))

    def basis(self, directions: int | None = None) -> Float[np.ndarray, "column direction"]:
        """Return the first columns of V, by default as many as the rank."""
        return self.right[: self.rank if directions is None else directions].T

    def coordinates(self, directions: int | None = None) -> Float[np.ndarray, "row direction"]:
        """Return X V for as many columns of V."""
        n = self.rank if directions is None else directions
        return self.left[:, :n] * self.values[:n]
