"""The scale mixture as a NumPyro model: Gaussian processes with random order parameters.

Source: theory.md, section 5.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array

from ._inputs import check_inputs, check_labels, check_temperature
from ._kernels import Covariance, bias_variances, layer_rules, moments
from ._mixture_law import check_mixture
from ._network import Network, check_network
from .theories import LayerConstants, OrderParameters, available

__all__ = ["student_t"]


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
    has_mean = check_mixture(check_network(net), theory)
    inputs = check_inputs(X)
    labels = None if y is None else jnp.asarray(check_labels(y, inputs.shape[0]), float)
    if not isinstance(temperature, Array):
        temperature = check_temperature(temperature, zero=False)
    c = inputs @ inputs.T / (net.weight_precision[0] * inputs.shape[1]) + bias_variances(net)[0]
    rules = layer_rules(net, np.diag(c))
    cross, variances = jnp.asarray(c, float), jnp.asarray(np.diag(c), float)
    covariance = Covariance(cross, variances, variances)
    constants = LayerConstants(np.asarray(net.weight_precision[1:]), bias_variances(net)[1:])
    kernel = available()[theory].kernel
    width, precision = net.widths[0], net.weight_precision[1]
    mean = jnp.zeros(inputs.shape[0])
    if has_mean:
        a = jnp.asarray(numpyro.sample("a", dist.Normal(0.0, precision**-0.5)))
        square = a**2
        if width > 1:
            law = dist.Gamma(0.5 * (width - 1), 0.5 * precision)
            square = square + jnp.asarray(numpyro.sample("r_squared", law))
        q_bar = jnp.reshape(precision * square / width, (1,))
        numpyro.deterministic("q_bar", q_bar)
        mean = a * moments(net.activation, covariance, rules[0])[1]
        order = OrderParameters(q_bar, jnp.zeros(1))
    else:
        half = 0.5 * jnp.asarray(net.widths, float)
        with numpyro.plate("layer", net.depth):
            q_bar = jnp.asarray(numpyro.sample("q_bar", dist.Gamma(half, half)))
        order = OrderParameters(q_bar, q_bar)
    block = kernel(net.activation, constants, covariance, order, rules).cross
    total = block + temperature * jnp.eye(inputs.shape[0])
    numpyro.sample("y", dist.MultivariateNormal(mean, covariance_matrix=total), obs=labels)
