"""One-dimensional integrals of exp(g), wherever g has its mass and however narrow that is.

The trapezoidal rule on the line converges geometrically for analytic integrands that decay, so
all that is adapted is where the nodes begin and end, and their spacing.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp

from .._basics.errors import ConvergenceError

__all__ = ["DROP", "TOLERANCE", "Integral", "integrate"]

DROP = 42.0  # what lies this many nats below the mode (6e-19 of it) is left out
TOLERANCE = 1e-9
_FIRST = 40


@dataclasses.dataclass(frozen=True)
class Integral:
    """∫ exp(g(x)) dx and the nodes it was computed with.

    Attributes
    ----------
    log_value
        Logarithm of the integral.
    nodes
        x, shape (node,).
    weights
        Share of each node in the integral, shape (node,); they sum to 1.
    extras
        What the integrand returned along with g, first axis node.
    error
        Largest relative change of the integral, and of the means of exp(x) and exp(2x) under it,
        when the spacing was halved last.
    """

    log_value: float
    nodes: np.ndarray
    weights: np.ndarray
    extras: np.ndarray
    error: float


Integrand = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def integrate(function: Integrand, scan: np.ndarray, max_nodes: int = 2**14) -> Integral:
    """Integrate exp(g) over the line.

    Parameters
    ----------
    function
        x of shape (node,) -> (g, extras), first axes node. Called with several points at once.
    scan
        Increasing points from which modes are looked for; modes beyond them are found by climbing.
    max_nodes
        Largest number of intervals.

    Returns
    -------
    Integral

    Raises
    ------
    ConvergenceError
        If exp(g) does not decay on both sides, or is nowhere positive and finite.
    """
    lower, upper = _support(lambda x: function(x)[0], scan)
    n = _FIRST
    nodes = np.linspace(lower, upper, n + 1)
    values, extras = function(nodes)
    while True:
        fine = _moments(nodes, values)
        coarse = _moments(nodes[::2], values[::2])
        error = float(np.max(np.abs(np.expm1(fine - coarse))))
        if error <= TOLERANCE or 2 * n > max_nodes:
            break
        n *= 2
        finer = np.linspace(lower, upper, n + 1)
        new_values, new_extras = function(finer[1::2])
        values = _interleave(values, new_values)
        extras = _interleave(extras, new_extras)
        nodes = finer
    weights = np.exp(values - values.max())
    return Integral(float(fine[0]), nodes, weights / weights.sum(), extras, error)


def _moments(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Logarithms of the integral and of the means of exp(x) and exp(2x)."""
    total = logsumexp(values)
    first, second = (logsumexp(values + k * x) - total for k in (1, 2))
    return np.array([total + np.log(x[1] - x[0]), first, second])


def _interleave(even: np.ndarray, odd: np.ndarray) -> np.ndarray:
    merged = np.empty((even.shape[0] + odd.shape[0], *even.shape[1:]), even.dtype)
    merged[::2], merged[1::2] = even, odd
    return merged


def _support(g: Callable[[np.ndarray], np.ndarray], scan: np.ndarray) -> tuple[float, float]:
    """Return an interval outside of which exp(g) is below exp(-DROP) of its maximum."""
    x, v = scan, g(scan)

    def add(points: list[float]) -> None:
        nonlocal x, v
        x, v = np.append(x, points), np.append(v, g(np.array(points)))
        order = np.argsort(x)
        x, v = x[order], v[order]
        if np.any(np.isnan(v)) or np.any(v == np.inf):
            raise ConvergenceError("expected a finite integrand, got NaN or an infinite value")

    width = 2.0 * float(scan[1] - scan[0])
    for sign, end in ((-1.0, 0), (1.0, -1)):
        reach = width
        while not v[end] < v.max() - DROP:
            if reach > 1e6:
                raise ConvergenceError("expected an integrand that decays, got one that does not")
            add([float(x[end] + sign * reach)])
            reach *= 1.5
    for _ in range(100):  # until every mode that counts is resolved
        peaks = np.flatnonzero((v[1:-1] >= v[:-2]) & (v[1:-1] >= v[2:]) & (v[1:-1] > -np.inf)) + 1
        peaks = peaks[v[peaks] > v.max() - DROP]
        rough = [
            0.5 * float(x[i] + x[j])
            for i in peaks
            for j in (i - 1, i + 1)
            if v[i] - v[j] > 1.0 and abs(x[i] - x[j]) > 1e-12 * max(1.0, abs(x[i]))
        ]
        if not rough:
            break
        add(rough)
    for _ in range(60):  # and the ends are known to a few per cent of the length
        inside = np.flatnonzero(v > v.max() - DROP)
        first, last = inside[0], inside[-1]
        gap = 0.05 * float(x[last + 1] - x[first - 1])
        loose = [0.5 * float(x[i] + x[i + 1]) for i in (first - 1, last) if x[i + 1] - x[i] > gap]
        if not loose:
            break
        add(loose)
    return float(x[first - 1]), float(x[last + 1])
