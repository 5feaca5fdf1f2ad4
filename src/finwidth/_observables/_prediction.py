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
        Shape (test_pattern,), or (test_pattern, output) with several outputs.
    covariance
        Shape (test_pattern, test_pattern) where it was asked for, else None; with several outputs
        (test_pattern, output, test_pattern, output).
    output_covariance
        Covariance of the outputs at each point, shape (test_pattern, output, output), where there
        are several, else None.
    probabilities
        Of each class, shape (test_pattern, class_), where the likelihood is one of classes, the
        lowest label first (−1, +1), else None: E p(c|f), at T = 1.
    """

    mean: Float[np.ndarray, " test_pattern"] | Float[np.ndarray, "test_pattern output"]
    variance: Float[np.ndarray, " test_pattern"] | Float[np.ndarray, "test_pattern output"]
    covariance: (
        Float[np.ndarray, "test_pattern test_pattern"]
        | Float[np.ndarray, "test_pattern output test_pattern output"]
        | None
    ) = None
    output_covariance: Float[np.ndarray, "test_pattern output output"] | None = None
    probabilities: Float[np.ndarray, "test_pattern class_"] | None = None

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
