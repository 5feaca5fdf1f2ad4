"""The saddle point by stochastic Lanczos quadrature, products being added until it is accurate."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from ..._basics.progress import Progress
from ..._layers.order import Chart
from ..._numerics.block_lanczos import BlockLanczos, Rule
from ..._numerics.continuation import track
from ..._numerics.newton import StationarityEquations
from ..._numerics.quadrature_term import QuadratureTerm
from .._saddle.action import scaled_gradient
from .._saddle.equations import PriorPart
from .._saddle.point import SaddlePoint
from .kernel import LargeKernel

__all__ = [
    "EXPECTED",
    "Errors",
    "Fit",
    "Keep",
    "evaluate",
    "fit",
    "is_accurate",
    "lanczos",
    "truncation",
]

EXPECTED = 24  # products, for the progress bar
_SHARE = 0.2  # of the probes' standard error that truncation may add
_ENERGY = 1e-2  # largest |error of A⁻¹y|² in the norm of A; a prediction's error is below its root
_ROUNDING = 1e-10  # relative to P: what is not asked for


@dataclasses.dataclass(frozen=True)
class Errors:
    """What is known of the accuracy of a fit.

    Attributes
    ----------
    action, truncation
        Standard error of 𝒮 by the probes, and what the rules of Gauss and of Gauss–Radau differ
        by, which bounds the error of too few products.
    moves
        Independent changes of θ of one standard error each, shape (direction, unknown).
    truncation_move
        Change of θ by truncation, shape (unknown,).
    energy
        Bound on (y − A x)ᵀA⁻¹(y − A x) of the solution x of A x = y within the basis.
    """

    action: float
    truncation: float
    moves: np.ndarray
    truncation_move: np.ndarray
    energy: float

    @property
    def theta(self) -> np.ndarray:
        """Error of θ, shape (unknown,)."""
        return np.sqrt(np.sum(self.moves**2, axis=0)) + np.abs(self.truncation_move)


@dataclasses.dataclass(frozen=True, eq=False)
class DataGradient:
    """θ -> gradient of the data term by quadrature, each row divided by `rows`; can be pickled."""

    kernel: LargeKernel
    term: QuadratureTerm
    chart: Chart
    rows: np.ndarray

    def __call__(self, theta: np.ndarray) -> np.ndarray:
        problem, parts = self.kernel.problem, self.kernel.parts
        found = scaled_gradient(self.term, parts, self.chart, problem.temperature, theta)
        return found / self.rows


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """The saddle point that a run of block Lanczos gives.

    Attributes
    ----------
    kernel
        K_0 and the columns U.
    run
        Block Lanczos of K_0 from y, U and the probes.
    term
        Its quadrature.
    point
        The saddle point.
    errors
        Their accuracy.
    accurate
        Whether truncation is small beside the standard error.
    """

    kernel: LargeKernel
    run: BlockLanczos
    term: QuadratureTerm
    point: SaddlePoint
    errors: Errors
    accurate: bool


Keep = Callable[[Callable[[], Fit]], None]


def fit(kernel: LargeKernel, bar: Progress, keep: Keep) -> Fit:
    """Return the saddle point, after as many products with K_0 as it takes.

    `keep` is handed, after each product, what makes a `Fit` of the products so far.
    """
    found: list[Fit] = []

    def accurate(run: BlockLanczos) -> tuple[bool, str]:
        found[:] = [evaluate(kernel, run)]
        error = float(np.max(found[0].errors.theta, initial=0.0))
        return found[0].accurate, f", log Q̄ ± {error:.0e}" if error > 0 else ""

    lanczos(kernel, bar, accurate, lambda run: keep(functools.partial(evaluate, kernel, run)))
    return found[0]


def lanczos(
    kernel: LargeKernel,
    bar: Progress,
    accurate: Callable[[BlockLanczos], tuple[bool, str]],
    keep: Callable[[BlockLanczos], None],
) -> BlockLanczos:
    """Return a run from y, U and the probes that is `accurate`, or has no room for more.

    `accurate` also says what the progress shows; it is always asked at the end.
    """
    problem, plan, matrix = kernel.problem, kernel.plan, kernel.matrix
    shape = problem.n_patterns, plan.probes
    probes = np.random.default_rng(plan.seed).choice([-1.0, 1.0], size=shape)
    run = BlockLanczos(np.column_stack([problem.y, kernel.columns, probes]), plan.basis)
    del probes
    check, state = 3, ""
    while True:
        taken = len(run.sizes) + 1
        if taken > EXPECTED:
            bar.skip(-matrix.count)

        def tick(steps: int, shown: str = f"product {taken}{state}") -> None:
            bar.update(steps, shown)

        run.extend(lambda block, tick=tick: matrix.times(block, tick))
        keep(run)
        last = run.complete or run.full
        if last or taken >= check:
            enough, state = accurate(run)
            if last or enough:
                bar.skip(matrix.count * max(EXPECTED - taken, 0))
                return run
            check = taken + max(1, taken // 6)


def evaluate(kernel: LargeKernel, run: BlockLanczos) -> Fit:
    """Return what a run gives."""
    problem, rule, gauss = kernel.problem, kernel.rule, run.rule()
    term = QuadratureTerm.of(problem.n_patterns, run, gauss, kernel.columns.shape[1])
    if rule.fixed:
        point = rule.order_parameters(problem)
        errors = truncation(kernel, run, gauss, term, point)[0]
    else:
        chart = kernel.chart
        rows = chart.widths() + problem.n_patterns
        equations = StationarityEquations(
            PriorPart(chart, rows), DataGradient(kernel, term, chart, rows), chart.size
        )
        result = track(equations)
        point = rule.point(problem, equations, result.theta, result)
        errors, change = truncation(kernel, run, gauss, term, point)
        jacobian = equations.prior(point.theta)[1] + equations.data_jacobian(point.theta)
        jacobian *= rows[:, None]
        scale = kernel.parts.scale(point.order)
        slope = np.zeros(chart.size)
        slope[: problem.network.depth] = term.slope(scale, problem.temperature)[1]
        errors = dataclasses.replace(
            errors,
            moves=-np.linalg.solve(jacobian, slope)[None, :],
            truncation_move=-np.linalg.solve(jacobian, change),
        )
    return Fit(
        kernel, run, term, point, errors, run.complete or is_accurate(errors, problem.y.size)
    )


def is_accurate(errors: Errors, n: int) -> bool:
    """Return whether truncation is small beside the standard errors."""
    move = np.sqrt(np.sum(errors.moves**2, axis=0))
    allowed = max(_SHARE * float(np.max(move, initial=0.0)), _ROUNDING)
    return (
        errors.truncation <= max(_SHARE * errors.action, _ROUNDING * n)
        and bool(np.all(np.abs(errors.truncation_move) <= allowed))
        and errors.energy <= _ENERGY
    )


def truncation(
    kernel: LargeKernel, run: BlockLanczos, gauss: Rule, term: QuadratureTerm, point: SaddlePoint
) -> tuple[Errors, np.ndarray]:
    """Return errors without those of θ, and what truncation changes of ∂𝒮/∂θ at a point."""
    parts, order, problem = kernel.parts, point.order, kernel.problem
    scale, weights, temperature = parts.scale(order), parts.weights(order), problem.temperature
    n, terms, depth = problem.n_patterns, term.columns.shape[1], problem.network.depth
    # both rules with all of the spectrum left to the probes: what is known is in both
    low, high = (
        QuadratureTerm(n, rule, terms, np.zeros(rule.nodes.size, dtype=bool))
        for rule in (gauss, run.radau_rule(gauss))
    )
    values = [end.data_term(scale, weights, temperature) for end in (low, high)]
    energies = [end.energy(scale, weights, temperature) for end in (low, high)]
    errors = Errors(
        action=term.logdet(scale, temperature)[1],
        truncation=abs(values[1][0] - values[0][0]),
        moves=np.zeros((0, point.theta.size)),
        truncation_move=np.zeros(point.theta.size),
        energy=max(energies[1] - energies[0], 0.0),
    )
    of_scale, of_weights = values[1][1] - values[0][1], values[1][2] - values[0][2]
    return errors, np.concatenate([np.full(depth, of_scale), of_weights[: parts.mean_terms]])
