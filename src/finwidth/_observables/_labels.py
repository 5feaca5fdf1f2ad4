"""Labels that are classes, in the form that observables take."""

import numpy as np
from jaxtyping import Float

from .._basics.errors import InputError

__all__ = ["as_rows"]


def as_rows(
    labels: Float[np.ndarray, " pattern"], outputs: int, name: str = "y_test"
) -> Float[np.ndarray, "pattern output"]:
    """Return class indices 0 … outputs − 1 as rows with a one and zeros, or raise InputError."""
    other = labels[(labels != np.round(labels)) | (labels < 0) | (labels >= outputs)]
    if other.size:
        raise InputError(
            f"expected {name} = class indices 0 … {outputs - 1}, got {other.size} other(s), the "
            f"first {other[0]:g}"
        )
    return np.eye(outputs)[labels.astype(int)]
