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
from ..._numerics.data_term import DataTerm
from ..._numerics.tiles import assemble, contract
from ..._numerics.tridiagonal import ScaledKernel
from ..._problem.problem import Problem

__all__ = [
    "Columns",
    "ScaledForm",
    "ScaledParts",
    "dense_gradient",
    "kernel_pull",
    "scaled_gradient",
    "scaled_kernel",
    "tile_covariance",
    "tile_slope",
    "training_kernel",
    "training_tile",
]


Columns = Callable[[np.ndarray], np.ndarray]


class ScaledParts(NamedTuple):
    """K_R = s·K_0 + U diag(w) Uᵀ as a theory states it, with no matrix over patterns made.

    Attributes
    ----------
    stack, order, columns, precision, fixed_weights, mean_terms
        As those of `ScaledForm`.
    """

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
        return self.parts.scale(order)

    def weights(self, order: OrderParameters) -> np.ndarray:
        """Return w, shape (term,)."""
        return self.parts.weights(order)

    @property
    def parts(self) -> ScaledParts:
        """What the form consists of besides the matrix."""
        return ScaledParts(*self[1:])


def scaled_gradient(
    kernel: DataTerm, parts: ScaledParts, chart: Chart, temperature: float, theta: np.ndarray
) -> np.ndarray:
    """Return the gradient of the data term where one scale is all that varies."""
    order = chart.value(theta)
    _, d_scale, d_weights = kernel.data_term(parts.scale(order), parts.weights(order), temperature)
    depth = len(chart.orders)
    return np.concatenate([np.full(depth, d_scale), d_weights[: parts.mean_terms]])


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


@functools.partial(jax.jit, static_argnames=("kernel",))
def _tile_slope(
    kernel: KernelMap,
    stack: Stack,
    covariance: Covariance | Local,
    chart: Chart,
    theta: Array,
    direction: Array,
) -> Covariance:
    def along(theta: Array) -> Covariance:
        return kernel(stack, covariance, chart.value(theta))

    return jax.jvp(along, (theta,), (direction,))[1]


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

    return assemble(
        problem.n_patterns,
        lambda rows, columns: training_tile(kernel, stack, order, on_tile(rows, columns)),
    )


def training_tile(
    kernel: KernelMap, stack: Stack, order: OrderParameters, covariance: Covariance | Local
) -> np.ndarray:
    """Return a tile of K_R from that of C."""
    return np.asarray(_tile(kernel, stack, covariance, order))


def tile_slope(
    kernel: KernelMap,
    stack: Stack,
    covariance: Covariance | Local,
    chart: Chart,
    theta: np.ndarray,
    direction: np.ndarray,
) -> Covariance:
    """Return the derivative of a tile of K_R along a direction of θ."""
    arrays = jnp.asarray(theta, jnp.float64), jnp.asarray(direction, jnp.float64)
    return _tile_slope(kernel, stack, covariance, chart, *arrays)


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
