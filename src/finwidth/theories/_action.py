"""The effective action of theory.md, section 4: its prior term, its data term, their derivatives.

The unknowns θ are log Q̄_ℓ and, with a mean term, log 1/(1 + Q_ℓ). Without one Q̄ = 1/(1 + Q) is
eliminated.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
from jax import Array
from jaxtyping import Float

from .._kernels import Covariance
from .._network import Network
from .._problem import LayerConstants, Problem
from .._scaled import ScaledKernel

__all__ = [
    "OrderParameters",
    "ScaledForm",
    "dense_data_term",
    "dense_gradient",
    "prior_derivatives",
    "prior_term",
    "scaled_gradient",
    "unpack",
]


class OrderParameters(NamedTuple):
    """Q̄_ℓ and 1/(1 + Q_ℓ), each of shape (layer,)."""

    q_bar: Float[Any, " layer"]
    shrinkage: Float[Any, " layer"]

    @property
    def q(self) -> Any:
        """Q_ℓ, shape (layer,)."""
        return 1.0 / self.shrinkage - 1.0


class ScaledForm(NamedTuple):
    """K_R = s·K_0 + U diag(w) Uᵀ, where a theory's kernel is of that form.

    `kernel` is K_0, `columns` U. The scale is s = Π_ℓ Q̄_ℓ. Where Q_ℓ are unknowns of their own,
    the first weights are `fixed_weights` times 1/(1 + Q_ℓ), one for each; the others are fixed.
    """

    kernel: np.ndarray
    columns: np.ndarray
    fixed_weights: np.ndarray  # weights at Q = 0


def unpack(theta: Any, depth: int) -> OrderParameters:
    """Return the order parameters for θ of shape (depth,) or (2 depth,)."""
    xp = jnp if isinstance(theta, Array) else np
    values = xp.exp(theta)
    if theta.shape[0] == depth:
        return OrderParameters(values, values)
    return OrderParameters(values[:depth], values[depth:])


def prior_term(network: Network, order: OrderParameters) -> float:
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


def scaled_gradient(
    problem: Problem, form: ScaledForm, form_name: str
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the data term's gradient where one scale is all that varies; O(P) a call."""
    scaled = problem.shared(
        f"scaled {form_name}", lambda: ScaledKernel(form.kernel, form.columns, problem.y)
    )
    depth = problem.network.depth

    def gradient(theta: np.ndarray) -> np.ndarray:
        log_q_bar, log_shrinkage = theta[:depth], theta[depth:]
        weights = form.fixed_weights.copy()
        weights[: log_shrinkage.size] *= np.exp(log_shrinkage)
        _, d_scale, d_weights = scaled.data_term(
            float(np.exp(np.sum(log_q_bar))), weights, problem.temperature
        )
        return np.concatenate([np.full(depth, d_scale), d_weights[: log_shrinkage.size]])

    return gradient


def dense_data_term(
    theta: Array,
    kernel: Callable[..., Covariance],
    activation: Any,
    rules: tuple,
    constants: LayerConstants,
    covariance: Covariance,
    y: Array,
    temperature: Array,
) -> Array:
    """Return logdet A + yᵀA⁻¹y with A = T·1 + K_R(θ)."""
    order = unpack(theta, constants.precisions.shape[0])
    block = kernel(activation, constants, covariance, order, rules).cross
    a = block + temperature * jnp.eye(y.shape[0])
    factor = jnp.linalg.cholesky(a)
    whitened = jax.scipy.linalg.solve_triangular(factor, y, lower=True)
    return 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor))) + whitened @ whitened


dense_gradient = jax.jit(
    jax.grad(dense_data_term), static_argnames=("kernel", "activation", "rules")
)
