"""One hidden layer with a mean term and several outputs: the equations for two matrices.

Q̄ and R = (1 + Q)⁻¹ are symmetric and need not commute (theory.md, section 14):

    A = T·1 + Q̄ ⊗ K_0 + R ⊗ m mᵀ + 1_D ⊗ b·11ᵀ,   K_0 = (K − m mᵀ)/λ_1, m with 1/√λ_1
    Q = 𝒢(K_0)/N,   Q̄ = R − R 𝒢(m mᵀ) R/N,   𝒢(X)_de = tr[(A⁻¹)_de X] − a_dᵀ X a_e,   a = A⁻¹y

In the eigenbasis of Q̄ the first two terms of A are D tridiagonal matrices of size P, in the basis
of one Householder reduction, and the others have rank 2D: an evaluation is O(PD²).
"""

import dataclasses
import functools
from typing import Any

import numpy as np
from jaxtyping import Float

from ..._numerics.newton import StationarityEquations
from ..._problem.problem import Problem
from .action import ScaledForm

__all__ = ["MatrixEquations", "MatrixPoint", "entropy_gradient", "matrix_entropy", "solve_core"]

_STEP = 1e-6  # of the differences of the prior's gradient; only the speed depends on it

Square = Float[np.ndarray, "output output"]


class MatrixPoint:
    """A symmetric matrix exp(U) with U given, and derivatives with respect to U."""

    def __init__(self, logarithm: Square) -> None:
        self.logs, self.vectors = np.linalg.eigh(logarithm)
        self.values = np.exp(self.logs)
        self.matrix = (self.vectors * self.values) @ self.vectors.T
        self.inverse = (self.vectors / self.values) @ self.vectors.T

    def pull(self, gradient: Square) -> Square:
        """Return ∂/∂U of a function with this gradient in exp(U)."""
        half = 0.5 * (self.logs[:, None] - self.logs[None, :])
        small = np.abs(half) < 1e-4
        ratio = np.where(small, 1.0 + half**2 / 6, np.sinh(half) / np.where(small, 1.0, half))
        weight = ratio * np.sqrt(np.outer(self.values, self.values))
        turned = self.vectors.T @ gradient @ self.vectors
        return self.vectors @ (weight * turned) @ self.vectors.T


def matrix_entropy(width: int, q_bar: MatrixPoint, r: MatrixPoint) -> float:
    """Return N[−tr QQ̄ + logdet(1 + Q)]."""
    trace = np.trace(q_bar.matrix) - np.sum(r.inverse * q_bar.matrix)
    return width * float(trace - np.sum(r.logs))


def entropy_gradient(width: int, q_bar: MatrixPoint, r: MatrixPoint) -> tuple[Square, Square]:
    """Return its derivatives in log Q̄ and log R."""
    one = np.eye(len(q_bar.logs))
    slopes = q_bar.pull(one - r.inverse), r.pull(r.inverse @ (q_bar.matrix @ r.inverse - one))
    return width * slopes[0], width * slopes[1]


@dataclasses.dataclass(frozen=True, eq=False)
class _Data:
    """logdet A + yᵀA⁻¹y, and its gradients in Q̄ and R."""

    value: float
    d_q_bar: Square
    d_r: Square


@dataclasses.dataclass(frozen=True, eq=False)
class MatrixEquations:
    """The action and its stationarity in θ = (log Q̄, log R), the upper triangles.

    A pickle holds what they are made of.

    Parameters
    ----------
    rule
        The theory, which reduces K_0 and U = (m, 1) on the training set.
    problem
        Network, training set and temperature.
    """

    rule: Any  # `nested`, which stands above
    problem: Problem

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.rule, self.problem)

    @functools.cached_property
    def form(self) -> ScaledForm:
        """K_0 and U, with the labels of all outputs."""
        return self.rule.reduced(self.problem)

    @property
    def width(self) -> int:
        """N."""
        return self.problem.network.widths[0]

    @property
    def temperature(self) -> float:
        """T."""
        return self.problem.temperature

    @property
    def outputs(self) -> int:
        """D."""
        return self.problem.network.outputs

    @functools.cached_property
    def _triangle(self) -> tuple[np.ndarray, ...]:
        return np.triu_indices(self.outputs)

    def theta(self, q_bar: Square, r: Square) -> np.ndarray:
        """Return θ for log Q̄ and log R."""
        return np.concatenate([q_bar[self._triangle], r[self._triangle]])

    def matrices(self, theta: np.ndarray) -> tuple[MatrixPoint, MatrixPoint]:
        """Return Q̄ and R."""
        found = []
        for part in np.split(theta, 2):
            upper = np.zeros((self.outputs, self.outputs))
            upper[self._triangle] = part
            found.append(MatrixPoint(upper + np.triu(upper, 1).T))
        return found[0], found[1]

    def _flat(self, q_bar: Square, r: Square) -> np.ndarray:
        """Return the gradient in the upper triangles, off-diagonal entries counted twice."""
        return self.theta(*(g + g.T - np.diag(np.diag(g)) for g in (q_bar, r)))

    def entropy(self, theta: np.ndarray) -> float:
        """Return N[−tr QQ̄ + logdet(1 + Q)]."""
        return matrix_entropy(self.width, *self.matrices(theta))

    def action(self, theta: np.ndarray) -> float:
        """Return 𝒮."""
        return self.entropy(theta) + self.data(*self.matrices(theta)).value

    def _prior(self, theta: np.ndarray) -> np.ndarray:
        return self._flat(*entropy_gradient(self.width, *self.matrices(theta)))

    def equations(self) -> StationarityEquations:
        """Return the equations, divided by N + P."""
        rows = self.width + self.form.kernel.n_patterns
        size = self.outputs * (self.outputs + 1)

        def prior(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            columns = [
                (self._prior(theta + step) - self._prior(theta - step)) / (2 * _STEP * rows)
                for step in _STEP * np.eye(size)
            ]
            return self._prior(theta) / rows, np.stack(columns, axis=1)

        def data(theta: np.ndarray) -> np.ndarray:
            q_bar, r = self.matrices(theta)
            try:
                found = self.data(q_bar, r)
            except np.linalg.LinAlgError:
                return np.full(size, np.nan)
            return self._flat(q_bar.pull(found.d_q_bar), r.pull(found.d_r)) / rows

        return StationarityEquations(prior, data, size)

    def data(self, q_bar: MatrixPoint, r: MatrixPoint) -> _Data:
        """Return the data term; LinAlgError where A is not positive definite."""
        form, kernel, basis = self.form, self.form.kernel, q_bar.vectors
        labels, terms = kernel.y @ basis, kernel.columns.shape[1]
        logdet, a, x, traces = 0.0, [], [], []
        for k, value in enumerate(q_bar.values):
            block = np.column_stack([labels[:, k], kernel.columns])
            part, solved, trace = kernel.parts(value / form.precision, self.temperature, block)
            logdet += part
            a.append(solved[:, 0])
            x.append(solved[:, 1:])
            traces.append(trace / value)
        # (D, terms) for each direction: UᵀA_k⁻¹U and UᵀA_k⁻¹y
        grams = np.array([kernel.columns.T @ one for one in x])
        fits = np.array([kernel.columns.T @ one for one in a])
        core, more = solve_core(form, basis.T @ r.matrix @ basis, grams)
        shift = np.einsum("kild,ld->ki", core, fits)
        quadratic = sum(float(labels[:, k] @ a[k]) for k in range(len(a)))
        quadratic -= float(np.sum(fits * shift))
        solved = np.stack([a[k] - x[k] @ shift[k] for k in range(len(a))], axis=1)
        # 𝒢(K_0) and 𝒢(m mᵀ) in the eigenbasis of Q̄
        stacked = np.hstack(x)
        size = len(a)
        between = stacked.T @ kernel.times(1.0 / form.precision, stacked)
        between = between.reshape(size, terms, size, terms)
        d_q_bar = np.diag(traces) - np.einsum("kild,ldki->kl", core, between)
        d_q_bar -= solved.T @ kernel.times(1.0 / form.precision, solved)
        mean = form.mean_terms - 1
        along = kernel.columns[:, mean] @ solved
        reach = grams[:, mean]
        d_r = np.diag(reach[:, mean]) - np.einsum("ki,kild,ld->kl", reach, core, reach)
        d_r -= np.outer(along, along)
        d_r *= form.fixed_weights[mean]
        value = logdet + more + quadratic
        return _Data(value, basis @ d_q_bar @ basis.T, basis @ d_r @ basis.T)


def solve_core(
    form: ScaledForm, r: Square, grams: Float[np.ndarray, "output term term"]
) -> tuple[Float[np.ndarray, "output term output term"], float]:
    """Return (C⁻¹ + ⊕UᵀA_k⁻¹U)⁻¹ and logdet(1 + C ⊕UᵀA_k⁻¹U).

    C is the covariance of the coefficients of U: R/λ_1 of m, and b·1_D of the bias.
    """
    size, terms = grams.shape[:2]
    covariance, gram = np.zeros((2, size, terms, size, terms))
    for i, weight in enumerate(form.fixed_weights):
        covariance[:, i, :, i] = weight * (r if i < form.mean_terms else np.eye(size))
    for k in range(size):
        gram[k, :, k] = grams[k]
    covariance, gram = (part.reshape(size * terms, -1) for part in (covariance, gram))
    matrix = np.eye(size * terms) + covariance @ gram
    core = np.linalg.solve(matrix, covariance)
    logdet = float(np.linalg.slogdet(matrix)[1])
    return (0.5 * (core + core.T)).reshape(size, terms, size, terms), logdet
