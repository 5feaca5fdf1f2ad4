"""logdet A + yᵀA⁻¹y for A = T·1 + s·K_0 + U diag(w) Uᵀ in a basis where K_0 is easy to invert."""

# SciPy makes the LAPACK wrappers at run time:
# pyright: reportAttributeAccessIssue=false

import abc

import numpy as np
import scipy.linalg.lapack as lapack
from jaxtyping import Float

__all__ = ["DataTerm"]


class DataTerm(abc.ABC):
    """The data term of an action for varying s > 0, w ≥ 0 and T ≥ 0.

    Attributes
    ----------
    y
        Labels in the basis of K_0, shape (basis,).
    columns
        U likewise, shape (basis, term).
    """

    y: np.ndarray
    columns: np.ndarray

    @abc.abstractmethod
    def parts(
        self, scale: float, temperature: float, block: Float[np.ndarray, "basis b"]
    ) -> tuple[float, Float[np.ndarray, "basis b"], float]:
        """Return logdet B, B⁻¹ `block` and tr B⁻¹s·K_0 for B = T·1 + s·K_0, without U.

        Raises
        ------
        LinAlgError
            If B is not positive definite.
        """

    @abc.abstractmethod
    def times(
        self, scale: float, block: Float[np.ndarray, "basis b"]
    ) -> Float[np.ndarray, "basis b"]:
        """Return s·K_0 `block`."""

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
        weights = np.asarray(weights, dtype=np.float64)
        columns = self.columns * np.sqrt(weights)
        try:
            parts = self.parts(scale, temperature, np.column_stack([self.y, columns]))
        except np.linalg.LinAlgError:
            return np.nan, np.nan, np.full(weights.shape, np.nan)
        value, solved, trace = parts
        a, x = solved[:, 0], solved[:, 1:]
        d_weights = np.zeros(weights.shape)
        if weights.size:
            capacitance = np.eye(weights.size) + columns.T @ x
            factor, info = lapack.dpotrf(capacitance, lower=1)
            solve = lambda b: lapack.dpotrs(factor, b, lower=1)[0]  # noqa: E731
            a = a - x @ solve(columns.T @ a)
            value += 2.0 * float(np.sum(np.log(np.diag(factor))))
            trace -= float(np.trace(solve(x.T @ self.times(scale, x))))
            gram = columns.T @ x
            d_weights = np.diag(gram - gram @ solve(gram)) - (columns.T @ a) ** 2
        value += float(self.y @ a)
        d_scale = trace - float(a @ self.times(scale, a[:, None])[:, 0])
        return value, d_scale, d_weights

    def energy(
        self, scale: float, weights: Float[np.ndarray, " term"], temperature: float
    ) -> float:
        """Return yᵀA⁻¹y."""
        columns = self.columns * np.sqrt(weights)
        block = np.column_stack([self.y, columns])
        gram = block.T @ self.parts(scale, temperature, block)[1]
        value, cross, inner = gram[0, 0], gram[0, 1:], gram[1:, 1:] + np.eye(columns.shape[1])
        return float(value - cross @ np.linalg.solve(inner, cross))
