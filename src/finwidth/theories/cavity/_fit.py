"""The width followed down from infinity on few points, then the fixed point on many.

The node Gaussians and 1/n move together on the way, on the same Sobol points at every step; at the
end the nodes are frozen and independent scramblings of more points are solved, each by itself:
their spread is the error that the finite number of points makes.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from ..._basics.errors import ConvergenceError
from ...activations._activation import Activation
from ._law import Law, settle, whiten
from ._moves import Sample
from ._points import TOP, Activate, Given, Nodes, draw, normals

__all__ = ["Fit", "Replicate", "fit"]

REPLICATES = 4  # scramblings, whose spread is the error bar
_FIRST = 1024  # points of a node, where they are as many as it takes
_FIRST_STEP, _LONGEST_STEP, _LAST_STEP = 1 / 32, 1 / 8, 1 / 128  # of 1/n, in 1/N_1
_FARTHEST = 0.5  # change of T + S, relative to itself, that is extrapolated
_QUICK = 5  # iterations after which the next step may be longer
_SETTLING = 3  # more steps at the final width, where the nodes come to rest
_FEW, _SURE, _MANY = 256, 1024, 4096  # points of a node on the way
_EFFECTIVE, _FEWEST = 300, 40  # effective points of E[t²] there, wanted and needed
_MANY_EFFECTIVE = 1500  # wanted at the end
_LOOSE, TIGHT = 0.03, 1e-4
_MOST_LOOSE, _MOST_TIGHT = 12, 60
_THIN = 0.5  # effective points of E[t²] for each of a node, below which points are moved
_COVERED = 0.97  # of E[t²] within the ladder
_RUNAWAY = 0.25  # of E[t²] on a single point


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
    share: float
    residual: float
    iterations: int
    points: np.ndarray | None = None

    @property
    def largest(self) -> float:
        """Largest share of a single point in E[t²]."""
        return float(np.max(self.law.shares))


@dataclasses.dataclass(frozen=True, eq=False)
class Trail:
    """Where the way down from infinite width has come to."""

    width: float
    nodes: Nodes
    moments: np.ndarray
    dual: np.ndarray
    share: float
    iterations: int = 0
    density: float = np.inf  # effective points of E[t²] for each point of a node
    sample: Sample | None = None  # where the points are moved


def _uncovered(law: Law, nodes: Nodes, odd: bool) -> tuple[bool, bool]:
    """Return whether too much of E[t²] lies below and above the ladder."""
    t, share = law.pull, law.shares
    if odd:
        t = np.abs(t)
    sides = []
    for mine, outside in ((t < 0, t < nodes.v[0]), (t > 0, t > nodes.v[-1])):
        total = np.sum(share[mine])
        sides.append(bool(np.sum(share[outside]) > (1 - _COVERED) * total and total > 1e-3))
    return (sides[0] and not odd and -nodes.v[0] < TOP, sides[1] and nodes.v[-1] < TOP)


def follow(
    given: Given,
    activate: Activate,
    width: float,
    *,
    seed: int,
    few: int,
    most: int,
    tick: Callable[[float, str], None],
    activation: Activation | None = None,
) -> Trail:
    """Follow the fixed point from infinite width to `width`.

    Parameters
    ----------
    given, activate, width, seed, tick
        As for `fit`.
    few, most
        Points of each node at first, and at most.
    activation
        σ once more, to move the points (`Sample`) where few of them carry E[t²]; None: never.

    Raises
    ------
    ConvergenceError
        If the law runs away on the way; the message names the width.
    """
    moments = given.kernel.copy()
    dual = np.linalg.solve(given.noise + moments, given.y)
    nodes = Nodes.prior(given.features.shape[1], given.odd)
    trail = Trail(np.inf, nodes, moments, dual, 1.0)
    before: Trail | None = None
    share, step, count, calls = 0.0, _FIRST_STEP, 0, 0  # of 1/N_1

    @functools.lru_cache(maxsize=1)
    def base(count: int, points: int) -> np.ndarray:
        return normals((count, given.features.shape[1]), points, (seed, 0))

    while share < 1 or count < _SETTLING:
        following = min(1.0, share + step)
        start = _ahead(given, before, trail, width / following)
        if start.sample is None or activation is None:
            after, reason, doubt = _step(given, activate, start, width / following, few, base)
        else:
            calls += 1
            after, reason, doubt = _moved_step(
                given, activation, start, width / following, few, (seed, 0, calls)
            )
        more = 2 * few <= (most if doubt else min(most, _SURE))
        if after is None:
            # smaller steps and more points: where both fail the branch has ended
            before = None
            if step > _FIRST_STEP and share < 1 and not (doubt and more):
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
        if after.density < _THIN and after.sample is None and activation is not None:
            normal = base(after.nodes.v.size, few)
            cloud = draw(given, activate, after.nodes, normal, after.share)
            after = dataclasses.replace(after, sample=Sample(after.nodes.points(normal), cloud))
        elif doubt and more:
            few *= 2
        step = min(step * (1.5 if after.iterations <= _QUICK else 0.75), _LONGEST_STEP)
        count += share == 1
        before, trail, share = trail, after, following
        tick(following, f"width {trail.width:.4g}")
    return trail


def _ahead(given: Given, before: Trail | None, trail: Trail, width: float) -> Trail:
    """Return the trail's end with S and a extrapolated in 1/n, as far as T + S stays positive."""
    if before is None or not width < trail.width < before.width:
        return trail
    ratio = (1 / width - 1 / trail.width) / (1 / trail.width - 1 / before.width)
    change = trail.moments - before.moments
    lower = np.linalg.cholesky(given.noise + trail.moments)
    largest = float(np.max(np.abs(np.linalg.eigvalsh(whiten(lower, change)))))
    ratio = min(ratio, _FARTHEST / max(largest, 1e-12))
    moments = trail.moments + ratio * change
    dual = trail.dual + ratio * (trail.dual - before.dual)
    return dataclasses.replace(trail, moments=moments, dual=dual)


def _step(
    given: Given,
    activate: Activate,
    trail: Trail,
    width: float,
    points: int,
    base: Callable[[int, int], np.ndarray],
) -> tuple[Trail | None, str, bool]:
    """Return the next point of the trail, why there is none, and whether the points are too few."""
    nodes, moments, dual = trail.nodes, trail.moments, trail.dual
    while True:
        lower = np.linalg.cholesky(given.noise + moments)
        for _ in range(2):
            nodes = nodes.fitted(given, activate, dual / np.sqrt(width), np.sqrt(width) * lower)
        cloud = draw(given, activate, nodes, base(nodes.v.size, points), trail.share)
        try:
            law, residual, count = settle(
                given, cloud, width, moments, dual, tolerance=_LOOSE, most=_MOST_LOOSE
            )
        except np.linalg.LinAlgError:
            return None, "S is not positive definite", True
        reason, doubt = _failure(law, residual)
        if reason:
            return None, reason, doubt
        moments, dual = law.moments, law.dual
        below, above = _uncovered(law, nodes, given.odd)
        if below:
            nodes = nodes.grown(True)
        if above:
            nodes = nodes.grown(False)
        if not below and not above:
            bulk = float(law.weight @ law.shrink)
            density = law.effective / points
            after = Trail(width, nodes, moments, dual, bulk, count, density)
            return after, "", doubt


def _moved_step(
    given: Given,
    activation: Activation,
    trail: Trail,
    width: float,
    points: int,
    seed: tuple[int, ...],
) -> tuple[Trail | None, str, bool]:
    """Do as `_step` does, on points that are moved along."""
    assert trail.sample is not None
    moments, dual, nodes = trail.moments, trail.dual, trail.nodes.v.size
    count = max(1, points * nodes // REPLICATES)
    try:
        sample = trail.sample.carried(
            given,
            activation,
            (width, moments, dual),
            trail.share,
            groups=REPLICATES,
            count=count,
            seed=seed,
        )
        law, residual, iterations = settle(
            given, sample.cloud, width, moments, dual, tolerance=_LOOSE, most=_MOST_LOOSE
        )
    except np.linalg.LinAlgError:
        return None, "S is not positive definite", True
    reason, doubt = _failure(law, residual)
    if reason:
        return None, reason, doubt
    bulk, density = float(law.weight @ law.shrink), law.effective / points
    after = Trail(width, trail.nodes, law.moments, law.dual, bulk, iterations, density, sample)
    return after, "", doubt


def _failure(law: Law, residual: float) -> tuple[str, bool]:
    """Return why the law is none, if it is, and whether the points are too few to tell."""
    largest = float(np.max(law.shares))
    if largest > _RUNAWAY:
        return f"one point of {law.weight.size} carries {largest:.0%} of E[t²]", True
    if law.effective < _FEWEST:
        return f"{law.effective:.0f} effective points of E[t²]", True
    doubt = law.effective < _EFFECTIVE
    return (f"no fixed point ({residual:.1g})" if residual > _LOOSE else ""), doubt


def solved(
    given: Given,
    activate: Activate,
    trail: Trail,
    points: int,
    seed: tuple[int, ...],
    start: Law | None = None,
    activation: Activation | None = None,
    secants: list[tuple[np.ndarray, np.ndarray]] | None = None,
) -> Replicate | None:
    """Solve the equations at the trail's end on one scrambling of `points` points of each node.

    None where the points are too few for S to stay positive definite.
    """
    weights = None
    if trail.sample is None or activation is None:
        base = normals(trail.nodes.mean.shape, points, seed)
        cloud = draw(given, activate, trail.nodes, base, trail.share)
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
            secants=secants,
        )
    except np.linalg.LinAlgError:
        return None
    prior = np.exp(cloud.log_prior)
    return Replicate(seed, law, prior, cloud.share, residual, count, weights)


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


def fit(
    given: Given,
    activate: Activate,
    width: float,
    *,
    points: int | None,
    most: int,
    tolerance: float,
    seed: int,
    tick: Callable[[float, str], None],
    activation: Activation | None = None,
) -> Fit:
    """Follow the width, then solve on `points` points of a node, or as many as it takes.

    Parameters
    ----------
    given, activate, width
        The problem, σ, N_1.
    points
        Points of each node; None doubles them until `tolerance` is met or `most` are reached.
    most
        Most points of each node.
    tolerance
        Wanted `Fit.spread` where `points` is None.
    seed
        Of the scramblings.
    tick
        Called after each fixed point.
    activation
        As for `follow`.
    """
    few, many = min(_FEW, most), min(_MANY, most)
    trail = follow(
        given, activate, width, seed=seed, few=few, most=many, tick=tick, activation=activation
    )
    count = min(_FIRST, most) if points is None else points
    # no use in a start on points that the way there says are too few
    while points is None and 2 * count <= many and trail.density * count < _MANY_EFFECTIVE:
        count *= 2
    starts: list[Law | None] = [None] * REPLICATES
    while True:
        last = points is not None or 2 * count > most
        replicates: list[Replicate] = []
        secants: list[tuple[np.ndarray, np.ndarray]] = []
        for index, start in enumerate(starts):
            one = solved(
                given, activate, trail, count, (seed, 1 + index), start, activation, secants
            )
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
            if last or (spread <= wanted and (least >= _MANY_EFFECTIVE or count >= _MANY)):
                return Fit(trail.nodes, count, replicates, spread, wanted)
            starts = [one.law for one in replicates]
        count *= 2
