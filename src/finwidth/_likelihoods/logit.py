"""Logistic regression of two classes: p(y|f) = 1/(1 + exp(−y f)), y = ±1."""

from typing import Any

import numpy as np
from scipy.special import expit

from .._numerics.tilted import Strip, Terms, gaussian_mean
from ._classes import TwoClasses

__all__ = ["Logit", "likelihood"]

_WIDTH = 2.9  # of a strip that keeps off the poles at ±iπ


class Logit(TwoClasses):
    """p(y|f) = 1/(1 + exp(−y f))."""

    name = "logit"

    def terms(self, f: np.ndarray, y: np.ndarray) -> Terms:
        """Return log p(y|f) and its derivatives in f."""
        z = y * f
        right, wrong = expit(z), expit(-z)
        curvature = right * wrong
        value = np.minimum(z, 0.0) - np.log1p(np.exp(-np.abs(z)))
        return Terms(value, y * wrong, -curvature, y * curvature * (right - wrong))

    def strip(self, temperature: float) -> Strip:
        """Return |Im f| < π, nearly."""
        return Strip(_WIDTH, lambda d: -np.log(np.cos(0.5 * d)) / temperature)

    def log_sigmoid(self, z: Any) -> Any:
        """Return −log(1 + exp(−z))."""
        import jax

        return jax.nn.log_sigmoid(z)

    def mean_sigmoid(self, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """Return E 1/(1 + exp(−f)) by quadrature."""
        if not variance.any():
            return expit(mean)
        return gaussian_mean(expit, mean, variance, self.strip(1.0))


likelihood = Logit()
