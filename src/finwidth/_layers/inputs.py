"""Flat patterns before a first layer that multiplies them by its weights: covariances of its h.

Source: theory.md sections 1 and 2.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .._basics.errors import InputError
from .architecture import Architecture
from .covariance import LARGEST, SMALLEST, Covariance, Square

__all__ = ["bias_variances", "flat_covariance", "flat_variances", "whiten_inputs"]


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


def flat_covariance(network: Architecture, X: Any, X2: Any = None) -> Covariance:
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
    diag = jnp.asarray(flat_variances(network, X), jnp.float64)
    if square:
        return Square(cross, diag, diag)
    return Covariance(cross, diag, jnp.asarray(flat_variances(network, X2), jnp.float64))


def flat_variances(
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
