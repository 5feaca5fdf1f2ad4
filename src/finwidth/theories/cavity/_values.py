"""An activation on arrays of any shape, by two compiled programs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ...activations._activation import Activation

__all__ = ["activate"]

_SMALL, _LARGE = 2**12, 2**16  # numbers at once


@functools.partial(jax.jit, static_argnames="activation")
def _apply(activation: Activation, h: Array) -> Array:
    return activation.fn(h)


def activate(activation: Activation, h: np.ndarray) -> np.ndarray:
    """Return σ(h); called with JAX in float64."""
    flat = h.reshape(-1)
    values = np.empty_like(flat)
    size = _LARGE if flat.size > 4 * _SMALL else _SMALL
    for start in range(0, flat.size, size):
        block = flat[start : start + size]
        padded = (
            np.concatenate([block, np.zeros(size - block.size)]) if block.size < size else block
        )
        result = np.asarray(_apply(activation, jnp.asarray(padded, jnp.float64)))
        values[start : start + size] = result[: block.size]
    return values.reshape(h.shape)
