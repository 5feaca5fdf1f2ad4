"""Error function: the arcsine kernel of Williams (1998)."""

import jax.numpy as jnp
import jax.scipy.special
from jax import Array
from jaxtyping import Float

from .._activation import Activation
from .._hookspecs import hookimpl

__all__ = ["finwidth_register_activations"]


def _kernel(
    c_xx: Float[Array, "..."], c_xy: Float[Array, "..."], c_yy: Float[Array, "..."]
) -> Float[Array, "..."]:
    """(2/π) arcsin(2 c_xy / √((1 + 2c_xx)(1 + 2c_yy))).

    The arcsine is written as an arctangent, which keeps full accuracy where its argument
    comes close to ±1.
    """
    # (1 + 2c_xx)(1 + 2c_yy) − 4c_xy², without the difference of two large products
    rest = 1 + 2 * (c_xx + c_yy) + 4 * (c_xx * c_yy - c_xy * c_xy)
    return (2 / jnp.pi) * jnp.arctan2(2 * c_xy, jnp.sqrt(rest))


@hookimpl
def finwidth_register_activations() -> list[Activation]:
    """Register erf."""
    return [
        Activation(
            "erf",
            jax.scipy.special.erf,
            parity="odd",
            kernel=_kernel,
            mean=jnp.zeros_like,
            reference="Williams, Neural Comput. 10, 1203 (1998)",
        )
    ]
