"""A fixed point followed in width, from infinity down to that of the layer."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from ..._basics.errors import ConvergenceError

__all__ = ["SETTLING", "descend"]

_FIRST_STEP, _LONGEST_STEP, _LAST_STEP = 1 / 32, 1 / 8, 1 / 128  # of 1/n, in 1/N_1
SETTLING = 3  # steps at the last width, where the nodes come to rest
_QUICK = 5  # iterations after which the next step may be longer


@runtime_checkable
class Stage(Protocol):
    """A fixed point on the way."""

    @property
    def width(self) -> float:
        """Its width."""
        ...

    @property
    def iterations(self) -> int:
        """What it took to find it."""
        ...


def descend[T: Stage](
    first: T,
    advance: Callable[[T | None, T, float, int], tuple[T | None, str, bool]],
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
    first
        That of infinite width.
    advance
        From the last two stages (the first of them None where it is of no use), a width and the
        points of a node to the next stage or None, why there is none, and whether it may be for
        lack of points.
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
        after, reason, doubt = advance(before, at, width / following, few)
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
