"""The readout integrated exactly: given the hidden weights, v is Gaussian.

With features F = Φ/√(λ_L N_L) (and a column 1/√λ^b_L for a bias) the readout is a Bayesian linear
regression with unit prior: y ~ N(0, A), A = F Fᵀ + T·1. Everything uses one Cholesky factor and
its inverse, of A (P × P) or of M = Fᵀ F + T·1 (columns of F), whichever is smaller; with M the
quadratic form is computed from the residual y − F v̂, so nothing cancels at small T.

Given the features the outputs are independent, and all have the same A: one factorisation serves
them all.

Source: theory.md, sections 9 and 11; Williams & Rasmussen, Gaussian Processes (2006), sec. 2.1.
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
from ._together import Together, given_others

__all__ = ["Readout", "ReadoutMarginal", "condition", "log_marginal"]

type _Labels = Float[Array, " pattern"] | Float[Array, "pattern output"]


class Readout(NamedTuple):
    """The exact posterior of the readout given the features.

    Attributes
    ----------
    factor
        Lower Cholesky factor of the smaller of A and M.
    root
        Its inverse.
    coefficients
        v̂, posterior mean of the whitened readout, shape (column,) or (column, output).
    dual
        A⁻¹y, shape (pattern,) or (pattern, output).
    features
        F, shape (pattern, column).
    temperature
        T.
    """

    factor: Array
    root: Array
    coefficients: Float[Array, " column"] | Float[Array, "column output"]
    dual: _Labels
    features: Float[Array, "pattern column"]
    temperature: float | Array

    @property
    def by_columns(self) -> bool:
        """Whether `factor` is that of M."""
        return self.features.shape[1] < self.features.shape[0]

    def moments(self, block: Float[Array, "point column"]) -> tuple[Array, Array]:
        """Return mean and variance of f at points with these features.

        Of shape (point,) each, or (point, output); the variance is that of every output.
        """
        if self.by_columns:
            variance = self.temperature * jnp.sum((self.root @ block.T) ** 2, axis=0)
        else:
            explained = jnp.sum(((self.root @ self.features) @ block.T) ** 2, axis=0)
            variance = jnp.sum(block**2, axis=1) - explained
        mean = block @ self.coefficients
        if mean.ndim > 1:
            variance = jnp.broadcast_to(variance[:, None], mean.shape)
        return mean, variance

    def inverse_diagonal(self) -> Float[Array, " pattern"]:
        """Return the diagonal of A⁻¹."""
        if self.by_columns:
            leverage = jnp.sum((self.root @ self.features.T) ** 2, axis=0)
            return (1.0 - leverage) / self.temperature
        return jnp.sum(self.root**2, axis=0)

    def draw(self, rng_key: Array) -> Float[Array, " column"] | Float[Array, "column output"]:
        """Draw the whitened readout from its posterior, shape as that of `coefficients`."""
        n_patterns, n_columns = self.features.shape
        dtype, outputs = self.features.dtype, self.dual.shape[1:]
        if self.by_columns:
            noise = random.normal(rng_key, (n_columns, *outputs), dtype)
            return self.coefficients + jnp.sqrt(self.temperature) * _transposed(self.root, noise)
        # Matheron's rule: condition a draw from the prior
        key_v, key_e = random.split(rng_key)
        v = random.normal(key_v, (n_columns, *outputs), dtype)
        e = jnp.sqrt(self.temperature) * random.normal(key_e, (n_patterns, *outputs), dtype)
        correction = linalg.cho_solve((self.factor, True), self.features @ v + e)
        return v + self.coefficients - self.features.T @ correction


def _transposed(root: Array, values: Array) -> Array:
    """Return rootᵀ values; of a vector as a product from the left, which needs no transpose."""
    return values @ root if values.ndim == 1 else root.T @ values


def condition(
    features: Float[Array, "pattern column"], y: _Labels, temperature: float | Array
) -> Readout:
    """Return the posterior of the readout given features and labels.

    Labels of several outputs have the shape (pattern, output).
    """
    n_patterns, n_columns = features.shape
    by_columns = n_columns < n_patterns
    gram = features.T @ features if by_columns else features @ features.T
    gram += temperature * jnp.eye(gram.shape[0], dtype=features.dtype)
    factor, root = cholesky_and_inverse(gram)
    if by_columns:
        # by products with the inverse, cheaper than two solves: the quadratic form is stationary
        # in v̂ and does not feel their rounding
        coefficients = _transposed(root, root @ (features.T @ y))
        dual = (y - features @ coefficients) / temperature
    else:
        dual = linalg.cho_solve((factor, True), y)
        coefficients = features.T @ dual
    return Readout(factor, root, coefficients, dual, features, temperature)


def _value(readout: Readout) -> Array:
    n_patterns, n_columns = readout.features.shape
    outputs = readout.dual.size // n_patterns
    logdet = 2.0 * jnp.sum(jnp.log(jnp.diagonal(readout.factor)))
    if readout.by_columns:
        logdet += (n_patterns - n_columns) * jnp.log(readout.temperature)
    # yᵀA⁻¹y = T|A⁻¹y|² + |v̂|², a sum of squares
    quadratic = jnp.vdot(readout.temperature * readout.dual, readout.dual)
    quadratic += jnp.vdot(readout.coefficients, readout.coefficients)
    return -0.5 * (outputs * (n_patterns * jnp.log(2.0 * jnp.pi) + logdet) + quadratic)


@jax.custom_jvp
def log_marginal(
    features: Float[Array, "pattern column"], y: _Labels, temperature: float | Array
) -> Array:
    """Return log N(y; 0, F Fᵀ + T·1), summed over outputs; derivatives reuse the factorisation.

    Parameters
    ----------
    features
        F, shape (pattern, column).
    y
        Labels, shape (pattern,) or (pattern, output).
    temperature
        T > 0, scalar.
    """
    return _value(condition(features, y, temperature))


def _log_marginal_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    features, y, temperature = primals
    d_features, d_y, d_temperature = tangents
    readout = condition(features, y, temperature)
    outputs = y.size // y.shape[0]
    tangent = jnp.zeros((), features.dtype)
    if not isinstance(d_features, SymbolicZero):
        # −D A⁻¹F + A⁻¹y (A⁻¹y)ᵀF, with (A⁻¹y)ᵀF = v̂ᵀ and A⁻¹F = F M⁻¹; transposed, because the
        # units of the layers below come first
        # the barrier keeps the transpose by rows, as the faster of XLA's kernels for products wants
        inverse = lax.optimization_barrier(readout.root.T) @ readout.root
        shrunk = inverse @ features.T if readout.by_columns else features.T @ inverse
        gradient = _outer(readout.coefficients, readout.dual) - outputs * shrunk
        tangent += jnp.sum(gradient * d_features.T)
    if not isinstance(d_y, SymbolicZero):
        tangent -= jnp.vdot(readout.dual, d_y)
    if not isinstance(d_temperature, SymbolicZero):
        n_patterns, n_columns = features.shape
        trace = jnp.sum(readout.root**2)
        if readout.by_columns:
            trace += (n_patterns - n_columns) / temperature
        square = jnp.vdot(readout.dual, readout.dual)
        tangent += 0.5 * (square - outputs * trace) * d_temperature
    return _value(readout), tangent


def _outer(a: Array, b: Array) -> Array:
    """Return Σ_d a_d b_dᵀ."""
    return a[:, None] * b[None, :] if a.ndim == 1 else a @ b.T


log_marginal.defjvp(_log_marginal_jvp, symbolic_zeros=True)


class ReadoutMarginal(Together):
    """The law N(0, F Fᵀ + T·1) of the labels given the features, independent for each output.

    Parameters
    ----------
    features
        F, shape (pattern, column).
    temperature
        T > 0.
    outputs
        D. Of one output labels have the shape (pattern,), of several (pattern, D).
    """

    arg_constraints = {
        "features": dist.constraints.real_matrix,
        "temperature": dist.constraints.positive,
    }
    pytree_data_fields = ("features", "temperature")
    pytree_aux_fields = ("outputs",)

    def __init__(
        self,
        features: Array,
        temperature: float | Array,
        outputs: int = 1,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.features = features
        self.temperature = jnp.asarray(temperature, features.dtype)
        self.outputs = outputs
        super().__init__(
            batch_shape=(),
            event_shape=features.shape[:1] + self._several,
            validate_args=validate_args,
        )

    @property
    def _several(self) -> tuple[int, ...]:
        return () if self.outputs == 1 else (self.outputs,)

    @dist.constraints.dependent_property(is_discrete=False)  # pyright: ignore[reportArgumentType]
    def support(self) -> dist.constraints.Constraint:
        """All real labels."""
        return dist.constraints.independent(dist.constraints.real, 1 + len(self._several))

    def joint(self, value: Array) -> Array:
        """Return the log density of labels of shape (pattern,) or (pattern, output)."""
        return log_marginal(self.features, value, self.temperature)

    def each(self, value: Array) -> Array:
        """Return log p(y_i | y_-i, features), of all outputs of a pattern, shape (pattern,)."""
        readout = condition(self.features, value, self.temperature)
        return given_others(readout.dual, readout.inverse_diagonal())

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw labels of shape (*sample_shape, pattern), or (*sample_shape, pattern, output)."""
        n_patterns, n_columns = self.features.shape
        key_v, key_e = random.split(key)
        dtype = self.features.dtype
        lead = (*sample_shape, *self._several)
        v = random.normal(key_v, (*lead, n_columns), dtype)
        e = random.normal(key_e, (*lead, n_patterns), dtype)
        y = v @ self.features.T + jnp.sqrt(self.temperature) * e
        return jnp.swapaxes(y, -1, -2) if self._several else y
