"""Gaussian moments of an activation: closed form where there is one, else a Hermite series.

For (h, h') ~ N(0, [[c_xx, c_xy], [c_xy, c_yy]]) with correlation ρ, Mehler's formula gives

    E[σ(h)σ(h')] = Σ_n ρⁿ a_n(c_xx) a_n(c_yy),   a_n(c) = E[σ(√c z) He_n(z)] / √n!,   z ~ N(0, 1).

* The coefficients belong to single patterns: a P × P kernel costs P² · terms multiplications
  instead of P² · nodes² evaluations of σ, and its Gram matrix is positive semidefinite for any
  number of terms.
* The truncation error is at most √(R(c_xx) R(c_yy)) for every ρ, with R(c) = E[σ²] − Σ_n a_n²
  (Cauchy-Schwarz). `prepare` measures R and picks the number of terms from it.
* Each a_n comes from a Gauss-Legendre rule on panels that are refined towards 0 and split there,
  so a kink at 0 (ReLU, abs, sign) costs the coefficients no accuracy. It still makes the
  series converge slowly near |ρ| = 1, which `prepare` reports. Where variances are large, what σ
  does at h of order 1 lies close to z = 0: the panels are then refined as far as that takes.
* Derivatives follow Price's theorem, ∂K/∂c_xy = E[σ'(h)σ'(h')] and ∂K/∂c_xx = ½E[σ''(h)σ(h')],
  again as Hermite series. They are finite, to every order, on the diagonal, for duplicate
  patterns (ρ = ±1) and for zero inputs (c = 0), where differentiating ρ and √c would not be.

References
----------
Mehler, J. reine angew. Math. 66, 161 (1866). Price, IRE Trans. Inf. Theory 4, 69 (1958).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from .._numerics.panels import gather, hermite, nodes
from .._numerics.special import balance
from ._activation import Activation
from ._rules import MODERATE, Rule, default_rule, derivative

__all__ = ["kernel", "mean"]

# With full-size c_xx the coefficients are per pair: this many pairs are done at once.
_CHUNK = 4096


def kernel(
    activation: Activation,
    c_xx: Float[Array, "..."],
    c_xy: Float[Array, "..."],
    c_yy: Float[Array, "..."],
    rule: Rule | None = None,
) -> Float[Array, "..."]:
    """Evaluate E[σ(h)σ(h')], elementwise in three covariances of broadcasting shapes.

    Can be jitted (`activation` and `rule` are static), vmapped and differentiated.

    Parameters
    ----------
    activation
        σ; its closed form is used if it has one.
    c_xx, c_xy, c_yy
        Covariance of the pair. For a P × P' kernel give shapes (P, 1), (P, P') and (1, P'),
        so that series coefficients are computed once per pattern and not once per pair.
    rule
        From `prepare`. By default chosen here for max(c_xx, c_yy), or for variances up
        to 16 if these are traced; no accuracy warning is given then.

    Returns
    -------
    Array of the broadcast shape.
    """
    c_xx, c_xy, c_yy = _same_rank(c_xx, c_xy, c_yy)
    if activation.kernel is not None:
        return activation.kernel(c_xx, c_xy, c_yy)
    rule = rule or default_rule(activation, c_xx, c_yy)
    shape = jnp.broadcast_shapes(c_xx.shape, c_xy.shape, c_yy.shape)

    def moment(c_xx: Array, c_xy: Array, c_yy: Array) -> Array:
        return _moment(activation, rule, (0, 0), c_xx, c_xy, c_yy)

    if max(c_xx.size, c_yy.size) <= _CHUNK:
        return moment(c_xx, jnp.broadcast_to(c_xy, shape), c_yy)
    flat = tuple(jnp.broadcast_to(c, shape).reshape(-1) for c in (c_xx, c_xy, c_yy))
    return lax.map(lambda c: moment(*c), flat, batch_size=_CHUNK).reshape(shape)


def mean(
    activation: Activation, c_xx: Float[Array, "..."], rule: Rule | None = None
) -> Float[Array, "..."]:
    """Evaluate E[σ(h)], h ~ N(0, c_xx), elementwise.

    Parameters
    ----------
    activation
        σ; its closed form is used if it has one, and an odd σ has mean zero.
    c_xx
        Variances, any shape.
    rule
        From `prepare`; by default as for `kernel`.

    Returns
    -------
    Array of the shape of `c_xx`.
    """
    c_xx = jnp.asarray(c_xx)
    if activation.parity == "odd":
        return jnp.zeros_like(c_xx)
    if activation.mean is not None:
        return activation.mean(c_xx)
    return _first_moment(activation, rule or default_rule(activation, c_xx), 0, c_xx)


# --- the series ------------------------------------------------------------------------------


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _moment(
    activation: Activation,
    rule: Rule,
    orders: tuple[int, int],
    c_xx: Array,
    c_xy: Array,
    c_yy: Array,
) -> Array:
    """E[σ⁽ⁱ⁾(h) σ⁽ʲ⁾(h')] for orders (i, j), by Mehler's formula; arrays of equal rank."""
    i, j = orders
    every = slice(None)
    if activation.parity == "odd":  # i + j is even, so both derivatives have the same parity
        every = slice(1 - i % 2, None, 2)
    a = _coefficients(activation, rule, i, c_xx, every)
    b = _coefficients(activation, rule, j, c_yy, every)
    x, z, y, _, _ = balance(c_xx, c_xy, c_yy)
    product = x * y
    rho = z * jnp.where(product > 0, lax.rsqrt(jnp.where(product > 0, product, 1)), 0)
    # On the diagonal the quotient is exactly 1, whatever rsqrt rounds to.
    rho = jnp.where((c_xy == c_xx) & (c_xy == c_yy) & (product > 0), 1, rho)
    step = rho if every.step is None else rho * rho

    def horner(total: Array, ab: tuple[Array, Array]) -> tuple[Array, None]:
        return total * step + ab[0] * ab[1], None

    total, _ = lax.scan(horner, jnp.zeros_like(rho), (a, b), reverse=True, unroll=8)
    return total * rho if every.start else total


@_moment.defjvp
def _moment_jvp(
    activation: Activation,
    rule: Rule,
    orders: tuple[int, int],
    primals: tuple[Array, Array, Array],
    tangents: tuple[Array, Array, Array],
) -> tuple[Array, Array]:
    """Price's theorem."""
    i, j = orders

    def moment(di: int, dj: int) -> Array:
        return _moment(activation, rule, (i + di, j + dj), *primals)

    d_xx, d_xy, d_yy = tangents
    tangent = moment(1, 1) * d_xy + moment(2, 0) * (d_xx / 2) + moment(0, 2) * (d_yy / 2)
    return moment(0, 0), tangent


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _first_moment(activation: Activation, rule: Rule, order: int, c: Array) -> Array:
    """E[σ⁽ᵏ⁾(h)], h ~ N(0, c)."""
    return _coefficients(activation, rule, order, c, slice(0, 1))[0]


@_first_moment.defjvp
def _first_moment_jvp(
    activation: Activation,
    rule: Rule,
    order: int,
    primals: tuple[Array],
    tangents: tuple[Array],
) -> tuple[Array, Array]:
    """d/dc E[σ(h)] = ½E[σ''(h)], the heat equation."""
    slope = _first_moment(activation, rule, order + 2, *primals)
    return _first_moment(activation, rule, order, *primals), slope * (tangents[0] / 2)


def _coefficients(
    activation: Activation, rule: Rule, order: int, c: Array, every: slice
) -> Float[Array, "term ..."]:
    """Hermite coefficients a_n of σ⁽ᵏ⁾(√c z), for the n < terms that `every` selects."""
    exact = min(order, rule.smooth)
    result = _lifted(activation, rule, exact, order - exact, c, every)
    if rule.levels and exact > 1:
        # at large c those of a high derivative are small differences of large numbers
        climbed = _lifted(activation, rule, 1, order - 1, c, every)
        result = jnp.where(c > MODERATE, climbed, result)
    return result


def _lifted(
    activation: Activation, rule: Rule, exact: int, lifts: int, c: Array, every: slice
) -> Float[Array, "term ..."]:
    """Coefficients of σ⁽ᵏ⁾ with `exact` derivatives by JAX and `lifts` by the ladder operator."""
    z, _ = nodes(rule.levels)
    matrix = hermite(rule.terms + lifts)[lifts:]
    if lifts:  # a_n(σ⁽ᵏ⁾) = √((n+1)…(n+k)) a_{n+k}(σ) c^{-k/2}
        n = np.arange(rule.terms)
        factors = np.prod([n + m for m in range(1, lifts + 1)], axis=0)
        matrix = matrix * np.sqrt(factors)[:, None]
    fn = derivative(activation.fn, exact)
    z = jnp.asarray(z, c.dtype).reshape((1,) * c.ndim + (-1,))
    values = gather(fn(jnp.sqrt(c)[..., None] * z), rule.levels)
    result = jnp.tensordot(jnp.asarray(matrix[every], c.dtype), values, axes=(1, c.ndim))
    inverse = jnp.where(c > 0, lax.rsqrt(jnp.where(c > 0, c, 1)), 0)
    for _ in range(lifts):
        result = result * inverse[None]
    return result


def _same_rank(*arrays: Array) -> list[Array]:
    """The arrays with axes of length 1 put in front, so that all have the same rank."""
    arrays = tuple(jnp.asarray(array) for array in arrays)
    rank = max(array.ndim for array in arrays)
    return [array.reshape((1,) * (rank - array.ndim) + array.shape) for array in arrays]
