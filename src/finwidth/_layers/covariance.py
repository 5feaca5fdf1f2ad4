"""Second moments of a Gaussian field on two sets of patterns."""

from typing import NamedTuple

import numpy as np
from jax import Array
from jaxtyping import Float

__all__ = ["LARGEST", "SMALLEST", "Covariance", "Square"]

# Variances that float64 holds, and with them covariances that are smaller by its precision.
SMALLEST = float(np.finfo(np.float64).tiny / np.finfo(np.float64).eps)
LARGEST = float(np.finfo(np.float64).max)


class Covariance(NamedTuple):
    """Second moments of a Gaussian field on two sets of patterns.

    Attributes
    ----------
    cross
        Covariance between the sets, shape (a, b).
    diag_a, diag_b
        Variances within each set, shapes (a,) and (b,).
    """

    cross: Float[Array, "a b"]
    diag_a: Float[Array, " a"]
    diag_b: Float[Array, " b"]


class Square(Covariance):
    """Second moments of a Gaussian field on one set of patterns, which is half the work."""

    __slots__ = ()
