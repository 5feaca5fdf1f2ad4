"""The law of one neuron on given points: its dual a, its moments, and the equation for C.

At fixed C the dual a maximises the concave function

    D(a) = y·a − ½aᵀ(T + 1/λ^b_1)a − n log Z(a),   Z = E_prior[(1+q)^{−1/2} e^{ut/2}],
    u = a·φ/√n,  q = φᵀCφ/n,  t = u/(1+q),

with gradient y − Ta − m, m = √n E[tφ] = K1 a, and Hessian −(T + S), S = K2 − mmᵀ/n. These
identities hold for weighted points too, whatever they are.
"""

# SciPy makes the LAPACK wrappers at run time:
# pyright: reportAttributeAccessIssue=false

import dataclasses
from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Float
from scipy.special import logsumexp

from ._points import Cloud, Given, square, whitened_squares

__all__ = ["AtC", "Law", "at", "dual_value", "settle", "weights", "whiten"]

_DECREMENT = 1e-9  # of Newton's method for a, squared: in units of D, a log probability
_COARSE = 0.02  # of what S has still to change, to which a is found on the way
_FAR = 0.1  # what that is taken to be at first
_BEYOND = 1e3  # the largest a, where Newton's method is stopped
_DEPTH = 6  # of Anderson's mixing
_LOWEST, _HIGHEST = -0.6, 1.5  # change of T + S relative to itself in one step


@dataclasses.dataclass(frozen=True, eq=False)
class Law:
    """The law of a neuron on the points of a cloud, for a and C.

    Attributes
    ----------
    dual
        a.
    weight
        Probability of each point.
    shrink, pull
        1/(1+q) and t at each point.
    moments
        S = K2 − mmᵀ/n of this law.
    """

    dual: Float[np.ndarray, " pattern"]
    weight: Float[np.ndarray, " point"]
    shrink: Float[np.ndarray, " point"]
    pull: Float[np.ndarray, " point"]
    moments: Float[np.ndarray, "pattern pattern"]

    @property
    def shares(self) -> Float[np.ndarray, " point"]:
        """Share of each point in E[t²]."""
        carried = self.weight * self.pull**2
        return carried / np.sum(carried)

    @property
    def effective(self) -> float:
        """Effective number of points of E[t²]."""
        return float(1 / np.sum(self.shares**2))

    def error_left_out(self, given: Given) -> float:
        """Return the mean error at each training pattern of a prediction from all others.

        Of the Gaussian process: (a_μ/C_μμ)² + 1/C_μμ − T (Rasmussen & Williams 2006, 5.4.2).
        """
        lower = np.linalg.cholesky(given.noise + self.moments)
        half = scipy.linalg.solve_triangular(lower, np.eye(lower.shape[0]), lower=True)
        own = np.einsum("ij,ij->j", half, half)
        return float(np.mean((self.dual / own) ** 2 + 1 / own)) - given.temperature


class AtC:
    """What is fixed while a is sought: the points' q."""

    def __init__(self, given: Given, cloud: Cloud, width: float, lower: np.ndarray) -> None:
        self.given, self.cloud, self.width, self.lower = given, cloud, width, lower
        q = whitened_squares(lower, cloud.phi) / width
        self.shrink = 1 / (1 + q)
        self.log_base = cloud.log_prior - 0.5 * np.log1p(q)
        self.noise = given.noise - cloud.missed
        self._last: tuple[Any, Any] = (None, None)

    def value(self, a: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Return D, the points' probabilities and t."""
        u = self.cloud.phi @ (a / np.sqrt(self.width))
        pull = u * self.shrink
        log = self.log_base + 0.5 * u * pull
        top = float(np.asarray(logsumexp(log)))
        norm = self.width * top
        value = float(self.given.y @ a - 0.5 * a @ (self.noise @ a) - norm)
        return value, np.exp(log - top), pull

    def gradient(self, a: np.ndarray, weight: np.ndarray, pull: np.ndarray) -> np.ndarray:
        mean = np.sqrt(self.width) * (self.cloud.phi.T @ (weight * pull))
        return self.given.y - self.noise @ a - mean

    def moments(self, weight: np.ndarray, pull: np.ndarray) -> np.ndarray:
        if self._last[0] is not weight:  # the last factor's are those of the law
            phi = self.cloud.phi
            second = square(phi, weight * (self.shrink + pull**2))
            mean = phi.T @ (weight * pull)
            self._last = weight, second - np.outer(mean, mean) - self.cloud.missed
        return self._last[1]

    def law(self, a: np.ndarray, weight: np.ndarray, pull: np.ndarray) -> Law:
        return Law(a, weight, self.shrink, pull, self.moments(weight, pull))

    def factor(self, weight: np.ndarray, pull: np.ndarray) -> tuple[np.ndarray, bool]:
        """Return the factor of the Hessian, or of what it is without the points' error."""
        found = self.given.noise + self.moments(weight, pull)
        try:
            return _cholesky(found), True
        except np.linalg.LinAlgError:
            return _cholesky(found + self.cloud.missed), True


def _cholesky(matrix: np.ndarray) -> np.ndarray:
    lower = np.linalg.cholesky(matrix)
    if not np.all(np.isfinite(lower)):  # what is not finite has no factor either
        raise np.linalg.LinAlgError("not finite")
    return lower


def at(
    given: Given,
    cloud: Cloud,
    width: float,
    lower: np.ndarray,
    start: np.ndarray,
    equation: type[AtC] = AtC,
    decrement: float = _DECREMENT,
) -> Law:
    """Return the law at C = (lower lowerᵀ)⁻¹, with the a that maximises D.

    Parameters
    ----------
    given, cloud, width
        The problem, the points, n.
    lower
        Cholesky factor of T + S.
    start
        First a.
    equation
        What D is at fixed C.
    decrement
        Of D, at which Newton's method stops.
    """
    point, a, exact = equation(given, cloud, width, lower), start, False
    factor = (lower, True)
    value, weight, pull = point.value(a)
    # (T + K1)a = y bounds a; beyond, points that miss the prior have made D a function without top
    largest = _BEYOND * float(np.linalg.norm(given.y) / given.temperature + np.linalg.norm(start))
    for _ in range(200):
        if not np.linalg.norm(a) <= largest:
            raise np.linalg.LinAlgError("D has no maximum")
        slope = point.gradient(a, weight, pull)
        step = scipy.linalg.cho_solve(factor, slope)
        rise = float(slope @ step)
        if rise < decrement:
            break
        length = 1.0
        while True:
            tried = point.value(a + length * step)
            if tried[0] >= value + 0.1 * length * rise:
                break
            if not exact:
                factor, exact, length = point.factor(weight, pull), True, 0.0
                tried = (value, weight, pull)
                break
            length *= 0.5
            if length < 1e-6:
                # no digit of D left to gain
                return point.law(a, weight, pull)
        a = a + length * step
        value, weight, pull = tried
        if exact and length > 0:
            factor = point.factor(weight, pull)
    return point.law(a, weight, pull)


def weights(
    given: Given, cloud: Cloud, width: float, lower: np.ndarray, a: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the points' probabilities and t at C = (lower lowerᵀ)⁻¹ and any a."""
    return AtC(given, cloud, width, lower).value(a)[1:]


def dual_value(
    given: Given, cloud: Cloud, width: float, lower: np.ndarray, a: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return D, its gradient and the S of its Hessian −(T + S)."""
    point = AtC(given, cloud, width, lower)
    value, weight, pull = point.value(a)
    return value, point.gradient(a, weight, pull), point.moments(weight, pull)


def settle(
    given: Given,
    cloud: Cloud,
    width: float,
    moments: np.ndarray,
    dual: np.ndarray,
    *,
    tolerance: float,
    most: int,
    equation: type[AtC] = AtC,
    secants: list[tuple[np.ndarray, np.ndarray]] | None = None,
) -> tuple[Law, float, int]:
    """Solve S = G(S) on fixed points by Anderson's mixing.

    Parameters
    ----------
    given, cloud, width
        The problem, the points, n.
    moments, dual
        First S and a.
    tolerance
        Wanted ‖(T+S)^{−1/2}(G − S)(T+S)^{−1/2}‖.
    most
        Most iterations; fewer where a third of them does not halve what is left.
    equation
        What D is at fixed C.
    secants
        Changes of S and of G − S in earlier calls on other points of the same law, to start with;
        those of this call are put there instead.

    Returns
    -------
    tuple
        The law, the norm that was reached, the iterations.
    """
    history = [] if secants is None else list(secants)
    last: Any = None
    best, size, sizes = np.inf, _FAR, list[float]()
    for count in range(1, most + 1):
        lower = _cholesky(given.noise + moments)
        decrement = _DECREMENT if count == most else max(_DECREMENT, (_COARSE * size) ** 2)
        law = at(given, cloud, width, lower, dual, equation, decrement)
        dual = law.dual
        residual = law.moments - moments
        white = whiten(lower, residual)
        size = float(np.linalg.norm(white))
        if size < tolerance and decrement > max(_DECREMENT, 0.1 * tolerance**2):
            continue  # with a better a
        sizes.append(size)
        if size < tolerance or count == most or _stalled(sizes, max(1, most // 3)):
            if secants is not None:
                secants[:] = history
            return law, size, count
        if size > 3 * best:
            history = []
        best = min(best, size) if history else size
        if last is not None:
            history.append((moments - last[0], residual - last[1]))
            history = history[-_DEPTH:]
        last = (moments, residual)
        step = residual
        if history:
            changes = np.stack([whiten(lower, df).ravel() for _, df in history], axis=1)
            gamma = np.linalg.lstsq(changes, white.ravel(), rcond=1e-10)[0]
            for g, (ds, df) in zip(gamma, history, strict=True):
                step = step - g * (ds + df)
        spectrum = np.linalg.eigvalsh(whiten(lower, step))
        cut = max(1.0, spectrum[0] / _LOWEST, spectrum[-1] / _HIGHEST)
        if cut > 1.0:
            history, last = [], None
        moments = moments + step / cut
    raise AssertionError  # the loop returns


def _stalled(sizes: list[float], window: int) -> bool:
    """Return whether the last ones are no smaller than half of those before."""
    return len(sizes) > window and min(sizes[-window:]) > 0.5 * min(sizes[:-window])


def whiten(lower: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return L⁻¹ M L⁻ᵀ for a symmetric M."""
    half = scipy.linalg.solve_triangular(lower, matrix, lower=True, check_finite=False)
    return scipy.linalg.solve_triangular(lower, half.T, lower=True, check_finite=False)
