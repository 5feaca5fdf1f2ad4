"""The equations solved on independent scramblings of the points, whose spread is the error bar."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..._basics.errors import ConvergenceError
from ._law import Law, settle
from ._points import Cloud, Given, Nodes
from ._steps import RUNAWAY

__all__ = [
    "MOST_REPLICATES",
    "REPLICATES",
    "TIGHT",
    "Fit",
    "Replicate",
    "Start",
    "fit_at",
    "replicated",
    "room_for_replicate",
]

REPLICATES, MOST_REPLICATES = 8, 32  # scramblings, whose spread is the error bar
TIGHT, _MOST_TIGHT = 1e-4, 60

Start = tuple[np.ndarray, np.ndarray]  # S and a


@dataclasses.dataclass(frozen=True, eq=False)
class Replicate:
    """The fixed point on one scrambling of the points.

    Attributes
    ----------
    seed
        Of the scrambling.
    law
        The law on its points.
    prior
        Probability of each point under the prior.
    share
        That of the `Cloud`.
    residual, iterations
        ‖(T+S)^{−1/2}(G − S)(T+S)^{−1/2}‖ that was reached, and in how many iterations.
    points
        Hidden weights of the points, where they are not those that the nodes and `seed` give.
    """

    seed: tuple[int, ...]
    law: Law
    prior: np.ndarray
    share: float | np.ndarray
    residual: float
    iterations: int
    points: np.ndarray | None = None

    @property
    def largest(self) -> float:
        """Largest share of a single point in E[t²]."""
        return float(np.max(self.law.shares))


def replicated(
    given: Given,
    cloud: Cloud,
    width: float,
    start: Start,
    seed: tuple[int, ...],
    **settings: Any,
) -> Replicate | None:
    """Solve on a cloud, from S and a, by `settle` with `settings`; None where S is not positive."""
    try:
        law, residual, count = settle(
            given, cloud, width, *start, tolerance=TIGHT, most=_MOST_TIGHT, **settings
        )
    except np.linalg.LinAlgError:
        return None
    return Replicate(seed, law, np.exp(cloud.log_prior), cloud.share, residual, count)


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """The fixed point on several scramblings of the same number of points.

    Attributes
    ----------
    nodes, points
        Where the points come from, and how many of each node.
    replicates
        One for each scrambling.
    spread
        Relative standard error of the mean error left out (`Law.error_left_out`).
    wanted
        What it should be at most.
    """

    nodes: Nodes
    points: int
    replicates: list[Replicate]
    spread: float
    wanted: float


def fit_at(
    given: Given,
    nodes: Nodes,
    solve: Callable[[int, int, Start | None], Replicate | None],
    width: float,
    count: int,
    *,
    fixed: bool,
    scramblings: Callable[[int], int],
    least: int,
    enough: Callable[[int, Sequence[float]], bool],
    most: int,
    tolerance: float,
    tick: Callable[[float, str], None],
) -> Fit:
    """Solve on scramblings of `count` points of a node; on more of them, or more points, if needed.

    Parameters
    ----------
    given, nodes, width
        The problem, the nodes at the end of the way, N_1.
    solve
        Gives a replicate from the points of a node, its number, and the S and a to start from or,
        None, those at the way's end.
    count
        Points of a node at first.
    fixed
        Whether there are no more of them, and no more scramblings.
    scramblings
        Most of them, with so many points of a node, that are independent and that memory holds.
    least
        Effective points below which no replicate is worth to be continued.
    enough
        Whether points of a node, and effective ones of each replicate, are enough: what test
        patterns add to the spread, and training patterns do not show.
    most, tolerance, tick
        As for `fit`.
    """
    starts: list[Start] = []  # on half as many points
    while True:
        last = fixed or 2 * count > most
        replicates: list[Replicate] = []
        left_out: list[float] = []
        number, bound = REPLICATES, scramblings(count)
        while len(replicates) < number <= bound:
            index = len(replicates)
            one = solve(count, index, starts[index] if index < len(starts) else None)
            error = _error_left_out(given, one)
            if one is None or error is None or not one.largest <= RUNAWAY:
                if last:
                    raise ConvergenceError(
                        "expected a law of the neurons that connects to infinite width, got one "
                        f"that runs away at width {width:.3g} with {count} points a node"
                    )
                break
            if not last and (one.residual > TIGHT or one.law.effective < least):
                break
            replicates.append(one)
            left_out.append(error)
            tick(1.0, f"{count} points, {one.iterations} iterations")
            if len(replicates) < number:
                continue
            spread = float(np.std(left_out, ddof=1) / np.sqrt(number) / np.mean(left_out))
            wanted = np.inf if fixed else tolerance
            if not last and not enough(count, [each.law.effective for each in replicates]):
                break
            number = _needed(number, spread / wanted, bound)
            if last:
                number = min(number, bound)
            if len(replicates) == number:
                return Fit(nodes, count, replicates, spread, wanted)
        starts = [(each.law.moments, each.law.dual) for each in replicates]
        count *= 2


def _needed(number: int, ratio: float, most: int) -> int:
    """Return how many scramblings it takes if `number` have a spread of `ratio` times the wanted.

    A forecast first, then `most`, then one more than these, which says that they will not do. Few
    looks, because each makes the spread that ends them smaller than it is.
    """
    if not ratio > 1:
        return number
    if number == REPLICATES < most:
        return math.ceil(number * min(ratio, MOST_REPLICATES) ** 2)
    return most if number < most else most + 1


def _error_left_out(given: Given, one: Replicate | None) -> float | None:
    """Return the mean error left out, None where T + S has no factor."""
    try:
        return one and one.law.error_left_out(given)
    except np.linalg.LinAlgError:
        return None


def room_for_replicate(points: int, patterns: int, outputs: int) -> int:
    """Return about how many bytes a replicate keeps: numbers of each point, S and a start."""
    return 8 * (points * (3 + outputs + outputs**2) + 2 * (outputs * patterns) ** 2)
