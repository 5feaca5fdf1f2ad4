"""The width followed down from infinity on few points, then the fixed point on many.

The node Gaussians and 1/n move together on the way, on the same Sobol points at every step; at the
end the nodes are frozen and independent scramblings of more points are solved, each by itself
(`_replicates`).
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from ...activations._activation import Activation
from ._descent import SETTLING, descend
from ._moves import Sample
from ._points import Given, Nodes, draw, normals
from ._replicates import REPLICATES, Fit, Replicate, Start, fit_at, replicated
from ._steps import EFFECTIVE, Trail, moved_step, step
from ._values import activate

__all__ = ["fit"]

_FIRST = 1024  # points of a node, where they are as many as it takes
_FEW, _SURE, _MANY = 256, 1024, 4096  # points of a node on the way
_MANY_EFFECTIVE, _ENOUGH_EFFECTIVE = 1000, 750  # aimed at in the end, and needed on average
_THIN = 0.5  # effective points of E[t²] for each of a node, below which points are moved


def follow(
    given: Given,
    activation: Activation,
    width: float,
    *,
    seed: int,
    few: int,
    most: int,
    tick: Callable[[float, str], None],
) -> Trail:
    """Follow the fixed point from infinite width to `width`.

    Parameters
    ----------
    given, activation, width, seed, tick
        As for `fit`.
    few, most
        Points of each node at first, and at most.

    Raises
    ------
    ConvergenceError
        If the law runs away on the way; the message names the width.
    """
    function = functools.partial(activate, activation)
    moments = given.kernel.copy()
    dual = np.linalg.solve(given.noise + moments, given.y)
    nodes = Nodes.prior(given.features.shape[1], given.odd)
    first = Trail(np.inf, moments, dual, 0, nodes, 1.0)
    calls = itertools.count(1)

    @functools.lru_cache(maxsize=1)
    def base(count: int, points: int) -> np.ndarray:
        return normals((count, given.features.shape[1]), points, (seed, 0))

    def advance(start: Trail, to: float, points: int) -> tuple[Trail | None, str, bool]:
        if start.sample is not None:
            own = seed, 0, next(calls)
            return moved_step(given, activation, start, to, points, REPLICATES, own)
        after, reason, doubt = step(given, function, start, to, points, base)
        if after is None or after.density >= _THIN:
            return after, reason, doubt
        # few of the points carry E[t²]: from here on they are moved
        normal = base(after.nodes.v.size, points)
        cloud = draw(given, function, after.nodes, normal, after.share)
        sample = Sample(after.nodes.points(normal), cloud)
        return dataclasses.replace(after, sample=sample), reason, False

    def settling(trail: Trail) -> int:
        """Points that are moved along need no rest, but one move at least."""
        if trail.sample is None:
            return SETTLING
        return 1 if trail.sample.groups > 1 else SETTLING + 1

    return descend(
        given,
        first,
        advance,
        width,
        settling=settling,
        few=few,
        sure=_SURE,
        most=most,
        tick=tick,
    )[0]


def solved(
    given: Given,
    activation: Activation,
    trail: Trail,
    points: int,
    seed: tuple[int, ...],
    start: Start | None,
    secants: list[tuple[np.ndarray, np.ndarray]],
) -> Replicate | None:
    """Solve the equations at the trail's end on one scrambling of `points` points of each node.

    None where the points are too few for S to stay positive definite.
    """
    weights = None
    if trail.sample is None:
        base = normals(trail.nodes.mean.shape, points, seed)
        cloud = draw(given, functools.partial(activate, activation), trail.nodes, base, trail.share)
    else:
        own = trail.sample.group(seed[-1] % trail.sample.groups).carried(
            given,
            activation,
            (trail.width, trail.moments, trail.dual),
            trail.share,
            groups=1,
            count=points * trail.nodes.v.size,
            seed=(*seed, points),
        )
        weights, cloud = own.points, own.cloud
    at = (trail.moments, trail.dual) if start is None else start
    found = replicated(given, cloud, trail.width, at, seed, secants=secants)
    return found and dataclasses.replace(found, points=weights)


def fit(
    given: Given,
    activation: Activation,
    width: float,
    *,
    points: int | None,
    most: int,
    scramblings: Callable[[int], int],
    tolerance: float,
    seed: int,
    tick: Callable[[float, str], None],
) -> Fit:
    """Follow the width, then solve on `points` points of a node, or as many as it takes.

    Parameters
    ----------
    given, activation, width
        The problem, σ, N_1.
    points
        Points of each node; None takes more scramblings, then more points, until `tolerance` is met
        or `most` points are reached.
    most, scramblings
        Most points of each node, and most scramblings of so many of them.
    tolerance
        Wanted `Fit.spread` where `points` is None.
    seed
        Of the scramblings.
    tick
        Called after each fixed point.
    """
    few, many = min(_FEW, most), min(_MANY, most)
    trail = follow(given, activation, width, seed=seed, few=few, most=many, tick=tick)
    count = min(_FIRST, most) if points is None else points
    # no use in a start on points that the way there says are too few
    while points is None and 2 * count <= many and trail.density * count < _MANY_EFFECTIVE:
        count *= 2

    secants: list[tuple[np.ndarray, np.ndarray]] = []

    def solve(count: int, index: int, start: Start | None) -> Replicate | None:
        return solved(given, activation, trail, count, (seed, 1 + index), start, secants)

    def enough(count: int, effective: Sequence[float]) -> bool:
        return float(np.mean(effective)) >= _ENOUGH_EFFECTIVE or count >= _MANY

    return fit_at(
        given,
        trail.nodes,
        solve,
        width,
        count,
        fixed=points is not None,
        scramblings=scramblings if trail.sample is None else lambda _: REPLICATES,
        least=EFFECTIVE,
        enough=enough,
        most=most,
        tolerance=tolerance,
        tick=tick,
    )
