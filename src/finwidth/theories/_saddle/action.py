"""The effective action of theory.md, section 4: its prior term, its data term, their derivatives.

The unknowns θ are those of the layers' order parameters (`_layers.order`).
"""

# SciPy makes the LAPACK wrappers at run time:
# pyright: reportAttributeAccessIssue=false
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from ..._layers.covariance import Covariance, Local, known
from ..._layers.dense import input_covariance
from ..._layers.order import Chart, OrderParameters
from ..._layers.stack import Stack
from ..._numerics.tiles import assemble, contract
from ..._numerics.tridiagonal import ScaledKernel
from ..._problem.problem import Problem

__all__ = [
    "Columns",
    "ScaledForm",
    "dense_gradient",
    "kernel_pull",
    "scaled_gradient",
    "scaled_kernel",
    "tile_covariance",
    "training_kernel",
]


Columns = Callable[[np.ndarray], np.ndarray]


class ScaledForm(NamedTuple):
    """K_R = s·K_0 + U diag(w) Uᵀ, where a theory's kernel is of that form.

    Attributes
    ----------
    kernel
        K_0 and U on the training set, reduced. The scale is s = Π_ℓ Q̄_ℓ/λ_L.
    stack, order
        Those at which the theory's kernel is K_0.
    columns
        Patterns, shape (a, input) -> the rows of U for them, shape (a, term).
    precision
        λ_L.
    fixed_weights
        w at Q = 0, shape (term,).
    mean_terms
        How many of the weights, the first ones, are multiplied by 1/(1 + Q_ℓ).
    """

    kernel: ScaledKernel
    stack: Stack
    order: OrderParameters
    columns: Columns
    precision: float
    fixed_weights: np.ndarray
    mean_terms: int = 0

    def scale(self, order: OrderParameters) -> float:
        """Return s."""
        return float(np.prod(order.q_bar)) / self.precision

    def weights(self, order: OrderParameters) -> np.ndarray:
        """Return w, shape (term,)."""
        weights = self.fixed_weights.copy()
        if self.mean_terms:
            weights[: self.mean_terms] *= order.shrinkage
        return weights


def scaled_gradient(
    problem: Problem, form: ScaledForm, chart: Chart
) -> Callable[[np.ndarray], np.ndarray]:
    """Return θ -> gradient of the data term where one scale is all that varies; O(P) a call."""
    depth = problem.network.depth

    def gradient(theta: np.ndarray) -> np.ndarray:
        order = chart.value(theta)
        _, d_scale, d_weights = form.kernel.data_term(
            form.scale(order), form.weights(order), problem.temperature
        )
        return np.concatenate([np.full(depth, d_scale), d_weights[: form.mean_terms]])

    return gradient


KernelMap = Callable[..., Covariance]


@functools.partial(jax.jit, static_argnames=("kernel",))
def _tile(kernel: KernelMap, stack: Stack, covariance: Any, order: OrderParameters) -> Array:
    return kernel(stack, covariance, order).cross


@functools.partial(jax.jit, static_argnames=("kernel",))
def _tile_gradient(
    kernel: KernelMap,
    stack: Stack,
    covariance: Any,
    chart: Chart,
    theta: Array,
    cotangent: Array,
) -> Array:
    def contracted(theta: Array) -> Array:
        return jnp.sum(cotangent * kernel(stack, covariance, chart.value(theta)).cross)

    # forward mode: few parameters, and no sums over rows and columns on the way back
    return jax.jacfwd(contracted)(theta)


TileCovariance = Callable[[slice, slice], Covariance | Local]
Cotangent = Callable[[slice, slice], np.ndarray]

_LARGEST_KEPT = 4096  # patterns with which the tiles of C are kept between evaluations


def tile_covariance(problem: Problem) -> TileCovariance:
    """Return (rows, columns) -> C on a tile of the training set, or its moments (see `known`)."""

    def compute(rows: slice, columns: slice) -> Covariance | Local:
        if rows.start == columns.start and rows.stop - rows.start == problem.n_patterns:
            return problem.covariance
        found = input_covariance(problem.network, problem.X[rows], problem.X[columns])
        if isinstance(found, Local):
            return known(found, problem.network.activations[0], problem.rules[0])
        return found

    return functools.cache(compute) if problem.n_patterns <= _LARGEST_KEPT else compute


def training_kernel(
    problem: Problem,
    kernel: KernelMap,
    stack: Stack,
    order: OrderParameters,
    covariance: TileCovariance | None = None,
) -> Float[np.ndarray, "pattern pattern"]:
    """Return K_R on the training set, made tile by tile, in Fortran order."""
    on_tile = tile_covariance(problem) if covariance is None else covariance

    def block(rows: slice, columns: slice) -> np.ndarray:
        c = on_tile(rows, columns)
        return np.asarray(_tile(kernel, stack, c, order))

    return assemble(problem.n_patterns, block)


def scaled_kernel(
    problem: Problem,
    kernel: KernelMap,
    stack: Stack,
    order: OrderParameters,
    columns: Columns,
) -> ScaledKernel:
    """Return K_0 and U on the training set, reduced (see `ScaledForm`)."""
    matrix = training_kernel(problem, kernel, stack, order)
    return ScaledKernel(matrix, columns(problem.X), problem.labels, overwrite=True)


def kernel_pull(
    problem: Problem, kernel: KernelMap, chart: Chart, covariance: TileCovariance
) -> Callable[[np.ndarray, Cotangent], np.ndarray]:
    """Return (θ, tiles of G) -> tr[G ∂K_R/∂θ]."""
    stack = problem.stack

    def pull(theta: np.ndarray, cotangent: Cotangent) -> np.ndarray:
        point = jnp.asarray(theta, jnp.float64)

        def block(rows: slice, columns: slice, tile: np.ndarray) -> np.ndarray:
            on_tile = jnp.asarray(tile, jnp.float64)
            c = covariance(rows, columns)
            return np.asarray(_tile_gradient(kernel, stack, c, chart, point, on_tile))

        return contract(problem.n_patterns, cotangent, block)

    return pull


def dense_gradient(
    problem: Problem, kernel: KernelMap, chart: Chart
) -> Callable[[np.ndarray], np.ndarray]:
    """Return θ -> gradient of the data term; NaN where K_R(θ) does not allow it.

    The likelihood knows the gradient in K_R (A⁻¹ − A⁻¹y yᵀA⁻¹ where it is Gaussian); each of its
    tiles is contracted with the derivatives of that tile of K_R, so that one P × P matrix is all
    that is held.
    """
    covariance = tile_covariance(problem)
    conditioned = problem.likelihood.gradients(problem.y, problem.temperature)
    pull = kernel_pull(problem, kernel, chart, covariance)

    def gradient(theta: np.ndarray) -> np.ndarray:
        order = chart.value(theta)
        matrix = training_kernel(problem, kernel, problem.stack, order, covariance)
        cotangent = conditioned(matrix)
        return np.full(theta.shape, np.nan) if cotangent is None else pull(theta, cotangent)

    return gradient
