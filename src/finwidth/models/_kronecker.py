"""Gaussian fields of several outputs, of covariance M ⊗ K: nothing larger than K or M.

With M = O diag(q) Oᵀ and K = U diag(κ) Uᵀ the outputs rotated by O are independent, and output k
has covariance q_k K (+ b 11ᵀ) + T·1, diagonal but for one rank in the basis U.

Source: theory.md, section 11.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax, random
from jaxtyping import Float

from ._together import Together, given_others

__all__ = ["Conditional", "Eigen", "KroneckerNormal", "condition", "symmetric_root"]


class Eigen(NamedTuple):
    """K on some patterns in its eigenbasis, and a bias that all have in common.

    Attributes
    ----------
    values, vectors
        κ ≥ 0 and U, shapes (pattern,) and (pattern, pattern).
    ones
        Uᵀ1, shape (pattern,).
    bias
        b, scalar: the covariance of every output is q K + b 11ᵀ.
    """

    values: Float[Array, " pattern"]
    vectors: Float[Array, "pattern pattern"]
    ones: Float[Array, " pattern"]
    bias: Float[Array, ""]


class Conditional(NamedTuple):
    """What Y says of f given M, in the eigenbases; A_k = q_k K + b 11ᵀ + T·1.

    Attributes
    ----------
    scales, basis
        q and O, shapes (output,) and (output, output).
    total
        κ q + T, shape (pattern, output).
    ones
        Uᵀ1 divided by it, of the same shape.
    capacity
        1 + b 1ᵀ(q_k K + T)⁻¹1, shape (output,).
    dual
        Uᵀ A_k⁻¹ Y o_k, shape (pattern, output).
    """

    scales: Float[Array, " output"]
    basis: Float[Array, "output output"]
    total: Float[Array, "pattern output"]
    ones: Float[Array, "pattern output"]
    capacity: Float[Array, " output"]
    dual: Float[Array, "pattern output"]


def condition(
    kernel: Eigen,
    matrix: Float[Array, "output output"],
    residual: Float[Array, "pattern output"],
    temperature: float | Array,
) -> Conditional:
    """Condition on labels less their mean, given as Uᵀ Y."""
    scales, basis = jnp.linalg.eigh(matrix)
    scales = jnp.maximum(scales, 0.0)  # negative by rounding alone
    total = temperature + kernel.values[:, None] * scales
    ones = kernel.ones[:, None] / total
    capacity = 1.0 + kernel.bias * (kernel.ones @ ones)
    partial = Conditional(scales, basis, total, ones, capacity, total)
    return partial._replace(dual=solve(kernel, partial, residual @ basis))


def solve(kernel: Eigen, given: Conditional, rotated: Array) -> Float[Array, "pattern output"]:
    """Return A_k⁻¹ z_k for the columns z_k, in the eigenbases."""
    share = kernel.bias * jnp.sum(given.ones * rotated, axis=0) / given.capacity
    return rotated / given.total - share * given.ones


def _value(kernel: Eigen, given: Conditional) -> Array:
    logdet = jnp.sum(jnp.log(given.total)) + jnp.sum(jnp.log(given.capacity))
    # yᵀA⁻¹y as a sum of squares
    quadratic = jnp.sum(given.total * given.dual**2)
    quadratic += kernel.bias * jnp.sum((kernel.ones @ given.dual) ** 2)
    return -0.5 * (given.dual.size * jnp.log(2.0 * jnp.pi) + logdet + quadratic)


@jax.custom_jvp
def _log_density(kernel: Eigen, matrix: Array, residual: Array, temperature: Array) -> Array:
    return _value(kernel, condition(kernel, matrix, residual, temperature))


@_log_density.defjvp
def _log_density_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    # by hand, since eigenvectors have no derivative where eigenvalues meet, as they do for
    # fewer units than outputs
    kernel, matrix, residual, temperature = primals
    _, d_matrix, d_residual, d_temperature = tangents  # of the kernel there are none
    given = condition(kernel, matrix, residual, temperature)
    dual, basis = given.dual, given.basis
    # the diagonals of A_k⁻¹
    inverse = 1.0 / given.total - kernel.bias / given.capacity * given.ones**2
    pull = (dual.T * kernel.values) @ dual - jnp.diag(kernel.values @ inverse)
    tangent = 0.5 * jnp.sum((basis @ pull @ basis.T) * d_matrix)
    tangent -= jnp.sum((dual @ basis.T) * d_residual)
    tangent += 0.5 * (jnp.sum(dual**2) - jnp.sum(inverse)) * d_temperature
    return _value(kernel, given), tangent


class KroneckerNormal(Together):
    """The law N(loc, M ⊗ K + 1 ⊗ b 11ᵀ + T·1) of labels of several outputs.

    Parameters
    ----------
    kernel
        K and b.
    matrix
        M, symmetric and positive semi-definite, shape (output, output).
    loc
        Shape (pattern, output).
    temperature
        T > 0.
    """

    support = dist.constraints.real_matrix  # pyright: ignore[reportAssignmentType]
    pytree_data_fields = ("kernel", "matrix", "loc", "temperature")

    def __init__(
        self,
        kernel: Eigen,
        matrix: Array,
        loc: Array,
        temperature: float | Array,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.kernel, self.matrix, self.loc = kernel, matrix, loc
        self.temperature = jnp.asarray(temperature, matrix.dtype)
        super().__init__(batch_shape=(), event_shape=loc.shape, validate_args=validate_args)

    def joint(self, value: Array) -> Array:
        """Return the log density of labels of shape (pattern, output)."""
        kernel = lax.stop_gradient(self.kernel)
        residual = kernel.vectors.T @ (value - self.loc)
        return _log_density(kernel, self.matrix, residual, self.temperature)

    def each(self, value: Array) -> Array:
        """Return log p(y_i | y_-i), of all outputs of a pattern, shape (pattern,)."""
        kernel = self.kernel
        residual = kernel.vectors.T @ (value - self.loc)
        given = condition(kernel, self.matrix, residual, self.temperature)
        shared = kernel.bias / given.capacity * (kernel.vectors @ given.ones) ** 2
        diagonal = kernel.vectors**2 @ (1.0 / given.total) - shared
        return given_others(kernel.vectors @ given.dual, diagonal)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw labels of shape (*sample_shape, pattern, output)."""
        (patterns, outputs), kernel = self.loc.shape, self.kernel
        keys, dtype = random.split(key, 3), self.loc.dtype
        root = kernel.vectors * jnp.sqrt(kernel.values)
        shape = (*sample_shape, patterns, outputs)
        f = root @ random.normal(keys[0], shape, dtype) @ symmetric_root(self.matrix)
        shared = random.normal(keys[1], (*sample_shape, 1, outputs), dtype)
        noise = jnp.sqrt(self.temperature) * random.normal(keys[2], shape, dtype)
        return self.loc + f + jnp.sqrt(kernel.bias) * shared + noise


def _eigen_root(matrix: Array) -> tuple[Array, Array]:
    """Return the roots of the eigenvalues, 0 where rounding alone makes one, and the vectors."""
    values, vectors = jnp.linalg.eigh(matrix)
    smallest = values.size * jnp.finfo(values.dtype).eps * values[-1]
    return jnp.sqrt(jnp.where(values > smallest, values, 0.0)), vectors


@jax.custom_jvp
def symmetric_root(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return the symmetric square root of a positive semi-definite matrix."""
    roots, vectors = _eigen_root(matrix)
    return (vectors * roots) @ vectors.T


@symmetric_root.defjvp
def _symmetric_root_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    roots, vectors = _eigen_root(*primals)
    # S dS + dS S = dM; where both roots are 0, so is dM, of a Gram matrix of fixed rank
    sums = roots[:, None] + roots[None, :]
    inner = vectors.T @ tangents[0] @ vectors / jnp.where(sums > 0, sums, 1.0)
    tangent = vectors @ jnp.where(sums > 0, inner, 0.0) @ vectors.T
    return (vectors * roots) @ vectors.T, tangent
