"""Other fixed points at the same width: those that starts away from the branch lead to."""

import dataclasses
import functools

import numpy as np

from ..._numerics.factor import Factor
from ...activations._activation import Activation
from ._law import Law, settle, whiten
from ._moves import Sample
from ._points import Cloud, Given, draw, normals, square
from ._replicates import TIGHT, Fit
from ._steps import Trail, moved_step, step
from ._values import activate

__all__ = ["distinct"]

_SAME = 0.01  # ‖(T+S)^{−1/2}(S' − S)(T+S)^{−1/2}‖ on the same points
_POINTS, _ROUNDS, _MOST = 512, 2, 60
_SCALES = (0.5, 1.0, 2.0)  # of the prior's kernel
_ALIGNED = 1.0  # size of yyᵀ in it, by the trace
_NARROWER = 0.5  # width where one more start comes from


def distinct(given: Given, activation: Activation, fit: Fit, width: float, seed: int) -> list[Law]:
    """Return the fixed point that was found, and those that other starts lead to.

    Starts are the kernel of the prior, scaled down and up, that with neurons aligned with the
    labels, and the fixed point of a layer half as wide. From each the points follow for two steps;
    then it and the known fixed point settle on the same points, where they are or are not the same.

    Parameters
    ----------
    given, activation
        The problem, σ.
    fit
        The known fixed point.
    width
        N_1.
    seed
        Of the points.
    """
    first = fit.replicates[0]
    share = float(first.share)
    function = functools.partial(activate, activation)
    sample = None
    if first.points is not None:
        phi = given.scale * function(first.points @ given.features.T)
        missed = share * (square(phi, first.prior) - given.kernel)
        sample = Sample(first.points, Cloud(phi, np.log(first.prior), missed, share))
    known = Trail(width, first.law.moments, first.law.dual, 0, fit.nodes, share, sample=sample)

    def base(count: int, points: int) -> np.ndarray:
        return normals((count, given.features.shape[1]), points, (seed, 99))

    def brought(trail: Trail, to: float, index: int) -> Trail | None:
        if trail.sample is None:
            return step(given, function, trail, to, _POINTS, base)[0]
        return moved_step(given, activation, trail, to, _POINTS, 1, (seed, 99, index))[0]

    def settled(cloud: Cloud, law: Law | Trail) -> Law | None:
        try:
            found, residual, _ = settle(
                given, cloud, width, law.moments, law.dual, tolerance=TIGHT, most=_MOST
            )
        except np.linalg.LinAlgError:
            return None
        return found if residual <= TIGHT else None

    labels = np.outer(given.y, given.y) * (np.trace(given.kernel) / max(1e-300, given.y @ given.y))
    kernels = [scale * given.kernel for scale in _SCALES]
    kernels.append(given.kernel + _ALIGNED * labels)
    starts: list[Trail | None] = [_at(given, known, kernel) for kernel in kernels]
    starts.append(brought(known, _NARROWER * width, 0))
    found = [first.law]
    for index, start in enumerate(starts, start=1):
        trail = start
        for round_ in range(_ROUNDS):
            trail = trail and brought(trail, width, 10 * index + round_)
        if trail is None:
            continue
        if trail.sample is None:
            normal = base(trail.nodes.v.size, _POINTS)
            cloud = draw(given, function, trail.nodes, normal, trail.share)
        else:
            cloud = trail.sample.cloud
        end = settled(cloud, trail)
        others = [settled(cloud, law) for law in found]
        if end is not None and all(
            other is not None and _distance(given, end, other) > _SAME for other in others
        ):
            found.append(end)
    return found


def _at(given: Given, known: Trail, kernel: np.ndarray) -> Trail:
    """Return a start with the same points and another S."""
    noise = given.noise - given.temperature * np.eye(given.y.size)
    dual = Factor(kernel + noise, given.temperature).solve(given.y)
    return dataclasses.replace(known, moments=kernel, dual=dual)


def _distance(given: Given, one: Law, other: Law) -> float:
    lower = np.linalg.cholesky(given.noise + other.moments)
    return float(np.linalg.norm(whiten(lower, one.moments - other.moments)))
