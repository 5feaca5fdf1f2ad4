"""How many terms a Hermite series needs, measured."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from .._basics.errors import InputError, warn
from .._numerics.panels import FINE, SMOOTH, USED, Panels, gather, hermite, nodes
from .._numerics.precision import float64
from ._activation import Activation

__all__ = [
    "BLOCK",
    "MAX_ORDER",
    "MODERATE",
    "Rule",
    "choose",
    "default_rule",
    "derivative",
    "prepare",
]

# Terms are added up in blocks of so many.
BLOCK = 16

# Numbers of terms that may be picked, whole blocks; the last is the most that is tried.
_TERMS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536)

# The first of these are tried before the others, as most activations need no more.
_FEW = 10

# A rule with fewer nodes may add this part of the tolerance.
_AS_GOOD = 1e-5

# Highest derivative of σ that JAX is asked for: two derivatives of a kernel need σ''''.
MAX_ORDER = 4

# Up to this variance the usual nodes resolve what σ does at h of order 1.
MODERATE = 256.0

# Largest relative error of a kernel that is returned, with a warning.
_LARGEST_ERROR = 2e-2

# Variance assumed when no rule is given and the covariances are traced.
_DEFAULT_VARIANCE = 16.0


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class Rule:
    """A Hermite series chosen by `prepare`.

    A JAX type: the number of terms is data, so that compiled code serves any number of them.

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
    panels
        Where the nodes are.
    matrix
        Rows of `hermite`, at least `MAX_ORDER` more than there are terms; None for all that there
        are.
    """

    terms: Any
    smooth: int
    levels: int
    error: float = dataclasses.field(default=math.nan, compare=False)
    gradient_error: float = dataclasses.field(default=math.nan, compare=False)
    panels: Panels = USED
    matrix: Any = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def kind(self) -> tuple[int, int, Panels]:
        """That by which compiled programs differ."""
        return self.smooth, self.levels, self.panels

    def tree_flatten(self) -> tuple[tuple[Any, Any], tuple[int, int, Panels]]:
        """Return what JAX may trace, and the rest."""
        matrix = _all_functions(self.panels) if self.matrix is None else self.matrix
        return (self.terms, matrix), self.kind

    @classmethod
    def tree_unflatten(cls, kind: tuple[int, int, Panels], data: tuple[Any, Any]) -> "Rule":
        """Return the rule that JAX has taken apart."""
        smooth, levels, panels = kind
        return cls(data[0], smooth, levels, panels=panels, matrix=data[1])


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


@functools.cache
def _all_functions(panels: Panels) -> Array:
    """Return `Rule.matrix` for any number of terms, one array for all that is compiled."""
    with float64(), jax.ensure_compile_time_eval():
        return jnp.asarray(hermite(_TERMS[-1] + MAX_ORDER, panels))


def derivative(fn: Callable[[Array], Array], order: int) -> Callable[[Array], Array]:
    """The derivative of an elementwise function, as another elementwise function."""
    for _ in range(order):
        fn = functools.partial(_push, fn)
    return fn


def _push(fn: Callable[[Array], Array], h: Array) -> Array:
    return jax.jvp(fn, (h,), (jnp.ones_like(h),))[1]


def _levels(c_max: float) -> int:
    """How often to halve the panels next to 0, in steps of four: few rules, few compilations."""
    return 4 * max(0, math.ceil(math.log2(c_max / MODERATE) / 8))


def default_rule(activation: Activation, *variances: Array) -> Rule:
    if any(isinstance(c, Tracer) for c in variances):
        c_max = _DEFAULT_VARIANCE
    else:
        c_max = max((float(jnp.max(c)) for c in variances if c.size), default=1.0)
    rule = choose(activation, c_max)
    # what somebody else compiles may hold it as a constant, so no more than is used
    return dataclasses.replace(rule, matrix=hermite(rule.terms + MAX_ORDER, rule.panels))


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
        error = 0.0
        if not exact:
            error = max(_errors(activation, 0, c, (1,), levels, USED)[0] for c in scales)
        return Rule(_TERMS[0], smooth, levels, error, 0.0)

    def bounds(terms: tuple[int, ...], panels: Panels) -> np.ndarray:
        """Return the error of the kernel and of the gradient, shape (2, len(terms))."""
        worst = np.full((2, len(terms)), np.inf)
        for order in range(2 if smooth else 1):
            found = [_errors(activation, order, c, terms, levels, panels) for c in scales]
            worst[order] = np.max(found, axis=0)
        return worst

    wanted = np.array([tolerance, 100 * tolerance])
    for tried in (_TERMS[:_FEW], _TERMS):
        errors = bounds(tried, USED)
        good = np.all(errors <= wanted[:, None], axis=0)
        if good.any():
            break
    best = int(np.argmax(good)) if good.any() else len(_TERMS) - 1
    terms, errors = _TERMS[best], errors[:, best]
    panels = USED
    if not levels and smooth == MAX_ORDER and best < _FEW:
        fewer_nodes = bounds((terms,), SMOOTH)[:, 0]
        if np.all(fewer_nodes <= errors + _AS_GOOD * wanted):
            panels = SMOOTH
    return Rule(terms, smooth, levels, float(errors[0]), float(errors[1]), panels)


@functools.lru_cache(maxsize=1024)
def _errors(
    activation: Activation,
    order: int,
    c: float,
    terms: tuple[int, ...],
    levels: int,
    panels: Panels,
) -> np.ndarray:
    """Relative error bound, per number of terms: truncation plus error of the coefficients.

    With a single term the truncation is left out: the error of the mean.
    """
    z, weight = nodes(levels, FINE)
    values, used = (_values(activation, order, c, levels)[which] for which in (FINE, panels))
    largest = max(float(np.max(np.abs(values))), float(np.max(np.abs(used))))
    if largest == 0:
        return np.zeros(len(terms))
    if not math.isfinite(largest):
        return np.full(len(terms), np.inf)
    values, used = values / largest, used / largest  # their squares must not overflow
    reference = hermite(max(terms), FINE) @ gather(values, levels, FINE)
    used = hermite(max(terms), panels) @ gather(used, levels, panels)
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


@functools.lru_cache(maxsize=1024)
def _smoothness(activation: Activation, c: float, levels: int) -> int:
    """Order up to which a_n(σ⁽ᵏ⁾)√c = √(n+1) a_{n+1}(σ⁽ᵏ⁻¹⁾), that is, no jump is overlooked."""
    terms = 12
    root = np.sqrt(np.arange(1, terms))

    def integrate(values: np.ndarray) -> np.ndarray:
        return hermite(terms) @ gather(values, levels)

    values = _values(activation, 0, c, levels)[USED]
    largest = float(np.max(np.abs(values))) or 1.0  # squares must not overflow
    if not math.isfinite(largest):
        return 0
    values = values / largest
    lower = integrate(values)
    for order in range(1, MAX_ORDER + 1):
        noise = math.sqrt(abs(integrate(values**2)[0]) * terms)  # E[σ²], for rounding errors
        values = _values(activation, order, c, levels)[USED] / largest
        noise += math.sqrt(c) * math.sqrt(abs(integrate(values**2)[0]))
        upper = integrate(values)
        gap = math.sqrt(c) * upper[:-1] - root * lower[1:]
        scale = np.linalg.norm(math.sqrt(c) * upper) + np.linalg.norm(root * lower[1:])
        if not np.linalg.norm(gap) <= 1e-6 * scale + 1e-13 * noise:
            return order - 1
        lower = upper
    return MAX_ORDER


@functools.lru_cache(maxsize=128)
def _values(
    activation: Activation, order: int, c: float, levels: int
) -> Mapping[Panels, np.ndarray]:
    """σ⁽ᵏ⁾(√c z) in float64 NumPy at the nodes of each kind, also while something is traced.

    One call for all of them: JAX compiles once for each shape.
    """
    z = {panels: nodes(levels, panels)[0] for panels in (FINE, USED, SMOOTH)}
    with float64(), jax.ensure_compile_time_eval():
        h = jnp.asarray(math.sqrt(c) * np.concatenate(list(z.values())))
        values = np.asarray(_compiled(activation, order)(h), dtype=np.float64)
    ends = np.cumsum([part.size for part in z.values()])
    return dict(zip(z, np.split(values, ends[:-1]), strict=True))


@functools.lru_cache(maxsize=64)
def _compiled(activation: Activation, order: int) -> Callable[[Array], Array]:
    return jax.jit(derivative(activation.fn, order))
