"""The posterior of the weights, as NumPyro models, and what is kept of a draw of them.

`network` is the posterior in weight space, `marginal` the same posterior with the readout
integrated exactly. Sites are W_1 … W_L (shape (unit, input) or (unit, previous unit)), v, and with
biases b_1 … b_L and b_out. A model follows the precision that JAX is set to; `finwidth.sample`
sets float64.

Source: theory.md, sections 1 and 9.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array, random

from .._basics.arrays import check_inputs, check_labels
from .._problem.network import Network
from .._problem.traceable import TraceableNetwork
from ._features import check_likelihood, check_net, hidden_features, readout_features, unit_dim
from ._readout import ReadoutMarginal, condition

__all__ = ["WeightInputs", "WeightProgram", "marginal", "network"]


def _checked(
    net: Any, X: Any, y: Any, temperature: Any
) -> tuple[Network | TraceableNetwork, Array, Array | None, float | Array]:
    check_net(net)
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


class WeightInputs(NamedTuple):
    """The arrays of a run of "network" or "marginal".

    Attributes
    ----------
    net
        The network, traceable.
    X, y
        Training set, rotated where there is a rotation, shapes (pattern, input) and (pattern,).
    temperature
        T.
    X_test
        Test points in the original inputs, shape (test_pattern, input), or None.
    rotation
        The input rotation, or None.
    """

    net: Any
    X: Any
    y: Any
    temperature: Any
    X_test: Any
    rotation: Any


@dataclasses.dataclass(frozen=True)
class WeightProgram:
    """What compiled code depends on besides arrays.

    Parameters
    ----------
    model
        "network" or "marginal".
    keep
        Sites to store.
    """

    model: str
    keep: tuple[str, ...]

    def density(self, inputs: WeightInputs) -> tuple[Callable[..., None], tuple, dict]:
        """Return the NumPyro model and its arguments."""
        function = marginal if self.model == "marginal" else network
        keywords = {"temperature": inputs.temperature}
        return function, (inputs.net, inputs.X, inputs.y), keywords

    def reduce(
        self, inputs: WeightInputs, rng_key: Array, sites: dict[str, Array]
    ) -> dict[str, Array]:
        """Return what is stored of a draw of the latent sites."""
        net, X, y, temperature, points, rotation = inputs
        whole = "W_1" in self.keep or rotation is None
        weight_key, readout_key = random.split(rng_key)
        sites = dict(sites)
        fitted = sites
        if rotation is not None:
            complete = rotation.restore if whole else rotation.extend
            weights = complete(weight_key, sites["W_1"], net.weight_precision[0])
            sites = sites | {"W_1": weights}
            points = points if whole or points is None else rotation.test
        stored = {}
        readout = None
        if self.model == "marginal":
            features = hidden_features(net, fitted, X)
            readout = condition(readout_features(net, features), y, temperature)
            coefficients = readout.draw(readout_key)
            width = net.widths[-1]
            sites["v"] = coefficients[:width] / jnp.sqrt(net.weight_precision[-1])
            if net.bias_precision is not None:
                sites["b_out"] = coefficients[width] / jnp.sqrt(net.bias_precision[-1])
        if points is not None:
            features = hidden_features(net, sites, points)
            f = features @ sites["v"] / net.widths[-1] ** 0.5
            stored["f"] = f + sites["b_out"] if net.bias_precision is not None else f
            if readout is not None:
                block = readout_features(net, features)
                stored["f_mean"], stored["f_variance"] = readout.moments(block)
        return stored | {f"site:{name}": sites[name] for name in self.keep}
