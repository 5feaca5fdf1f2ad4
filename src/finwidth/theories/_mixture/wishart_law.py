"""The scale mixture with several outputs: matrices of scales, their prior, and the likelihood.

N_ℓ Q̄_ℓ ~ Wishart_D(N_ℓ, 1) independently, f | Q̄ ~ GP(0, M ⊗ K_0) with M = B Bᵀ, B = L_L … L_1 and
Q̄_ℓ = L_ℓ L_ℓᵀ. The L_ℓ are Bartlett's: √N L is lower triangular, its diagonal entries χ with
N, N − 1, … degrees of freedom and those below standard normal; for N < D it has N columns, and
Q̄ no density. With a mean term (one layer) the first of the N columns is g = √λ_1 a, standard
normal, f has the mean g ⊗ m/√λ_1, and the others are Bartlett's for N − 1.
"""

import dataclasses
import functools
import math

import numpy as np
import scipy.linalg
from jaxtyping import Float
from scipy.special import gammaln

__all__ = ["Batch", "DiagonalLaw", "WishartLaw"]


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """The law of f at some nodes, direction by direction of M's eigenvectors.

    Attributes
    ----------
    scale, basis
        Eigenvalues q and eigenvectors of M, shapes (node, k) and (node, output, k).
    inverse
        1/(T + q κ), shape (node, k, pattern) in the eigenbasis of K_0.
    bias
        Variance of the output's bias given the labels, shape (node, k).
    labels
        Labels less the mean of f, shape (node, k, pattern) in the eigenbasis of K_0.
    slopes
        g, shape (node, k): zeros without a mean term.
    """

    scale: np.ndarray
    basis: np.ndarray
    inverse: np.ndarray
    bias: np.ndarray
    labels: np.ndarray
    slopes: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class WishartLaw:
    """Coordinates of the matrices, their prior, and the likelihood.

    Parameters
    ----------
    widths
        N_ℓ.
    kernel
        K_0 on the training set, without the output's bias.
    labels
        Y O in the basis of the outputs where the matrices are about diagonal, shape
        (pattern, output).
    temperature, bias
        T, and the prior variance of the output's bias.
    mean
        m/√λ_1 on the training set, shape (pattern,), or None.
    """

    widths: tuple[int, ...]
    kernel: Float[np.ndarray, "pattern pattern"]
    labels: Float[np.ndarray, "pattern output"]
    temperature: float
    bias: float
    mean: Float[np.ndarray, " pattern"] | None = None

    @property
    def outputs(self) -> int:
        """D."""
        return self.labels.shape[1]

    @functools.cached_property
    def spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (negative ones, of rounding, as 0) and eigenvectors of K_0."""
        values, vectors = scipy.linalg.eigh(self.kernel)
        return np.maximum(values, 0.0), vectors

    @functools.cached_property
    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Y O, 1 and m in the eigenbasis of K_0."""
        vectors, ones = self.spectrum[1], np.ones(self.labels.shape[0])
        mean = np.zeros_like(ones) if self.mean is None else self.mean
        return vectors.T @ self.labels, vectors.T @ ones, vectors.T @ mean

    @functools.cached_property
    def entries(self) -> list[tuple[int, int, int, int]]:
        """(layer, row, column, degrees of freedom) of every coordinate; 0: a normal one."""
        first = 0 if self.mean is None else 1
        rows = range(self.outputs)
        found = [(0, row, 0, 0) for row in rows] if first else []
        for layer, width in enumerate(self.widths):
            found += [
                (layer, row, column + first, width - first - row if row == column else 0)
                for row in rows
                for column in range(min(row + 1, width - first))
            ]
        return found

    @functools.cached_property
    def degrees(self) -> Float[np.ndarray, " coordinate"]:
        """Degrees of freedom of the diagonal entries, 0 for the others."""
        return np.array([float(nu) for *_, nu in self.entries])

    def start(self, q_bar: Float[np.ndarray, "layer output"]) -> Float[np.ndarray, " coordinate"]:
        """Return the coordinates of diagonal matrices."""
        return np.array(
            [
                0.5 * math.log(self.widths[layer] * q_bar[layer, row]) if nu else 0.0
                for layer, row, _, nu in self.entries
            ]
        )

    def matrices(
        self, x: Float[np.ndarray, "node coordinate"]
    ) -> Float[np.ndarray, "node layer output column"]:
        """Return L_ℓ; a column of zeros is one that N_ℓ < D does not have."""
        columns = self.outputs + (self.mean is not None)
        factors = np.zeros((x.shape[0], len(self.widths), self.outputs, columns))
        for i, (layer, row, column, nu) in enumerate(self.entries):
            entry = np.exp(x[:, i]) if nu else x[:, i]
            factors[:, layer, row, column] = entry / math.sqrt(self.widths[layer])
        return factors

    def log_prior(self, x: Float[np.ndarray, "node coordinate"]) -> Float[np.ndarray, " node"]:
        """Return the log density of the coordinates: log L_ii and L_ij."""
        nu = self.degrees
        diagonal = nu > 0
        half = 0.5 * np.where(diagonal, nu, 1.0)
        norm = np.where(
            diagonal, math.log(2) * (1 - half) - gammaln(half), -0.5 * math.log(2 * math.pi)
        )
        with np.errstate(over="ignore"):
            squares = np.where(diagonal, np.exp(2 * np.where(diagonal, x, 0.0)), x**2)
        return np.sum(norm + nu * x - 0.5 * squares, axis=1)

    def at(self, x: Float[np.ndarray, "node coordinate"]) -> Batch:
        """Return the law of f at nodes."""
        factors = self.matrices(x)
        root = factors[:, 0]
        for layer in range(1, len(self.widths)):
            root = factors[:, layer] @ root
        basis, singular, _ = np.linalg.svd(root, full_matrices=False)
        scale = singular**2
        total = self.temperature + scale[:, :, None] * self.spectrum[0]
        with np.errstate(divide="ignore"):
            inverse = 1.0 / total
        labels, ones, mean = self._columns
        bias = self.bias / (1.0 + self.bias * (inverse @ ones**2))
        across = np.swapaxes(basis, 1, 2)
        turned, slopes = across @ labels.T, np.zeros(scale.shape)
        if self.mean is not None:
            slopes = math.sqrt(self.widths[0]) * (across @ factors[:, 0, :, :1])[:, :, 0]
            turned -= slopes[:, :, None] * mean
        return Batch(scale, basis, inverse, bias, turned, slopes)

    def log_posterior(self, x: Float[np.ndarray, "node coordinate"]) -> Float[np.ndarray, " node"]:
        """Return log p(Y, x), −inf where the likelihood has no density."""
        batch = self.at(x)
        turned, ones = batch.labels, self._columns[1]
        with np.errstate(divide="ignore", invalid="ignore"):
            regular = np.all(np.isfinite(batch.inverse), axis=(1, 2))
            square = np.sum(turned**2 * batch.inverse, axis=2)
            square -= batch.bias * ((turned * batch.inverse) @ ones) ** 2
            logdet = -np.sum(np.log(batch.inverse), axis=2)
            if self.bias > 0:
                logdet += np.log(self.bias / batch.bias)
            value = self.log_prior(x) - 0.5 * np.sum(square + logdet, axis=1)
        value -= 0.5 * self.labels.size * math.log(2 * math.pi)
        return np.where(regular & np.isfinite(value), value, -np.inf)

    def duals(self, batch: Batch) -> Float[np.ndarray, "node k pattern"]:
        """Return A⁻¹y in the eigenbases of M and K_0."""
        ones, turned = self._columns[1], batch.labels * batch.inverse
        shift = batch.bias * (turned @ ones)
        return turned - shift[:, :, None] * batch.inverse * ones

    def conditional_mean(
        self, batch: Batch, kappa: Float[np.ndarray, "n pattern"], mean: np.ndarray | None
    ) -> Float[np.ndarray, "node k n"]:
        """Return E f at test points along M's eigenvectors, κ in the eigenbasis of K_0."""
        duals = self.duals(batch)
        given = (batch.scale[:, :, None] * duals) @ kappa.T
        given += self.bias * (duals @ self.ones)[:, :, None]
        if mean is not None:
            given += batch.slopes[:, :, None] * mean
        return given

    @property
    def ones(self) -> Float[np.ndarray, " pattern"]:
        """1 in the eigenbasis of K_0."""
        return self._columns[1]


class DiagonalLaw(WishartLaw):
    """The law of the diagonal of one such matrix: independent, N Q̄_aa ~ χ² with N degrees."""

    @functools.cached_property
    def entries(self) -> list[tuple[int, int, int, int]]:
        """(layer, row, column, degrees of freedom) of every coordinate; 0: a normal one."""
        first, rows = 0 if self.mean is None else 1, range(self.outputs)
        found = [(0, row, 0, 0) for row in rows] if first else []
        degrees = self.widths[0] - first
        return found + ([(0, row, row + first, degrees) for row in rows] if degrees else [])
