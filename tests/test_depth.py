"""The mean term at depth, against a deep network whose prior is known: σ(h) = h + b."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import finwidth as fw
from finwidth._layers.dense import input_covariance
from finwidth._layers.order import OrderParameters
from finwidth._layers.stack import Stack
from finwidth._numerics.precision import float64
from finwidth.theories.nested import Nested

WIDTHS, B = (5, 9, 7), 0.7
SHIFT = fw.Activation(
    "shift",
    lambda h: h + B,
    kernel=lambda xx, xy, yy: xy + B**2 + 0.0 * (xx + yy),
    mean=lambda xx: B + 0.0 * xx,
)
NET = fw.Network(WIDTHS, SHIFT)
RNG = np.random.default_rng(3)
X, DUAL = RNG.normal(size=(4, 3)), RNG.normal(size=4)


def slopes():
    """∂(s̄ᵀK_R s̄)/∂Q̄_ℓ and ∂/∂(1/(1+Q_ℓ)) at infinite width."""
    with float64():
        stack = Stack.of(NET, (None,) * 3)
        covariance = input_covariance(NET, X)

        def square(scales):
            kernel = Nested().kernel(stack, covariance, OrderParameters.of(*scales))
            return DUAL @ kernel.cross @ DUAL

        ones = jnp.ones(3)
        return (np.asarray(part) for part in jax.grad(square)((ones, ones)))


def test_the_fourth_cumulant_of_a_deep_network_with_means():
    """The saddle over Q̄ and Q is −2 log E exp(i t s̄·f) = t²κ − t⁴V/4 + …, V = Var(s̄ᵀK̂_Ls̄).

    To first order in 1/N it gives V = Σ_ℓ (2F² + 4FG)/N_ℓ with the two slopes F and G. In the
    network itself k_ℓ = s̄ᵀK̂_ℓs̄ is a Markov chain, k_ℓ = Σ_i(√k_{ℓ−1} z_i + b Σ_μ s̄_μ)²/N_ℓ,
    whose variance is taken to the same order.
    """
    means = (B * np.sum(DUAL)) ** 2
    k = float(DUAL @ X @ X.T @ DUAL) / X.shape[1]
    exact = 0.0
    for width in WIDTHS:
        exact += (2 * k**2 + 4 * k * means) / width
        k += means
    scale, mean = slopes()
    predicted = np.sum((2 * scale**2 + 4 * scale * mean) / np.array(WIDTHS))
    assert predicted == pytest.approx(exact, rel=1e-12)
