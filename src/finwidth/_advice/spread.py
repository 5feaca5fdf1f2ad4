"""How much a theory's error differs between two problems that are so far apart."""

import numpy as np
from jaxtyping import Float

from .features import Features, differences

__all__ = ["pairwise", "spread"]

_WINDOW = 0.5  # steps
_FEWEST = 5  # pairs


def pairwise(points: list[Features]) -> Float[np.ndarray, "point point"]:
    """Return the distances between problems, in steps."""
    apart = np.zeros((len(points), len(points)))
    for i, one in enumerate(points):
        for j in range(i):
            apart[i, j] = apart[j, i] = np.linalg.norm(differences(one, points[j]))
    return apart


def spread(
    apart: Float[np.ndarray, "point point"],
    relative_error: Float[np.ndarray, " point"],
    distance: float,
) -> float:
    """Return the median |difference| of relative errors over pairs of points about as far apart.

    NaN where there are too few such pairs.
    """
    i, j = np.tril_indices(len(apart), -1)
    between = np.abs(relative_error[i] - relative_error[j])
    alike = (np.abs(apart[i, j] - distance) <= _WINDOW) & np.isfinite(between)
    return float(np.median(between[alike])) if np.sum(alike) >= _FEWEST else np.nan
