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
from ._arrays import check_inputs, check_labels
from ._errors import InputError
from ._inputs import check_temperature
from ._kernels import Covariance, input_covariance, layer_rules, moments
from ._mixture_law import check_mixture
from ._network import Network, check_network
from ._precision import float64
from ._traceable import traceable
from .theories import LayerConstants, OrderParameters, available

__all__ = ["RandomField", "mixture_model", "random_field", "student_t"]


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
    covariances: Any  # C on the patterns, a Covariance
    rules: tuple  # of quadrature, chosen by numbers
    theory: str = _static()
    has_mean: bool = _static()
    only_scale: bool = _static()  # whether Q̄ only scales a fixed kernel (but for f's bias)

    def first(self, n: int) -> "RandomField":
        """Return f on the first `n` patterns."""
        cross, a, b = self.covariances
        return dataclasses.replace(self, covariances=Covariance(cross[:n, :n], a[:n], b[:n]))

    def covariance(self, q_bar: Array, *, output_bias: bool = True) -> Float[Array, "n n"]:
        """Return the covariance of f given Q̄, shape (layer,), with or without the bias's 1/λ^b_L.

        With a mean term this is the part Q̄(K − m mᵀ)/λ_1; the other is `mean`.
        """
        network = self.network
        precisions = network.weight_precision[1:]
        biases = jnp.zeros_like(precisions)
        if network.bias_precision is not None:
            biases = 1.0 / network.bias_precision[1:]
            biases = biases if output_bias else biases.at[-1].set(0.0)
        constants: Any = LayerConstants(precisions, biases)  # pyright: ignore[reportArgumentType]
        order = OrderParameters(q_bar, jnp.zeros_like(q_bar) if self.has_mean else q_bar)
        rule: Any = available()[self.theory]
        return rule.kernel(network.activation, constants, self.covariances, order, self.rules).cross

    def mean(self, values: Mapping[str, Array]) -> Float[Array, " n"]:
        """Return the mean of f given the sites: a m with a mean term, else 0."""
        if not self.has_mean:
            return jnp.zeros_like(self.covariances.diag_a)
        return values["a"] * moments(self.network.activation, self.covariances, self.rules[0])[1]


def random_field(network: Network, X: Float[np.ndarray, "n input"], theory: str) -> RandomField:
    """Return f on the patterns X, in JAX's default precision; may be called while JAX traces.

    Raises
    ------
    InputError
        If the mixture is not defined for this network and theory.
    """
    has_mean = check_mixture(network, theory)
    linear = network.activation == get_activation("identity")
    only_scale = (
        network.depth == 1 or theory == "wishart" or (linear and network.bias_precision is None)
    )
    # the rules of quadrature are chosen by numbers
    with jax.ensure_compile_time_eval(), float64():
        covariance = tuple(map(np.asarray, input_covariance(network, X)))
        rules = layer_rules(network, covariance[1])
    covariances = Covariance(*(jnp.asarray(part, float) for part in covariance))
    return RandomField(traceable(network), covariances, rules, theory, has_mean, only_scale)


def mixture_model(
    field: RandomField, y: Float[Array, " n"] | None, temperature: float | Array
) -> None:
    """The NumPyro model of `student_t`, given what it knows of the patterns."""
    net = field.network
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
    covariance = field.covariance(q_bar)
    total = covariance + temperature * jnp.eye(covariance.shape[0])
    law = dist.MultivariateNormal(field.mean(values), covariance_matrix=total)
    numpyro.sample("y", law, obs=y)


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
    temperature = check_likelihood(temperature)
    inputs = check_inputs(X)
    field = random_field(net, inputs, theory)
    labels = None if y is None else jnp.asarray(check_labels(y, inputs.shape[0]), float)
    mixture_model(field, labels, temperature)
