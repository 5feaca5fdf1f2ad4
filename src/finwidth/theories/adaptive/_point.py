"""The action of the adaptive theory at one covariance and one Q̄."""

import dataclasses

import numpy as np
from jaxtyping import Float

__all__ = ["AdaptivePoint"]


@dataclasses.dataclass(frozen=True, eq=False)
class AdaptivePoint:
    """The action at one (M, Q̄), with what its derivatives need.

    Attributes
    ----------
    root
        L with M = L Lᵀ, shape (rank, rank).
    log_q_bar, log_shrinkage
        log Q̄ and log 1/(1+Q).
    value
        𝒮.
    gradient
        ∂𝒮/∂(H, log Q̄) at H = 0, shape (rank² + 1,).
    residual
        Largest |∂𝒮|, that by log 1/(1+Q) included, relative to N_1 + P.
    noise
        Rounding error of `value`, roughly.
    inverse, weights
        A⁻¹, which the gradient of logdet A needs entry by entry, and A⁻¹y.
    covariance
        C.
    bend
        N_1 (LᵀL) + ∂(data term)/∂H: the gradient before the constant N_1 is taken off; e^H makes
        it part of the Hessian.
    """

    root: Float[np.ndarray, "rank rank"]
    log_q_bar: float
    log_shrinkage: float
    value: float
    gradient: Float[np.ndarray, " size"]
    residual: float
    noise: float
    covariance: Float[np.ndarray, "pattern pattern"]
    inverse: Float[np.ndarray, "pattern pattern"]
    weights: Float[np.ndarray, " pattern"]
    bend: Float[np.ndarray, "rank rank"]

    @property
    def weight_covariance(self) -> Float[np.ndarray, "rank rank"]:
        """M."""
        return self.root @ self.root.T
