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

from .._basics.errors import InputError
from .._plugins.hooks import hookimpl
from ..activations import _moments
from ..activations._activation import Activation
from .architecture import Architecture
from .covariance import LARGEST, SMALLEST, Covariance, Square
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


def bias_variances(network: Architecture) -> np.ndarray:
    """Return 1/λ^b_0 … 1/λ^b_L, zeros without biases, shape (depth + 1,)."""
    if network.bias_precision is None:
        return np.zeros(network.depth + 1)
    return 1.0 / np.asarray(network.bias_precision)


def whiten_inputs(
    network: Architecture, X: Float[np.ndarray, "a input"]
) -> Float[np.ndarray, "a extended"]:
    """Return Z with C = Z Zᵀ: h = Z w for weights, and with biases a bias, that are N(0, 1).

    That is X/√(λ_0 N_0) and, with biases, a column 1/√λ^b_0.
    """
    scaled = X / np.sqrt(network.weight_precision[0] * X.shape[1])
    if network.bias_precision is None:
        return scaled
    column = np.full((X.shape[0], 1), 1.0 / np.sqrt(network.bias_precision[0]))
    return np.concatenate([scaled, column], axis=1)


def input_covariance(network: Architecture, X: Any, X2: Any = None) -> Covariance:
    """Return C = X X2ᵀ/(λ_0 N_0) (+ 1/λ^b_0), the covariance of the first preactivations.

    Parameters
    ----------
    network
        Supplies λ_0 and λ^b_0.
    X, X2
        Patterns, shapes (a, input) and (b, input); X2=None means X.
    """
    square = X2 is None
    X2 = X if square else X2
    cross = jnp.asarray(_products(network, X, X2) + bias_variances(network)[0], jnp.float64)
    diag = jnp.asarray(input_variances(network, X), jnp.float64)
    if square:
        return Square(cross, diag, diag)
    return Covariance(cross, diag, jnp.asarray(input_variances(network, X2), jnp.float64))


def input_variances(
    network: Architecture, X: Float[np.ndarray, "a input"], name: str = "X"
) -> np.ndarray:
    """Return the diagonal of C, shape (a,); InputError where it is not within float64."""
    variances = _products(network, X) + bias_variances(network)[0]
    lost = ~(variances <= LARGEST) | ((variances < SMALLEST) & np.any(X, axis=1))
    if lost.any():
        row = int(np.argmax(lost))
        raise InputError(
            f"expected {name} = patterns of variance |x|²/(λ_0 N_0) between {SMALLEST:.0e} and "
            f"{LARGEST:.0e} (λ_0 is weight_precision[0]), got {variances[row]:.1e} in row {row}: "
            "it has no covariance in float64"
        )
    return variances


def _products(
    network: Architecture,
    X: Float[np.ndarray, "a input"],
    X2: Float[np.ndarray, "b input"] | None = None,
) -> np.ndarray:
    """Return x·x'/(λ_0 N_0), shape (a, b), or for X2=None its diagonal, shape (a,).

    Where the products themselves would leave float64, each pattern is divided by a power of two.
    """
    precision, inputs = network.weight_precision[0], X.shape[1]

    def multiply(X: np.ndarray, X2: np.ndarray | None) -> np.ndarray:
        return np.einsum("ij,ij->i", X, X) if X2 is None else X @ X2.T

    if _is_moderate(precision) and _is_moderate(X) and (X2 is None or _is_moderate(X2)):
        return 1.0 / (precision * inputs) * multiply(X, X2)
    mantissa, exponent = np.frexp(precision)
    unit = np.frexp(np.max(np.abs(X), axis=1))[1]
    unit2 = unit if X2 is None else np.frexp(np.max(np.abs(X2), axis=1))[1]
    product = multiply(
        np.ldexp(X, -unit[:, None]), None if X2 is None else np.ldexp(X2, -unit2[:, None])
    )
    units = 2 * unit if X2 is None else unit[:, None] + unit2
    with np.errstate(over="ignore", under="ignore"):  # of the variances it is refused
        return np.ldexp(1.0 / (mantissa * inputs) * product, units - exponent)


def _is_moderate(values: Any) -> bool:
    """Whether sums of products of two of these numbers stay well within float64."""
    sizes = np.abs(values)
    return bool(np.max(sizes) < 1e100 and np.min(sizes, initial=1.0, where=sizes > 0) > 1e-100)


@functools.partial(jax.jit, static_argnames=("activation",))
def moments(
    activation: Activation, covariance: Covariance, rule: Any = None
) -> tuple[Covariance, Float[Array, " a"], Float[Array, " b"]]:
    """Return (K∘C, m_a, m_b): second and first moments of σ(h) for h ~ N(0, C).

    For an odd activation both mean vectors are zero.
    """
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
    covariance: Covariance,
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
