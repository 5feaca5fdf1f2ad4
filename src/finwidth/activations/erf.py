"""Error function: the arcsine kernel of Williams (1998).

In float64 the function and its derivative share one exponential. XLA's own erf takes three times
as long, and its derivative as long again, which would be half of a gradient.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import jax.scipy.special
from jax import Array
from jaxtyping import Float

from .._numerics.special import arctan2, balance, determinant, polynomial
from .._plugins.hooks import hookimpl
from ._activation import Activation

__all__ = ["finwidth_register_activations"]

# Rational approximations of the Cephes library (Moshier, Methods and Programs for Mathematical
# Functions, 1989), highest power first: erf(x) = x T(x²)/U(x²) for |x| < 1 and
# 1 − erf(x) = exp(−x²) P(x)/Q(x) for x ≥ 1, each to the last bit of float64.
_T = (
    9.60497373987051638749e0,
    9.00260197203842689217e1,
    2.23200534594684319226e3,
    7.00332514112805075473e3,
    5.55923013010394962768e4,
)
_U = (
    1.0,
    3.35617141647503099647e1,
    5.21357949780152679795e2,
    4.59432382970980127987e3,
    2.26290000613890934246e4,
    4.92673942608635921086e4,
)
_P = (
    2.46196981473530512524e-10,
    5.64189564831068821977e-1,
    7.46321056442269912687e0,
    4.86371970985681366614e1,
    1.96520832956077098242e2,
    5.26445194995477358631e2,
    9.34528527171957607540e2,
    1.02755188689515710272e3,
    5.57535335369399327526e2,
)
_Q = (
    1.0,
    1.32281951154744992508e1,
    8.67072140885989742329e1,
    3.54937778887819891062e2,
    9.75708501743205489753e2,
    1.82390916687909736289e3,
    2.24633760818710981792e3,
    1.65666309194161350182e3,
    5.57535340817727675546e2,
)


@partial(jax.jit, inline=True)  # one operation outside of jit, too
def _erf64_value(x: Array) -> Array:
    square, size = x * x, jnp.minimum(jnp.abs(x), 6.0)  # erf(6) = 1 in float64
    small = size < 1.0
    tail = jnp.exp(-square) * polynomial(size, _P)
    # one division for both branches
    numerator = jnp.where(small, x * polynomial(square, _T), tail)
    denominator = jnp.where(small, polynomial(square, _U), polynomial(size, _Q))
    ratio = numerator / denominator
    return jnp.where(small, ratio, jnp.sign(x) * (1.0 - ratio))


@jax.custom_jvp
def _erf64(x: Array) -> Array:
    return _erf64_value(x)


@_erf64.defjvp
def _erf64_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # the compiler finds that the exponential is the one in _erf64
    (x,), (tangent,) = primals, tangents
    return _erf64(x), 2 / math.sqrt(math.pi) * jnp.exp(-(x * x)) * tangent


def _erf(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The error function, elementwise."""
    x = jnp.asarray(x)
    return _erf64(x) if x.dtype == jnp.float64 else jax.scipy.special.erf(x)


def _kernel(
    c_xx: Float[Array, "..."], c_xy: Float[Array, "..."], c_yy: Float[Array, "..."]
) -> Float[Array, "..."]:
    """(2/π) arcsin(2 c_xy / √((1 + 2c_xx)(1 + 2c_yy))).

    The arcsine is written as an arctangent, which keeps full accuracy where its argument
    comes close to ±1.
    """
    pair = balance(c_xx, c_xy, c_yy, at_least=1.0)
    # 1/p² and 1/q²; not so small that an infinite slope of the root below is possible
    least = 2.0**64 * jnp.finfo(pair.x.dtype).tiny
    u, v = jnp.maximum(1 / pair.p / pair.p, least), jnp.maximum(1 / pair.q / pair.q, least)
    # (1 + 2c_xx)(1 + 2c_yy) − 4c_xy², without the difference of two large products
    rest = u * v + 2 * (pair.x * v + pair.y * u) + 4 * determinant(pair)
    return (2 / jnp.pi) * arctan2(2 * pair.z, jnp.sqrt(rest))


@hookimpl
def finwidth_register_activations() -> list[Activation]:
    """Register erf."""
    return [
        Activation(
            "erf",
            _erf,
            parity="odd",
            kernel=_kernel,
            mean=jnp.zeros_like,
            reference="Williams, Neural Comput. 10, 1203 (1998)",
        )
    ]
