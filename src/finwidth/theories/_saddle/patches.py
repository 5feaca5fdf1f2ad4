"""A convolution with a free readout: the saddle point in a matrix over patches."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import xarray as xr

from ..._basics.arrays import as_float64, shown
from ..._basics.errors import InputError
from ..._layers.convolution import Convolution, patch_grid
from ..._layers.covariance import Covariance
from ..._layers.dense import input_covariance
from ..._layers.patches import Patches, plus_means
from ..._layers.stack import layer_rules
from ..._likelihoods import Conditioned
from ..._observables._observable import observables, predictions
from ..._observables._prediction import Prediction
from ..._problem.network import Network
from ..._problem.problem import Problem
from .._gaussian_process import GaussianProcessSolution
from .._theory import Test, check_converged, solution_row
from .patch_action import DataTerm, Kernels
from .patch_kernels import PatchKernels, Square
from .patch_search import Found
from .patch_secants import find_stationary
from .searched import Searched

__all__ = [
    "PatchSolution",
    "patch_coordinates",
    "patch_dataset",
    "search",
    "solve_patches",
    "solve_patches_column",
]

_TEST_BLOCK = 512  # test patterns at a time
_TOGETHER = 8  # problems side by side, which hold a P × P matrix each


def solve_patches(rule: Any, problem: Problem, start: Any = None) -> "PatchSolution":
    """Return the saddle point of a convolution without pooling, and what it predicts.

    Parameters
    ----------
    rule
        The theory.
    problem
        Network, training set, temperature and likelihood.
    start
        Where to look first: the solution of a nearby problem, or Q̄, shape (patch, patch). None:
        infinite width.
    """
    kernels = _training_kernels(problem)
    return PatchSolution(problem, rule, *search([problem], kernels, start)[0])


def _training_kernels(problem: Problem) -> PatchKernels:
    network = problem.network
    if network.outputs > 1:
        raise InputError(
            f"expected outputs = 1 with a mixture and {network.layers[0]!r}, got "
            f"{network.outputs}: theory='nested' or 'infinite' and sampling take several"
        )
    return PatchKernels(problem, problem.memory_limit)


def search(
    problems: list[Problem], kernels: Kernels, start: Any = None
) -> list[tuple[Found, Conditioned]]:
    """Return the saddle points of problems that differ in width, and f given the labels there."""
    near = _start(start, kernels.patches)
    terms = [DataTerm(problem, kernels) for problem in problems]
    points = []
    for found in find_stationary(terms, near):
        if found is None:
            if near is None:  # what cannot be conditioned is refused in its own words
                one = np.eye(kernels.patches)
                terms[0].condition(one, one)
            raise InputError(
                f"expected start = matrices at which the action is defined, got {start!r}"
            )
        points.append(found)
    matrices = kernels.assemble_each([(found.q_bar, found.r) for found in points])
    given = [data.conditioned(one) for data, one in zip(terms, matrices, strict=True)]
    for found, conditioned in zip(points, given, strict=True):
        if found.converged:
            conditioned.warn()
    return list(zip(points, given, strict=True))


def solve_patches_column(rule: Any, problems: list[Problem], test: Test) -> list[dict[str, Any]]:
    """Solve problems that differ in width side by side, with the same kernels."""
    kernels = _training_kernels(problems[0])
    rows = []
    for start in range(0, len(problems), _TOGETHER):
        part = problems[start : start + _TOGETHER]
        found = search(part, kernels)
        solutions = [PatchSolution(one, rule, *at) for one, at in zip(part, found, strict=True)]
        for solution in solutions:
            check_converged(solution)
            rows.append(solution_row(solution, None))
        if test is not None:
            for row, scores in zip(rows[start:], _scores(solutions, *test), strict=True):
                row |= scores
    return rows


def _scores(
    solutions: list["PatchSolution"], X_test: np.ndarray, y_test: np.ndarray
) -> list[dict[str, float]]:
    """Return the scores of solutions of one training set: kernels of pairs are made once."""
    network, X = solutions[0].network, solutions[0].problem.X
    q_bar, r = (np.array(one) for one in zip(*(one.found[:2] for one in solutions), strict=True))
    scale = 1.0 / (network.weight_precision[1] * q_bar.shape[1])
    parts: list[list[Prediction]] = [[] for _ in solutions]
    for start in range(0, len(X_test), _TEST_BLOCK):
        patches, rule = _patches(network, X_test[start : start + _TEST_BLOCK], X)
        blocks = _kernels(network.activation, patches, rule, scale * q_bar, scale * (r - q_bar))
        for i, solution in enumerate(solutions):
            bias = solution.problem.output_bias
            block = Covariance(*(part[i] + bias for part in blocks))
            parts[i].append(solution.predict_from(block))
    found = []
    for solution, blocks in zip(solutions, parts, strict=True):
        law, likelihood = Prediction.join(blocks), solution.problem.likelihood
        probabilities = likelihood.probabilities(law.mean, law.variance)
        law = dataclasses.replace(law, probabilities=probabilities)
        found.append(predictions(observables(y_test), law, y_test))
    return found


def _start(start: Any, patches: int) -> tuple[Square, Square] | None:
    if start is None:
        return None
    if isinstance(start, PatchSolution):
        return start.found.q_bar, start.found.r
    matrix = as_float64("start", start, f"({patches}, {patches})")
    fits = matrix.shape == (patches, patches) and np.all(np.isfinite(matrix))
    if not fits or not np.allclose(matrix, matrix.T) or not np.linalg.eigvalsh(matrix)[0] > 0:
        raise InputError(
            f"expected start = a symmetric positive definite matrix of shape ({patches}, "
            f"{patches}), got {shown(start)}"
        )
    return matrix, matrix


def patch_coordinates(layer: Convolution, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return coordinates of the patches of an image: their numbers, and places in the grid."""
    rows, columns = patch_grid(layer, shape)
    number = np.arange(rows * columns)
    return ({"patch": number, "patch_": number} if layer.shared else {"patch": number}) | {
        "patch_row": ("patch", number // columns),
        "patch_column": ("patch", number % columns),
    }


def patch_dataset(layer: Convolution, shape: tuple[int, ...], **matrices: Square) -> xr.Dataset:
    """Return matrices over patches as users see them, their diagonals where no others count.

    Dimensions are (layer, patch, ``patch_``), or (layer, patch) where patches share no weights.
    """
    dims = ("layer", "patch", "patch_") if layer.shared else ("layer", "patch")
    values = {
        name: (dims, (matrix if layer.shared else np.diag(matrix))[None])
        for name, matrix in matrices.items()
    }
    return xr.Dataset(values, coords={"layer": [1], **patch_coordinates(layer, shape)})


def _patches(network: Network, A: np.ndarray, B: np.ndarray) -> tuple[Patches, Any]:
    """Return the patches of two sets of images, and the quadrature rule for them."""
    patches = input_covariance(network, A, B)
    assert isinstance(patches, Patches)
    variances = np.concatenate([np.asarray(patches.diag_a), np.asarray(patches.diag_b)])
    return patches, layer_rules(network, variances)[0]


@functools.partial(jax.jit, static_argnames=("activation",))
def _kernel(activation: Any, patches: Patches, rule: Any, q_bar: Any, excess: Any) -> Covariance:
    """Return Σ_ab Q̄_ab K_ab + M (R − Q̄) Mᵀ; 1/(λ_1 A) is in the matrices."""
    second = patches.weighted(activation, rule, q_bar)
    return plus_means(second, patches.means(activation, rule), excess)


@functools.partial(jax.jit, static_argnames=("activation",))
def _kernels(activation: Any, patches: Patches, rule: Any, q_bar: Any, excess: Any) -> Covariance:
    """Return `_kernel` of several matrices, in a first axis of each part."""
    return jax.vmap(functools.partial(_kernel, activation, patches, rule))(q_bar, excess)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PatchSolution(Searched, GaussianProcessSolution):
    """The saddle point in Q̄ (and R = (1 + Q)⁻¹) over patches, and the process that it makes of f.

    Attributes
    ----------
    problem
        Network, training set and temperature.
    rule
        The theory.
    found
        The saddle point.
    conditioned
        f on the training set given the labels.
    """

    rule: Any
    found: Found
    conditioned: Conditioned

    @property
    def layer(self) -> Convolution:
        """The convolution."""
        layer = self.network.layers[0]
        assert isinstance(layer, Convolution)
        return layer

    @property
    def weights(self) -> np.ndarray:
        """a with E f(x) = k(x)·a, shape (pattern,); A⁻¹y for the Gaussian likelihood."""
        return self.conditioned.weights

    def _whiten(self, b: np.ndarray) -> np.ndarray:
        return self.conditioned.whiten(b)

    @functools.cached_property
    def action(self) -> float:
        """𝒮 = N_c[−tr QQ̄ + logdet(1 + Q)] + logdet A + yᵀA⁻¹y, or the likelihood's data term."""
        q_bar, r = self.found.q_bar, self.found.r
        inverse = np.linalg.inv(r)
        trace = float(np.trace(q_bar) - np.sum(inverse * q_bar))
        prior = self.network.widths[0] * (trace - float(np.linalg.slogdet(r)[1]))
        return prior + self.conditioned.action

    @functools.cached_property
    def order_parameters(self) -> xr.Dataset:
        """`q_bar` and `q` with dimensions (layer, patch, ``patch_``), patches row by row.

        (layer, patch) where they do not share their weights.
        """
        shape = self.problem.X.shape[1:]
        return patch_dataset(self.layer, shape, q_bar=self.found.q_bar, q=self.found.q)

    def kernel_between(self, A: np.ndarray, B: np.ndarray, output_bias: bool = True) -> Covariance:
        """Return K_R between two sets of patterns, with or without 1/λ^b_1 of the output bias."""
        network, (q_bar, r) = self.network, self.found[:2]
        patches, rule = _patches(network, A, B)
        scale = 1.0 / (network.weight_precision[1] * len(q_bar))
        weights = scale * q_bar
        if not np.any(q_bar - np.diag(np.diag(q_bar))):  # pairs of patches are not needed
            weights = np.diag(weights)
        found = _kernel(network.activations[0], patches, rule, weights, scale * (r - q_bar))
        bias = self.problem.output_bias if output_bias else 0.0
        return Covariance(*(part + bias for part in found))

    def __repr__(self) -> str:
        values = np.linalg.eigvalsh(self.found.q_bar)
        return (
            f"{type(self).__name__}(theory={self.theory!r}, temperature={self.temperature:g}, "
            f"eigenvalues of q_bar from {values[0]:.6g} to {values[-1]:.6g}, "
            f"residual={self.residual:.1e}, converged={self.converged})"
        )
