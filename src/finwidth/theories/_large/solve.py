"""From a problem and a plan to a solution; what is interrupted keeps what it has."""

from collections.abc import Callable

import numpy as np

from ..._basics.blas import blas_threads
from ..._basics.memory import shown_memory
from ..._basics.progress import Progress
from ..._numerics.factor import check_conditioning
from ..._numerics.precision import float64
from ..._problem.problem import Problem
from .._saddle.theory import SaddleTheory
from .._theory import check_converged, check_covered
from .deep import fit_deep
from .fit import EXPECTED, Fit, Keep, fit
from .kernel import LargeKernel
from .plan import Plan
from .solution import LargeSolution

__all__ = ["SolvingInterrupted", "solve_large"]


class SolvingInterrupted(KeyboardInterrupt):
    """A solution by iterations was interrupted; what was found so far is attached.

    Parameters
    ----------
    message
        How far it came.
    best
        A `finwidth.Solution` with ``converged=False``: the saddle point that the products so far
        give, with its error bars; of several nested layers the last step of Newton's method.
    """

    def __init__(self, message: str, best: LargeSolution) -> None:
        super().__init__(message)
        self.best = best


def solve_large(
    problem: Problem, rule: SaddleTheory, plan: Plan, progress: bool = True
) -> LargeSolution:
    """Return the saddle point of a theory without a P × P matrix.

    Raises
    ------
    ConvergenceError
        If it was not reached, or the basis does not fit; with the best solution in ``.best``.
    SolvingInterrupted
        If interrupted after the first product, likewise.
    """
    check_covered(problem, rule)
    made: list[Callable[[], Fit]] = []
    # threads take tiles, each with products of its own
    with float64(), blas_threads(1):
        theta = np.zeros(rule.chart(problem.network).size)
        matrix = LargeKernel(rule, problem, plan, theta).matrix
        kept = min(matrix.count, matrix.most)
        note = (
            f"{problem.n_patterns} patterns, {plan.probes} probes, {kept} of {matrix.count} tiles "
            f"of the kernel kept ({shown_memory(kept * matrix.tile_memory)})"
        )
        try:
            with Progress(rule.name, note, EXPECTED * matrix.count, progress) as bar:
                found = _fit(problem, rule, plan, bar, made.append)
        except KeyboardInterrupt:
            if not made:
                raise
            best = LargeSolution(problem, made[-1](), progress, "interrupted")
            raise SolvingInterrupted(
                f"interrupted after {len(made)} products with the kernel; what they give is in "
                ".best",
                best,
            ) from None
        solution = LargeSolution(problem, found, progress)
        scale = found.kernel.parts.scale(found.point.order)
        largest = scale * float(found.term.nodes[-1])
        temperature = problem.temperature
        check_conditioning(problem.n_patterns, temperature / (temperature + largest), temperature)
        check_converged(solution)
        return solution


def _fit(problem: Problem, rule: SaddleTheory, plan: Plan, bar: Progress, keep: Keep) -> Fit:
    theta = np.zeros(rule.chart(problem.network).size)
    if rule.fixed:
        return fit(LargeKernel(rule, problem, plan, theta), bar, keep)
    if rule.scaled_parts(problem) is None:
        return fit_deep(rule, problem, plan, bar, keep)
    return fit(LargeKernel(rule, problem, plan), bar, keep)
