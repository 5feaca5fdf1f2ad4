"""Elementary functions of which XLA's own float64 versions would dominate a kernel's cost."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

__all__ = ["arctan2", "polynomial"]

# Rational approximation of the Cephes library (Moshier, Methods and Programs for Mathematical
# Functions, 1989), highest power first: atan(t) = t + t z P(z)/Q(z), z = t², for |t| ≤ 0.66.
_P = (
    -8.750608600031904122785e-1,
    -1.615753718733365076637e1,
    -7.500855792314704667340e1,
    -1.228866684490136173410e2,
    -6.485021904942025371773e1,
)
_Q = (
    1.0,
    2.485846490142306297962e1,
    1.650270098316988542046e2,
    4.328810604912902668951e2,
    4.853903996359136964868e2,
    1.945506571482613964425e2,
)
_REST = 6.123233995736765886130e-17  # π/2 minus its float64 value


def polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """Return the polynomial with these coefficients, highest power first, by Horner's rule."""
    value = jnp.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


@partial(jax.jit, inline=True)  # one operation outside of jit, too
def _arctan2_value(y: Array, x: Array) -> Array:
    size_y, size_x = jnp.abs(y), jnp.abs(x)
    small, big = jnp.minimum(size_y, size_x), jnp.maximum(size_y, size_x)
    # atan(small/big) = π/4 + atan((small − big)/(small + big)); one division for both ranges
    upper = small > 0.66 * big
    numerator = jnp.where(upper, small - big, small)
    denominator = jnp.where(upper, small + big, big)
    t = numerator / jnp.where(denominator == 0, 1, denominator)
    z = t * t
    angle = t + t * z * polynomial(z, _P) / polynomial(z, _Q)
    angle = jnp.where(upper, np.pi / 4 + (angle + _REST / 2), angle)
    angle = jnp.where(size_y > size_x, np.pi / 2 - (angle - _REST), angle)
    angle = jnp.where(x < 0, np.pi - (angle - 2 * _REST), angle)
    return jnp.where(y < 0, -angle, angle)


@jax.custom_jvp
def _arctan2(y: Array, x: Array) -> Array:
    return _arctan2_value(y, x)


@_arctan2.defjvp
def _arctan2_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    (y, x), (d_y, d_x) = primals, tangents
    return _arctan2(y, x), (x * d_y - y * d_x) / (x * x + y * y)


def arctan2(y: Float[Array, "..."], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the angle of (x, y), elementwise; differentiable to any order away from the origin.

    In float64 it takes a tenth of the time of XLA's. Arguments of the same shape or that
    broadcast; signed zeros count as zeros.
    """
    y, x = jnp.broadcast_arrays(jnp.asarray(y), jnp.asarray(x))
    return _arctan2(y, x) if x.dtype == jnp.float64 else jnp.arctan2(y, x)
