"""Several classes, one output each: the saddle point in a matrix Q̄ (theory.md, section 15).

K_R = Q̄ ⊗ K_0 (+ 1/λ^b_L for each output by itself) for one hidden layer without mean term. The
unknowns are the entries of log Q̄.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from ..._basics.errors import ConvergenceError, InputError
from ..._layers.dense import input_covariance
from ..._layers.order import OrderParameters
from ..._layers.stack import Stack, layer_rules
from ..._likelihoods.softmax import SoftmaxConditioned, mean_softmax, softmax_laplace
from ..._numerics.continuation import track
from ..._numerics.newton import StationarityEquations, TrackResult, polish
from ..._observables._prediction import Prediction
from ..._problem.problem import Problem
from .._solution import Solution
from .action import training_kernel
from .matrix_equations import MatrixPoint
from .outputs import order_dataset

__all__ = ["ClassesSolution", "solve_classes"]

_LARGEST_TRACKED = 80  # patterns with which the branch is followed


def solve_classes(rule: Any, problem: Problem) -> "ClassesSolution":
    """Return the saddle point of softmax, and what it predicts."""
    network = problem.network
    if rule.name == "infinite":
        zero = np.zeros(network.outputs * (network.outputs + 1) // 2)
        found = TrackResult(zero, 0.0, True, "")
        return ClassesSolution(problem, rule, found, _conditioner(rule, problem)(zero))
    if network.depth > 1 or not network.dense or not rule.eliminates_q(network):
        raise InputError(
            "expected one hidden layer with an odd activation, or theory='infinite', with "
            f"likelihood={problem.likelihood.name!r}, got theory={rule.name!r}, activation "
            f"{network.activation.name!r} and {network.depth} hidden layer(s)"
        )
    equations = _equations(rule, problem, problem)
    found = _from_subsets(rule, problem, equations)
    if found is None or not found.converged:
        found = track(equations)
    return ClassesSolution(problem, rule, found, _conditioner(rule, problem)(found.theta))


def _from_subsets(
    rule: Any, problem: Problem, equations: StationarityEquations
) -> TrackResult | None:
    """Follow the branch with some patterns, polish with more: see `SaddleTheory`."""
    sizes = [problem.n_patterns]
    while sizes[0] > _LARGEST_TRACKED:
        sizes.insert(0, -(-sizes[0] // 4))
    if len(sizes) == 1:
        return None
    chosen = np.random.default_rng(0).permutation(problem.n_patterns)
    coarse = _equations(rule, problem, problem.subset(chosen[: sizes[0]]))
    found = track(coarse)
    for size in sizes[1:-1]:
        if found.converged:
            coarse = _equations(rule, problem, problem.subset(chosen[:size]))
            jacobian = coarse.data_jacobian(found.theta)
            found = polish(coarse, found.theta, jacobian, tolerance=1e-5)[0]
    if not found.converged:
        return None
    return polish(equations, found.theta, coarse.data_jacobian(found.theta))[0]


class _Matrix:
    """Q̄ = exp(S), S symmetric with the entries θ; those off the diagonal count √2 times."""

    def __init__(self, theta: np.ndarray, outputs: int) -> None:
        self.rows, self.columns = np.triu_indices(outputs)
        self.factors = np.where(self.rows == self.columns, 1.0, math.sqrt(0.5))
        s = np.zeros((outputs, outputs))
        s[self.rows, self.columns] = s[self.columns, self.rows] = self.factors * theta
        point = MatrixPoint(s)
        self.logs, self.value, self.inverse = point.logs, point.matrix, point.inverse
        self.through = point.pull  # the derivative of exp at S is its own transpose

    def entries(self, matrix: np.ndarray) -> np.ndarray:
        """Return the coordinates of a symmetric matrix."""
        return matrix[self.rows, self.columns] / self.factors

    def basis(self) -> list[np.ndarray]:
        """Return the symmetric matrix of each coordinate."""
        found = []
        for i, j, factor in zip(self.rows, self.columns, self.factors, strict=True):
            one = np.zeros(self.value.shape)
            one[i, j] = one[j, i] = factor
            found.append(one)
        return found


def _base(rule: Any, problem: Problem) -> np.ndarray:
    """K_0 on the training set."""
    ones = np.ones(problem.network.depth)
    order = OrderParameters.of(ones, ones)
    return training_kernel(problem, rule.kernel, problem.stack.unbiased(), order)


def _kernel(q_bar: np.ndarray, base: np.ndarray, bias: float) -> np.ndarray:
    return np.kron(base, q_bar) + np.kron(np.full(base.shape, bias), np.eye(len(q_bar)))


def _conditioner(rule: Any, problem: Problem) -> Callable[[np.ndarray], SoftmaxConditioned]:
    """Return θ -> f given the labels, each call starting from what the one before has found."""
    base = _base(rule, problem)
    found: list[np.ndarray | None] = [None]

    def conditioned(theta: np.ndarray) -> SoftmaxConditioned:
        q_bar = _Matrix(theta, problem.network.outputs).value
        kernel = _kernel(q_bar, base, problem.output_bias)
        given = softmax_laplace(kernel, problem.y, problem.temperature, found[0])
        found[0] = given.mode
        return given

    return conditioned


def _equations(rule: Any, whole: Problem, problem: Problem) -> StationarityEquations:
    """Return ∂𝒮/∂θ over N + P, with the data term of `problem` scaled up to that of `whole`."""
    outputs, width = whole.network.outputs, whole.network.widths[0]
    rows, share = width + whole.n_patterns, whole.n_patterns / problem.n_patterns
    base, conditioned = _base(rule, problem), _conditioner(rule, problem)

    def prior(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        matrix = _Matrix(theta, outputs)
        slope = matrix.entries(matrix.value - np.eye(outputs))
        hessian = np.array([matrix.entries(matrix.through(one)) for one in matrix.basis()])
        return width / rows * slope, width / rows * hessian

    def data(theta: np.ndarray) -> np.ndarray:
        try:
            given = conditioned(theta)
        except (InputError, ConvergenceError):
            return np.full(theta.shape, np.nan)
        n = problem.n_patterns
        slopes = given.gradient.reshape(n, outputs, n, outputs)
        g = np.einsum("mdne,mn->de", slopes, base, optimize=True)
        matrix = _Matrix(theta, outputs)
        return share / rows * matrix.entries(matrix.through(g))

    return StationarityEquations(prior, data, outputs * (outputs + 1) // 2)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ClassesSolution(Solution):
    """The saddle point in Q̄ of several classes, f given labels by Laplace's approximation.

    Attributes
    ----------
    problem
        Network, training set and temperature.
    rule
        The theory.
    found
        log Q̄, the residual, and why the saddle was not reached, if it was not.
    conditioned
        f on the training set given the labels.
    """

    block = 256

    rule: Any
    found: TrackResult
    conditioned: SoftmaxConditioned

    @functools.cached_property
    def criterion(self) -> float:
        """NaN: it is one of squared errors."""
        return math.nan

    @property
    def theory(self) -> str:
        """Name of the theory."""
        return self.rule.name

    @property
    def residual(self) -> float:
        """Largest |∂𝒮/∂ log Q̄|, relative to N + P."""
        return self.found.residual

    @property
    def converged(self) -> bool:
        """Whether the saddle point was reached."""
        return self.found.converged

    @property
    def message(self) -> str:
        """Why the saddle point was not reached, if it was not."""
        return self.found.message

    @functools.cached_property
    def _matrix(self) -> _Matrix:
        return _Matrix(self.found.theta, self.network.outputs)

    @functools.cached_property
    def order_parameters(self) -> xr.Dataset:
        """`q_bar` and `q` with dimensions (layer, output, ``output_``)."""
        layers, q_bar = (self.network.depth, 1, 1), self._matrix.value
        q = self._matrix.inverse - np.eye(self.network.outputs)
        return order_dataset(np.tile(q_bar, layers), np.tile(q, layers))

    @functools.cached_property
    def action(self) -> float:
        """𝒮 = N[tr Q̄ − logdet Q̄ − D] − 2 log Z − P log 2π."""
        logs = self._matrix.logs
        prior = self.network.widths[0] * float(np.sum(np.expm1(logs) - logs))
        return prior + self.conditioned.action

    def _between(self, A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """K_0 between two sets of patterns, and on the diagonal of the first."""
        covariance = input_covariance(self.network, A, B)
        variances = np.concatenate([np.asarray(covariance.diag_a), np.asarray(covariance.diag_b)])
        rules = layer_rules(self.network, variances, np.ones(self.network.depth))
        ones = np.ones(self.network.depth)
        stack = Stack.of(self.network, rules).unbiased()
        block = self.rule.kernel(stack, covariance, OrderParameters.of(ones, ones))
        return np.asarray(block.cross), np.asarray(block.diag_a)

    def _predict_block(self, X_test: np.ndarray, full_covariance: bool) -> Prediction:
        q_bar, bias = self._matrix.value, self.problem.output_bias
        d, n = len(q_bar), len(X_test)
        cross, diagonal = self._between(X_test, self.problem.X)
        kappa = _kernel(q_bar, cross, bias)
        half = self.conditioned.whiten(kappa.T)
        mean = (kappa @ self.conditioned.weights).reshape(n, d)
        blocks = half.reshape(-1, n, d)
        prior = diagonal[:, None, None] * q_bar + bias * np.eye(d)
        outputs = prior - np.einsum("anb,anc->nbc", blocks, blocks)
        covariance = None
        if full_covariance:
            square = _kernel(q_bar, self._between(X_test, X_test)[0], bias)
            covariance = (square - half.T @ half).reshape(n, d, n, d)
        variance = np.einsum("nbb->nb", outputs).copy()
        return Prediction(mean, variance, covariance, outputs, mean_softmax(mean, outputs))

    def __repr__(self) -> str:
        values = ", ".join(f"{value:.6g}" for value in np.exp(self._matrix.logs)[::-1])
        return (
            f"{type(self).__name__}(theory={self.theory!r}, temperature={self.temperature:g}, "
            f"eigenvalues of q_bar=[{values}], residual={self.residual:.1e}, "
            f"converged={self.converged})"
        )
