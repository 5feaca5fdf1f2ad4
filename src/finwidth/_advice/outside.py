"""How well infinitely wide networks predict labels that they have not seen, in closed form."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .._numerics.factor import Factor
from .._numerics.largest import largest, positive
from .._numerics.precision import float64
from .._observables.accuracy import class_index
from .._problem.problem import Problem

__all__ = ["LeftOut", "leave_one_out"]

_MOST = 2000  # patterns of which a kernel is made


class LeftOut(NamedTuple):
    """What infinite width says of each pattern, given all others.

    Attributes
    ----------
    error
        Squared error of a draw of f, in units of the labels' variance.
    accuracy
        Accuracy of a draw, NaN where the labels are no classes.
    patterns
        How many there are: at most 2000, evenly spread over all.
    """

    error: float
    accuracy: float
    patterns: int

    @property
    def accuracy_se(self) -> float:
        """Standard error of the accuracy by the number of patterns."""
        return math.sqrt(max(self.accuracy * (1.0 - self.accuracy), 0.0) / self.patterns)


def leave_one_out(problem: Problem) -> LeftOut | None:
    """Return it for the Gaussian likelihood, whose law of f given the others is known.

    f_i | y_-i has mean y_i − a_i/B_ii and variance 1/B_ii − T, where B = (T + K)⁻¹ and a = B y
    (Rasmussen & Williams, Gaussian Processes (2006), eq. 5.12). None with other likelihoods.

    Raises
    ------
    InputError
        If the kernel is singular to working precision.
    """
    if not problem.likelihood.homogeneous:
        return None
    n = problem.n_patterns
    if n > _MOST:
        problem = problem.subset(np.linspace(0, n - 1, _MOST).round().astype(int))
    with float64():
        factor = Factor(problem.nngp, problem.temperature)
    y = problem.y if problem.y.ndim == 2 else problem.y[:, None]
    inverse = np.sum(factor.whiten(np.eye(len(y))) ** 2, axis=0)
    mean = y - factor.solve(y) / inverse[:, None]
    variance = np.maximum(1.0 / inverse - problem.temperature, 0.0)
    spread = float(np.mean((y - y.mean(axis=0)) ** 2))
    error = float(np.mean((y - mean) ** 2 + variance[:, None]))
    accuracy = _accuracy(problem.y, mean, variance)
    return LeftOut(error / spread if spread > 0 else math.nan, accuracy, len(y))


def _accuracy(
    y: np.ndarray,
    mean: Float[np.ndarray, "pattern output"],
    variance: Float[np.ndarray, " pattern"],
) -> float:
    index = class_index(y)
    if index is None:
        return math.nan
    if y.ndim == 1:
        return float(np.mean(positive(y * mean[:, 0], variance)))
    shared = np.broadcast_to(variance[:, None], mean.shape)
    return float(np.mean(largest(mean, shared, None, index)))
