"""A fixed point followed in width, from infinity down to that of the layer."""

import dataclasses
from collections.abc import Callable

import numpy as np

from ..._basics.errors import ConvergenceError
from ._law import whiten
from ._points import Given

__all__ = ["SETTLING", "Stage", "descend"]

_FIRST_STEP, _LONGEST_STEP, _LAST_STEP = 1 / 32, 1 / 8, 1 / 128  # of 1/n, in 1/N_1
SETTLING = 3  # steps at the last width, where the nodes come to rest
_QUICK = 5  # iterations after which the next step may be longer
_FARTHEST = 0.5  # change of T + S, relative to itself, that is extrapolated


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """A fixed point on the way: S and a, found in so many iterations at a width."""

    width: float
    moments: np.ndarray
    dual: np.ndarray
    iterations: int


def descend[T: Stage](
    given: Given,
    first: T,
    advance: Callable[[T, float, int], tuple[T | None, str, bool]],
    width: float,
    *,
    settling: Callable[[T], int],
    few: int,
    sure: int,
    most: int,
    tick: Callable[[float, str], None],
) -> tuple[T, int]:
    """Follow a fixed point in steps of 1/n; return it at `width`, and the points of a node there.

    Parameters
    ----------
    given
        The problem.
    first
        That of infinite width.
    advance
        From the last stage, with S and a extrapolated in 1/n, a width and the points of a node to
        the next stage or None, why there is none, and whether it may be for lack of points.
    width
        N_1.
    settling
        How many steps are made at `width`, by the last stage.
    few
        Points of a node at first.
    sure, most
        Most points of a node where nothing, and where something, says that they are too few.
    tick
        Called after each stage.

    Raises
    ------
    ConvergenceError
        If there is no next stage; the message names the width.
    """
    before: T | None = None
    at, share, length, count = first, 0.0, _FIRST_STEP, 0
    while share < 1 or count < settling(at):
        following = min(1.0, share + length)
        start = _ahead(given, before, at, width / following)
        after, reason, doubt = advance(start, width / following, few)
        more = 2 * few <= (most if doubt else min(most, sure))
        if after is None:
            # smaller steps and more points: where both fail the branch has ended
            before = None
            if length > _FIRST_STEP and share < 1 and not (doubt and 2 * few < sure):
                length /= 2
            elif more:
                few *= 2
            elif length > _LAST_STEP and share < 1:
                length /= 4
            elif 2 * few <= most:
                few *= 2
            else:
                raise ConvergenceError(
                    "expected a law of the neurons that connects to infinite width, got one that "
                    f"runs away at width {width / following:.3g}: {reason} with {few} points a node"
                )
            continue
        if doubt and more:
            few *= 2
        length *= 1.5 if after.iterations <= _QUICK else 0.75
        length = min(max(length, _LAST_STEP), _LONGEST_STEP)
        count += share == 1
        before, at, share = at, after, following
        tick(following, f"width {at.width:.4g}")
    return at, few


def _ahead[T: Stage](given: Given, before: T | None, at: T, width: float) -> T:
    """Return a stage with S and a extrapolated in 1/n, as far as T + S stays positive."""
    if before is None or not width < at.width < before.width:
        return at
    ratio = (1 / width - 1 / at.width) / (1 / at.width - 1 / before.width)
    change = at.moments - before.moments
    lower = np.linalg.cholesky(given.noise + at.moments)
    largest = float(np.max(np.abs(np.linalg.eigvalsh(whiten(lower, change)))))
    ratio = min(ratio, _FARTHEST / max(largest, 1e-12))
    moments, dual = at.moments + ratio * change, at.dual + ratio * (at.dual - before.dual)
    return dataclasses.replace(at, moments=moments, dual=dual)
