"""The fixed point with several outputs: the width followed down from infinity, then more points.

As `_fit` does for one output: nodes and 1/n move together on the same Sobol points, then the nodes
are frozen and independent scramblings are solved, whose spread is the error bar.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from ._descent import SETTLING, Stage, descend
from ._law import settle
from ._outputs_law import OutputsCloud, OutputsEquation, OutputsLaw
from ._outputs_points import Rays
from ._points import TOP, Activate, Given, draw, normals
from ._replicates import Fit, Replicate, Start, fit_at, replicated
from ._steps import COVERED, LOOSE, MOST_LOOSE, failure

__all__ = ["fit_outputs"]

_LEAST = 64  # points of a node
_ENOUGH_EFFECTIVE = 1500  # points of each scrambling in the end
_FEW, _SURE, _MANY = 2**12, 2**14, 2**16  # points of all nodes on the way


@dataclasses.dataclass(frozen=True, eq=False)
class _Trail(Stage):
    """Where the way down from infinite width has come to."""

    rays: Rays
    share: np.ndarray


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
                    tolerance=LOOSE,
                    most=MOST_LOOSE,
                    equation=OutputsEquation,
                )
            except np.linalg.LinAlgError:
                return None, "S is not positive definite", True
            assert isinstance(law, OutputsLaw)
            reason, doubt = failure(law, residual)
            if reason:
                return None, reason, doubt
            moments, dual = law.moments, law.dual
            outside = np.linalg.norm(law.pull, axis=1) > rays.top
            if np.sum(law.shares[outside]) <= 1 - COVERED or rays.top >= TOP:
                after = _Trail(width, moments, dual, count, rays, law.bulk)
                return after, "", doubt
            rays = rays.grown()


def fit_outputs(
    given: Given,
    activate: Activate,
    width: float,
    outputs: int,
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
    given, activate, width, outputs
        The problem (`all_outputs`), σ, N_1, D.
    points, most, scramblings, tolerance, seed, tick
        As for `fit`.
    """
    way = _Way(given, activate, seed)
    moments = np.kron(np.eye(outputs), given.kernel)
    rays = Rays.prior(given.features.shape[1], given.odd, outputs)
    dual = np.linalg.solve(given.noise + moments, given.y)
    first = _Trail(np.inf, moments, dual, 0, rays, np.eye(outputs))
    size, few = rays.nodes.v.size, _LEAST
    while few * size < _FEW and 2 * few <= most:
        few *= 2
    trail, count = descend(
        given,
        first,
        way.step,
        width,
        settling=lambda _: SETTLING,
        few=few,
        sure=_SURE // size,
        most=min(most, _MANY // size),
        tick=tick,
    )
    nodes, at = trail.rays.nodes, (trail.moments, trail.dual)

    def solve(count: int, index: int, start: Start | None) -> Replicate | None:
        own = seed, 1 + index
        drawn = draw(given, activate, nodes, normals(nodes.mean.shape, count, own), 1.0)
        cloud = OutputsCloud.of(drawn, trail.share)
        return replicated(given, cloud, width, start or at, own, equation=OutputsEquation)

    def enough(count: int, effective: Sequence[float]) -> bool:
        return min(effective) >= _ENOUGH_EFFECTIVE or count * nodes.v.size >= _MANY

    return fit_at(
        given,
        nodes,
        solve,
        width,
        count if points is None else points,
        fixed=points is not None,
        scramblings=scramblings,
        least=0,
        enough=enough,
        most=most,
        tolerance=tolerance,
        tick=tick,
    )
