"""The exact GELU, σ(h) = h Φ(h), as a finwidth activation with closed-form moments.

Φ is the normal distribution function and φ its density. The moments follow from Gaussian
integration by parts, E[h g(h, h')] = C_xx E[∂g/∂h] + C_xy E[∂g/∂h'].
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

import finwidth as fw

__all__ = ["finwidth_register_activations"]


def _gelu(h: Array) -> Array:
    """σ(h) = h Φ(h), without the approximation by tanh."""
    return jax.nn.gelu(h, approximate=False)


def _mean(c_xx: Array) -> Array:
    """E[hΦ(h)] = C_xx E[φ(h)] = C_xx/√(2π(1 + C_xx))."""
    return c_xx / jnp.sqrt(2 * jnp.pi) / jnp.sqrt(1 + c_xx)


class _Pair(NamedTuple):
    """A pair's covariances in units p of √(1 + C_xx) and q of √(1 + C_yy), powers of two.

    So no product overflows, and no unit rounds: C_xx = x p², C_xy = z p q, C_yy = y q²,
    C_xx C_yy − C_xy² = e p² q², D = (1 + C_xx)(1 + C_yy) − C_xy² = d p² q²; u = 1/p², v = 1/q².
    """

    x: Array
    z: Array
    y: Array
    e: Array
    d: Array
    u: Array
    v: Array
    p: Array
    q: Array


def _unit(c: Array) -> Array:
    root = jnp.sqrt(1 + lax.stop_gradient(c))
    bits = 11 if root.dtype == jnp.float64 else 8
    # the square of its inverse must stay above zero
    return jnp.minimum(lax.reduce_precision(root, bits, 0), 2.0 ** (2 ** (bits - 2) - 8))


def _pair(c_xx: Array, c_xy: Array, c_yy: Array) -> _Pair:
    p, q = _unit(c_xx), _unit(c_yy)
    x, z, y = c_xx / p / p, c_xy / p / q, c_yy / q / q
    u, v = 1 / p / p, 1 / q / q
    e = x * y - z * z
    # zero up to rounding on the diagonal; the derivatives stay
    noise = e <= 4 * jnp.finfo(e.dtype).eps * x * y
    e = e - lax.stop_gradient(jnp.where(noise, e, 0))
    return _Pair(x, z, y, e, u * v + x * v + y * u + e, u, v, p, q)


def _both_positive(pair: _Pair) -> Array:
    """E[ΦΦ'] = 1/4 + arctan(C_xy/√D)/2π."""
    return 0.25 + jnp.arctan2(pair.z, jnp.sqrt(pair.d)) / (2 * jnp.pi)


@jax.custom_jvp
def _kernel(c_xx: Array, c_xy: Array, c_yy: Array) -> Array:
    """E[hΦ(h) h'Φ(h')].

    Integrating by parts in h leaves C_xy E[ΦΦ'] and moments with one φ; a second integration
    turns the latter into multiples of J = E[φφ'] = 1/(2π√D), with A = 1 + C_xx, B = 1 + C_yy:

        K = C_xy E[ΦΦ'] + J [C_xx C_yy − C_xy² + C_xy²/A + C_xy²/B].

    D ≥ 1 for every covariance, so all derivatives are finite, on the diagonal and at zero too.
    """
    pair = _pair(c_xx, c_xy, c_yy)
    x, z, y, e, d, u, v, p, q = pair
    rest = e + z * z * (u / (u + x) + v / (v + y))
    return c_xy * _both_positive(pair) + rest / (2 * jnp.pi * jnp.sqrt(d)) * p * q


@_kernel.defjvp
def _kernel_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]
) -> tuple[Array, Array]:
    """Price's theorem, written so that nothing large cancels.

    With E = C_xx C_yy − C_xy²,

        ∂K/∂C_xy = E[σ'σ'] = E[ΦΦ'] + C_xy J (1/A + 1/B + 1/D),
        ∂K/∂C_xx = E[σ''σ]/2 = J/2 [E/A + 2(C_yy + E)/A² + (E − C_xx(C_yy + E)/A)/D].
    """
    pair = _pair(*primals)
    x, z, y, e, d, u, v, p, q = pair
    r = 1 / jnp.sqrt(d)  # the square of d may underflow

    def slope(x: Array, y: Array, u: Array, p: Array, q: Array) -> Array:
        a, w = u + x, y * u + e
        bracket = (e + 2 * u * w / a) / a * (q / p) + (e - x * w / a) * r * r / p / q
        return r * bracket / (4 * jnp.pi)

    d_xx, d_xy, d_yy = tangents
    rest = u / (u + x) + v / (v + y) + u * r * r * v
    by_xy = _both_positive(pair) + z * r * rest / (2 * jnp.pi)
    by_xx, by_yy = slope(x, y, u, p, q), slope(y, x, v, q, p)
    return _kernel(*primals), by_xy * d_xy + by_xx * d_xx + by_yy * d_yy


@fw.hookimpl
def finwidth_register_activations() -> list[fw.Activation]:
    """Register GELU."""
    return [
        fw.Activation(
            "gelu",
            _gelu,
            parity="none",
            kernel=_kernel,
            mean=_mean,
            reference="Tsuchida et al., AAAI 35, 9967 (2021)",
        )
    ]
