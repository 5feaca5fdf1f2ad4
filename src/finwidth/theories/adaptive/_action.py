"""The action of the adaptive theory, its gradient and its Hessian, over covariances and Q̄.

Hidden weights, and the bias as one more input, are whitened by their prior and taken in the r
coordinates that the training patterns span, with covariance M = L Lᵀ (the prior is M = 1):

    𝒮(M, Q̄) = N_1 [tr M − r − logdet M]
             + max_Q { N_1 [−Q Q̄ + log(1+Q)] + logdet A + yᵀA⁻¹y },
    A = T + [Q̄ (K∘C − m mᵀ) + m mᵀ/(1+Q)]/λ_1 (+ 1/λ^b_1),   C = Z M Zᵀ.

Around a point, M(H) = L e^H Lᵀ with a symmetric H and Q̄ = e^u: a step in (H, u) is a step in the
Fisher metric of the Gaussian, and gradient and Hessian are those at H = 0.

The maximum over Q is a root of an increasing function of 1/(1+Q), so it exists once for
every (M, Q̄) and N_1 > 1; an odd σ has m = 0 and 1/(1+Q) = Q̄.
"""

# SciPy makes the LAPACK wrappers at run time:
# pyright: reportAttributeAccessIssue=false
import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import Array
from jaxtyping import Float

from ..._layers.covariance import Covariance, Square
from ..._layers.dense import layer_map, moments
from ..._layers.order import Scales
from ._point import AdaptivePoint

__all__ = ["AdaptiveAction"]

_ROUNDS = 8  # of the search for Q; two or three are used
_LARGEST_LOG = 60.0
_DIFFERENCE = 1e-5  # length of the difference step in (H, log Q̄, log 1/(1+Q))


@functools.partial(jax.jit, static_argnames=("activation",))
def _moments(activation: Any, rule: Any, c: Array) -> tuple[Array, Array]:
    """Return K∘C and m."""
    diagonal = jnp.diagonal(c)
    second, mean, _ = moments(activation, Square(c, diagonal, diagonal), rule)
    return second.cross, mean


def _kernel(activation: Any, rule: Any, precision: Any, theta: tuple[Array, ...]) -> Array:
    """Return K_R from (C, log Q̄, log 1/(1+Q)), its constant term left out."""
    c, log_q_bar, log_shrinkage = theta
    diagonal = jnp.diagonal(c)
    # On the diagonal the derivatives by the two variances and the covariance grow with the scale of
    # the inputs and cancel: there K_R is taken as a function of the variance alone.
    same = jnp.eye(len(diagonal), dtype=bool)
    covariance = Covariance(jnp.where(same, 0.0, c), diagonal, diagonal)
    value = Scales(jnp.exp(log_q_bar), jnp.exp(log_shrinkage))
    mapped = layer_map(activation, covariance, value, precision, 0.0, rule)
    return jnp.where(same, mapped.diag_a[:, None], mapped.cross)


@functools.partial(jax.jit, static_argnames=("activation",))
def _pullback(
    activation: Any, rule: Any, precision: Any, theta: tuple[Array, ...], cotangent: Array
) -> Any:
    """Return the derivative of ⟨cotangent, K_R⟩ by θ."""
    kernel = functools.partial(_kernel, activation, rule, precision)
    return jax.vjp(kernel, theta)[1](cotangent)[0]


@dataclasses.dataclass(frozen=True, eq=False)
class AdaptiveAction:
    """𝒮 for one network, training set and temperature.

    Parameters
    ----------
    activation, rule
        σ and its quadrature rule (None for closed forms).
    width
        N_1.
    patterns
        Z, the training patterns in whitened coordinates, shape (pattern, rank).
    y
        Labels, shape (pattern,).
    temperature
        T.
    precision, bias
        λ_1 and 1/λ^b_1.
    """

    activation: Any
    rule: Any
    width: int
    patterns: Float[np.ndarray, "pattern rank"]
    y: Float[np.ndarray, " pattern"]
    temperature: float
    precision: float
    bias: float

    @property
    def rank(self) -> int:
        """Number of coordinates r."""
        return self.patterns.shape[1]

    @property
    def odd(self) -> bool:
        """Whether there is no mean term."""
        return self.activation.parity == "odd"

    def kernel(self, point: AdaptivePoint) -> Float[np.ndarray, "pattern pattern"]:
        """Return K_R on the training set."""
        kernel = self._kernel(point.covariance, point.log_q_bar, point.log_shrinkage)
        return kernel + self.bias

    def _moments(self, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return K∘C and m."""
        c = jnp.asarray(covariance, jnp.float64)
        second, mean = _moments(self.activation, self.rule, c)
        return np.asarray(second), np.asarray(mean)

    def _kernel(self, covariance: np.ndarray, u: float, w: float) -> np.ndarray:
        """Return K_R from C, log Q̄ and log 1/(1+Q), without the constant 1/λ^b_1."""
        second, mean = self._moments(covariance)
        return self._combine(second, mean, math.exp(u), math.exp(w))

    def _combine(self, second: np.ndarray, mean: np.ndarray, q_bar: float, s: float) -> np.ndarray:
        return (q_bar * second + ((s - q_bar) * mean[:, None]) * mean) / self.precision

    def _pull(
        self, covariance: np.ndarray, u: float, w: float, cotangent: np.ndarray
    ) -> tuple[np.ndarray, float, float]:
        """Return the derivatives of ⟨cotangent, K_R⟩ by C, log Q̄ and log 1/(1+Q)."""
        theta = tuple(jnp.asarray(part, jnp.float64) for part in (covariance, u, w))
        d_c, d_u, d_w = _pullback(
            self.activation,
            self.rule,
            self.precision,
            theta,
            jnp.asarray(cotangent, jnp.float64),
        )
        d_c = np.asarray(d_c)
        return 0.5 * (d_c + d_c.T), float(d_u), float(d_w)

    def _factor(self, a: np.ndarray) -> np.ndarray | None:
        lower, info = scipy.linalg.lapack.dpotrf(a, lower=1, clean=1)
        return lower if info == 0 else None

    def point(
        self, root: np.ndarray, log_q_bar: float, log_shrinkage: float | None = None
    ) -> AdaptivePoint | None:
        """Evaluate 𝒮 and its gradient, or return None where A is not positive definite.

        Parameters
        ----------
        root
            L.
        log_q_bar
            log Q̄.
        log_shrinkage
            Where the search for log 1/(1+Q) starts; log Q̄ by default.
        """
        if not abs(log_q_bar) < _LARGEST_LOG:
            return None
        z = self.patterns @ root
        covariance = z @ z.T
        second, mean = self._moments(covariance)
        found = self._shrink(second, mean, log_q_bar, log_shrinkage)
        if found is None:
            return None
        w, lower = found
        weights = scipy.linalg.cho_solve((lower, True), self.y)
        inverse, _ = scipy.linalg.lapack.dpotri(lower, lower=1)
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        n, r = self.width, self.rank
        gram = root.T @ root
        logdet_m = 2.0 * np.linalg.slogdet(root)[1]
        logdet_a = 2.0 * float(np.sum(np.log(np.diag(lower))))
        prior, prior_u, prior_w = self._scalar_prior(log_q_bar, w)
        terms = (n * np.trace(gram), -n * r, -n * logdet_m, prior, logdet_a, self.y @ weights)
        cotangent = inverse - np.outer(weights, weights)
        d_c, d_u, d_w = self._pull(covariance, log_q_bar, w, cotangent)
        bend = n * gram + z.T @ d_c @ z
        gradient_u, gradient_w = prior_u + d_u, prior_w + d_w
        if self.odd:
            gradient_w = 0.0
        gradient = np.append((bend - n * np.eye(r)).ravel(), gradient_u)
        largest = max(float(np.max(np.abs(gradient))), abs(gradient_w))
        value = float(sum(terms))
        if not math.isfinite(value + largest):
            return None
        return AdaptivePoint(
            root=root,
            log_q_bar=log_q_bar,
            log_shrinkage=w,
            value=value,
            gradient=gradient,
            residual=largest / (n + self.y.size),
            noise=16 * np.finfo(np.float64).eps * float(sum(abs(term) for term in terms)),
            covariance=covariance,
            inverse=inverse,
            weights=weights,
            bend=bend,
        )

    def _matrix(self, second: np.ndarray, mean: np.ndarray, q_bar: float, s: float) -> np.ndarray:
        a = self._combine(second, mean, q_bar, s) + self.bias
        a[np.diag_indices(self.y.size)] += self.temperature
        return a

    def _shrink(
        self, second: np.ndarray, mean: np.ndarray, log_q_bar: float, log_shrinkage: float | None
    ) -> tuple[float, np.ndarray] | None:
        """Return the log 1/(1+Q) that maximises 𝒮 and the Cholesky factor of A there."""
        q_bar = math.exp(log_q_bar)
        if self.odd:
            lower = self._factor(self._matrix(second, mean, q_bar, q_bar))
            return None if lower is None else (log_q_bar, lower)
        w = log_q_bar if log_shrinkage is None else log_shrinkage
        for _ in range(_ROUNDS):
            s = math.exp(w)
            lower = self._factor(self._matrix(second, mean, q_bar, s))
            if lower is None:
                return None
            solved = scipy.linalg.cho_solve((lower, True), mean)
            g = float(mean @ solved) / self.precision
            b = float(solved @ self.y) ** 2 / self.precision
            new = _stationary_shrinkage(self.width, q_bar, s, g, b)
            if new is None:
                return None
            if abs(new - w) <= 1e-13:
                break
            w = new
        return w, lower  # pyright: ignore[reportPossiblyUnboundVariable]

    def _scalar_prior(self, u: float, w: float) -> tuple[float, float, float]:
        """N_1 [−Q Q̄ + log(1+Q)] and its derivatives by log Q̄ and log 1/(1+Q)."""
        n = self.width
        if self.odd:
            return n * (math.expm1(u) - u), n * math.expm1(u), 0.0
        ratio = math.exp(u - w)
        return n * (math.exp(u) - ratio - w), n * (math.exp(u) - ratio), n * (ratio - 1.0)

    def hessian(self, point: AdaptivePoint) -> Any:
        """Return the function (H, u) → Hessian·(H, u) of 𝒮, both of shape (rank² + 1,).

        With a mean term it is the Hessian of the maximum over Q: the Schur complement. The
        activation's part is a central difference of its gradient: only the speed of Newton's
        method depends on its accuracy, never the solution.
        """
        n, r = self.width, self.rank
        z = self.patterns @ point.root
        inverse, weights = point.inverse, point.weights
        cotangent = inverse - np.outer(weights, weights)
        q_bar, ratio = math.exp(point.log_q_bar), math.exp(point.log_q_bar - point.log_shrinkage)
        prior = n * np.array([[q_bar - ratio, ratio], [ratio, -ratio]])
        if self.odd:
            prior = n * np.array([[q_bar, 0.0], [0.0, 0.0]])

        def full(h: np.ndarray, u: float, w: float) -> tuple[np.ndarray, float, float]:
            size = math.sqrt(float(np.sum(h * h)) + u * u + w * w)
            if size == 0.0:
                return np.zeros_like(h), 0.0, 0.0
            step = _DIFFERENCE / size
            d_c = z @ h @ z.T
            up, down = (
                (point.covariance + t * d_c, point.log_q_bar + t * u, point.log_shrinkage + t * w)
                for t in (step, -step)
            )
            d_a = (self._kernel(*up) - self._kernel(*down)) / (2 * step)
            half = inverse @ d_a
            moved = np.outer(half @ weights, weights)
            change = step * (moved + moved.T - half @ inverse)
            above, below = (
                self._pull(*up, cotangent + change),
                self._pull(*down, cotangent - change),
            )
            d_c, d_u, d_w = ((a - b) / (2 * step) for a, b in zip(above, below, strict=True))
            bent = point.bend @ h
            d_u, d_w = np.array([d_u, d_w]) + prior @ np.array([u, w])
            return z.T @ d_c @ z + 0.5 * (bent + bent.T), float(d_u), float(d_w)

        if self.odd:

            def product(x: np.ndarray) -> np.ndarray:
                d_h, d_u, _ = full(x[:-1].reshape(r, r), float(x[-1]), 0.0)
                return np.append(d_h.ravel(), d_u)

            return product

        column_h, column_u, column_w = full(np.zeros((r, r)), 0.0, 1.0)
        column = np.append(column_h.ravel(), column_u)

        def reduced(x: np.ndarray) -> np.ndarray:
            w = -float(column @ x) / column_w
            d_h, d_u, _ = full(x[:-1].reshape(r, r), float(x[-1]), w)
            return np.append(d_h.ravel(), d_u)

        return reduced

    def move(self, point: AdaptivePoint, step: np.ndarray) -> AdaptivePoint | None:
        """Return the point at (H, u) = `step` from `point`, None where it is not defined."""
        r = self.rank
        h = step[:-1].reshape(r, r)
        values, vectors = np.linalg.eigh(0.5 * (h + h.T))
        root = point.root @ ((vectors * np.exp(0.5 * values)) @ vectors.T)
        return self.point(root, point.log_q_bar + float(step[-1]), point.log_shrinkage)


def _stationary_shrinkage(width: int, q_bar: float, at: float, g: float, b: float) -> float | None:
    """Return log s with s = 1/(1+Q) where ∂𝒮/∂Q = 0, None where there is none (N_1 = 1).

    With A at s = `at`, g = mᵀA⁻¹m/λ_1 and b = (mᵀA⁻¹y)²/λ_1, the equation is
    N_1 s + b s²/d² − g s²/d = N_1 Q̄ with d = 1 + (s − `at`) g; its left side increases with s.
    """
    import scipy.optimize  # half a second, which the other theories need not spend

    rest = max(1.0 - at * g, 0.0)

    def equation(log_s: float) -> float:
        s = math.exp(log_s)
        d = rest + s * g
        x = s * g / d if d > 0 else 0.0
        fit = b * (s / d) ** 2 if d > 0 else 0.0
        return math.log((width - x) * s + fit) - math.log(width * q_bar)

    guess = math.log(at)
    low = high = guess
    while equation(low) > 0:
        low -= 1.0
        if low < guess - 2 * _LARGEST_LOG:
            return None
    while equation(high) < 0:
        high += 1.0
        if high > guess + 2 * _LARGEST_LOG:
            return None
    if low == high:
        return guess
    root: Any = scipy.optimize.brentq(equation, low, high, xtol=1e-15)
    return float(root)
