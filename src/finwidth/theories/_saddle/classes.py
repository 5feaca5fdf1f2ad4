"""Several classes, one output each: the saddle point in matrices Q̄ (theory.md, section 15)."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from ..._basics.errors import ConvergenceError, InputError
from ..._likelihoods.softmax import SoftmaxConditioned, mean_softmax, softmax_laplace
from ..._numerics.continuation import track
from ..._numerics.newton import StationarityEquations, TrackResult, polish
from ..._observables._prediction import Prediction
from ..._problem.problem import Problem
from .class_directions import Directions
from .class_kernels import ClassKernel, OneMatrix, TwoMatrices
from .searched import Searched

__all__ = ["ClassesSolution", "solve_classes"]

_LARGEST_TRACKED = 80  # patterns with which the branch is followed
_DESCENDS = -1e-6  # curvature along a rotation, relative to N + P, below which it is no minimum


def solve_classes(rule: Any, problem: Problem) -> "ClassesSolution":
    """Return the saddle point of softmax, and what it predicts."""
    network = problem.network
    if rule.name != "infinite" and not network.by_scales:
        raise InputError(
            f"expected dense layers or theory='infinite' with likelihood="
            f"{problem.likelihood.name!r}, got theory={rule.name!r} and layers = {network.layers}"
        )
    if rule.name == "infinite":
        kernel: ClassKernel = OneMatrix(rule, problem)
        found = TrackResult(np.zeros(kernel.size), 0.0, True, "")
    elif rule.eliminates_q(network) and rule.only_scales(network):
        kernel = OneMatrix(rule, problem)
        found = _follow(kernel, _track)
    elif network.depth == 1:
        kernel = TwoMatrices(rule, problem)
        found = _follow(kernel, _track)
    else:
        kernel = Directions(rule, problem, *_first_place(rule, problem))
        found = _follow(kernel, _turn)
    given = _conditioner(kernel)(found.theta)
    return ClassesSolution(problem, rule, found, kernel, given)


def _track(equations: StationarityEquations, kernel: ClassKernel) -> TrackResult:
    return track(equations)


def _first_place(rule: Any, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return the basis of M, and log q_ℓk in it, where one kernel is only scaled."""
    kernel = OneMatrix(rule, _some(problem, _sizes(problem)[0]))
    found = _track(_equations(kernel, problem), kernel)
    return kernel.directions(found.theta if found.converged else np.zeros(kernel.size))


def _turn(equations: StationarityEquations, kernel: ClassKernel) -> TrackResult:
    """Solve for directions and order parameters from the first place.

    Where that leads elsewhere the order parameters are followed in the first basis before.
    """
    assert isinstance(kernel, Directions)
    found = _polished(equations, kernel, kernel.first)
    if found.converged:
        return found
    turns = kernel.turns

    def all_of(theta: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros(turns), theta])

    def prior(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gradient, hessian = equations.prior(all_of(theta))
        return gradient[turns:], hessian[turns:, turns:]

    def data(theta: np.ndarray) -> np.ndarray:
        return equations.data(all_of(theta))[turns:]

    found = track(StationarityEquations(prior, data, kernel.size - turns))
    if not found.converged:
        return dataclasses.replace(found, theta=all_of(found.theta))
    return _polished(equations, kernel, all_of(found.theta))


def _polished(
    equations: StationarityEquations, kernel: Directions, start: np.ndarray
) -> TrackResult:
    """Solve from a point close by; not converged on another sheet, or at no minimum over turns."""
    turns, data = kernel.turns, equations.data(start)
    if not np.all(np.isfinite(data)):
        return TrackResult(start, math.inf, False, "the kernel stopped being positive definite")
    found, jacobian = polish(equations, start, equations.data_jacobian(start, data))
    reason = found.message
    if found.converged:
        infinite = equations.prior(np.zeros(kernel.size))[1]
        whole = equations.prior(found.theta)[1] + jacobian
        own, sheet = whole[turns:, turns:], np.linalg.slogdet(infinite[turns:, turns:])[0]
        bend = whole[:turns, :turns] - whole[:turns, turns:] @ np.linalg.solve(
            own, whole[turns:, :turns]
        )
        if np.linalg.slogdet(own)[0] != sheet:
            reason = "a solution that infinite width does not lead to"
        elif turns and np.min(np.linalg.eigvalsh(0.5 * (bend + bend.T))) < _DESCENDS:
            reason = "the action has no minimum there"
        else:
            return found
    return dataclasses.replace(found, converged=False, message=f"rotation of the outputs: {reason}")


def _sizes(problem: Problem) -> list[int]:
    sizes = [problem.n_patterns]
    while sizes[0] > _LARGEST_TRACKED:
        sizes.insert(0, -(-sizes[0] // 4))
    return sizes


def _some(problem: Problem, size: int) -> Problem:
    if size == problem.n_patterns:
        return problem
    return problem.subset(np.random.default_rng(0).permutation(problem.n_patterns)[:size])


def _follow(
    kernel: ClassKernel, first: Callable[[StationarityEquations, Any], TrackResult]
) -> TrackResult:
    """Follow the branch with some patterns, polish with more: see `SaddleTheory`."""
    problem, found, jacobian = kernel.problem, None, None
    equations = _equations(kernel, problem)
    *sizes, _ = _sizes(problem)
    for size in sizes:
        part = dataclasses.replace(kernel, problem=_some(problem, size))
        coarse = _equations(part, problem)
        if found is None:
            found = first(coarse, part)
        else:
            jacobian = coarse.data_jacobian(found.theta)
            found = polish(coarse, found.theta, jacobian, tolerance=1e-5)[0]
        if not found.converged:
            break
        jacobian = coarse.data_jacobian(found.theta)
    if found is not None and found.converged and jacobian is not None:
        found = polish(equations, found.theta, jacobian)[0]
        if found.converged:
            return found
    return first(equations, kernel)


def _conditioner(kernel: ClassKernel) -> Callable[[np.ndarray], SoftmaxConditioned]:
    """Return θ -> f given the labels, each call starting from what the one before has found."""
    problem = kernel.problem
    found: list[np.ndarray | None] = [None]

    def conditioned(theta: np.ndarray) -> SoftmaxConditioned:
        whole = _assemble(kernel.matrices(theta), kernel.training(theta), problem.output_bias)
        given = softmax_laplace(whole, problem.y, problem.temperature, found[0])
        found[0] = given.mode
        return given

    return conditioned


def _assemble(matrices: list[np.ndarray], blocks: list[Any], bias: float) -> np.ndarray:
    """Return Σ_i K_i ⊗ M_i and the readout's bias, pattern slow."""
    total = np.kron(np.full(np.shape(blocks[0]), bias), np.eye(len(matrices[0])))
    for matrix, block in zip(matrices, blocks, strict=True):
        total += np.kron(np.asarray(block), matrix)
    return total


def _equations(kernel: ClassKernel, whole: Problem) -> StationarityEquations:
    """Return ∂𝒮/∂θ over N + P, with the data term scaled up to that of `whole`."""
    problem, conditioned = kernel.problem, _conditioner(kernel)
    n, outputs = problem.n_patterns, problem.network.outputs
    rows, share = min(whole.network.widths) + whole.n_patterns, whole.n_patterns / n

    def prior(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gradient, hessian = kernel.prior(theta)
        return gradient / rows, hessian / rows

    def data(theta: np.ndarray) -> np.ndarray:
        try:
            given = conditioned(theta)
        except (InputError, ConvergenceError):
            return np.full(theta.shape, np.nan)
        return share / rows * kernel.slopes(theta, given.gradient.reshape(n, outputs, n, outputs))

    return StationarityEquations(prior, data, kernel.size)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ClassesSolution(Searched):
    """The saddle point in Q̄ of several classes, f given labels by Laplace's approximation.

    Attributes
    ----------
    problem
        Network, training set and temperature.
    rule
        The theory.
    found
        The unknowns, the residual, and why the saddle was not reached, if it was not.
    kernel
        What the unknowns stand for.
    conditioned
        f on the training set given the labels.
    """

    block = 256

    rule: Any
    found: TrackResult
    kernel: ClassKernel
    conditioned: SoftmaxConditioned

    @functools.cached_property
    def criterion(self) -> float:
        """NaN: it is one of squared errors."""
        return math.nan

    @functools.cached_property
    def order_parameters(self) -> xr.Dataset:
        """`q_bar` and `q` with dimensions (layer, output, ``output_``).

        Where they commute also `rotation`, `q_bar_direction` and `q_direction`.
        """
        return self.kernel.dataset(self.found.theta)

    @functools.cached_property
    def action(self) -> float:
        """𝒮 = Σ_ℓ N_ℓ[−tr QQ̄ + logdet(1 + Q)] − 2 log Z − P log 2π."""
        return self.kernel.entropy(self.found.theta) + self.conditioned.action

    def _predict_block(self, X_test: np.ndarray, full_covariance: bool) -> Prediction:
        theta, bias = self.found.theta, self.problem.output_bias
        matrices = self.kernel.matrices(theta)
        d, n = len(matrices[0]), len(X_test)
        blocks = self.kernel.between(theta, X_test, self.problem.X)
        kappa = _assemble(matrices, [block.cross for block in blocks], bias)
        half = self.conditioned.whiten(kappa.T)
        mean = (kappa @ self.conditioned.weights).reshape(n, d)
        parts = half.reshape(-1, n, d)
        outputs = bias * np.eye(d) - np.einsum("anb,anc->nbc", parts, parts)
        for matrix, block in zip(matrices, blocks, strict=True):
            outputs += np.asarray(block.diag_a)[:, None, None] * matrix
        covariance = None
        if full_covariance:
            between = self.kernel.between(theta, X_test, X_test)
            square = _assemble(matrices, [block.cross for block in between], bias)
            covariance = (square - half.T @ half).reshape(n, d, n, d)
        variance = np.einsum("nbb->nb", outputs).copy()
        return Prediction(mean, variance, covariance, outputs, mean_softmax(mean, outputs))

    def __repr__(self) -> str:
        rows = np.linalg.eigvalsh(self.order_parameters.q_bar.values)[:, ::-1]
        shown = ", ".join(f"[{', '.join(f'{value:.6g}' for value in row)}]" for row in rows)
        return (
            f"{type(self).__name__}(theory={self.theory!r}, temperature={self.temperature:g}, "
            f"eigenvalues of q_bar=[{shown}], residual={self.residual:.1e}, "
            f"converged={self.converged})"
        )
