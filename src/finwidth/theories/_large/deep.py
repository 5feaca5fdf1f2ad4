"""The saddle point where order parameters change the kernel's shape: a run for each step.

The gradient of logdet A + yᵀA⁻¹y along a direction of θ is tr A⁻¹K' − aᵀK'a with a = A⁻¹y. What the
run has found of the spectrum enters the trace exactly, the rest by the probes, as in
`QuadratureTerm`; K' is multiplied by all vectors at once, tile by tile.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import numpy as np

from ..._basics.progress import Progress
from ..._numerics.block_lanczos import BlockLanczos, Rule
from ..._numerics.newton import TrackResult
from ..._numerics.quadrature_term import QuadratureTerm
from ..._problem.problem import Problem
from .._saddle.point import SaddlePoint
from .fit import EXPECTED, Errors, Fit, Keep, is_accurate, lanczos, truncation
from .kernel import LargeKernel
from .plan import Plan

__all__ = ["fit_deep"]

_COARSE = 2500  # patterns with which the saddle point is looked for first
_ARRIVED = 0.1  # step of Newton's method, in standard errors
_STEPS = 12


@dataclasses.dataclass(frozen=True, eq=False)
class _Gradient:
    """∂(data term)/∂θ at a point, and as each probe has it, shapes (unknown,), (probe, unknown)."""

    value: np.ndarray
    probes: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """Covariance of `value`."""
        return np.cov(self.probes, rowvar=False, ddof=1).reshape(2 * self.value.shape) / len(
            self.probes
        )


class _Run(NamedTuple):
    """A run of block Lanczos at some θ, and what it gives."""

    run: BlockLanczos
    gauss: Rule
    term: QuadratureTerm
    errors: Errors
    accurate: bool


def fit_deep(rule: Any, problem: Problem, plan: Plan, bar: Progress, keep: Keep) -> Fit:
    """Return the saddle point, from that of a subset of the patterns by Newton's method.

    The prior's Hessian is exact; the data's comes from the subset, with Broyden's updates. It ends
    where a step is small beside the standard error of the solution.
    """
    chart = rule.chart(problem.network)
    bar.say(f"first with at most {min(problem.n_patterns, _COARSE)} patterns, by dense matrices")
    start, jacobian = rule.coarse(problem, _COARSE)
    rows = chart.widths() + problem.n_patterns
    jacobian = jacobian * rows[:, None]
    theta, last = start.theta, None
    for step in range(_STEPS):
        kernel = LargeKernel(rule, problem, plan, theta)
        if step:
            bar.skip(-EXPECTED * kernel.matrix.count)
        run, gauss, term, errors, enough = _run(kernel, bar, keep)
        data = _gradient(kernel, run, gauss, term, bar)
        prior, hessian = chart.derivatives(theta)
        value = prior + data.value
        if last is not None:
            moved, change = theta - last[0], data.value - last[1]
            jacobian = jacobian + np.outer(change - jacobian @ moved, moved) / (moved @ moved)
        whole = hessian + jacobian
        covariance = np.linalg.solve(whole, np.linalg.solve(whole, data.error).T)
        move = -np.linalg.solve(whole, value)
        small = np.abs(move) <= _ARRIVED * np.sqrt(np.diag(covariance)) + 1e-9
        arrived = bool(np.all(small))
        residual = float(np.max(np.abs(value / rows)))
        if arrived or not np.max(np.abs(move)) < 1.0 or step == _STEPS - 1:
            reason = "" if arrived else "Newton's method did not arrive"
            result = TrackResult(theta, residual, arrived, reason)
            break
        last, theta = (theta, data.value), theta + move
    strengths, directions = np.linalg.eigh(covariance)
    moves = directions.T * np.sqrt(np.maximum(strengths, 0.0))[:, None]
    errors = dataclasses.replace(errors, moves=moves, truncation_move=np.abs(move))
    point = rule.point(problem, None, theta, result)
    return Fit(kernel, run, term, point, errors, enough)


def _run(kernel: LargeKernel, bar: Progress, keep: Keep) -> _Run:
    """Return a run at θ that is accurate if there is room for it."""
    found: list[_Run] = []
    n = kernel.problem.n_patterns
    point = _place(kernel)

    def evaluated(run: BlockLanczos) -> _Run:
        gauss = run.rule()
        term = QuadratureTerm.of(n, run, gauss, 0)
        errors, change = truncation(kernel, run, gauss, term, point)
        slope = term.slope(1.0, kernel.problem.temperature)[1]
        # as if the scale were all that varies
        compared = dataclasses.replace(
            errors, moves=np.array([[slope / n]]), truncation_move=change[:1] / n
        )
        return _Run(run, gauss, term, errors, run.complete or is_accurate(compared, n))

    def accurate(run: BlockLanczos) -> tuple[bool, str]:
        found[:] = [evaluated(run)]
        return found[0].accurate, ""

    def fit(run: BlockLanczos) -> Fit:
        made = evaluated(run)
        return Fit(kernel, run, made.term, point, made.errors, False)

    lanczos(kernel, bar, accurate, lambda run: keep(functools.partial(fit, run)))
    return found[0]


def _place(kernel: LargeKernel) -> SaddlePoint:
    """Return θ of the kernel as a point that nothing is known of."""
    theta = np.asarray(kernel.theta)
    result = TrackResult(theta, math.nan, False, "the saddle point was not reached")
    return kernel.rule.point(kernel.problem, None, theta, result)


def _gradient(
    kernel: LargeKernel, run: BlockLanczos, gauss: Rule, term: QuadratureTerm, bar: Progress
) -> _Gradient:
    """Return the gradient of the data term in θ."""
    temperature, known = kernel.problem.temperature, term.known
    inverse = 1.0 / (temperature + term.nodes)

    def outside(components: np.ndarray) -> np.ndarray:
        return run.basis @ (gauss.vectors @ components)

    dual = outside((inverse * term.y)[:, None])
    found = run.basis @ gauss.vectors[:, known]
    block = np.column_stack([dual, found, outside(term.rest)])
    solved = np.column_stack([-dual, found * inverse[known], outside(inverse[:, None] * term.rest)])
    first = 1 + found.shape[1]
    value, probes = [], []
    for unknown, name in enumerate(kernel.chart.names):
        slope = kernel.slope(unknown)
        bar.skip(-slope.count)
        image = slope.times(block, lambda n, name=name: bar.update(n, f"derivative in {name}"))
        products = np.einsum("ij,ij->j", solved, image)
        probes.append(products[first:])
        value.append(float(np.sum(products[:first]) + np.mean(products[first:])))
    return _Gradient(np.array(value), np.column_stack(probes))
