"""A network as compiled code sees it: shapes are static, precisions are arrays."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from .._layers.architecture import Layered
from .._layers.layer import Layer
from .network import Network

__all__ = ["TraceableNetwork", "traceable"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TraceableNetwork(Layered):
    """A `Network` as compiled code sees it: precisions are arrays, the rest is static.

    Programs compiled for one network then serve all that differ in their precisions alone.

    Attributes
    ----------
    layers, activation, outputs, readout_activation
        As in `Network`.
    weight_precision
        λ_0 … λ_L, shape (depth + 1,).
    bias_precision
        λ^b_0 … λ^b_L, shape (depth + 1,), or None.
    """

    layers: tuple[Layer, ...] = dataclasses.field(metadata={"static": True})
    activation: Any = dataclasses.field(metadata={"static": True})
    weight_precision: Any  # arrays; JAX puts other things in their place when it compiles
    bias_precision: Any
    outputs: int = dataclasses.field(default=1, metadata={"static": True})
    readout_activation: Any = dataclasses.field(default=None, metadata={"static": True})


def traceable(net: Network) -> TraceableNetwork:
    """Return the network with its precisions as arrays of JAX's default precision."""
    bias = net.bias_precision
    return TraceableNetwork(
        net.layers,
        net.activation,
        jnp.asarray(net.weight_precision, float),
        None if bias is None else jnp.asarray(bias, float),
        net.outputs,
        net.readout_activation,
    )
