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
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from .._numerics.panels import gather, nodes
from .._numerics.special import balance
from ._activation import Activation
from ._rules import BLOCK, MODERATE, Rule, default_rule, derivative

__all__ = ["kernel", "mean", "slope"]

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

    Can be jitted (`activation` is static), vmapped and differentiated.

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
        return _moment(activation, (0, 0), rule, c_xx, c_xy, c_yy)

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
    return _first_moment(activation, 0, rule or default_rule(activation, c_xx), c_xx)


def slope(
    activation: Activation, c_xx: Float[Array, "..."], rule: Rule | None = None
) -> Float[Array, "..."]:
    """Evaluate E[σ'(h)], h ~ N(0, c_xx), elementwise; always by quadrature.

    Parameters
    ----------
    activation
        σ.
    c_xx
        Variances, any shape.
    rule
        From `prepare`; by default as for `kernel`.

    Returns
    -------
    Array of the shape of `c_xx`.
    """
    c_xx = jnp.asarray(c_xx)
    return _first_moment(activation, 1, rule or default_rule(activation, c_xx), c_xx)


# --- the series ------------------------------------------------------------------------------


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _moment(
    activation: Activation,
    orders: tuple[int, int],
    rule: Rule,
    c_xx: Array,
    c_xy: Array,
    c_yy: Array,
) -> Array:
    """E[σ⁽ⁱ⁾(h) σ⁽ʲ⁾(h')] for orders (i, j), by Mehler's formula; arrays of equal rank."""
    i, j = orders
    every = slice(None)
    if activation.parity == "odd":  # i + j is even, so both derivatives have the same parity
        every = slice(1 - i % 2, None, 2)
    coefficients = [
        _Coefficients(activation, rule, order, c) for order, c in ((i, c_xx), (j, c_yy))
    ]
    x, z, y, _, _ = balance(c_xx, c_xy, c_yy)
    product = x * y
    rho = z * jnp.where(product > 0, lax.rsqrt(jnp.where(product > 0, product, 1)), 0)
    # On the diagonal the quotient is exactly 1, whatever rsqrt rounds to.
    rho = jnp.where((c_xy == c_xx) & (c_xy == c_yy) & (product > 0), 1, rho)
    step = rho if every.step is None else rho * rho

    blocks = rule.terms // BLOCK

    def horner(done: Array, total: Array) -> Array:
        start = (blocks - 1 - done) * BLOCK
        a, b = (part.block(start, BLOCK)[every] for part in coefficients)
        for n in reversed(range(a.shape[0])):
            total = total * step + a[n] * b[n]
        return total

    total = lax.fori_loop(0, blocks, horner, jnp.zeros_like(rho))
    return total * rho if every.start else total


@_moment.defjvp
def _moment_jvp(
    activation: Activation,
    orders: tuple[int, int],
    primals: tuple[Rule, Array, Array, Array],
    tangents: tuple[Any, Array, Array, Array],
) -> tuple[Array, Array]:
    """Price's theorem."""
    i, j = orders

    def moment(di: int, dj: int) -> Array:
        return _moment(activation, (i + di, j + dj), *primals)

    _, d_xx, d_xy, d_yy = tangents
    tangent = moment(1, 1) * d_xy + moment(2, 0) * (d_xx / 2) + moment(0, 2) * (d_yy / 2)
    return moment(0, 0), tangent


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _first_moment(activation: Activation, order: int, rule: Rule, c: Array) -> Array:
    """E[σ⁽ᵏ⁾(h)], h ~ N(0, c)."""
    return _Coefficients(activation, rule, order, c).block(0, 1)[0]


@_first_moment.defjvp
def _first_moment_jvp(
    activation: Activation,
    order: int,
    primals: tuple[Rule, Array],
    tangents: tuple[Any, Array],
) -> tuple[Array, Array]:
    """d/dc E[σ(h)] = ½E[σ''(h)], the heat equation."""
    slope = _first_moment(activation, order + 2, *primals)
    return _first_moment(activation, order, *primals), slope * (tangents[1] / 2)


class _Coefficients:
    """Hermite coefficients a_n of σ⁽ᵏ⁾(√c z), block by block.

    Parameters
    ----------
    activation, rule
        σ and its rule.
    order
        k.
    c
        Variances, any shape.
    """

    def __init__(self, activation: Activation, rule: Rule, order: int, c: Array) -> None:
        self._rule, self._order, self._shape = rule, order, c.shape
        self._c = c = c.reshape(-1)  # of one shape wherever it is used, so that XLA has it once
        self._c_inverse = jnp.where(c > 0, lax.rsqrt(jnp.where(c > 0, c, 1)), 0)
        exact = min(order, rule.smooth)
        self._main = exact, self._values(activation, exact)
        # at large c those of a high derivative are small differences of large numbers
        self._at_large_c = None
        if rule.levels and exact > 1:
            self._at_large_c = 1, self._values(activation, 1)

    def _values(self, activation: Activation, order: int) -> Array:
        """Return the values of the derivative that JAX has, shape (n, node)."""
        z = jnp.asarray(nodes(self._rule.levels, self._rule.panels)[0], self._c.dtype)
        if activation.parity == "odd":
            z = z[z.size // 2 :]
        values = derivative(activation.fn, order)(jnp.sqrt(self._c)[:, None] * z[None, :])
        if activation.parity == "odd":
            mirrored = values[:, ::-1] if order % 2 else -values[:, ::-1]
            values = jnp.concatenate([mirrored, values], axis=1)
        return gather(values, self._rule.levels, self._rule.panels)

    def block(self, start: Any, size: int) -> Float[Array, "size ..."]:
        """Return a_n for n = start … start + size − 1."""
        result = self._lifted(start, size, *self._main)
        if self._at_large_c is not None:
            climbed = self._lifted(start, size, *self._at_large_c)
            result = jnp.where(self._c > MODERATE, climbed, result)
        return result.reshape(size, *self._shape)

    def _lifted(self, start: Any, size: int, exact: int, values: Array) -> Array:
        """Return a_n from the derivative that JAX has, by the ladder operator.

        a_n(σ⁽ᵏ⁾) = √((n+1)…(n+k)) a_{n+k}(σ) c^{-k/2}
        """
        lifts, matrix = self._order - exact, jnp.asarray(self._rule.matrix)
        rows = lax.dynamic_slice_in_dim(matrix, start + lifts, size).astype(values.dtype)
        if lifts:
            n = (start + jnp.arange(size)).astype(values.dtype)
            squares = [n + m for m in range(1, lifts + 1)]
            rows = rows * jnp.sqrt(functools.reduce(jnp.multiply, squares))[:, None]
        result = jnp.tensordot(rows, values, axes=(1, 1))
        for _ in range(lifts):
            result = result * self._c_inverse
        return result


def _same_rank(*arrays: Array) -> list[Array]:
    """The arrays with axes of length 1 put in front, so that all have the same rank."""
    arrays = tuple(jnp.asarray(array) for array in arrays)
    rank = max(array.ndim for array in arrays)
    return [array.reshape((1,) * (rank - array.ndim) + array.shape) for array in arrays]
