"""One step along the width: nodes or points brought along, then the fixed point on them."""

import dataclasses
from collections.abc import Callable

import numpy as np

from ...activations._activation import Activation
from ._descent import Stage
from ._law import Law, settle
from ._moves import Sample
from ._points import TOP, Activate, Given, Nodes, draw

__all__ = [
    "COVERED",
    "EFFECTIVE",
    "LOOSE",
    "MOST_LOOSE",
    "RUNAWAY",
    "Trail",
    "failure",
    "moved_step",
    "step",
]

EFFECTIVE, _FEWEST = 300, 40  # effective points of E[t²] on the way, wanted and needed
LOOSE, MOST_LOOSE = 0.03, 12
COVERED = 0.97  # of E[t²] within the ladder
RUNAWAY = 0.25  # of E[t²] on a single point


@dataclasses.dataclass(frozen=True, eq=False)
class Trail(Stage):
    """Where the way down from infinite width has come to."""

    nodes: Nodes
    share: float
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
        sides.append(bool(np.sum(share[outside]) > (1 - COVERED) * total and total > 1e-3))
    low, high = -float(nodes.v[0]), float(nodes.v[-1])
    return (sides[0] and not odd and low < TOP, sides[1] and high < TOP)


def step(
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
                given, cloud, width, moments, dual, tolerance=LOOSE, most=MOST_LOOSE
            )
        except np.linalg.LinAlgError:
            return None, "S is not positive definite", True
        reason, doubt = failure(law, residual)
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
            after = Trail(width, moments, dual, count, nodes, bulk, density)
            return after, "", doubt


def moved_step(
    given: Given,
    activation: Activation,
    trail: Trail,
    width: float,
    points: int,
    groups: int,
    seed: tuple[int, ...],
) -> tuple[Trail | None, str, bool]:
    """Do as `step` does, on points that are moved along."""
    assert trail.sample is not None
    moments, dual, nodes = trail.moments, trail.dual, trail.nodes.v.size
    count = max(1, points * nodes // groups)
    try:
        sample = trail.sample.carried(
            given,
            activation,
            (width, moments, dual),
            trail.share,
            groups=groups,
            count=count,
            seed=seed,
        )
        law, residual, iterations = settle(
            given, sample.cloud, width, moments, dual, tolerance=LOOSE, most=MOST_LOOSE
        )
    except np.linalg.LinAlgError:
        return None, "S is not positive definite", True
    reason, doubt = failure(law, residual)
    if reason:
        return None, reason, doubt
    bulk, density = float(law.weight @ law.shrink), law.effective / points
    where = law.moments, law.dual, iterations
    after = Trail(width, *where, trail.nodes, bulk, density, sample)
    return after, "", doubt


def failure(law: Law, residual: float) -> tuple[str, bool]:
    """Return why the law is none, if it is, and whether the points are too few to tell."""
    largest = float(np.max(law.shares))
    if largest > RUNAWAY:
        return f"one point of {law.weight.size} carries {largest:.0%} of E[t²]", True
    if law.effective < _FEWEST:
        return f"{law.effective:.0f} effective points of E[t²]", True
    doubt = law.effective < EFFECTIVE
    return (f"no fixed point ({residual:.1g})" if residual > LOOSE else ""), doubt
