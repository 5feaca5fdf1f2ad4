"""The fixed point with several outputs: the width followed down from infinity, then more points.

As `_fit` does for one output: nodes and 1/n move together on the same Sobol points, then the nodes
are frozen and independent scramblings are solved, whose spread is the error bar.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from ..._basics.errors import ConvergenceError
from ._fit import REPLICATES, TIGHT
from ._law import settle
from ._outputs_law import OutputsCloud, OutputsEquation, OutputsLaw
from ._outputs_points import Rays
from ._points import TOP, Activate, Given, Nodes, draw, normals

__all__ = ["OutputsFit", "OutputsReplicate", "fit_outputs"]

_LEAST = 64  # points of a node
_FEW, _SURE, _MANY = 2**12, 2**14, 2**16  # points of all nodes on the way
_FIRST_STEP, _LONGEST_STEP, _LAST_STEP = 1 / 32, 1 / 8, 1 / 128  # of 1/n, in 1/N_1
_QUICK = 5  # iterations after which the next step may be longer
_SETTLING = 3  # steps at the final width, where the nodes come to rest
_EFFECTIVE, _FEWEST, _MANY_EFFECTIVE = 300, 40, 1500  # effective points of E|t|²
_LOOSE, _MOST_LOOSE, _MOST_TIGHT = 0.03, 12, 60
_COVERED = 0.97  # of E|t|² within the ladders
_RUNAWAY = 0.25  # of E|t|² on a single point


@dataclasses.dataclass(frozen=True, eq=False)
class OutputsReplicate:
    """The fixed point on one scrambling of the points, as `Replicate` for one output."""

    seed: tuple[int, ...]
    law: OutputsLaw
    prior: np.ndarray
    share: np.ndarray
    residual: float
    iterations: int

    @property
    def largest(self) -> float:
        """Largest share of a single point in E|t|²."""
        return float(np.max(self.law.shares))


@dataclasses.dataclass(frozen=True, eq=False)
class OutputsFit:
    """The fixed point on several scramblings of the same number of points, as `Fit`."""

    nodes: Nodes
    points: int
    replicates: list[OutputsReplicate]
    spread: float
    wanted: float


@dataclasses.dataclass(frozen=True, eq=False)
class _Trail:
    """Where the way down from infinite width has come to."""

    width: float
    rays: Rays
    moments: np.ndarray
    dual: np.ndarray
    share: np.ndarray
    iterations: int = 0


class _Way:
    """What a step of the way down needs besides where it starts."""

    def __init__(self, given: Given, activate: Activate, seed: int) -> None:
        self.given, self.activate = given, activate

        @functools.lru_cache(maxsize=1)
        def base(count: int, points: int) -> np.ndarray:
            return normals((count, given.features.shape[1]), points, (seed, 0))

        self.base = base

    def step(self, trail: _Trail, width: float, points: int) -> tuple[_Trail | None, str, bool]:
        """Return the next point, why there is none, and whether the points are too few."""
        given, rays, moments, dual = self.given, trail.rays, trail.moments, trail.dual
        while True:
            lower = np.linalg.cholesky(given.noise + moments)
            for _ in range(2):
                rays = rays.fitted(given, self.activate, dual, lower, width)
            nodes = rays.nodes
            cloud = draw(given, self.activate, nodes, self.base(nodes.v.size, points), 1.0)
            cloud = OutputsCloud.of(cloud, trail.share)
            try:
                law, residual, count = settle(
                    given,
                    cloud,
                    width,
                    moments,
                    dual,
                    tolerance=_LOOSE,
                    most=_MOST_LOOSE,
                    equation=OutputsEquation,
                )
            except np.linalg.LinAlgError:
                return None, "S is not positive definite", True
            assert isinstance(law, OutputsLaw)
            largest = float(np.max(law.shares))
            if largest > _RUNAWAY:
                reason = f"one point of {law.weight.size} carries {largest:.0%} of E|t|²"
                return None, reason, True
            if law.effective < _FEWEST:
                return None, f"{law.effective:.0f} effective points of E|t|²", True
            if residual > _LOOSE:
                return None, f"no fixed point ({residual:.1g})", law.effective < _EFFECTIVE
            moments, dual = law.moments, law.dual
            outside = np.linalg.norm(law.pull, axis=1) > rays.top
            if np.sum(law.shares[outside]) <= 1 - _COVERED or rays.top >= TOP:
                after = _Trail(width, rays, moments, dual, law.bulk, count)
                return after, "", law.effective < _EFFECTIVE
            rays = rays.grown()


def _follow(
    way: _Way, start: _Trail, width: float, most: int, tick: Callable[[float, str], None]
) -> tuple[_Trail, int]:
    """Follow the fixed point from infinite width; return it with the points of a node."""
    trail, share, step, count, few = start, 0.0, _FIRST_STEP, 0, _LEAST
    size = start.rays.nodes.v.size
    while few * size < _FEW and 2 * few <= most:
        few *= 2
    while share < 1 or count < _SETTLING:
        following = min(1.0, share + step)
        after, reason, doubt = way.step(trail, width / following, few)
        more = 2 * few <= most and 2 * few * size <= (_MANY if doubt else _SURE)
        if after is None or (doubt and more):
            # smaller steps and more points: where both fail the branch has ended
            if step > _FIRST_STEP and share < 1:
                step /= 2
            elif more:
                few *= 2
            elif step > _LAST_STEP and share < 1:
                step /= 4
            else:
                raise ConvergenceError(
                    "expected a law of the neurons that connects to infinite width, got one that "
                    f"runs away at width {width / following:.3g}: {reason} with {few} points a node"
                )
            continue
        step = min(step * (1.5 if after.iterations <= _QUICK else 0.75), _LONGEST_STEP)
        count += share == 1
        trail, share = after, following
        tick(following, f"width {trail.width:.4g}")
    return trail, few


def _solved(
    way: _Way, trail: _Trail, points: int, seed: tuple[int, ...], start: OutputsLaw | None
) -> OutputsReplicate | None:
    """Solve at the trail's end on one scrambling; None where the points are too few for it."""
    given, nodes = way.given, trail.rays.nodes
    base = normals(nodes.mean.shape, points, seed)
    cloud = OutputsCloud.of(draw(given, way.activate, nodes, base, 1.0), trail.share)
    moments, dual = (trail.moments, trail.dual) if start is None else (start.moments, start.dual)
    try:
        law, residual, count = settle(
            given,
            cloud,
            trail.width,
            moments,
            dual,
            tolerance=TIGHT,
            most=_MOST_TIGHT,
            equation=OutputsEquation,
        )
    except np.linalg.LinAlgError:
        return None
    assert isinstance(law, OutputsLaw)
    return OutputsReplicate(seed, law, np.exp(cloud.log_prior), trail.share, residual, count)


def fit_outputs(
    given: Given,
    activate: Activate,
    width: float,
    outputs: int,
    *,
    points: int | None,
    most: int,
    tolerance: float,
    seed: int,
    tick: Callable[[float, str], None],
) -> OutputsFit:
    """Follow the width, then solve on `points` points of a node, or as many as it takes.

    Parameters
    ----------
    given, activate, width, outputs
        The problem (`all_outputs`), σ, N_1, D.
    points, most, tolerance, seed, tick
        As for `fit`.
    """
    way = _Way(given, activate, seed)
    moments = np.kron(np.eye(outputs), given.kernel)
    start = _Trail(
        np.inf,
        Rays.prior(given.features.shape[1], given.odd, outputs),
        moments,
        np.linalg.solve(given.noise + moments, given.y),
        np.eye(outputs),
    )
    trail, count = _follow(way, start, width, most, tick)
    count = count if points is None else points
    starts: list[OutputsLaw | None] = [None] * REPLICATES
    while True:
        last = points is not None or 2 * count > most
        replicates: list[OutputsReplicate] = []
        for index, law in enumerate(starts):
            one = _solved(way, trail, count, (seed, 1 + index), law)
            if one is None or not one.largest <= _RUNAWAY:
                if not last:
                    break
                raise ConvergenceError(
                    "expected a law of the neurons that connects to infinite width, got one that "
                    f"runs away at width {width:.3g} with {count} points a node"
                )
            if not last and one.residual > TIGHT:
                break
            replicates.append(one)
            tick(1.0, f"{count} points, {one.iterations} iterations")
        else:
            left_out = np.array([one.law.error_left_out(given) for one in replicates])
            spread = float(np.std(left_out, ddof=1) / np.sqrt(REPLICATES) / np.mean(left_out))
            wanted = tolerance if points is None else np.inf
            least = min(one.law.effective for one in replicates)
            # what test patterns add to the spread, and training patterns do not show
            enough = least >= _MANY_EFFECTIVE or count * trail.rays.nodes.v.size >= _MANY
            if last or (spread <= wanted and enough):
                return OutputsFit(trail.rays.nodes, count, replicates, spread, wanted)
            starts = [one.law for one in replicates]
        count *= 2
