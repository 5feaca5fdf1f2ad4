"""Mean and variance of the output at some points."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from .._basics.checks import check_iterable
from .._basics.errors import InputError

__all__ = ["Prediction"]


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """Moments of the latent f at test points (T is not added).

    Attributes
    ----------
    mean, variance
        Shape (test_pattern,).
    covariance
        Shape (test_pattern, test_pattern) where it was asked for, else None.
    """

    mean: Float[np.ndarray, " test_pattern"]
    variance: Float[np.ndarray, " test_pattern"]
    covariance: Float[np.ndarray, "test_pattern test_pattern"] | None = None

    @classmethod
    def join(cls, blocks: "Sequence[Prediction]") -> "Prediction":
        """Return the prediction at all points of several, which have no covariance."""
        joined: dict[str, Any] = {}
        blocks = check_iterable("blocks", blocks, "Prediction objects, at least one")
        if not blocks or not all(isinstance(block, cls) for block in blocks):
            raise InputError("expected blocks = Prediction objects, at least one, got others")
        for field in dataclasses.fields(cls):
            parts = [getattr(block, field.name) for block in blocks]
            joined[field.name] = None if parts[0] is None else np.concatenate(parts)
        return cls(**joined)
