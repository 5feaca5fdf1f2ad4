"""Rectified linear unit: the arc-cosine kernel of order 1 of Cho and Saul (2009)."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from .._numerics.special import Balanced, arctan2, balance
from .._plugins.hooks import hookimpl
from ._activation import Activation

__all__ = ["finwidth_register_activations"]


def _positive_root(x: Float[Array, "..."], at_least: Float[Array, "..."]) -> Float[Array, "..."]:
    """√x where x > at_least, else 0; its derivative is 0 there too, instead of infinite."""
    inside = x > at_least
    return jnp.where(inside, jnp.sqrt(jnp.where(inside, x, 1)), 0)


def _root_and_angle(pair: Balanced) -> tuple[Array, Array]:
    """√(x y) sin θ and π − θ, with cos θ = z/√(x y).

    On the diagonal, for duplicate or opposite patterns and for a zero input the determinant
    x y − z² is zero up to rounding: it then counts as zero.
    """
    product = pair.x * pair.y
    rounding = 4 * jnp.finfo(product.dtype).eps * product
    root = _positive_root(product - pair.z * pair.z, rounding)
    positive = product > 0  # for a zero input the angle is undefined: take π/2
    angle = arctan2(jnp.where(positive, root, 1), jnp.where(positive, -pair.z, 0))
    return root, angle


@jax.custom_jvp
def _kernel(
    c_xx: Float[Array, "..."], c_xy: Float[Array, "..."], c_yy: Float[Array, "..."]
) -> Float[Array, "..."]:
    """√(c_xx c_yy)/(2π) [sin θ + (π − θ) cos θ]."""
    pair = balance(c_xx, c_xy, c_yy)
    root, angle = _root_and_angle(pair)
    return (root * pair.p * pair.q + angle * c_xy) / (2 * jnp.pi)


@_kernel.defjvp
def _kernel_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]
) -> tuple[Array, Array]:
    """∂K/∂c_xy = (π − θ)/2π and ∂K/∂c_xx = √(c_yy/c_xx) sin θ/4π, without dividing by sin θ."""
    pair = balance(*primals)
    root, angle = _root_and_angle(pair)

    def share(x: Array, p: Array, q: Array) -> Array:
        return jnp.where(x > 0, root / jnp.where(x > 0, x, 1), 0) * (q / p)

    d_xx, d_xy, d_yy = tangents
    by_xx, by_yy = share(pair.x, pair.p, pair.q), share(pair.y, pair.q, pair.p)
    slope = angle * d_xy + (by_xx * d_xx + by_yy * d_yy) / 2
    return _kernel(*primals), slope / (2 * jnp.pi)


def _mean(c_xx: Float[Array, "..."]) -> Float[Array, "..."]:
    """√(c_xx/2π)."""
    return _positive_root(c_xx, jnp.zeros_like(c_xx)) / jnp.sqrt(2 * jnp.pi)


@hookimpl
def finwidth_register_activations() -> list[Activation]:
    """Register ReLU."""
    return [
        Activation(
            "relu",
            jax.nn.relu,
            parity="none",
            kernel=_kernel,
            mean=_mean,
            reference="Cho and Saul, NeurIPS 22 (2009), arc-cosine kernel of order 1",
        )
    ]
