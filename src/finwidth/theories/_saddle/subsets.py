"""The saddle point of a part of the patterns, from which that of all is a few steps away."""

from typing import Any

import numpy as np

from ..._numerics.continuation import track
from ..._numerics.newton import StationarityEquations, TrackResult, polish
from ..._problem.problem import Problem
from .action import dense_gradient

__all__ = ["LARGEST_TRACKED", "coarse_point"]

LARGEST_TRACKED = 200  # patterns with which a branch is followed


def coarse_point(theory: Any, problem: Problem, largest: int) -> tuple[TrackResult, np.ndarray]:
    """Return the point of subsets of less than `largest` patterns, and the data's Jacobian there.

    The branch is followed with the smallest subset alone.
    """
    n = problem.n_patterns
    sizes = [n]
    while sizes[0] > LARGEST_TRACKED:
        sizes.insert(0, -(-sizes[0] // 4))
    coarse = _thinned(theory, problem, sizes[0])
    result = track(coarse)
    jacobian = coarse.data_jacobian(result.theta)
    for size in sizes[1:]:
        if result.converged and size < largest:
            finer = _thinned(theory, problem, size)
            result, _ = polish(finer, result.theta, jacobian, tolerance=1e-5)
            jacobian = finer.data_jacobian(result.theta, finer.data(result.theta))
    return result, jacobian


def _thinned(theory: Any, problem: Problem, size: int) -> StationarityEquations:
    """Return the equations with the data term of `size` patterns, scaled up to all of them."""
    n = problem.n_patterns
    chosen = np.random.default_rng(0).permutation(n)[:size]
    subset = problem.subset(chosen)
    chart = theory.chart(problem.network)
    data = dense_gradient(subset, theory.kernel, chart)
    whole = theory.equations(problem)
    rows = chart.widths() + n
    return StationarityEquations(
        whole.prior, lambda theta: (n / size) * data(theta) / rows, whole.size
    )
