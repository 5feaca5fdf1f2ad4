"""The scale mixture as a NumPyro model: Gaussian processes with random order parameters.

Source: theory.md, section 5.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from ..._layers.covariance import Covariance, Given, Local, known
from ..._layers.dense import input_covariance, moments
from ..._layers.order import OrderParameters
from ..._layers.stack import Stack, chart, layer_rules
from ..._numerics.precision import float64
from ..._problem.network import Network
from ..._problem.traceable import traceable
from .._theory import SHELF
from .law import check_mixture

__all__ = ["RandomField", "random_field"]


def _static() -> Any:
    return dataclasses.field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class RandomField:
    """The output f on some patterns: a Gaussian, given the order parameters.

    Made by `random_field`. A JAX type: compiled code serves all fields whose arrays, precisions
    among them, have the same shapes.
    """

    network: Any  # a TraceableNetwork; JAX puts other things in its place when it compiles
    covariances: Any  # C on the patterns, a Covariance, or Given moments
    rules: tuple  # of quadrature, chosen by numbers
    theory: str = _static()
    has_mean: bool = _static()
    only_scale: bool = _static()  # whether Q̄ only scales a fixed kernel (but for f's bias)

    def first(self, n: int) -> "RandomField":
        """Return f on the first `n` patterns."""
        return dataclasses.replace(self, covariances=_first(self.covariances, n))

    def order(self, values: Mapping[str, Any]) -> OrderParameters:
        """Return the order parameters from the sites: Q̄ (layer), or those of each `Law`."""
        if "q_bar" in values:
            q_bar = values["q_bar"]
            return OrderParameters.of(q_bar, jnp.zeros_like(q_bar) if self.has_mean else q_bar)
        found = []
        for layer, order in enumerate(chart(self.network, False).orders, start=1):
            parts = [(law.shape, values[law.site(layer)]) for law in order.laws() or ()]
            theta = [value if shape is None else jnp.log(value) for shape, value in parts]
            found.append(order.value(jnp.stack(theta)))
        return OrderParameters(tuple(found))

    def covariance(
        self, values: Mapping[str, Any], *, output_bias: bool = True
    ) -> Float[Array, "n n"]:
        """Return the covariance of f given the sites, with or without the bias's 1/λ^b_L.

        With a mean term this is the part Q̄(K − m mᵀ)/λ_1; the other is `mean`.
        """
        network = self.network
        precisions = network.weight_precision[1:]
        biases = jnp.zeros_like(precisions)
        if network.bias_precision is not None:
            biases = 1.0 / network.bias_precision[1:]
            biases = biases if output_bias else biases.at[-1].set(0.0)
        stack = Stack.of(network, self.rules, precisions, biases)
        theory: Any = SHELF.get(self.theory)
        return theory.kernel(stack, self.covariances, self.order(values)).cross

    def mean(self, values: Mapping[str, Array]) -> Float[Array, " n"]:
        """Return the mean of f given the sites: a m with a mean term, else 0."""
        if not self.has_mean:
            return jnp.zeros_like(self.covariances.diag_a)
        return (
            values["a"] * moments(self.network.activations[0], self.covariances, self.rules[0])[1]
        )


def _first(covariances: Covariance | Given, n: int) -> Covariance | Given:
    if isinstance(covariances, Given):
        return covariances.first(n)
    cross, a, b = covariances
    return Covariance(cross[:n, :n], a[:n], b[:n])


def random_field(network: Network, X: Float[np.ndarray, "n ..."], theory: str) -> RandomField:
    """Return f on the patterns X, in JAX's default precision; may be called while JAX traces.

    Raises
    ------
    InputError
        If the mixture is not defined for this network and theory.
    """
    has_mean = check_mixture(network, theory)
    chosen: Any = SHELF.get(theory)
    only_scale = chosen.only_scales(network)
    # the rules of quadrature are chosen by numbers
    with jax.ensure_compile_time_eval(), float64():
        covariance: Any = input_covariance(network, X)
        rules = layer_rules(network, np.asarray(covariance.diag_a))
        if isinstance(covariance, Local):
            covariance = known(covariance, network.activations[0], rules[0])
        else:
            covariance = jax.tree.map(np.asarray, Covariance(*covariance))
    covariances = jax.tree.map(lambda part: jnp.asarray(part, float), covariance)
    return RandomField(traceable(network), covariances, rules, theory, has_mean, only_scale)
