"""What the kernel of several classes is made of, K_R = Σ_i M_i ⊗ K_i, and its unknowns.

Labels see differences of outputs alone. Along the shift of all of them, 1/√D, the order parameters
keep their values of infinite width, and the unknowns are matrices over the D − 1 other directions
(theory.md, sections 14 and 15).
"""

import abc
import dataclasses
import functools
import math
from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize
import xarray as xr
from jaxtyping import Float

from ..._layers.covariance import Covariance
from ..._layers.dense import input_covariance
from ..._layers.order import OrderParameters
from ..._layers.stack import Stack, infinite_width, layer_rules
from ..._problem.problem import Problem
from .action import training_kernel
from .matrix_equations import MatrixPoint, entropy_gradient, matrix_entropy
from .outputs import order_dataset, rotated_dataset

__all__ = ["ClassKernel", "OneMatrix", "Slopes", "TwoMatrices", "differences"]

_STEP = 1e-6  # of differences of the prior's gradient; only the speed depends on it

Slopes = Float[np.ndarray, "pattern output pattern output"]


def differences(outputs: int) -> Float[np.ndarray, "output direction"]:
    """Return an orthonormal basis of the directions that are no shift of all outputs."""
    return scipy.linalg.helmert(outputs).T


class _Symmetric:
    """Symmetric matrices of some size by coordinates, which keep lengths."""

    def __init__(self, size: int) -> None:
        self.rows, self.columns = np.triu_indices(size)
        self.factors = np.where(self.rows == self.columns, 1.0, math.sqrt(0.5))
        self.count, self.size = self.rows.size, size

    def matrix(self, theta: np.ndarray) -> np.ndarray:
        found = np.zeros((self.size, self.size))
        found[self.rows, self.columns] = found[self.columns, self.rows] = self.factors * theta
        return found

    def entries(self, matrix: np.ndarray) -> np.ndarray:
        return matrix[self.rows, self.columns] / self.factors


@dataclasses.dataclass(frozen=True, eq=False)
class ClassKernel(abc.ABC):
    """K_R as a function of unknowns θ, θ = 0 being infinite width, with the prior's term of 𝒮.

    The readout's bias, 1_D ⊗ 11ᵀ/λ^b_L, is no part of it.
    """

    rule: Any  # a SaddleTheory, which stands above
    problem: Problem

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave out what is made when it is needed."""
        return type(self), tuple(getattr(self, one.name) for one in dataclasses.fields(self))

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Number of unknowns."""

    @abc.abstractmethod
    def entropy(self, theta: np.ndarray) -> float:
        """Return the prior's term of the action."""

    @abc.abstractmethod
    def prior(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return its gradient and Hessian."""

    @abc.abstractmethod
    def matrices(self, theta: np.ndarray) -> list[np.ndarray]:
        """Return M_i."""

    @abc.abstractmethod
    def orders(self, theta: np.ndarray) -> list[OrderParameters]:
        """Return what the theory's kernel takes, for each K_i."""

    @abc.abstractmethod
    def dataset(self, theta: np.ndarray) -> xr.Dataset:
        """Return the order parameters as users see them."""

    @abc.abstractmethod
    def training(self, theta: np.ndarray) -> list[np.ndarray]:
        """Return K_i on the training set."""

    @abc.abstractmethod
    def slopes(self, theta: np.ndarray, gradient: Slopes) -> np.ndarray:
        """Return the derivatives of a function of K_R with this gradient."""

    @functools.cached_property
    def basis(self) -> np.ndarray:
        """The directions that are no shift."""
        return differences(self.problem.network.outputs)

    @property
    def shift(self) -> np.ndarray:
        """The projector on the shift of all outputs."""
        outputs = self.problem.network.outputs
        return np.full((outputs, outputs), 1.0 / outputs)

    def block(self, order: OrderParameters) -> np.ndarray:
        """Return the theory's kernel on the training set."""
        stack = self.problem.stack.unbiased()
        return training_kernel(self.problem, self.rule.kernel, stack, order)

    def between(self, theta: np.ndarray, A: np.ndarray, B: np.ndarray) -> list[Covariance]:
        """Return K_i between two sets of patterns."""
        network = self.problem.network
        covariance = input_covariance(network, A, B)
        variances = np.concatenate([np.asarray(covariance.diag_a), np.asarray(covariance.diag_b)])
        found = []
        for order in self.orders(theta):
            rules = layer_rules(network, variances, self.rule.variance_scales(order))
            stack = Stack.of(network, rules).unbiased()
            found.append(self.rule.kernel(stack, covariance, order))
        return found


class _Fixed(ClassKernel):
    """Matrices M_i vary, kernels K_i do not."""

    @functools.cached_property
    def chart(self) -> _Symmetric:
        """Coordinates of one matrix without the shift."""
        return _Symmetric(self.problem.network.outputs - 1)

    def training(self, theta: np.ndarray) -> list[np.ndarray]:
        return self._kernels

    @functools.cached_property
    def _kernels(self) -> list[np.ndarray]:
        return [self.block(order) for order in self.orders(np.zeros(self.size))]

    @abc.abstractmethod
    def points(self, theta: np.ndarray) -> list[MatrixPoint]:
        """Return M_i without the shift."""

    def matrices(self, theta: np.ndarray) -> list[np.ndarray]:
        parts = (point.matrix for point in self.points(theta))
        return [self.shift + self.basis @ part @ self.basis.T for part in parts]

    def slopes(self, theta: np.ndarray, gradient: Slopes) -> np.ndarray:
        found = []
        for point, kernel in zip(self.points(theta), self._kernels, strict=True):
            slope = np.einsum("mdne,mn->de", gradient, kernel, optimize=True)
            found.append(self.chart.entries(point.pull(self.basis.T @ slope @ self.basis)))
        return np.concatenate(found)


class OneMatrix(_Fixed):
    """K_R = M ⊗ K_0: one layer without mean term, or one kernel that is only scaled at any depth.

    M = exp(S) is the product of the Q̄_ℓ, which commute. Given it they minimise their own terms,
    so that N_ℓ(q_ℓk − 1) = c_k in every layer ℓ, the derivative of the sum in log m_k.
    """

    @property
    def size(self) -> int:
        return self.chart.count

    def points(self, theta: np.ndarray) -> list[MatrixPoint]:
        return [MatrixPoint(self.chart.matrix(theta))]

    def orders(self, theta: np.ndarray) -> list[OrderParameters]:
        return [infinite_width(self.problem.network)]

    @property
    def _widths(self) -> np.ndarray:
        return np.asarray(self.problem.network.widths, dtype=np.float64)

    def entropy(self, theta: np.ndarray) -> float:
        logs = self.points(theta)[0].logs
        q = 1.0 + _excess(self._widths, logs)[:, None] / self._widths
        return float(np.sum(self._widths * (q - 1.0 - np.log(q))))

    def prior(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logs, vectors = np.linalg.eigh(self.chart.matrix(theta))
        slopes = _excess(self._widths, logs)
        bends = 1.0 / np.sum(1.0 / (self._widths + slopes[:, None]), axis=1)
        apart = logs[:, None] - logs[None, :]
        close = np.abs(apart) < 1e-6
        ratio = (slopes[:, None] - slopes[None, :]) / np.where(close, 1.0, apart)
        ratio = np.where(close, 0.5 * (bends[:, None] + bends[None, :]), ratio)
        gradient = self.chart.entries((vectors * slopes) @ vectors.T)
        columns = []
        for unit in np.eye(self.size):
            turned = vectors.T @ self.chart.matrix(unit) @ vectors
            columns.append(self.chart.entries(vectors @ (ratio * turned) @ vectors.T))
        return gradient, np.array(columns)

    def directions(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return M's basis without the shift, and log q_ℓk, shape (direction, layer)."""
        (point,) = self.points(theta)
        excess = _excess(self._widths, point.logs)[:, None]
        return self.basis @ point.vectors, np.log1p(excess / self._widths)

    def dataset(self, theta: np.ndarray) -> xr.Dataset:
        (point,), widths = self.points(theta), self._widths[:, None]
        logs = np.append(point.logs, 0.0)
        rotation = np.column_stack([self.basis @ point.vectors, np.sqrt(np.diag(self.shift))])
        places = np.argsort(-logs, kind="stable")
        q_bar = 1.0 + _excess(self._widths, logs[places]) / widths
        if self.rule.name == "infinite":
            q_bar = np.ones_like(q_bar)
        return rotated_dataset(rotation[:, places], q_bar, 1.0 / q_bar - 1.0)


def _excess(widths: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Return c with Σ_ℓ log(1 + c/N_ℓ) = u for every u."""
    least = float(np.min(widths))
    if np.all(widths == least):
        return least * np.expm1(logs / widths.size)

    def miss(t: float, u: float) -> float:
        return float(np.sum(np.log1p(least * np.expm1(t) / widths))) - u

    found = []
    for u in logs:
        ends = sorted((u / widths.size, u))
        root: Any = 0.0 if u == 0 else scipy.optimize.brentq(miss, *ends, args=(u,), xtol=1e-15)
        found.append(least * math.expm1(root))
    return np.array(found)


class TwoMatrices(_Fixed):
    """K_R = Q̄ ⊗ (K − m mᵀ)/λ_1 + R ⊗ m mᵀ/λ_1: one layer with a mean term; θ = (log Q̄, log R)."""

    @property
    def size(self) -> int:
        return 2 * self.chart.count

    def points(self, theta: np.ndarray) -> list[MatrixPoint]:
        return [MatrixPoint(self.chart.matrix(part)) for part in np.split(theta, 2)]

    def orders(self, theta: np.ndarray) -> list[OrderParameters]:
        on, off = np.ones(1), np.zeros(1)
        return [OrderParameters.of(on, off), OrderParameters.of(off, on)]

    def entropy(self, theta: np.ndarray) -> float:
        q_bar, r = self.points(theta)
        return matrix_entropy(self.problem.network.widths[0], q_bar, r)

    def _slope(self, theta: np.ndarray) -> np.ndarray:
        parts = entropy_gradient(self.problem.network.widths[0], *self.points(theta))
        return np.concatenate([self.chart.entries(part) for part in parts])

    def prior(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        steps = _STEP * np.eye(self.size)
        columns = [
            (self._slope(theta + step) - self._slope(theta - step)) / (2 * _STEP) for step in steps
        ]
        return self._slope(theta), np.stack(columns, axis=1)

    def dataset(self, theta: np.ndarray) -> xr.Dataset:
        q_bar, r = self.matrices(theta)
        return order_dataset(q_bar[None], np.linalg.inv(r)[None] - np.eye(len(r)))
