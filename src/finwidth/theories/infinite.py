"""Infinite width: the neural-network Gaussian process, every Q̄ = 1 and Q = 0."""

from typing import Any

import numpy as np

from .._layers.stack import infinite_width
from .._plugins.hooks import hookimpl
from .._problem.problem import Problem
from ._saddle.outputs import RotatedSolution, solve_rotated
from ._saddle.point import SaddlePoint
from ._theory import Theory
from .nested import Nested

__all__ = ["Infinite"]


class Infinite(Nested):
    """The network of infinite width (Lee et al., ICLR 2018; theory.md, section 4)."""

    name = "infinite"
    fixed = True

    def order_parameters(self, problem: Problem, start: np.ndarray | None = None) -> SaddlePoint:
        """Return Q̄ = 1, Q = 0; there is nothing to solve."""
        chart = self.chart(problem.network)
        return SaddlePoint(
            order=infinite_width(problem.network),
            prior_term=0.0,
            residual=0.0,
            converged=True,
            message="",
            equations=None,
            theta=np.zeros(chart.size),
            chart=chart,
        )

    def solve_outputs(self, problem: Problem, start: Any = None) -> RotatedSolution:
        """Return the same Gaussian process for every output."""
        return solve_rotated(self, problem, rotation=np.eye(problem.network.outputs))


@hookimpl
def finwidth_register_theories() -> list[Theory]:
    """Register the theory."""
    return [Infinite()]
