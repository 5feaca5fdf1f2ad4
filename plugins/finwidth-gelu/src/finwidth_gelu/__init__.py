"""The exact GELU, σ(h) = h Φ(h), as a finwidth activation with closed-form moments.

Φ is the normal distribution function and φ its density. The moments follow from Gaussian
integration by parts, E[h g(h, h')] = C_xx E[∂g/∂h] + C_xy E[∂g/∂h'].
"""

import jax
import jax.numpy as jnp
from jax import Array

import finwidth as fw

__all__ = ["finwidth_register_activations"]


def _gelu(h: Array) -> Array:
    """σ(h) = h Φ(h), without the approximation by tanh."""
    return jax.nn.gelu(h, approximate=False)


def _mean(c_xx: Array) -> Array:
    """E[hΦ(h)] = C_xx E[φ(h)] = C_xx/√(2π(1 + C_xx))."""
    return c_xx / jnp.sqrt(2 * jnp.pi * (1 + c_xx))


def _kernel(c_xx: Array, c_xy: Array, c_yy: Array) -> Array:
    """E[hΦ(h) h'Φ(h')].

    Integrating by parts in h leaves C_xy E[ΦΦ'] and moments with one φ; a second integration
    turns the latter into multiples of J = E[φφ'] = 1/(2π√D), D = (1 + C_xx)(1 + C_yy) − C_xy²:

        K = C_xy E[ΦΦ'] + J [C_xx C_yy − C_xy² + C_xy²/(1 + C_xx) + C_xy²/(1 + C_yy)],
        E[ΦΦ'] = 1/4 + arctan(C_xy/√D)/2π.

    D ≥ 1 for every covariance, so all derivatives are finite, on the diagonal and at zero too.
    """
    determinant = c_xx * c_yy - c_xy * c_xy
    root = jnp.sqrt(1 + c_xx + c_yy + determinant)  # √D, without the difference of products
    both = 0.25 + jnp.arctan2(c_xy, root) / (2 * jnp.pi)
    rest = determinant + c_xy * c_xy * (1 / (1 + c_xx) + 1 / (1 + c_yy))
    return c_xy * both + rest / (2 * jnp.pi * root)


@fw.hookimpl
def finwidth_register_activations() -> list[fw.Activation]:
    """Register GELU."""
    return [
        fw.Activation(
            "gelu",
            _gelu,
            parity="none",
            kernel=_kernel,
            mean=_mean,
            reference="Tsuchida et al., AAAI 35, 9967 (2021)",
        )
    ]
