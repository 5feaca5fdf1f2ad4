"""The likelihood and its predictions for s·K_0 at many scales s, from one eigendecomposition.

Given the scale the outputs are Gaussian, with covariance s·K_0 + b·11ᵀ (b the variance of the
output's bias) and, for activations that are not odd, mean √(N s) t·m (theory.md, section 5). With
K_0 = V diag(w) Vᵀ every scale costs O(P).
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import scipy.linalg

from .scale_laws import projection_moments, projection_nodes

__all__ = ["Conditional", "Kernels", "Spectrum"]


class Kernels(NamedTuple):
    """What the scale multiplies, on two sets of patterns.

    Attributes
    ----------
    cross
        K_0 between them, shape (a, b).
    diagonal
        K_0 at the patterns of the first, shape (a,).
    mean
        m (with 1/√λ_1) there, shape (a,), or None.
    """

    cross: np.ndarray
    diagonal: np.ndarray
    mean: np.ndarray | None


class Conditional(NamedTuple):
    """The law of f given the scale and the labels, at every scale; shapes (node, point).

    Attributes
    ----------
    mean
        With z = √(N s) t at its conditional mean.
    variance
        Given z.
    slope
        Change of the mean with z.
    response
        Change of the mean with the output's bias.
    """

    mean: np.ndarray
    variance: np.ndarray
    slope: np.ndarray
    response: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class _Solved:
    """1/(T + s w) and bilinear forms of y, 1 and m with it, one row per scale."""

    inverse: np.ndarray
    forms: dict[str, np.ndarray]
    bias_variance: np.ndarray  # of the bias given y, (1/b + 1ᵀ(T + sK_0)⁻¹1)⁻¹


class Spectrum:
    """Eigendecomposition of K_0 with the labels in its basis.

    Parameters
    ----------
    kernels
        On the training set. Eigenvalues that rounding makes negative count as zero.
    y
        Labels, shape (pattern,).
    temperature
        T ≥ 0.
    bias
        Prior variance b of the output's bias; 0 for none.
    width
        N, of use with a mean term only.
    """

    def __init__(
        self, kernels: Kernels, y: np.ndarray, temperature: float, bias: float, width: int
    ) -> None:
        values, self._vectors = scipy.linalg.eigh(kernels.cross)
        self._values = np.maximum(values, 0.0)
        self._temperature, self._bias, self._width = temperature, bias, width
        columns = {"y": y, "1": np.ones(y.size)}
        if kernels.mean is not None:
            columns["m"] = kernels.mean
        self._columns = {name: self._vectors.T @ column for name, column in columns.items()}
        self._has_mean = kernels.mean is not None

    def _solve(self, scale: np.ndarray) -> tuple[np.ndarray, _Solved]:
        """Return logdet (T + sK_0 + b·11ᵀ), inf where singular, and what follows from it."""
        total = self._temperature + scale[:, None] * self._values
        regular = total.min(axis=1) > 0
        total[~regular] = 1.0
        inverse = 1.0 / total
        logdet = np.where(regular, np.sum(np.log(total), axis=1), np.inf)
        names = list(self._columns)
        forms = {
            a + b: inverse @ (self._columns[a] * self._columns[b])
            for i, a in enumerate(names)
            for b in names[: i + 1]
        }
        variance = self._bias / (1.0 + self._bias * forms["11"])
        logdet = logdet + np.log1p(self._bias * forms["11"])
        return logdet, _Solved(inverse, forms, variance)

    def log_likelihood(self, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return log p(y | s) and mean and variance of z = √(N s) t given s and y.

        Parameters
        ----------
        scale
            s, shape (node,).

        Returns
        -------
        log p(y | s), moments of z
            Shapes (node,) and (node, 2).
        """
        logdet, solved = self._solve(scale)
        v, g = solved.bias_variance, solved.forms
        square = g["yy"] - v * g["1y"] ** 2
        value = -0.5 * (square + logdet + self._columns["y"].size * math.log(2 * math.pi))
        if not self._has_mean:
            return value, np.zeros((scale.size, 2))
        radius = np.sqrt(self._width * scale)
        log_value, mean, variance = projection_moments(self._width, *self._tilt(radius, solved))
        return value + log_value, np.column_stack([radius * mean, radius**2 * variance])

    def _tilt(self, radius: np.ndarray, solved: _Solved) -> tuple[np.ndarray, np.ndarray]:
        """Return α and β of what the labels say of t, exp(α t − β t²/2)."""
        v, g = solved.bias_variance, solved.forms
        alpha = radius * (g["my"] - v * g["m1"] * g["1y"])
        return alpha, radius**2 * (g["mm"] - v * g["m1"] ** 2)

    def projections(self, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return points z, and their probabilities, that stand for the law of z given s and y.

        Parameters
        ----------
        scale
            s, shape (node,).

        Returns
        -------
        z, weights
            Shape (node, point); one point, 0, without a mean term.
        """
        if not self._has_mean:
            return np.zeros((scale.size, 1)), np.ones((scale.size, 1))
        radius = np.sqrt(self._width * scale)
        t, weights = projection_nodes(self._width, *self._tilt(radius, self._solve(scale)[1]))
        return radius[:, None] * t, weights

    def rotate(self, cross: np.ndarray) -> np.ndarray:
        """Return K_0(test, train) V, shape (point, pattern)."""
        return cross @ self._vectors

    def conditional(self, kernels: Kernels, scale: np.ndarray, z: np.ndarray) -> Conditional:
        """Return the moments of f at new points given s, y and z.

        Parameters
        ----------
        kernels
            Between new points and training set.
        scale, z
            s and z, shapes (node,).
        """
        kappa = self.rotate(kernels.cross)
        _, solved = self._solve(scale)
        v, g, weighted = solved.bias_variance, solved.forms, scale[:, None] * solved.inverse
        mean = (weighted * self._columns["y"]) @ kappa.T
        response = 1.0 - (weighted * self._columns["1"]) @ kappa.T
        mean += (v * g["1y"])[:, None] * response
        slope = np.zeros_like(mean)
        if kernels.mean is not None:
            slope = kernels.mean - (weighted * self._columns["m"]) @ kappa.T
            slope -= (v * g["m1"])[:, None] * response
            mean += z[:, None] * slope
        variance = scale[:, None] * kernels.diagonal - (scale[:, None] * weighted) @ (kappa**2).T
        return Conditional(mean, variance + v[:, None] * response**2, slope, response)

    def mean_covariance(
        self, kernels: Kernels, between: np.ndarray, scale: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        """Return the mean over scales of the covariance of f given s, y and z.

        Parameters
        ----------
        kernels
            Between new points and training set.
        between
            K_0 between new points, shape (point, point).
        scale, weights
            Shapes (node,).
        """
        kappa = self.rotate(kernels.cross)
        _, solved = self._solve(scale)
        reduction = weights @ (scale[:, None] ** 2 * solved.inverse)
        response = 1.0 - (scale[:, None] * solved.inverse * self._columns["1"]) @ kappa.T
        outer = (response.T * (weights * solved.bias_variance)) @ response
        return (weights @ scale) * between - (kappa * reduction) @ kappa.T + outer
