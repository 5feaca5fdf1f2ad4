"""The logarithmic rectified unit, σ(h) = log(1 + max(h, 0)): a kink at 0, and no closed form.

Neither E[σ(h)σ(h')] nor E[σ(h)] is known, so that finwidth computes both by quadrature. The kink
lies at 0, where its rules are split, and costs E[σ] nothing; the Hermite series of E[σσ'], though,
converges as slowly as for any kink. How far it gets is measured, and said
(`finwidth.AccuracyWarning`).
"""

import jax.numpy as jnp
from jax import Array

import finwidth as fw

__all__ = ["finwidth_register_activations"]


def _log_relu(h: Array) -> Array:
    return jnp.log1p(jnp.maximum(h, 0))


@fw.hookimpl
def finwidth_register_activations() -> list[fw.Activation]:
    """Register the activation."""
    return [
        fw.Activation("log_relu", _log_relu, reference="Liu et al., arXiv:1908.03682 (2019), β = 1")
    ]
