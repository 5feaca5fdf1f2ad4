"""The network as plain NumPyro models, usable with any NumPyro tool.

`network` is the posterior in weight space, `marginal` the same posterior with the readout
integrated exactly. Sites are W_1 … W_L (shape (unit, input) or (unit, previous unit)), v, and with
biases b_1 … b_L and b_out. A model follows the precision that JAX is set to; `finwidth.sample`
sets float64.

Source: theory.md, sections 1 and 9.
"""

import contextlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from jaxtyping import Float

from ._arrays import check_inputs, check_labels
from ._errors import InputError
from ._inputs import check_count
from ._network import Network, check_network
from ._readout import ReadoutMarginal
from ._student_t import check_likelihood, student_t as student_t
from ._traceable import TraceableNetwork

__all__ = [
    "hidden_features",
    "marginal",
    "network",
    "readout_features",
    "student_t",
    "unit_dim",
]


def unit_dim(net: Network | TraceableNetwork, layer: int) -> str:
    """Return the name of the dimension over the units of hidden layer 1 … L."""
    _check_net(net)
    check_count("layer", layer)
    if layer > net.depth:
        raise InputError(f"expected layer = an int of at most {net.depth}, got {layer}")
    return "unit" if net.depth == 1 else f"unit_{layer}"


def _check_net(net: Any) -> None:
    if not isinstance(net, TraceableNetwork):
        check_network(net)


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


def _checked(
    net: Any, X: Any, y: Any, temperature: Any
) -> tuple[Network | TraceableNetwork, Array, Array | None, float | Array]:
    _check_net(net)
    if not isinstance(X, Array):  # arrays of JAX (traced ones, too) are the caller's to check
        X = check_inputs(X)
    if y is not None and not isinstance(y, Array):
        y = check_labels(y, X.shape[0])
    temperature = check_likelihood(temperature)
    dtype = jnp.result_type(float)
    return net, jnp.asarray(X, dtype), None if y is None else jnp.asarray(y, dtype), temperature


def _gaussian(name: str, precision: float | Array, *plates: tuple[str, int]) -> Array:
    """Sample a site of independent N(0, 1/precision), one plate per axis, last axis last."""
    law = dist.Normal(0.0, 1.0 / jnp.sqrt(jnp.asarray(precision, float)))
    with contextlib.ExitStack() as frames:
        for axis, (dim_name, size) in enumerate(plates):
            frames.enter_context(numpyro.plate(dim_name, size, dim=axis - len(plates)))
        return jnp.asarray(numpyro.sample(name, law))


def _hidden_sites(net: Network | TraceableNetwork, n_inputs: int) -> dict[str, Array]:
    values = {}
    previous = ("input", n_inputs)
    for layer, width in enumerate(net.widths, start=1):
        units = (unit_dim(net, layer), width)
        values[f"W_{layer}"] = _gaussian(
            f"W_{layer}", net.weight_precision[layer - 1], units, previous
        )
        if net.bias_precision is not None:
            values[f"b_{layer}"] = _gaussian(f"b_{layer}", net.bias_precision[layer - 1], units)
        previous = units
    return values


def hidden_features(
    net: Network | TraceableNetwork, values: Mapping[str, Array], X: Float[Array, "point input"]
) -> Float[Array, "point unit"]:
    """Return Φ = σ(h^L), the last hidden layer at the points X, shape (point, unit).

    Parameters
    ----------
    net
        The network.
    values
        Values of the sites W_ℓ (and b_ℓ).
    X
        Patterns, shape (point, input).
    """
    _check_net(net)
    if not isinstance(values, Mapping):
        raise InputError(f"expected values = a mapping of sites, got {type(values).__name__}")
    _check_shape("X", X, None, None)
    size = X.shape[1]
    for layer, width in enumerate(net.widths, start=1):
        names: dict[str, tuple[int, ...]] = {f"W_{layer}": (width, size)}
        if net.bias_precision is not None:
            names[f"b_{layer}"] = (width,)
        for name, shape in names.items():
            _check_shape(f"values[{name!r}]", values.get(name), *shape)
        size = width
    # units first: the products with the weights and their gradients then need no transposed copy
    columns = X.T
    for layer in range(1, net.depth + 1):
        weights = values[f"W_{layer}"]
        preactivation = weights @ columns / weights.shape[1] ** 0.5
        if net.bias_precision is not None:
            preactivation = preactivation + values[f"b_{layer}"][:, None]
        columns = net.activation.fn(preactivation)
    return columns.T


def readout_features(
    net: Network | TraceableNetwork, features: Float[Array, "point unit"]
) -> Float[Array, "point column"]:
    """Return F: features scaled so that a unit Gaussian readout has the network's prior.

    F = Φ/√(λ_L N_L), with a last column 1/√λ^b_L where the network has biases.
    """
    _check_net(net)
    _check_shape("features", features, None, net.widths[-1])
    dtype = features.dtype
    scaled = features / jnp.sqrt(jnp.asarray(net.weight_precision[-1] * net.widths[-1], dtype))
    if net.bias_precision is None:
        return scaled
    scale = 1.0 / jnp.sqrt(jnp.asarray(net.bias_precision[-1], dtype))
    return jnp.concatenate([scaled, jnp.full((scaled.shape[0], 1), scale)], axis=1)


def network(
    net: Network | TraceableNetwork, X: Any, y: Any = None, *, temperature: float | Array
) -> None:
    """The network's posterior in weight space, as a NumPyro model.

    Parameters
    ----------
    net
        The network.
    X
        Patterns, shape (pattern, input).
    y
        Labels, shape (pattern,); None to draw them from the prior.
    temperature
        T > 0, the variance of the Gaussian likelihood.

    Raises
    ------
    InputError
        If an argument is not as described.

    Notes
    -----
    Sites: W_ℓ, v (and b_ℓ, b_out), the deterministic f (pattern,), and y.

    References
    ----------
    theory.md, section 1.
    """
    net, X, y, temperature = _checked(net, X, y, temperature)
    values = _hidden_sites(net, X.shape[1])
    features = hidden_features(net, values, X)
    v = _gaussian("v", net.weight_precision[-1], (unit_dim(net, net.depth), net.widths[-1]))
    f = features @ v / net.widths[-1] ** 0.5
    if net.bias_precision is not None:
        f = f + _gaussian("b_out", net.bias_precision[-1])
    numpyro.deterministic("f", f)
    with numpyro.plate("pattern", X.shape[0]):
        numpyro.sample("y", dist.Normal(f, jnp.sqrt(temperature)), obs=y)


def marginal(
    net: Network | TraceableNetwork, X: Any, y: Any = None, *, temperature: float | Array
) -> None:
    """The same posterior with the readout integrated exactly, as a NumPyro model.

    Parameters
    ----------
    net, X, y, temperature
        As for `network`.

    Raises
    ------
    InputError
        If an argument is not as described.

    Notes
    -----
    Sites: W_ℓ (and b_ℓ), and y ~ N(0, ΦΦᵀ/(λ_L N_L) (+ 1/λ^b_L) + T·1). The readout and f follow
    from their exact conditionals (`finwidth.sample` draws them).

    References
    ----------
    theory.md, section 9.
    """
    net, X, y, temperature = _checked(net, X, y, temperature)
    values = _hidden_sites(net, X.shape[1])
    features = readout_features(net, hidden_features(net, values, X))
    numpyro.sample("y", ReadoutMarginal(features, temperature), obs=y)
