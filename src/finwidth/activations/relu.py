"""Rectified linear unit: the arc-cosine kernel of order 1 of Cho and Saul (2009)."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from .._activation import Activation
from .._hookspecs import hookimpl
from .._special import arctan2

__all__ = ["finwidth_register_activations"]


def _positive_root(x: Float[Array, "..."], at_least: Float[Array, "..."]) -> Float[Array, "..."]:
    """√x where x > at_least, else 0; its derivative is 0 there too, instead of infinite."""
    inside = x > at_least
    return jnp.where(inside, jnp.sqrt(jnp.where(inside, x, 1)), 0)


def _root_and_angle(c_xx: Array, c_xy: Array, c_yy: Array) -> tuple[Array, Array]:
    """√(c_xx c_yy) sin θ and π − θ, with cos θ = c_xy/√(c_xx c_yy).

    On the diagonal, for duplicate or opposite patterns and for a zero input the determinant
    c_xx c_yy − c_xy² is zero up to rounding: it then counts as zero.
    """
    product = c_xx * c_yy
    rounding = 4 * jnp.finfo(jnp.result_type(product)).eps * product
    root = _positive_root(product - c_xy * c_xy, rounding)
    positive = product > 0  # for a zero input the angle is undefined: take π/2
    angle = arctan2(jnp.where(positive, root, 1), jnp.where(positive, -c_xy, 0))
    return root, angle


@jax.custom_jvp
def _kernel(
    c_xx: Float[Array, "..."], c_xy: Float[Array, "..."], c_yy: Float[Array, "..."]
) -> Float[Array, "..."]:
    """√(c_xx c_yy)/(2π) [sin θ + (π − θ) cos θ]."""
    root, angle = _root_and_angle(c_xx, c_xy, c_yy)
    return (root + angle * c_xy) / (2 * jnp.pi)


@_kernel.defjvp
def _kernel_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]
) -> tuple[Array, Array]:
    """∂K/∂c_xy = (π − θ)/2π and ∂K/∂c_xx = √(c_yy/c_xx) sin θ/4π, without dividing by sin θ."""
    c_xx, c_xy, c_yy = primals
    root, angle = _root_and_angle(*primals)

    def share(c: Array) -> Array:
        return jnp.where(c > 0, root / jnp.where(c > 0, c, 1), 0)

    d_xx, d_xy, d_yy = tangents
    slope = angle * d_xy + (share(c_xx) * d_xx + share(c_yy) * d_yy) / 2
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
