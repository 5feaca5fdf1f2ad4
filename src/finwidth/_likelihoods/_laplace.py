"""Laplace's approximation: the posterior of f around its mode (theory.md, section 14)."""

import math

import numpy as np
from jaxtyping import Float

from .._basics.errors import ConvergenceError
from .._numerics.tilted import Factor1D, Terms
from ._sites import SiteFactor, SitesConditioned

__all__ = ["laplace"]

_ALL = slice(None)
_STEPS = 200
_CLOSE = 0.03  # steps from which the last factorisation serves for the next, too


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
    f, terms = _mode(factor, kernel, start)
    sites = SiteFactor(kernel, -terms.second)
    a = terms.first
    action = float(f @ a - 2.0 * np.sum(terms.value)) + sites.logdet
    half = sites.whiten(kernel)
    variances = np.diag(kernel) - np.einsum("ij,ij->j", half, half)
    moved = sites.reduced(-terms.third * variances)
    return SitesConditioned(sites, a, action - f.size * math.log(2 * math.pi), moved)


def _at(factor: Factor1D, f: np.ndarray) -> Terms:
    return Terms(*(part[:, 0] for part in factor(f[:, None], _ALL)))


def _mode(
    factor: Factor1D, kernel: np.ndarray, start: np.ndarray | None
) -> tuple[np.ndarray, Terms]:
    """Return the mode by Newton's method, which climbs Σ log p(y|f) − ½ fᵀK⁻¹f.

    f = K a throughout, so that K is never solved with. Once steps are small the last
    factorisation is used again: each then gains as many digits as the step is small.
    """
    f = np.zeros(kernel.shape[0]) if start is None else start
    a = np.zeros_like(f) if start is None else None
    terms = _at(factor, f)
    sites, last = None, np.inf
    for _ in range(_STEPS):
        if sites is None or last > _CLOSE:
            sites = SiteFactor(kernel, -terms.second)
        new = sites.reduced(sites.precision * f + terms.first)
        f_new = kernel @ new
        if a is not None and last > _CLOSE:
            new, f_new = _climb(factor, a, f, terms, new, f_new)
        moved = float(np.max(np.abs(f_new - f)))
        a, f = new, f_new
        terms = _at(factor, f)
        rounding = 1e-14 * (1.0 + float(np.max(np.abs(f))))
        if moved <= rounding or (moved > 0.5 * last and moved < 1e4 * rounding):
            return f, terms
        if not np.isfinite(moved):
            break
        if last <= _CLOSE and moved > 0.3 * last:
            sites = None  # the old factorisation does not help
        last = moved
    raise ConvergenceError(
        f"expected the mode of f to be reached within {_STEPS} steps, got a last step of {last:.1e}"
    )


def _climb(
    factor: Factor1D,
    a: np.ndarray,
    f: np.ndarray,
    terms: Terms,
    new: np.ndarray,
    f_new: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the end of the step, or a point on the way there that is higher than its beginning."""
    da, df = new - a, f_new - f
    slope = float(df @ (terms.first - a))
    here = float(np.sum(terms.value) - 0.5 * a @ f)
    length = 1.0
    while length > 1e-10:
        there, f_there = a + length * da, f + length * df
        value = float(np.sum(_at(factor, f_there).value) - 0.5 * there @ f_there)
        if value >= here + 1e-4 * length * slope - 1e-12 * (1.0 + abs(here)):
            return there, f_there
        length *= 0.5
    raise ConvergenceError("expected steps towards the mode of f that climb, got one that does not")
