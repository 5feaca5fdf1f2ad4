"""The sites of a network: one description, from which the models sample and results are stored."""

import contextlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array

from .._basics.checks import check_count
from .._basics.errors import InputError
from .._problem.network import Network, check_network
from .._problem.traceable import TraceableNetwork

__all__ = [
    "Site",
    "check_net",
    "dense_sites",
    "hidden_sites",
    "readout_sites",
    "sample_site",
    "unit_dim",
]


class Site(NamedTuple):
    """One site of a model.

    Attributes
    ----------
    dims, shape
        Names and sizes of its axes.
    precision
        λ, where the entries are independent N(0, 1/λ) under the prior; None: of another law.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    precision: Any = None


def check_net(net: Any) -> None:
    """Raise InputError if `net` is neither a Network nor a traceable one."""
    if not isinstance(net, TraceableNetwork):
        check_network(net)


def unit_dim(net: Network | TraceableNetwork, layer: int) -> str:
    """Return the name of the dimension over the units of hidden layer 1 … L."""
    check_net(net)
    check_count("layer", layer)
    if layer > net.depth:
        raise InputError(f"expected layer = an int of at most {net.depth}, got {layer}")
    return "unit" if net.depth == 1 else f"unit_{layer}"


def dense_sites(
    layer: int, units: tuple[str, int], inputs: tuple[str, int], precision: Any, bias: Any
) -> dict[str, Site]:
    """Return the sites of one dense layer.

    Parameters
    ----------
    layer
        1 … L.
    units, inputs
        Name and size of the dimensions over its units and over those of the layer before it.
    precision, bias
        Of the priors of its weights and biases; bias None: there are none.
    """
    (unit, width), (previous, size) = units, inputs
    sites = {f"W_{layer}": Site((unit, previous), (width, size), precision)}
    return sites if bias is None else sites | {f"b_{layer}": Site((unit,), (width,), bias)}


def hidden_sites(net: Network | TraceableNetwork, n_inputs: int) -> dict[str, Site]:
    """Return the sites of the hidden layers, the first one first."""
    sites, inputs = {}, ("input", n_inputs)
    for layer, width in enumerate(net.widths, start=1):
        units = (unit_dim(net, layer), width)
        bias = None if net.bias_precision is None else net.bias_precision[layer - 1]
        sites |= dense_sites(layer, units, inputs, net.weight_precision[layer - 1], bias)
        inputs = units
    return sites


def readout_sites(net: Network | TraceableNetwork) -> dict[str, Site]:
    """Return the sites of the readout."""
    dims, shape = (unit_dim(net, net.depth),), (net.widths[-1],)
    sites = {"v": Site(dims, shape, net.weight_precision[-1])}
    bias = net.bias_precision
    return sites if bias is None else sites | {"b_out": Site((), (), bias[-1])}


def sample_site(name: str, site: Site) -> Array:
    """Sample a Gaussian site, one plate per axis, last axis last."""
    law = dist.Normal(0.0, 1.0 / jnp.sqrt(jnp.asarray(site.precision, float)))
    with contextlib.ExitStack() as frames:
        for axis, (dim, size) in enumerate(zip(site.dims, site.shape, strict=True)):
            frames.enter_context(numpyro.plate(dim, size, dim=axis - len(site.shape)))
        return jnp.asarray(numpyro.sample(name, law))
