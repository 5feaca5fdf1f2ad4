"""Covariances of a layer's preactivations, and the map from one layer to the next.

Everything the theory needs to know about two sets of patterns is their `Covariance`: the block
between the sets and the variances within each. The layer map takes that triple to the next
layer's, so training block, test block and variances all come from one recursion.

Source: theory.md sections 2, 4 and 7; Pacelli et al., Nat. Mach. Intell. 5, 1497 (2023).
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from . import _quadrature
from ._activation import Activation
from ._inputs import check_inputs
from ._network import Network
from ._precision import float64
from ._tiles import assemble

__all__ = [
    "Covariance",
    "bias_variances",
    "input_covariance",
    "input_variances",
    "layer_map",
    "layer_rules",
    "moments",
    "nngp_block",
    "nngp_kernel",
    "recursion",
]

_ROWS = 512  # of a rectangular kernel at a time
# Layers that are compiled one by one; more are a loop, so that any depth compiles fast.
_UNROLLED = 4


class Covariance(NamedTuple):
    """Second moments of a Gaussian field on two sets of patterns.

    Attributes
    ----------
    cross
        Covariance between the sets, shape (a, b).
    diag_a, diag_b
        Variances within each set, shapes (a,) and (b,).
    """

    cross: Float[Array, "a b"]
    diag_a: Float[Array, " a"]
    diag_b: Float[Array, " b"]


def bias_variances(network: Network) -> np.ndarray:
    """Return 1/λ^b_0 … 1/λ^b_L, zeros without biases, shape (depth + 1,)."""
    if network.bias_precision is None:
        return np.zeros(network.depth + 1)
    return 1.0 / np.asarray(network.bias_precision)


def input_covariance(network: Network, X: Any, X2: Any = None) -> Covariance:
    """Return C = X X2ᵀ/(λ_0 N_0) (+ 1/λ^b_0), the covariance of the first preactivations.

    Parameters
    ----------
    network
        Supplies λ_0 and λ^b_0.
    X, X2
        Patterns, shapes (a, input) and (b, input); X2=None means X.
    """
    X2 = X if X2 is None else X2
    scale = 1.0 / (network.weight_precision[0] * X.shape[1])
    shift = bias_variances(network)[0]
    return Covariance(
        jnp.asarray(scale * (X @ X2.T) + shift, jnp.float64),
        jnp.asarray(input_variances(network, X), jnp.float64),
        jnp.asarray(input_variances(network, X2), jnp.float64),
    )


def input_variances(network: Network, X: Float[np.ndarray, "a input"]) -> np.ndarray:
    """Return the diagonal of C, shape (a,)."""
    scale = 1.0 / (network.weight_precision[0] * X.shape[1])
    return scale * np.einsum("ij,ij->i", X, X) + bias_variances(network)[0]


@functools.partial(jax.jit, static_argnames=("activation", "rule"))
def moments(
    activation: Activation, covariance: Covariance, rule: Any = None
) -> tuple[Covariance, Float[Array, " a"], Float[Array, " b"]]:
    """Return (K∘C, m_a, m_b): second and first moments of σ(h) for h ~ N(0, C).

    For an odd activation both mean vectors are zero.
    """
    cross, a, b = covariance
    second = Covariance(
        _quadrature.kernel(activation, a[:, None], cross, b[None, :], rule=rule),
        _quadrature.kernel(activation, a, a, a, rule=rule),
        _quadrature.kernel(activation, b, b, b, rule=rule),
    )
    if activation.parity == "odd":
        return second, jnp.zeros_like(a), jnp.zeros_like(b)
    mean_a = _quadrature.mean(activation, a, rule=rule)
    mean_b = _quadrature.mean(activation, b, rule=rule)
    return second, mean_a, mean_b


@functools.partial(jax.jit, static_argnames=("activation", "rule"))
def layer_map(
    activation: Activation,
    covariance: Covariance,
    q_bar: Any,
    shrinkage: Any,
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
    q_bar, shrinkage
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
    second, mean_a, mean_b = moments(activation, covariance, rule)
    if activation.parity == "odd":
        return Covariance(*(q_bar * block / precision + bias for block in second))
    excess = shrinkage - q_bar
    return Covariance(
        (q_bar * second.cross + excess * mean_a[:, None] * mean_b[None, :]) / precision + bias,
        (q_bar * second.diag_a + excess * mean_a**2) / precision + bias,
        (q_bar * second.diag_b + excess * mean_b**2) / precision + bias,
    )


@functools.partial(jax.jit, static_argnames=("activation", "rules"))
def recursion(
    activation: Activation,
    precisions: Any,
    biases: Any,
    covariance: Covariance,
    q_bar: Any,
    shrinkage: Any,
    rules: tuple,
) -> Covariance:
    """Return K_L of the renormalised recursion, all layers of `layer_map`.

    Parameters
    ----------
    activation
        σ.
    precisions, biases
        λ_ℓ and 1/λ^b_ℓ, shape (layer,).
    covariance
        C.
    q_bar, shrinkage
        Q̄_ℓ and 1/(1 + Q_ℓ), shape (layer,).
    rules
        From `layer_rules`.
    """
    numbers = q_bar, shrinkage, precisions, biases
    layer = 0
    for rule, run in itertools.groupby(rules):
        count = len(list(run))
        rows = tuple(values[layer : layer + count] for values in numbers)
        layer += count
        step = functools.partial(_layer, activation, rule)
        if len(rules) > _UNROLLED and count > 1:
            covariance, _ = jax.lax.scan(step, covariance, tuple(map(jnp.asarray, rows)))
            continue
        for row in zip(*rows, strict=True):
            covariance, _ = step(covariance, row)
    return covariance


def _layer(
    activation: Activation, rule: Any, covariance: Covariance, numbers: tuple
) -> tuple[Covariance, None]:
    """Return one layer of `recursion`, as a step of `jax.lax.scan`."""
    covariance = layer_map(activation, covariance, *numbers, rule)
    # without it the compiler computes a layer anew for each of its uses in the next
    return jax.lax.optimization_barrier(covariance), None


def layer_rules(
    network: Network,
    variances: np.ndarray,
    scales: np.ndarray | None = None,
    tolerance: float = 1e-8,
) -> tuple:
    """Choose each layer's quadrature rule from the variances its preactivations have.

    Parameters
    ----------
    network
        The network.
    variances
        Variances of the first preactivations over all patterns that will be used, shape (n,).
    scales
        max(Q̄_ℓ, 1/(1 + Q_ℓ)), shape (depth,); None where they are not known yet: then a rule has
        room for twice the infinite-width variance.
    tolerance
        Wanted relative accuracy of the moments.

    Returns
    -------
    tuple
        One static rule (or None) per hidden layer. Warns with AccuracyWarning where the
        tolerance cannot be met.
    """
    activation = network.activation
    if activation.kernel is not None and (
        activation.mean is not None or activation.parity == "odd"
    ):
        return (None,) * network.depth
    rules = []
    largest = jnp.asarray([float(np.max(variances))], jnp.float64)
    biases = bias_variances(network)
    for layer in range(1, network.depth + 1):
        room = 2.0 if scales is None else 1.0
        rule = _quadrature.prepare(activation, room * float(largest[0]), tolerance=tolerance)
        rules.append(rule)
        point = Covariance(largest[:, None], largest, largest)
        scale = 1.0 if scales is None else float(scales[layer - 1])
        largest = layer_map(
            activation,
            point,
            scale,
            scale,
            network.weight_precision[layer],
            biases[layer],
            rule,
        ).diag_a
    return tuple(rules)


def nngp_kernel(network: Network, X: Any, X2: Any = None) -> Float[np.ndarray, "a b"]:
    """Return the infinite-width covariance of the network's output.

    Parameters
    ----------
    network
        The network; its widths play no role.
    X
        Patterns, shape (a, input).
    X2
        Patterns, shape (b, input); None means X.

    Returns
    -------
    numpy.ndarray
        Kernel with 1/λ_L (and 1/λ^b_L) included, float64, shape (a, b).

    Raises
    ------
    InputError
        If X or X2 is not a finite 2-D array, or their numbers of inputs differ.

    References
    ----------
    Lee et al., ICLR 2018; Pacelli et al., Nat. Mach. Intell. 5, 1497 (2023), eq. 8.
    """
    X = check_inputs(X)
    X2 = X if X2 is None else check_inputs(X2, name="X2", n_inputs=X.shape[1])
    with float64():
        variances = [input_variances(network, points) for points in (X, X2)]
        rules = layer_rules(network, np.concatenate(variances))
        if X2 is X:
            return assemble(
                X.shape[0],
                lambda rows, columns: np.asarray(
                    nngp_block(network, X[rows], X[columns], rules).cross
                ),
            )
        blocks = [
            np.asarray(nngp_block(network, X[start : start + _ROWS], X2, rules).cross)
            for start in range(0, X.shape[0], _ROWS)
        ]
        return np.concatenate(blocks)


def nngp_block(
    network: Network,
    A: Float[np.ndarray, "a input"],
    B: Float[np.ndarray, "b input"],
    rules: tuple,
) -> Covariance:
    """Return the infinite-width kernel between two sets of checked patterns."""
    ones = np.ones(network.depth)
    return recursion(
        network.activation,
        np.asarray(network.weight_precision[1:]),
        bias_variances(network)[1:],
        input_covariance(network, A, B),
        ones,
        ones,
        rules,
    )
