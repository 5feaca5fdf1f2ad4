"""The scale mixture as a NumPyro model: Gaussian processes with random order parameters.

Source: theory.md, section 5.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from jaxtyping import Float

from ._activation import get_activation
from ._inputs import check_inputs, check_labels, check_temperature
from ._kernels import Covariance, bias_variances, input_covariance, layer_rules, moments
from ._mixture_law import check_mixture
from ._network import Network, check_network
from ._precision import float64
from .theories import LayerConstants, OrderParameters, available

__all__ = ["RandomField", "random_field", "student_t"]


@dataclasses.dataclass(frozen=True, eq=False)
class RandomField:
    """The output f on some patterns: a Gaussian, given the order parameters.

    Made by `random_field`.
    """

    network: Network
    theory: str
    has_mean: bool
    _covariance: tuple[np.ndarray, ...]  # C on the patterns, float64
    _rules: tuple

    @property
    def _input(self) -> Covariance:
        """C in the precision that JAX is set to."""
        return Covariance(*(jnp.asarray(part, float) for part in self._covariance))

    @property
    def only_scale(self) -> bool:
        """Whether the order parameters only scale a fixed kernel (but for the output's bias)."""
        network = self.network
        linear = network.activation == get_activation("identity")
        return (
            network.depth == 1
            or self.theory == "wishart"
            or (linear and network.bias_precision is None)
        )

    def covariance(self, q_bar: Array, *, output_bias: bool = True) -> Float[Array, "n n"]:
        """Return the covariance of f given Q̄, shape (layer,), with or without the bias's 1/λ^b_L.

        With a mean term this is the part Q̄(K − m mᵀ)/λ_1; the other is `mean`.
        """
        network = self.network
        biases = bias_variances(network)[1:]
        biases[-1] *= output_bias
        constants = LayerConstants(np.asarray(network.weight_precision[1:]), biases)
        order = OrderParameters(q_bar, jnp.zeros_like(q_bar) if self.has_mean else q_bar)
        rule: Any = available()[self.theory]
        return rule.kernel(network.activation, constants, self._input, order, self._rules).cross

    def mean(self, values: Mapping[str, Array]) -> Float[Array, " n"]:
        """Return the mean of f given the sites: a m with a mean term, else 0."""
        if not self.has_mean:
            return jnp.zeros(self._covariance[1].shape)
        return values["a"] * moments(self.network.activation, self._input, self._rules[0])[1]


def random_field(network: Network, X: Float[np.ndarray, "n input"], theory: str) -> RandomField:
    """Return f on the patterns X; may be called while JAX traces.

    Raises
    ------
    InputError
        If the mixture is not defined for this network and theory.
    """
    has_mean = check_mixture(network, theory)
    # the rules of quadrature are chosen by numbers
    with jax.ensure_compile_time_eval(), float64():
        covariance = tuple(map(np.asarray, input_covariance(network, X)))
        rules = layer_rules(network, covariance[1])
    return RandomField(network, theory, has_mean, covariance, rules)


def student_t(
    net: Network,
    X: Any,
    y: Any = None,
    *,
    temperature: float | Array,
    theory: str = "nested",
) -> None:
    """The scale mixture whose saddle point is the theory, as a NumPyro model.

    Parameters
    ----------
    net
        The network. An activation that is not odd takes one hidden layer or theory="wishart".
    X
        Patterns, shape (pattern, input).
    y
        Labels, shape (pattern,); None to draw them from the prior.
    temperature
        T > 0, the variance of the Gaussian likelihood.
    theory
        How the order parameters enter the kernel, "nested" or "wishart".

    Raises
    ------
    InputError
        If an argument is not as described.

    Notes
    -----
    Sites: q_bar (layer,), each Gamma(N_ℓ/2, rate N_ℓ/2), which NUTS moves in its logarithm; with
    a mean term instead a ~ N(0, 1/λ_1) and (N_1 > 1) r_squared with λ_1 r² ~ χ²(N_1 − 1), and the
    deterministic q_bar = λ_1(a² + r²)/N_1. Then y, Gaussian given these, f integrated.

    References
    ----------
    theory.md, section 5.
    """
    check_network(net)
    inputs = check_inputs(X)
    field = random_field(net, inputs, theory)
    labels = None if y is None else jnp.asarray(check_labels(y, inputs.shape[0]), float)
    if not isinstance(temperature, Array):
        temperature = check_temperature(temperature, zero=False)
    values = {}
    if field.has_mean:
        width, precision = net.widths[0], net.weight_precision[1]
        values["a"] = jnp.asarray(numpyro.sample("a", dist.Normal(0.0, precision**-0.5)))
        square = values["a"] ** 2
        if width > 1:
            law = dist.Gamma(0.5 * (width - 1), 0.5 * precision)
            square = square + jnp.asarray(numpyro.sample("r_squared", law))
        q_bar = jnp.reshape(precision * square / width, (1,))
        numpyro.deterministic("q_bar", q_bar)
    else:
        half = 0.5 * jnp.asarray(net.widths, float)
        with numpyro.plate("layer", net.depth):
            q_bar = jnp.asarray(numpyro.sample("q_bar", dist.Gamma(half, half)))
    total = field.covariance(q_bar) + temperature * jnp.eye(inputs.shape[0])
    law = dist.MultivariateNormal(field.mean(values), covariance_matrix=total)
    numpyro.sample("y", law, obs=labels)
