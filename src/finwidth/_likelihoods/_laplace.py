"""Laplace's approximation: the posterior of f around its mode (theory.md, section 15)."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from .._basics.errors import ConvergenceError
from .._numerics.tilted import Factor1D
from ._sites import SiteFactor, SitesConditioned

__all__ = ["Height", "find_mode", "laplace"]

_ALL = slice(None)
_STEPS = 200
_CLOSE = 0.03  # steps from which the last factorisation serves for the next, too


class Height(NamedTuple):
    """log p(y|f), its gradient g, and W, minus its second derivatives."""

    value: float
    gradient: np.ndarray
    precision: np.ndarray


def laplace(
    factor: Factor1D,
    kernel: Float[np.ndarray, "pattern pattern"],
    start: Float[np.ndarray, " pattern"] | None = None,
) -> SitesConditioned:
    """Return f ~ N(0, kernel) given the labels, around the mode f̂ = K ∇log p(y|f̂).

    Parameters
    ----------
    factor
        log p(y|f) of each pattern, and its derivatives.
    kernel
        K on the training set.
    start
        A guess of f̂, which only the number of steps depends on.

    Raises
    ------
    ConvergenceError
        If the mode was not reached to rounding.
    """

    def height(f: np.ndarray) -> Height:
        value, first, second, _ = factor(f[:, None], _ALL)
        return Height(float(np.sum(value)), first[:, 0], -second[:, 0])

    f, (value, a, precision) = find_mode(height, SiteFactor, kernel, start)
    sites = SiteFactor(kernel, precision)
    third = factor(f[:, None], _ALL).third[:, 0]
    action = float(f @ a) - 2.0 * value + sites.logdet
    half = sites.whiten(kernel)
    variances = np.diag(kernel) - np.einsum("ij,ij->j", half, half)
    moved = sites.reduced(-third * variances)
    return SitesConditioned(sites, a, action - f.size * math.log(2 * math.pi), moved)


def find_mode(
    height: Callable[[np.ndarray], Height],
    factorise: Callable[[np.ndarray, np.ndarray], Any],
    kernel: np.ndarray,
    start: np.ndarray | None,
) -> tuple[np.ndarray, Height]:
    """Return the mode by Newton's method, which climbs log p(y|f) − ½ fᵀK⁻¹f.

    f = K a throughout, so that K is never solved with. Once steps are small the last
    factorisation is used again: each then gains as many digits as the step is small.
    """
    f = np.zeros(kernel.shape[0]) if start is None else start
    a = np.zeros_like(f) if start is None else None
    here = height(f)
    sites, last = None, np.inf
    for _ in range(_STEPS):
        if sites is None or last > _CLOSE:
            sites = factorise(kernel, here.precision)
        new = sites.reduced(sites.weigh(f) + here.gradient)
        f_new = kernel @ new
        if a is not None and last > _CLOSE:
            new, f_new = _climb(height, a, f, here, new, f_new)
        moved = float(np.max(np.abs(f_new - f)))
        a, f = new, f_new
        here = height(f)
        rounding = 1e-14 * (1.0 + float(np.max(np.abs(f))))
        if moved <= rounding or (moved > 0.5 * last and moved < 1e4 * rounding):
            return f, here
        if not np.isfinite(moved):
            break
        if last <= _CLOSE and moved > 0.3 * last:
            sites = None  # the old factorisation does not help
        last = moved
    raise ConvergenceError(
        f"expected the mode of f to be reached within {_STEPS} steps, got a last step of {last:.1e}"
    )


def _climb(
    height: Callable[[np.ndarray], Height],
    a: np.ndarray,
    f: np.ndarray,
    at: Height,
    new: np.ndarray,
    f_new: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the end of the step, or a point on the way there that is higher than its beginning."""
    da, df = new - a, f_new - f
    slope = float(df @ (at.gradient - a))
    here = at.value - 0.5 * float(a @ f)
    length = 1.0
    while length > 1e-10:
        there, f_there = a + length * da, f + length * df
        value = height(f_there).value - 0.5 * float(there @ f_there)
        if value >= here + 1e-4 * length * slope - 1e-12 * (1.0 + abs(here)):
            return there, f_there
        length *= 0.5
    raise ConvergenceError("expected steps towards the mode of f that climb, got one that does not")
