"""Infinite width: the neural-network Gaussian process, every Q̄ = 1 and Q = 0."""

from typing import Any

import numpy as np

from .._layers.stack import infinite_width
from .._plugins.hooks import hookimpl
from .._problem.network import Network
from .._problem.problem import Problem
from ._saddle.outputs import RotatedSolution, solve_rotated
from ._saddle.point import SaddlePoint
from ._saddle.theory import SaddleTheory
from ._solution import Solution
from ._theory import Test, Theory
from .nested import Nested

__all__ = ["Infinite"]


class Infinite(Nested):
    """The network of infinite width (Lee et al., ICLR 2018; theory.md, section 4)."""

    name = "infinite"
    fixed = True

    def eliminates_q(self, network: Network) -> bool:
        """Also where a layer has no mean term: Q = 0."""
        return not network.dense or super().eliminates_q(network)

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

    def solve_by_patches(self, problem: Problem, start: Any = None) -> Solution:
        """Return the solution with Q̄ = 1: every patch by itself."""
        return self.solve_at_point(problem)

    def solve_column(self, problems: list[Problem], test: Test) -> list[dict[str, Any]]:
        """Solve problems that differ in width, which is of no consequence."""
        if problems[0].network.by_patches:
            return Theory.solve_column(self, problems, test)
        return SaddleTheory.solve_column(self, problems, test)

    def solve_outputs(self, problem: Problem, start: Any = None) -> RotatedSolution:
        """Return the same Gaussian process for every output."""
        return solve_rotated(self, problem, rotation=np.eye(problem.network.outputs))


@hookimpl
def finwidth_register_theories() -> list[Theory]:
    """Register the theory."""
    return [Infinite()]
