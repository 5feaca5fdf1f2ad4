"""Order parameters: what finite width leaves free in a layer, and its term of the action."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from .architecture import Architecture

__all__ = ["OrderParameters", "prior_derivatives", "prior_term", "unpack"]


class OrderParameters(NamedTuple):
    """Q̄_ℓ and 1/(1 + Q_ℓ), each of shape (layer,)."""

    q_bar: Float[Any, " layer"]
    shrinkage: Float[Any, " layer"]

    @property
    def q(self) -> Any:
        """Q_ℓ, shape (layer,)."""
        return 1.0 / self.shrinkage - 1.0


def unpack(theta: Any, depth: int) -> OrderParameters:
    """Return the order parameters for θ of shape (depth,) or (2 depth,)."""
    xp = jnp if isinstance(theta, Array) else np
    values = xp.exp(theta)
    if theta.shape[0] == depth:
        return OrderParameters(values, values)
    return OrderParameters(values[:depth], values[depth:])


def prior_term(network: Architecture, order: OrderParameters) -> float:
    """Return Σ_ℓ N_ℓ[−Q_ℓ Q̄_ℓ + log(1 + Q_ℓ)]."""
    widths = np.asarray(network.widths, dtype=np.float64)
    q_bar, shrinkage = np.asarray(order.q_bar), np.asarray(order.shrinkage)
    return float(np.sum(widths * (q_bar - q_bar / shrinkage - np.log(shrinkage))))


def prior_derivatives(
    theta: np.ndarray, widths: np.ndarray, eliminated: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return gradient and Hessian of the prior term in θ.

    With Q eliminated: N(e^u − 1 − u) in u = log Q̄. Otherwise N(e^u − e^{u−w} − w), where
    w = log 1/(1 + Q).
    """
    n = widths.size
    if eliminated:
        return widths * np.expm1(theta), np.diag(widths * np.exp(theta))
    u, w = theta[:n], theta[n:]
    ratio = widths * np.exp(u - w)
    gradient = np.concatenate([widths * np.exp(u) - ratio, widths * np.expm1(u - w)])
    uu, uw, ww = np.diag(widths * np.exp(u) - ratio), np.diag(ratio), np.diag(-ratio)
    return gradient, np.block([[uu, uw], [uw, ww]])
