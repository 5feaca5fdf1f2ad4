"""The network forwards: features of its last hidden layer, as the models and users take them."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from .._basics.checks import check_temperature
from .._basics.errors import InputError
from .._problem.network import Network
from .._problem.traceable import TraceableNetwork
from ._sites import check_net, hidden_sites, layer_sites

__all__ = ["check_likelihood", "hidden_features", "readout_features"]


def check_likelihood(temperature: Any) -> float | Array:
    """Return T > 0, or an array (traced, too) without dimensions; else raise InputError."""
    if not isinstance(temperature, Array):
        return check_temperature(temperature, zero=False)
    if temperature.shape != () or temperature.dtype.kind not in "fiu":
        raise InputError(
            "expected temperature = a finite float > 0, got an array of shape "
            f"{temperature.shape} and {temperature.dtype}"
        )
    return temperature


def _check_shape(name: str, value: Any, *shape: int | None) -> None:
    """Raise InputError if `value`, which may be traced, is no array of this shape (None: any)."""
    got = getattr(value, "shape", ())
    fits = len(got) == len(shape) and all(
        want in (None, size) for want, size in zip(shape, got, strict=True)
    )
    wanted = ", ".join("any" if size is None else str(size) for size in shape)
    array = isinstance(value, (Array, np.ndarray)) and not isinstance(value, np.ma.MaskedArray)
    if not array or value.dtype.kind not in "fiu" or not fits:
        kind = f"{value.dtype} of shape {got}" if hasattr(value, "dtype") else type(value).__name__
        raise InputError(f"expected {name} = an array of real numbers ({wanted}), got {kind}")


def hidden_features(
    net: Network | TraceableNetwork, values: Mapping[str, Array], X: Float[Array, "point ..."]
) -> Float[Array, "point unit"]:
    """Return Φ, what the last hidden layer hands on at the points X, shape (point, unit).

    That is σ(h^L); of a convolution without pooling that of every channel and patch, channels
    slow.

    Parameters
    ----------
    net
        The network.
    values
        Values of the sites W_ℓ (and b_ℓ).
    X
        Patterns, shape (point, input), or images where the first layer takes those.
    """
    check_net(net)
    if not isinstance(values, Mapping):
        raise InputError(f"expected values = a mapping of sites, got {type(values).__name__}")
    _check_shape("X", X, *[None] * max(getattr(X, "ndim", 2), 2))
    net.layers[0].check_shape(X.shape)
    for name, site in hidden_sites(net, X.shape[1:]).items():
        _check_shape(f"values[{name!r}]", values.get(name), *site.shape)
    x, h = jnp.moveaxis(X, 0, -1), None
    for number, (layer, sigma) in enumerate(zip(net.layers, net.activations, strict=True), 1):
        sites = layer_sites(net, number, X.shape[1:])
        h = layer.forward({name: values[f"{name}_{number}"] for name in sites}, x, h)
        expected = (layer.size(X.shape[1:]), X.shape[0])
        if getattr(h, "shape", None) != expected:
            raise InputError(
                f"expected {layer!r} to return h of shape {expected}, got "
                f"{getattr(h, 'shape', type(h).__name__)}"
            )
        x = layer.pool(sigma.fn(h))
    return x.T


def readout_features(
    net: Network | TraceableNetwork, features: Float[Array, "point unit"]
) -> Float[Array, "point column"]:
    """Return F: features scaled so that a unit Gaussian readout has the network's prior.

    F = Φ/√(λ_L N_L), N_L being the number of features, with a last column 1/√λ^b_L where the
    network has biases.
    """
    check_net(net)
    count = net.widths[-1] if net.layers[-1].single else None
    _check_shape("features", features, None, count)
    dtype = features.dtype
    scaled = features / jnp.sqrt(jnp.asarray(net.weight_precision[-1] * features.shape[1], dtype))
    if net.bias_precision is None:
        return scaled
    scale = 1.0 / jnp.sqrt(jnp.asarray(net.bias_precision[-1], dtype))
    return jnp.concatenate([scaled, jnp.full((scaled.shape[0], 1), scale)], axis=1)
