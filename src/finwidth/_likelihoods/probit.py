"""Probit regression of two classes: p(y|f) = Φ(y f), y = ±1."""

import math
from typing import Any

import numpy as np
from scipy.special import erfcx, log_ndtr, ndtr

from .._numerics.tilted import Strip, Terms, Tilted
from ._classes import TwoClasses

__all__ = ["Probit", "likelihood"]


class Probit(TwoClasses):
    """p(y|f) = Φ(y f), the probability that f + ε has the sign of y, ε ~ N(0, 1)."""

    name = "probit"

    def terms(self, f: np.ndarray, y: np.ndarray) -> Terms:
        """Return log p(y|f) and its derivatives in f."""
        z = y * f
        first, second, third, _ = _derivatives(z)
        return Terms(log_ndtr(z), y * first, second, y * third)

    def strip(self, temperature: float) -> Strip:
        """Return a strip without zeros of Φ: the nearest are at 1.92 ± 2.81i."""
        return Strip(2.5, lambda d: 0.5 * d**2 / temperature)

    def match(
        self, y: np.ndarray, temperature: float, mean: np.ndarray, variance: np.ndarray
    ) -> Tilted:
        """Return the moments, in closed form at T = 1."""
        if temperature != 1.0:
            return super().match(y, temperature, mean, variance)
        total = 1.0 + variance
        root = np.sqrt(total)
        z = y * mean / root
        first, second, third, fourth = _derivatives(z)
        return Tilted(
            log_ndtr(z),
            y * first / root,
            second / total,
            y * third / root**3,
            fourth / total**2,
            (1.0 + variance * (1.0 + second)) / total,
        )

    def log_sigmoid(self, z: Any) -> Any:
        """Return log Φ(z)."""
        import jax

        return jax.scipy.special.log_ndtr(z)

    def mean_sigmoid(self, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """Return E Φ(f) in closed form."""
        return ndtr(mean / np.sqrt(1.0 + variance))


likelihood = Probit()


def _derivatives(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the first four derivatives of log Φ."""
    with np.errstate(over="ignore"):
        r = math.sqrt(2.0 / math.pi) / erfcx(-z / math.sqrt(2.0))
    x = np.maximum(-z, 100.0)
    # Mills' ratio for z → −∞, where r and z cancel
    sum_ = np.where(z < -100.0, (1.0 - 2.0 / x**2 + 10.0 / x**4) / x, z + r)
    w = r * sum_
    third = w * sum_ - r * (1.0 - w)
    return r, -w, third, 2.0 * w * (1.0 - w) - third * (sum_ + r)
