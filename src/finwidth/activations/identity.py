"""Identity: the deep linear network, for which the theory has exact anchors."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from .._plugins.hooks import hookimpl
from ._activation import Activation

__all__ = ["finwidth_register_activations"]


def _identity(h: Float[Array, "..."]) -> Float[Array, "..."]:
    """σ(h) = h."""
    return jnp.asarray(h)


def _kernel(
    c_xx: Float[Array, "..."], c_xy: Float[Array, "..."], c_yy: Float[Array, "..."]
) -> Float[Array, "..."]:
    """E[h h'] = c_xy."""
    shape = jnp.broadcast_shapes(jnp.shape(c_xx), jnp.shape(c_xy), jnp.shape(c_yy))
    return jnp.broadcast_to(c_xy, shape)


@hookimpl
def finwidth_register_activations() -> list[Activation]:
    """Register the identity."""
    return [
        Activation(
            "identity",
            _identity,
            parity="odd",
            kernel=_kernel,
            mean=jnp.zeros_like,
            reference="E[h h'] = c_xy by definition",
        )
    ]
