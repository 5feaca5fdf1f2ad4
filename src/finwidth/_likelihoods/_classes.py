"""Two classes, y = −1 and +1: what their likelihoods share."""

import abc
from typing import Any

import numpy as np
from jaxtyping import Float

from .._basics.errors import InputError
from ._factorised import Factorised

__all__ = ["TwoClasses"]


class TwoClasses(Factorised):
    """p(y|f) = S(y f) with S a sigmoid, S(z) + S(−z) = 1; tempered to p(y|f)^(1/T)."""

    default_temperature = 1.0

    def check(self, y: Float[np.ndarray, " pattern"]) -> Float[np.ndarray, " pattern"]:
        """Return labels −1 and +1, both of which must occur."""
        expected = f"expected y = labels −1 and +1 with likelihood={self.name!r}, got"
        if y.ndim != 1:
            raise InputError(f"{expected} shape {y.shape}: one output, not several")
        other = y[np.abs(y) != 1.0]
        if other.size:
            raise InputError(f"{expected} {other.size} other(s), the first {other[0]:g}")
        if np.all(y == y[0]):
            raise InputError(f"{expected} {y[0]:+g} alone")
        return y

    @abc.abstractmethod
    def log_sigmoid(self, z: Any) -> Any:
        """Return log S(z), of JAX arrays."""

    @abc.abstractmethod
    def mean_sigmoid(self, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """Return E S(f) for f ~ N(mean, variance)."""

    def probabilities(self, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """Return E p(y|f) for y = −1 and +1, not tempered, on a last axis more."""
        spread = np.maximum(variance, 0.0).ravel()  # rounding may take it below
        both = [self.mean_sigmoid(sign * mean.ravel(), spread) for sign in (-1.0, 1.0)]
        return np.stack(both, axis=-1).reshape(*mean.shape, 2)

    def observe(self, f: Any, y: Any, temperature: Any) -> None:
        """Sample y ~ p(y|f), or observe it with p(y|f)^(1/T)."""
        import numpyro

        from ._signs import Signs

        with (
            numpyro.plate("pattern", f.shape[0]),
            numpyro.handlers.scale(scale=1.0 / temperature),
        ):
            numpyro.sample("y", Signs(f, self.log_sigmoid), obs=y)
