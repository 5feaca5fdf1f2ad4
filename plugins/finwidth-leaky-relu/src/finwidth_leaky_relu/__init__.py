"""Leaky rectified linear units of any slope, σ(h) = max(h, 0) + a min(h, 0), in closed form.

With σ(h) = a h + (1 − a) max(h, 0) and Gaussian integration by parts, E[h max(h', 0)] = C_xy/2, the
moments follow from those of ReLU:

    E[σ(h)σ(h')] = a C_xy + (1 − a)² K_ReLU(C),   E[σ(h)] = (1 − a) √(C_xx/2π).

a = 0 is ReLU, a = 1 the identity, a = −1 the absolute value.
"""

import dataclasses

import jax.numpy as jnp
from jax import Array

import finwidth as fw

__all__ = ["finwidth_register_activations"]

# Objects that are equal where their slopes are: activations of one name are then one activation,
# in every process, and pickle carries them.


@dataclasses.dataclass(frozen=True)
class _Leaky:
    slope: float

    def __call__(self, h: Array) -> Array:
        return jnp.where(h > 0, h, self.slope * h)


@dataclasses.dataclass(frozen=True)
class _Kernel:
    slope: float

    def __call__(self, c_xx: Array, c_xy: Array, c_yy: Array) -> Array:
        rectified = fw.get_activation("relu").kernel
        assert rectified is not None
        # the broadcast shape is that of the second term
        return self.slope * c_xy + (1 - self.slope) ** 2 * rectified(c_xx, c_xy, c_yy)


@dataclasses.dataclass(frozen=True)
class _Mean:
    slope: float

    def __call__(self, c_xx: Array) -> Array:
        rectified = fw.get_activation("relu").mean
        assert rectified is not None
        return (1 - self.slope) * rectified(c_xx)


def _leaky_relu(slope: float = 0.01) -> fw.Activation:
    """Return the activation of a slope; the default is that of Maas, Hannun and Ng."""
    return fw.Activation(
        "leaky_relu",
        _Leaky(slope),
        parity="odd" if slope == 1 else "none",
        kernel=_Kernel(slope),
        mean=_Mean(slope),
        reference="Maas, Hannun and Ng, ICML 2013; moments from those of Cho and Saul (2009)",
    )


@fw.hookimpl
def finwidth_register_activations() -> list[fw.ActivationFamily]:
    """Register the family."""
    return [fw.ActivationFamily("leaky_relu", _leaky_relu)]
