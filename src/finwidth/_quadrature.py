"""Gaussian moments of an activation: closed form where there is one, else a Hermite series.

For (h, h') ~ N(0, [[c_xx, c_xy], [c_xy, c_yy]]) with correlation ρ, Mehler's formula gives

    E[σ(h)σ(h')] = Σ_n ρⁿ a_n(c_xx) a_n(c_yy),   a_n(c) = E[σ(√c z) He_n(z)] / √n!,   z ~ N(0, 1).

* The coefficients belong to single patterns: a P × P kernel costs P² · terms multiplications
  instead of P² · nodes² evaluations of σ, and its Gram matrix is positive semidefinite for any
  number of terms.
* The truncation error is at most √(R(c_xx) R(c_yy)) for every ρ, with R(c) = E[σ²] − Σ_n a_n²
  (Cauchy-Schwarz). `prepare` measures R and picks the number of terms from it.
* Each a_n comes from a Gauss-Legendre rule on panels that are refined towards 0 and split there,
  so a kink at 0 (ReLU, abs, sign) costs the coefficients no accuracy. It still makes the
  series converge slowly near |ρ| = 1, which `prepare` reports. Where variances are large, what σ
  does at h of order 1 lies close to z = 0: the panels are then refined as far as that takes.
* Derivatives follow Price's theorem, ∂K/∂c_xy = E[σ'(h)σ'(h')] and ∂K/∂c_xx = ½E[σ''(h)σ(h')],
  again as Hermite series. They are finite, to every order, on the diagonal, for duplicate
  patterns (ρ = ±1) and for zero inputs (c = 0), where differentiating ρ and √c would not be.

References
----------
Mehler, J. reine angew. Math. 66, 161 (1866). Price, IRE Trans. Inf. Theory 4, 69 (1958).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from jaxtyping import Float

from ._activation import Activation
from ._errors import InputError, warn
from ._precision import float64
from ._special import balance

__all__ = ["Rule", "choose", "kernel", "mean", "prepare"]

# Numbers of terms that may be picked; the last is the most that is tried.
_TERMS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536)
# Highest derivative of σ that JAX is asked for: two derivatives of a kernel need σ''''.
_MAX_ORDER = 4
# With full-size c_xx the coefficients are per pair: this many pairs are done at once.
_CHUNK = 4096
# Up to this variance the usual nodes resolve what σ does at h of order 1.
_MODERATE = 256.0
# Largest relative error of a kernel that is returned, with a warning.
_LARGEST_ERROR = 2e-2
# Variance assumed when no rule is given and the covariances are traced.
_DEFAULT_VARIANCE = 16.0


@dataclasses.dataclass(frozen=True)
class Rule:
    """A Hermite series chosen by `prepare`; hashable, so it can be a static argument.

    Parameters
    ----------
    terms
        Number of terms of the series.
    smooth
        Number of derivatives of σ, at most 4, for which differentiating `fn` is enough; higher
        ones would be distributions (ReLU: 1, a step: 0) and come from the ladder operator
        a_n(σ') = √(n+1) a_{n+1}(σ)/√c instead.
    levels
        How often the panel next to 0 is halved.
    error
        Measured bound on the error of the kernel, relative to √(E[σ(h)²] E[σ(h')²]).
    gradient_error
        The same for ∂K/∂c_xy = E[σ'(h)σ'(h')]; infinite where that diverges.
    """

    terms: int
    smooth: int
    levels: int
    error: float = dataclasses.field(compare=False)
    gradient_error: float = dataclasses.field(compare=False)


def kernel(
    activation: Activation,
    c_xx: Float[Array, "..."],
    c_xy: Float[Array, "..."],
    c_yy: Float[Array, "..."],
    rule: Rule | None = None,
) -> Float[Array, "..."]:
    """Evaluate E[σ(h)σ(h')], elementwise in three covariances of broadcasting shapes.

    Can be jitted (`activation` and `rule` are static), vmapped and differentiated.

    Parameters
    ----------
    activation
        σ; its closed form is used if it has one.
    c_xx, c_xy, c_yy
        Covariance of the pair. For a P × P' kernel give shapes (P, 1), (P, P') and (1, P'),
        so that series coefficients are computed once per pattern and not once per pair.
    rule
        From `prepare`. By default chosen here for max(c_xx, c_yy), or for variances up
        to 16 if these are traced; no accuracy warning is given then.

    Returns
    -------
    Array of the broadcast shape.
    """
    c_xx, c_xy, c_yy = _same_rank(c_xx, c_xy, c_yy)
    if activation.kernel is not None:
        return activation.kernel(c_xx, c_xy, c_yy)
    rule = rule or _default_rule(activation, c_xx, c_yy)
    shape = jnp.broadcast_shapes(c_xx.shape, c_xy.shape, c_yy.shape)

    def moment(c_xx: Array, c_xy: Array, c_yy: Array) -> Array:
        return _moment(activation, rule, (0, 0), c_xx, c_xy, c_yy)

    if max(c_xx.size, c_yy.size) <= _CHUNK:
        return moment(c_xx, jnp.broadcast_to(c_xy, shape), c_yy)
    flat = tuple(jnp.broadcast_to(c, shape).reshape(-1) for c in (c_xx, c_xy, c_yy))
    return lax.map(lambda c: moment(*c), flat, batch_size=_CHUNK).reshape(shape)


def mean(
    activation: Activation, c_xx: Float[Array, "..."], rule: Rule | None = None
) -> Float[Array, "..."]:
    """Evaluate E[σ(h)], h ~ N(0, c_xx), elementwise.

    Parameters
    ----------
    activation
        σ; its closed form is used if it has one, and an odd σ has mean zero.
    c_xx
        Variances, any shape.
    rule
        From `prepare`; by default as for `kernel`.

    Returns
    -------
    Array of the shape of `c_xx`.
    """
    c_xx = jnp.asarray(c_xx)
    if activation.parity == "odd":
        return jnp.zeros_like(c_xx)
    if activation.mean is not None:
        return activation.mean(c_xx)
    return _first_moment(activation, rule or _default_rule(activation, c_xx), 0, c_xx)


def prepare(activation: Activation, c_max: float, tolerance: float = 1e-8) -> Rule:
    """Choose the rule for variances up to `c_max`, outside jit, and say if it falls short.

    Smaller variances are looked at, too, down to those where the wiggles of σ do not matter.

    Parameters
    ----------
    activation
        The activation; one with closed forms needs no series and gets a short rule.
    c_max
        Largest variance c_xx that `kernel` and `mean` will be given.
    tolerance
        Wanted error, relative to √(E[σ(h)²] E[σ(h')²]). The gradient is asked for 100 times
        less.

    Returns
    -------
    Rule
        The shortest series that meets the tolerance, or else the longest that is tried.

    Warns
    -----
    AccuracyWarning
        If no rule meets the tolerance: the bound that is met instead is stated.

    Raises
    ------
    InputError
        If not even two percent can be vouched for.
    """
    rule = choose(activation, c_max, tolerance)
    if rule.error > tolerance or rule.gradient_error > 100 * tolerance:
        warn(
            f"expected the moments of activation {activation.name!r} to a relative error of "
            f"{tolerance:.0e} (gradient {100 * tolerance:.0e}) for variances up to {c_max:.3g}, "
            f"got {rule.error:.0e} (gradient {rule.gradient_error:.0e}) with {rule.terms} Hermite "
            "terms; the worst case is at correlations near ±1; a closed form would be exact",
            about=("moments", activation),
        )
    return rule


def choose(activation: Activation, c_max: float, tolerance: float = 1e-8) -> Rule:
    """Return the rule of `prepare` without a warning."""
    # few rules, so few compilations
    steps = min(math.ceil(2 * math.log2(max(float(c_max), 2.0**-20))), 2047)
    rule = _choose(activation, 2.0 ** (steps / 2), tolerance)
    if not rule.error <= _LARGEST_ERROR:
        raise InputError(
            f"expected X, weight_precision and bias_precision with variances at which the moments "
            f"of activation {activation.name!r} can be had by quadrature, to {_LARGEST_ERROR:g} at "
            f"least, got variances up to {c_max:.3g} and an error of {rule.error:.1g}; a closed "
            "form would be exact"
        )
    return rule


# --- the series ------------------------------------------------------------------------------


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _moment(
    activation: Activation,
    rule: Rule,
    orders: tuple[int, int],
    c_xx: Array,
    c_xy: Array,
    c_yy: Array,
) -> Array:
    """E[σ⁽ⁱ⁾(h) σ⁽ʲ⁾(h')] for orders (i, j), by Mehler's formula; arrays of equal rank."""
    i, j = orders
    every = slice(None)
    if activation.parity == "odd":  # i + j is even, so both derivatives have the same parity
        every = slice(1 - i % 2, None, 2)
    a = _coefficients(activation, rule, i, c_xx, every)
    b = _coefficients(activation, rule, j, c_yy, every)
    x, z, y, _, _ = balance(c_xx, c_xy, c_yy)
    product = x * y
    rho = z * jnp.where(product > 0, lax.rsqrt(jnp.where(product > 0, product, 1)), 0)
    # On the diagonal the quotient is exactly 1, whatever rsqrt rounds to.
    rho = jnp.where((c_xy == c_xx) & (c_xy == c_yy) & (product > 0), 1, rho)
    step = rho if every.step is None else rho * rho

    def horner(total: Array, ab: tuple[Array, Array]) -> tuple[Array, None]:
        return total * step + ab[0] * ab[1], None

    total, _ = lax.scan(horner, jnp.zeros_like(rho), (a, b), reverse=True, unroll=8)
    return total * rho if every.start else total


@_moment.defjvp
def _moment_jvp(
    activation: Activation,
    rule: Rule,
    orders: tuple[int, int],
    primals: tuple[Array, Array, Array],
    tangents: tuple[Array, Array, Array],
) -> tuple[Array, Array]:
    """Price's theorem."""
    i, j = orders

    def moment(di: int, dj: int) -> Array:
        return _moment(activation, rule, (i + di, j + dj), *primals)

    d_xx, d_xy, d_yy = tangents
    tangent = moment(1, 1) * d_xy + moment(2, 0) * (d_xx / 2) + moment(0, 2) * (d_yy / 2)
    return moment(0, 0), tangent


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _first_moment(activation: Activation, rule: Rule, order: int, c: Array) -> Array:
    """E[σ⁽ᵏ⁾(h)], h ~ N(0, c)."""
    return _coefficients(activation, rule, order, c, slice(0, 1))[0]


@_first_moment.defjvp
def _first_moment_jvp(
    activation: Activation,
    rule: Rule,
    order: int,
    primals: tuple[Array],
    tangents: tuple[Array],
) -> tuple[Array, Array]:
    """d/dc E[σ(h)] = ½E[σ''(h)], the heat equation."""
    slope = _first_moment(activation, rule, order + 2, *primals)
    return _first_moment(activation, rule, order, *primals), slope * (tangents[0] / 2)


def _coefficients(
    activation: Activation, rule: Rule, order: int, c: Array, every: slice
) -> Float[Array, "term ..."]:
    """Hermite coefficients a_n of σ⁽ᵏ⁾(√c z), for the n < terms that `every` selects."""
    exact = min(order, rule.smooth)
    result = _lifted(activation, rule, exact, order - exact, c, every)
    if rule.levels and exact > 1:
        # at large c those of a high derivative are small differences of large numbers
        climbed = _lifted(activation, rule, 1, order - 1, c, every)
        result = jnp.where(c > _MODERATE, climbed, result)
    return result


def _lifted(
    activation: Activation, rule: Rule, exact: int, lifts: int, c: Array, every: slice
) -> Float[Array, "term ..."]:
    """Coefficients of σ⁽ᵏ⁾ with `exact` derivatives by JAX and `lifts` by the ladder operator."""
    nodes, _ = _nodes(rule.levels)
    matrix = _hermite(rule.terms + lifts)[lifts:]
    if lifts:  # a_n(σ⁽ᵏ⁾) = √((n+1)…(n+k)) a_{n+k}(σ) c^{-k/2}
        n = np.arange(rule.terms)
        factors = np.prod([n + m for m in range(1, lifts + 1)], axis=0)
        matrix = matrix * np.sqrt(factors)[:, None]
    fn = _derivative(activation.fn, exact)
    z = jnp.asarray(nodes, c.dtype).reshape((1,) * c.ndim + (-1,))
    values = _gather(fn(jnp.sqrt(c)[..., None] * z), rule.levels)
    result = jnp.tensordot(jnp.asarray(matrix[every], c.dtype), values, axes=(1, c.ndim))
    inverse = jnp.where(c > 0, lax.rsqrt(jnp.where(c > 0, c, 1)), 0)
    for _ in range(lifts):
        result = result * inverse[None]
    return result


def _derivative(fn: Callable[[Array], Array], order: int) -> Callable[[Array], Array]:
    """The derivative of an elementwise function, as another elementwise function."""
    for _ in range(order):
        fn = functools.partial(_push, fn)
    return fn


def _push(fn: Callable[[Array], Array], h: Array) -> Array:
    return jax.jvp(fn, (h,), (jnp.ones_like(h),))[1]


# --- nodes -----------------------------------------------------------------------------------


class _Panels(NamedTuple):
    """A composite Gauss-Legendre rule for z > 0, and so for z < 0.

    Panels double from 2^smallest to `width` and keep that width to `reach`.
    """

    reach: float
    smallest: int
    width: float
    points: int


_USED = _Panels(12.0, -7, 0.5, 16)
_FINE = _Panels(30.0, -10, 0.25, 20)  # the rule that the first is judged by


def _composite(edges: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.legendre.leggauss(points)
    half = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + half * (1 + x)).ravel(), (half * w).ravel()


def _first_panel(panels: _Panels, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the panel next to 0, halved `levels` times towards 0."""
    edges = 2.0 ** np.arange(panels.smallest - levels, panels.smallest + 1)
    return _composite(np.concatenate([[0.0], edges]), panels.points)


@functools.lru_cache(maxsize=32)
def _nodes(levels: int, panels: _Panels = _USED) -> tuple[np.ndarray, np.ndarray]:
    """Nodes z and weights on the line, with the panels next to 0 halved `levels` times."""
    reach, smallest, width, points = panels
    graded = 2.0 ** np.arange(smallest, math.log2(width))
    edges = np.concatenate([graded, np.arange(width, reach + width / 2, width)])
    z, weight = map(
        np.concatenate,
        zip(_first_panel(panels, levels), _composite(edges, points), strict=True),
    )
    return np.concatenate([-z[::-1], z]), np.concatenate([weight[::-1], weight])


@functools.lru_cache(maxsize=32)
def _projection(levels: int, panels: _Panels) -> np.ndarray:
    """Matrix from values on the halved panel to those of a polynomial at the nodes of the whole.

    It is the polynomial closest to the function, so that its moments are the function's.
    """
    z, weight = _first_panel(panels, levels)
    scale = 2.0 / 2.0**panels.smallest
    points = panels.points
    x, _ = np.polynomial.legendre.leggauss(points)
    norm = np.sqrt(np.arange(points) + 0.5)
    legendre = lambda x: norm * np.polynomial.legendre.legvander(x, points - 1)  # noqa: E731
    return legendre(x) @ (legendre(scale * z - 1).T * (scale * weight))


def _gather(values: Any, levels: int, panels: _Panels = _USED) -> Any:
    """Turn values at `_nodes(levels)` (last axis) into values at `_nodes(0)` that count the same.

    Hermite functions of the orders in use are polynomials, to rounding, on the panels next to 0.
    """
    if not levels:
        return values
    xp = jnp if isinstance(values, Array) else np
    matrix = xp.asarray(_projection(levels, panels), values.dtype)
    inner = panels.points * (levels + 1)
    middle = values.shape[-1] // 2
    left, right = values[..., middle - inner : middle], values[..., middle : middle + inner]
    parts = [
        values[..., : middle - inner],
        left @ matrix[::-1, ::-1].T,
        right @ matrix.T,
        values[..., middle + inner :],
    ]
    return xp.concatenate(parts, axis=-1)


def _levels(c_max: float) -> int:
    """How often to halve the panels next to 0, in steps of four: few rules, few compilations."""
    return 4 * max(0, math.ceil(math.log2(c_max / _MODERATE) / 8))


@functools.lru_cache(maxsize=32)
def _hermite(terms: int, panels: _Panels = _USED) -> np.ndarray:
    """Matrix (terms, nodes) that maps values σ(√c z) at `_nodes(0)` to the coefficients a_n(c)."""
    z, weight = _nodes(0, panels)
    root = np.exp(-(z**2) / 4) / (2 * np.pi) ** 0.25  # square root of the Gaussian density
    functions = np.empty((terms, z.size))
    functions[0] = root
    functions[1:2] = z * root
    for n in range(1, terms - 1):
        functions[n + 1] = (z * functions[n] - math.sqrt(n) * functions[n - 1]) / math.sqrt(n + 1)
    return functions * (weight * root)


# --- choice of the rule ----------------------------------------------------------------------


def _default_rule(activation: Activation, *variances: Array) -> Rule:
    if any(isinstance(c, Tracer) for c in variances):
        c_max = _DEFAULT_VARIANCE
    else:
        c_max = max((float(jnp.max(c)) for c in variances if c.size), default=1.0)
    return choose(activation, c_max)


@functools.lru_cache(maxsize=128)
def _choose(activation: Activation, c_max: float, tolerance: float) -> Rule:
    """The shortest rule within `tolerance` at variances down to c_max/256, or the longest."""
    scales = [c_max / 4.0**k for k in range(5)]
    if scales[-1] > 1:  # patterns of another size, whose h are of order 1
        scales.extend(np.geomspace(1 / 64, scales[-1], 10)[:-1])
    levels = _levels(c_max)
    smooth = min(_smoothness(activation, c, levels) for c in scales)
    if activation.kernel is not None:  # only E[σ] may need quadrature
        exact = activation.parity == "odd" or activation.mean is not None
        error = 0.0 if exact else max(_errors(activation, 0, c, (1,), levels)[0] for c in scales)
        return Rule(_TERMS[0], smooth, levels, error, 0.0)
    errors = np.max([_errors(activation, 0, c, _TERMS, levels) for c in scales], axis=0)
    if smooth:
        slopes = np.max([_errors(activation, 1, c, _TERMS, levels) for c in scales], axis=0)
    else:
        slopes = np.full(len(_TERMS), np.inf)
    good = (errors <= tolerance) & (slopes <= 100 * tolerance)
    best = int(np.argmax(good)) if good.any() else len(_TERMS) - 1
    return Rule(_TERMS[best], smooth, levels, float(errors[best]), float(slopes[best]))


def _errors(
    activation: Activation, order: int, c: float, terms: Sequence[int], levels: int
) -> np.ndarray:
    """Relative error bound, per number of terms: truncation plus error of the coefficients.

    With a single term the truncation is left out: the error of the mean.
    """
    z, weight = _nodes(levels, _FINE)
    values = _evaluate(activation, order, math.sqrt(c) * z)
    used = _evaluate(activation, order, math.sqrt(c) * _nodes(levels)[0])
    largest = max(float(np.max(np.abs(values))), float(np.max(np.abs(used))))
    if largest == 0:
        return np.zeros(len(terms))
    if not math.isfinite(largest):
        return np.full(len(terms), np.inf)
    values, used = values / largest, used / largest  # their squares must not overflow
    reference = _hermite(max(terms), _FINE) @ _gather(values, levels, _FINE)
    used = _hermite(max(terms)) @ _gather(used, levels)
    root = values * np.exp(-(z**2) / 4)
    power = float(np.sum(weight * root**2) / math.sqrt(2 * math.pi))
    if power == 0:  # all that is not zero is where h never comes
        return np.full(len(terms), np.inf)
    bounds = []
    for n in terms:
        tail = abs(power - np.sum(reference[:n] ** 2)) if n > 1 else 0.0
        difference = float(np.linalg.norm(used[:n] - reference[:n]))
        bounds.append((tail + 2 * difference * math.sqrt(power)) / power)
    return np.nan_to_num(np.array(bounds), nan=np.inf)


def _smoothness(activation: Activation, c: float, levels: int) -> int:
    """Order up to which a_n(σ⁽ᵏ⁾)√c = √(n+1) a_{n+1}(σ⁽ᵏ⁻¹⁾), that is, no jump is overlooked."""
    z, terms = math.sqrt(c) * _nodes(levels)[0], 12
    root = np.sqrt(np.arange(1, terms))

    def integrate(values: np.ndarray) -> np.ndarray:
        return _hermite(terms) @ _gather(values, levels)

    values = _evaluate(activation, 0, z)
    largest = float(np.max(np.abs(values))) or 1.0  # squares must not overflow
    if not math.isfinite(largest):
        return 0
    values = values / largest
    lower = integrate(values)
    for order in range(1, _MAX_ORDER + 1):
        noise = math.sqrt(abs(integrate(values**2)[0]) * terms)  # E[σ²], for rounding errors
        values = _evaluate(activation, order, z) / largest
        noise += math.sqrt(c) * math.sqrt(abs(integrate(values**2)[0]))
        upper = integrate(values)
        gap = math.sqrt(c) * upper[:-1] - root * lower[1:]
        scale = np.linalg.norm(math.sqrt(c) * upper) + np.linalg.norm(root * lower[1:])
        if not np.linalg.norm(gap) <= 1e-6 * scale + 1e-13 * noise:
            return order - 1
        lower = upper
    return _MAX_ORDER


def _evaluate(activation: Activation, order: int, h: np.ndarray) -> np.ndarray:
    """σ⁽ᵏ⁾(h) in float64 NumPy, also when called while something is being traced."""
    with float64(), jax.ensure_compile_time_eval():
        return np.asarray(_derivative(activation.fn, order)(jnp.asarray(h)), dtype=np.float64)


def _same_rank(*arrays: Array) -> list[Array]:
    """The arrays with axes of length 1 put in front, so that all have the same rank."""
    arrays = tuple(jnp.asarray(array) for array in arrays)
    rank = max(array.ndim for array in arrays)
    return [array.reshape((1,) * (rank - array.ndim) + array.shape) for array in arrays]
