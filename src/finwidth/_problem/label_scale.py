"""Labels against the prior: one warning where their scales are far apart."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from .._basics.errors import warn
from .._layers.dense import bias_variances
from .._numerics.precision import float64
from .network import Network

__all__ = ["FACTOR", "check_label_scale", "output_variance"]

FACTOR = 10.0
_GROUPS = 16  # of patterns alike in variance, so that compiled code serves any number of patterns
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(60)


def check_label_scale(
    network: Network,
    X: Float[np.ndarray, "pattern ..."],
    y: Float[np.ndarray, " pattern"] | Float[np.ndarray, "pattern output"],
    temperature: float,
) -> None:
    """Warn where labels are far larger or smaller than the prior has them.

    That is where their root mean square is more than `FACTOR` times √(mean K_μμ + T), the prior's
    standard deviation of a label, or less than 1/`FACTOR` of √(mean K_μμ): a large T alone is no
    question of scale. K is the infinite-width kernel of the output. Labels that are all zero have
    no scale. Nothing is said of networks whose layers are not all dense.
    """
    largest = float(np.max(np.abs(y)))
    if largest == 0.0 or not network.dense:
        return
    size = largest * math.sqrt(np.mean((y / largest) ** 2))  # squares alone may leave float64
    variance = output_variance(network, X)
    prior = math.sqrt(variance + temperature)
    if math.isfinite(prior) and not math.sqrt(variance) / FACTOR <= size <= prior * FACTOR:
        warn(
            f"expected y = labels within a factor of {FACTOR:g} of the prior's standard deviation "
            f"√(mean K + T) = {prior:.3g}, got a root mean square of {size:.3g}: centre and scale "
            "y and X (finwidth.load_dataset does both), or change the precisions",
            about="scale of labels",
        )


def output_variance(network: Network, X: Float[np.ndarray, "pattern input"]) -> float:
    """Return the mean over patterns of the infinite-width variance of one output.

    Dense layers: c ← E σ(√c z)²/λ + 1/λ^b from c = |x|²/(λ_0 N_0) + 1/λ^b_0, to the accuracy of a
    message; infinite or NaN where float64 ends.
    """
    biases = bias_variances(network)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        variances = np.einsum("ij,ij->i", X, X) / X.shape[1]
        variances = variances / network.weight_precision[0] + biases[0]
        parts = [part for part in np.array_split(np.sort(variances), _GROUPS) if part.size]
        c = np.array([part.mean() for part in parts] + [0.0] * (_GROUPS - len(parts)))
        rows = zip(network.activations, network.weight_precision[1:], biases[1:], strict=True)
        for activation, precision, bias in rows:
            with float64():
                second = np.asarray(_second_moment(activation, jnp.asarray(c)))
            c = second / precision + bias
        return float(np.average(c[: len(parts)], weights=[part.size for part in parts]))


@functools.partial(jax.jit, static_argnums=0)
def _second_moment(activation: Any, variances: Float[Array, " group"]) -> Float[Array, " group"]:
    """Return E σ(√c z)² by Gauss–Hermite quadrature."""
    values = activation.fn(jnp.sqrt(variances)[:, None] * _NODES[None, :])
    return values**2 @ (_WEIGHTS / _WEIGHTS.sum())
