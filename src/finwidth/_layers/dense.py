"""The dense layer: covariances of its preactivations, and the map to the next layer.

Everything the theory needs to know about two sets of patterns is their `Covariance`: the block
between the sets and the variances within each. The layer map takes that triple to the next
layer's, so training block, test block and variances all come from one recursion.

Source: theory.md sections 2, 4 and 7; Pacelli et al., Nat. Mach. Intell. 5, 1497 (2023).
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from .._plugins.hooks import hookimpl
from ..activations import _moments
from ..activations._activation import Activation
from .architecture import Architecture
from .covariance import Covariance, Local, Square
from .inputs import bias_variances, whiten_inputs
from .layer import Layer, Link, scale
from .order import Scales

__all__ = [
    "Dense",
    "bias_variances",
    "input_covariance",
    "input_variances",
    "layer_map",
    "moments",
    "whiten_inputs",
]


def input_covariance(network: Architecture, X: Any, X2: Any = None) -> Covariance | Local:
    """Return the second moments of the first preactivations, as the first layer has them.

    Parameters
    ----------
    network
        Supplies the first layer, λ_0 and λ^b_0.
    X, X2
        Patterns; X2=None means X.
    """
    return network.layers[0].covariance(network, X, X2)


def input_variances(network: Architecture, X: Any, name: str = "X") -> np.ndarray:
    """Return the variances of the first preactivations, a row for each pattern.

    InputError where they are not within float64.
    """
    return network.layers[0].variances(network, X, name)


@functools.partial(jax.jit, static_argnames=("activation",))
def moments(
    activation: Activation, covariance: Covariance | Local, rule: Any = None
) -> tuple[Covariance, Float[Array, " a"], Float[Array, " b"]]:
    """Return (K∘C, m_a, m_b): second and first moments of σ(h) for h ~ N(0, C).

    For an odd activation both mean vectors are zero. Of a first layer with several h a pattern
    they are those of what each of its units hands on.
    """
    if isinstance(covariance, Local):
        return covariance.moments(activation, rule)
    cross, a, b = covariance
    if isinstance(covariance, Square):
        cross = _moments.kernel(activation, a[:, None], cross, a[None, :], rule=rule)
        mean = _moments.mean(activation, a, rule=rule)
        return Square(cross, jnp.diagonal(cross), jnp.diagonal(cross)), mean, mean
    second = Covariance(
        _moments.kernel(activation, a[:, None], cross, b[None, :], rule=rule),
        _moments.kernel(activation, a, a, a, rule=rule),
        _moments.kernel(activation, b, b, b, rule=rule),
    )
    if activation.parity == "odd":
        return second, jnp.zeros_like(a), jnp.zeros_like(b)
    mean_a = _moments.mean(activation, a, rule=rule)
    mean_b = _moments.mean(activation, b, rule=rule)
    return second, mean_a, mean_b


@functools.partial(jax.jit, static_argnames=("activation",))
def layer_map(
    activation: Activation,
    covariance: Covariance | Local,
    value: Scales,
    precision: Any,
    bias: Any,
    rule: Any = None,
) -> Covariance:
    """Return one layer of the renormalised recursion.

    K_ℓ = [Q̄_ℓ (K∘K_{ℓ-1} − m mᵀ) + m mᵀ/(1 + Q_ℓ)]/λ_ℓ (+ 1/λ^b_ℓ); Q̄ = 1 and Q = 0 give the
    infinite-width layer.

    Parameters
    ----------
    activation
        σ.
    covariance
        K_{ℓ-1}.
    value
        Q̄_ℓ and 1/(1 + Q_ℓ), scalars.
    precision, bias
        λ_ℓ and 1/λ^b_ℓ, scalars.
    rule
        Quadrature rule from `layer_rules`; None for a closed form or the default rule.

    References
    ----------
    theory.md, section 4; the term in m m^T at depth > 1 is this package's extension of the
    one-layer result.
    """
    q_bar, shrinkage = value
    second, mean_a, mean_b = moments(activation, covariance, rule)
    if activation.parity == "odd":
        return type(second)(*(q_bar * block / precision + bias for block in second))
    excess = shrinkage - q_bar
    return type(second)(
        (q_bar * second.cross + excess * mean_a[:, None] * mean_b[None, :]) / precision + bias,
        (q_bar * second.diag_a + excess * mean_a**2) / precision + bias,
        (q_bar * second.diag_b + excess * mean_b**2) / precision + bias,
    )


@dataclasses.dataclass(frozen=True)
class Dense(Layer):
    """A fully connected layer, h = W σ(h')/√N' (+ b), or W x/√N_0 (+ b) as the first.

    Parameters
    ----------
    width
        N, number of units.

    Raises
    ------
    InputError
        If `width` is not a positive int.
    """

    name: ClassVar[str] = "dense"
    rotates: ClassVar[bool] = True

    def forward(self, weights: Mapping[str, Any], x: Any, before: Any) -> Any:
        """Return W x/√N (+ b)."""
        h = weights["W"] @ x / weights["W"].shape[1] ** 0.5
        return h + weights["b"][:, None] if "b" in weights else h

    def link(self, before: Layer, mean: bool) -> Link:
        """Return the papers' layer map."""
        return Link(layer_map, scale(before.width, mean))

    def readout(self, mean: bool) -> Link:
        """Return the same map, for one output."""
        return Link(layer_map, scale(self.width, mean))


@hookimpl
def finwidth_register_layers() -> list[type[Layer]]:
    """Register the layer."""
    return [Dense]
