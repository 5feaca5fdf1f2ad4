"""Hyperbolic tangent: no closed form is known, so its moments come from quadrature."""

import jax.numpy as jnp

from .._plugins.hooks import hookimpl
from ._activation import Activation

__all__ = ["finwidth_register_activations"]


@hookimpl
def finwidth_register_activations() -> list[Activation]:
    """Register tanh."""
    return [Activation("tanh", jnp.tanh, parity="odd", reference="Hermite series; no closed form")]
