"""The readout integrated exactly: given the hidden weights, v is Gaussian.

With features F = Φ/√(λ_L N_L) (and a column 1/√λ^b_L for a bias) the readout is a Bayesian linear
regression with unit prior: y ~ N(0, A), A = F Fᵀ + T·1. Everything uses one Cholesky factor and
its inverse, of A (P × P) or of M = Fᵀ F + T·1 (columns of F), whichever is smaller; with M the
quadratic form is computed from the residual y − F v̂, so nothing cancels at small T.

Source: theory.md, section 9; Williams & Rasmussen, Gaussian Processes (2006), sec. 2.1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg as linalg
import numpyro.distributions as dist
from jax import Array, lax, random
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Float

from .._numerics.cholesky import cholesky_and_inverse

__all__ = ["Readout", "ReadoutMarginal", "condition", "log_marginal"]


class Readout(NamedTuple):
    """The exact posterior of the readout given the features.

    Attributes
    ----------
    factor
        Lower Cholesky factor of the smaller of A and M.
    root
        Its inverse.
    coefficients
        v̂, posterior mean of the whitened readout, shape (column,).
    dual
        A⁻¹y, shape (pattern,).
    features
        F, shape (pattern, column).
    temperature
        T.
    """

    factor: Array
    root: Array
    coefficients: Float[Array, " column"]
    dual: Float[Array, " pattern"]
    features: Float[Array, "pattern column"]
    temperature: float | Array

    @property
    def by_columns(self) -> bool:
        """Whether `factor` is that of M."""
        return self.features.shape[1] < self.features.shape[0]

    def moments(self, block: Float[Array, "point column"]) -> tuple[Array, Array]:
        """Return mean and variance of f at points with these features, shape (point,) each."""
        if self.by_columns:
            variance = self.temperature * jnp.sum((self.root @ block.T) ** 2, axis=0)
        else:
            explained = jnp.sum(((self.root @ self.features) @ block.T) ** 2, axis=0)
            variance = jnp.sum(block**2, axis=1) - explained
        return block @ self.coefficients, variance

    def draw(self, rng_key: Array) -> Float[Array, " column"]:
        """Draw the whitened readout from its posterior, shape (column,)."""
        n_patterns, n_columns = self.features.shape
        dtype = self.features.dtype
        if self.by_columns:
            noise = random.normal(rng_key, (n_columns,), dtype)
            return self.coefficients + jnp.sqrt(self.temperature) * (noise @ self.root)
        # Matheron's rule: condition a draw from the prior
        key_v, key_e = random.split(rng_key)
        v = random.normal(key_v, (n_columns,), dtype)
        e = jnp.sqrt(self.temperature) * random.normal(key_e, (n_patterns,), dtype)
        correction = linalg.cho_solve((self.factor, True), self.features @ v + e)
        return v + self.coefficients - self.features.T @ correction


def condition(
    features: Float[Array, "pattern column"],
    y: Float[Array, " pattern"],
    temperature: float | Array,
) -> Readout:
    """Return the posterior of the readout given features and labels."""
    n_patterns, n_columns = features.shape
    by_columns = n_columns < n_patterns
    gram = features.T @ features if by_columns else features @ features.T
    gram += temperature * jnp.eye(gram.shape[0], dtype=features.dtype)
    factor, root = cholesky_and_inverse(gram)
    if by_columns:
        # by products with the inverse, cheaper than two solves: the quadratic form is stationary
        # in v̂ and does not feel their rounding
        coefficients = (root @ (features.T @ y)) @ root
        dual = (y - features @ coefficients) / temperature
    else:
        dual = linalg.cho_solve((factor, True), y)
        coefficients = features.T @ dual
    return Readout(factor, root, coefficients, dual, features, temperature)


def _value(readout: Readout) -> Array:
    n_patterns, n_columns = readout.features.shape
    logdet = 2.0 * jnp.sum(jnp.log(jnp.diagonal(readout.factor)))
    if readout.by_columns:
        logdet += (n_patterns - n_columns) * jnp.log(readout.temperature)
    # yᵀA⁻¹y = T|A⁻¹y|² + |v̂|², a sum of squares
    quadratic = readout.temperature * readout.dual @ readout.dual
    quadratic += readout.coefficients @ readout.coefficients
    return -0.5 * (n_patterns * jnp.log(2.0 * jnp.pi) + logdet + quadratic)


@jax.custom_jvp
def log_marginal(
    features: Float[Array, "pattern column"],
    y: Float[Array, " pattern"],
    temperature: float | Array,
) -> Array:
    """Return log N(y; 0, F Fᵀ + T·1); its derivatives reuse the factorisation.

    Parameters
    ----------
    features
        F, shape (pattern, column).
    y
        Labels, shape (pattern,).
    temperature
        T > 0, scalar.
    """
    return _value(condition(features, y, temperature))


def _log_marginal_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    features, y, temperature = primals
    d_features, d_y, d_temperature = tangents
    readout = condition(features, y, temperature)
    tangent = jnp.zeros((), features.dtype)
    if not isinstance(d_features, SymbolicZero):
        # −A⁻¹F + A⁻¹y (A⁻¹y)ᵀF, with (A⁻¹y)ᵀF = v̂ and A⁻¹F = F M⁻¹; transposed, because the
        # units of the layers below come first
        # the barrier keeps the transpose by rows, as the faster of XLA's kernels for products wants
        inverse = lax.optimization_barrier(readout.root.T) @ readout.root
        shrunk = inverse @ features.T if readout.by_columns else features.T @ inverse
        gradient = readout.coefficients[:, None] * readout.dual[None, :] - shrunk
        tangent += jnp.sum(gradient * d_features.T)
    if not isinstance(d_y, SymbolicZero):
        tangent -= readout.dual @ d_y
    if not isinstance(d_temperature, SymbolicZero):
        n_patterns, n_columns = features.shape
        trace = jnp.sum(readout.root**2)
        if readout.by_columns:
            trace += (n_patterns - n_columns) / temperature
        tangent += 0.5 * (readout.dual @ readout.dual - trace) * d_temperature
    return _value(readout), tangent


log_marginal.defjvp(_log_marginal_jvp, symbolic_zeros=True)


class ReadoutMarginal(dist.Distribution):
    """The law N(0, F Fᵀ + T·1) of the labels given the features.

    Parameters
    ----------
    features
        F, shape (pattern, column).
    temperature
        T > 0.
    """

    support = dist.constraints.real_vector  # pyright: ignore[reportAssignmentType]
    arg_constraints = {
        "features": dist.constraints.real_matrix,
        "temperature": dist.constraints.positive,
    }
    pytree_data_fields = ("features", "temperature")

    def __init__(
        self, features: Array, temperature: float | Array, *, validate_args: bool | None = None
    ) -> None:
        self.features = features
        self.temperature = jnp.asarray(temperature, features.dtype)
        super().__init__(
            batch_shape=(), event_shape=features.shape[:1], validate_args=validate_args
        )

    def log_prob(self, value: Array) -> Array:
        """Return the log density of labels of shape (pattern,)."""
        return log_marginal(self.features, value, self.temperature)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw labels of shape (*sample_shape, pattern)."""
        n_patterns, n_columns = self.features.shape
        key_v, key_e = random.split(key)
        dtype = self.features.dtype
        v = random.normal(key_v, (*sample_shape, n_columns), dtype)
        e = random.normal(key_e, (*sample_shape, n_patterns), dtype)
        return v @ self.features.T + jnp.sqrt(self.temperature) * e
