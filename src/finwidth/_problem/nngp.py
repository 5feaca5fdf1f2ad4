"""The infinite-width kernel of a network's output."""

from typing import Any

import numpy as np
from jaxtyping import Float

from .._layers.covariance import Covariance
from .._layers.dense import input_covariance, input_variances
from .._layers.stack import Stack, infinite_width, layer_rules, recursion
from .._numerics.precision import float64
from .._numerics.tiles import assemble
from ..activations._contract import validate_kernel
from .network import Network, check_network

__all__ = ["nngp_block", "nngp_kernel"]

_ROWS = 512  # of a rectangular kernel at a time


def nngp_kernel(network: Network, X: Any, X2: Any = None) -> Float[np.ndarray, "a b"]:
    """Return the infinite-width covariance of the network's output.

    Parameters
    ----------
    network
        The network; its widths play no role.
    X
        Patterns, shape (a, input), or images where the first layer takes those.
    X2
        Patterns, likewise; None means X.

    Returns
    -------
    numpy.ndarray
        Kernel with 1/λ_L (and 1/λ^b_L) included, float64, shape (a, b).

    Raises
    ------
    InputError
        If X or X2 is not a finite array of patterns, or their inputs differ, or a covariance leaves
        float64.
    PluginError
        If the activation breaks its contract.

    References
    ----------
    Lee et al., ICLR 2018; Pacelli et al., Nat. Mach. Intell. 5, 1497 (2023), eq. 8.
    """
    network = check_network(network, "network")
    first = network.layers[0]
    X = first.check_inputs(X)
    X2 = X if X2 is None else first.check_inputs(X2, "X2", X.shape[1:])
    for activation in dict.fromkeys(network.activations):
        validate_kernel(activation)
    with float64():
        variances = [input_variances(network, X), input_variances(network, X2, "X2")]
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
    A: Float[np.ndarray, "a ..."],
    B: Float[np.ndarray, "b ..."],
    rules: tuple,
) -> Covariance:
    """Return the infinite-width kernel between two sets of checked patterns."""
    return recursion(
        Stack.of(network, rules), input_covariance(network, A, B), infinite_width(network)
    )
