"""The sites of a network: one description, from which the models sample and results are stored."""

import contextlib
from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array

from .._basics.checks import check_count
from .._basics.errors import InputError
from .._layers.layer import Site
from .._problem.network import Network, check_network
from .._problem.traceable import TraceableNetwork

__all__ = [
    "Site",
    "all_sites",
    "check_net",
    "hidden_sites",
    "layer_sites",
    "log_density",
    "readout_sites",
    "sample_site",
    "unit_dim",
]


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


def layer_sites(
    net: Network | TraceableNetwork, layer: int, shape: tuple[int, ...]
) -> dict[str, Site]:
    """Return the sites of hidden layer 1 … L by their names in the layer; `shape`: a pattern's."""
    bias = None if net.bias_precision is None else net.bias_precision[layer - 1]
    units, precision = unit_dim(net, layer), net.weight_precision[layer - 1]
    if layer == 1:
        return net.layers[0].first_sites(units, shape, precision, bias)
    inputs = unit_dim(net, layer - 1), net.widths[layer - 2]
    return net.layers[layer - 1].sites(units, inputs, precision, bias)


def hidden_sites(net: Network | TraceableNetwork, shape: tuple[int, ...]) -> dict[str, Site]:
    """Return the sites of the hidden layers, the first one first; a layer's W is W_ℓ.

    `shape` is that of one pattern.
    """
    return {
        f"{name}_{layer}": site
        for layer in range(1, net.depth + 1)
        for name, site in layer_sites(net, layer, shape).items()
    }


def readout_sites(net: Network | TraceableNetwork, shape: tuple[int, ...]) -> dict[str, Site]:
    """Return the sites of the readout, for patterns of this shape."""
    outputs = (("output", net.outputs),) if net.outputs > 1 else ()
    features = net.layers[-1].features(unit_dim(net, net.depth), shape)
    sites = {"v": _site((*features, *outputs), net.weight_precision[-1])}
    bias = net.bias_precision
    return sites if bias is None else sites | {"b_out": _site(outputs, bias[-1])}


def all_sites(net: Network | TraceableNetwork, shape: tuple[int, ...]) -> dict[str, Site]:
    """Return the sites of the hidden layers and of the readout."""
    return hidden_sites(net, shape) | readout_sites(net, shape)


def _site(axes: tuple[tuple[str, int], ...], precision: Any) -> Site:
    return Site(tuple(name for name, _ in axes), tuple(size for _, size in axes), precision)


def _law(site: Site) -> dist.Normal:
    return dist.Normal(0.0, 1.0 / jnp.sqrt(jnp.asarray(site.precision, float)))


def log_density(site: Site, value: Array) -> Array:
    """Return the log density of a Gaussian site under the prior."""
    return jnp.sum(_law(site).log_prob(value))


def sample_site(name: str, site: Site) -> Array:
    """Sample a Gaussian site, one plate per axis, last axis last."""
    law = _law(site)
    with contextlib.ExitStack() as frames:
        for axis, (dim, size) in enumerate(zip(site.dims, site.shape, strict=True)):
            frames.enter_context(numpyro.plate(dim, size, dim=axis - len(site.shape)))
        return jnp.asarray(numpyro.sample(name, law))
