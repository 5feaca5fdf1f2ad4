"""Covariances of a layer's preactivations, and the map from one layer to the next.

Everything the theory needs to know about two sets of patterns is their `Covariance`: the block
between the sets and the variances within each. The layer map takes that triple to the next
layer's, so training block, test block and variances all come from one recursion.

Source: theory.md sections 2, 4 and 7; Pacelli et al., Nat. Mach. Intell. 5, 1497 (2023).
"""

import dataclasses
import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from . import _quadrature
from ._activation import Activation
from ._arrays import shown
from ._contract import PATTERNS
from ._errors import InputError
from ._network import Network
from ._precision import float64
from ._rules import Rule, prepare

__all__ = [
    "Covariance",
    "Square",
    "bias_variances",
    "input_covariance",
    "input_variances",
    "layer_map",
    "layer_rules",
    "moments",
    "recursion",
]

# Variances that float64 holds, and with them covariances that are smaller by its precision.
_SMALLEST = float(np.finfo(np.float64).tiny / np.finfo(np.float64).eps)
_LARGEST = float(np.finfo(np.float64).max)
# Layers that are compiled one by one; more are a loop, so that any depth compiles fast.
_UNROLLED = 4


class Covariance(NamedTuple):
    """Second moments of a Gaussian field on two sets of patterns.

    Attributes
    ----------
    cross
        Covariance between the sets, shape (a, b).
    diag_a, diag_b
        Variances within each set, shapes (a,) and (b,).
    """

    cross: Float[Array, "a b"]
    diag_a: Float[Array, " a"]
    diag_b: Float[Array, " b"]


class Square(Covariance):
    """Second moments of a Gaussian field on one set of patterns, which is half the work."""

    __slots__ = ()


def bias_variances(network: Network) -> np.ndarray:
    """Return 1/λ^b_0 … 1/λ^b_L, zeros without biases, shape (depth + 1,)."""
    if network.bias_precision is None:
        return np.zeros(network.depth + 1)
    return 1.0 / np.asarray(network.bias_precision)


def input_covariance(network: Network, X: Any, X2: Any = None) -> Covariance:
    """Return C = X X2ᵀ/(λ_0 N_0) (+ 1/λ^b_0), the covariance of the first preactivations.

    Parameters
    ----------
    network
        Supplies λ_0 and λ^b_0.
    X, X2
        Patterns, shapes (a, input) and (b, input); X2=None means X.
    """
    square = X2 is None
    X2 = X if square else X2
    cross = jnp.asarray(_products(network, X, X2) + bias_variances(network)[0], jnp.float64)
    diag = jnp.asarray(input_variances(network, X), jnp.float64)
    if square:
        return Square(cross, diag, diag)
    return Covariance(cross, diag, jnp.asarray(input_variances(network, X2), jnp.float64))


def input_variances(
    network: Network, X: Float[np.ndarray, "a input"], name: str = "X"
) -> np.ndarray:
    """Return the diagonal of C, shape (a,); InputError where it is not within float64."""
    variances = _products(network, X) + bias_variances(network)[0]
    lost = ~(variances <= _LARGEST) | ((variances < _SMALLEST) & np.any(X, axis=1))
    if lost.any():
        row = int(np.argmax(lost))
        raise InputError(
            f"expected {name} = patterns of variance |x|²/(λ_0 N_0) between {_SMALLEST:.0e} and "
            f"{_LARGEST:.0e} (λ_0 is weight_precision[0]), got {variances[row]:.1e} in row {row}: "
            "it has no covariance in float64"
        )
    return variances


def _products(
    network: Network,
    X: Float[np.ndarray, "a input"],
    X2: Float[np.ndarray, "b input"] | None = None,
) -> np.ndarray:
    """Return x·x'/(λ_0 N_0), shape (a, b), or for X2=None its diagonal, shape (a,).

    Where the products themselves would leave float64, each pattern is divided by a power of two.
    """
    precision, inputs = network.weight_precision[0], X.shape[1]

    def multiply(X: np.ndarray, X2: np.ndarray | None) -> np.ndarray:
        return np.einsum("ij,ij->i", X, X) if X2 is None else X @ X2.T

    if _is_moderate(precision) and _is_moderate(X) and (X2 is None or _is_moderate(X2)):
        return 1.0 / (precision * inputs) * multiply(X, X2)
    mantissa, exponent = np.frexp(precision)
    unit = np.frexp(np.max(np.abs(X), axis=1))[1]
    unit2 = unit if X2 is None else np.frexp(np.max(np.abs(X2), axis=1))[1]
    product = multiply(
        np.ldexp(X, -unit[:, None]), None if X2 is None else np.ldexp(X2, -unit2[:, None])
    )
    units = 2 * unit if X2 is None else unit[:, None] + unit2
    with np.errstate(over="ignore", under="ignore"):  # of the variances it is refused
        return np.ldexp(1.0 / (mantissa * inputs) * product, units - exponent)


def _is_moderate(values: Any) -> bool:
    """Whether sums of products of two of these numbers stay well within float64."""
    sizes = np.abs(values)
    return bool(np.max(sizes) < 1e100 and np.min(sizes, initial=1.0, where=sizes > 0) > 1e-100)


@functools.partial(jax.jit, static_argnames=("activation",))
def moments(
    activation: Activation, covariance: Covariance, rule: Any = None
) -> tuple[Covariance, Float[Array, " a"], Float[Array, " b"]]:
    """Return (K∘C, m_a, m_b): second and first moments of σ(h) for h ~ N(0, C).

    For an odd activation both mean vectors are zero.
    """
    cross, a, b = covariance
    if isinstance(covariance, Square):
        cross = _quadrature.kernel(activation, a[:, None], cross, a[None, :], rule=rule)
        mean = _quadrature.mean(activation, a, rule=rule)
        return Square(cross, jnp.diagonal(cross), jnp.diagonal(cross)), mean, mean
    second = Covariance(
        _quadrature.kernel(activation, a[:, None], cross, b[None, :], rule=rule),
        _quadrature.kernel(activation, a, a, a, rule=rule),
        _quadrature.kernel(activation, b, b, b, rule=rule),
    )
    if activation.parity == "odd":
        return second, jnp.zeros_like(a), jnp.zeros_like(b)
    mean_a = _quadrature.mean(activation, a, rule=rule)
    mean_b = _quadrature.mean(activation, b, rule=rule)
    return second, mean_a, mean_b


@functools.partial(jax.jit, static_argnames=("activation",))
def layer_map(
    activation: Activation,
    covariance: Covariance,
    q_bar: Any,
    shrinkage: Any,
    precision: Any,
    bias: Any,
    rule: Any = None,
) -> Covariance:
    """Return one layer of the renormalised recursion.

    K_ℓ = [Q̄_ℓ (K∘K_{ℓ-1} − m mᵀ) + m mᵀ/(1 + Q_ℓ)]/λ_ℓ (+ 1/λ^b_ℓ); Q̄ = 1 and Q = 0 give the
    infinite-width layer.

    Parameters
    ----------
    activation
        σ.
    covariance
        K_{ℓ-1}.
    q_bar, shrinkage
        Q̄_ℓ and 1/(1 + Q_ℓ), scalars.
    precision, bias
        λ_ℓ and 1/λ^b_ℓ, scalars.
    rule
        Quadrature rule from `layer_rules`; None for a closed form or the default rule.

    References
    ----------
    theory.md, section 4; the term in m m^T at depth > 1 is this package's extension of the
    one-layer result.
    """
    second, mean_a, mean_b = moments(activation, covariance, rule)
    if activation.parity == "odd":
        return type(second)(*(q_bar * block / precision + bias for block in second))
    excess = shrinkage - q_bar
    return type(second)(
        (q_bar * second.cross + excess * mean_a[:, None] * mean_b[None, :]) / precision + bias,
        (q_bar * second.diag_a + excess * mean_a**2) / precision + bias,
        (q_bar * second.diag_b + excess * mean_b**2) / precision + bias,
    )


def recursion(
    activation: Activation,
    precisions: Any,
    biases: Any,
    covariance: Covariance,
    q_bar: Any,
    shrinkage: Any,
    rules: tuple,
) -> Covariance:
    """Return K_L of the renormalised recursion, all layers of `layer_map`.

    Parameters
    ----------
    activation
        σ.
    precisions, biases
        λ_ℓ and 1/λ^b_ℓ, shape (layer,).
    covariance
        C.
    q_bar, shrinkage
        Q̄_ℓ and 1/(1 + Q_ℓ), shape (layer,).
    rules
        From `layer_rules`.
    """
    if not isinstance(activation, Activation):
        raise InputError(
            f"expected activation = a finwidth.Activation, got {type(activation).__name__}"
        )
    if not isinstance(covariance, Covariance):
        raise InputError(f"expected covariance = a Covariance, got {type(covariance).__name__}")
    if not isinstance(rules, tuple) or not rules or not all(map(_is_rule, rules)):
        raise InputError(
            f"expected rules = a tuple of a quadrature rule or None a layer, got {shown(rules)}"
        )
    depth = len(rules)
    for name, value in (
        ("precisions", precisions),
        ("biases", biases),
        ("q_bar", q_bar),
        ("shrinkage", shrinkage),
    ):
        if not isinstance(value, (Array, np.ndarray)) or value.shape != (depth,):
            got = getattr(value, "shape", type(value).__name__)
            raise InputError(f"expected {name} = an array of shape ({depth},), got {got}")
        if value.dtype.kind not in "fiu":
            raise InputError(f"expected {name} = an array of real numbers, got {value.dtype}")
    return _recursion(activation, precisions, biases, covariance, q_bar, shrinkage, rules)


def _is_rule(rule: Any) -> bool:
    return rule is None or isinstance(rule, Rule)


@functools.partial(jax.jit, static_argnames=("activation",))
def _recursion(
    activation: Activation,
    precisions: Any,
    biases: Any,
    covariance: Covariance,
    q_bar: Any,
    shrinkage: Any,
    rules: tuple,
) -> Covariance:
    numbers = q_bar, shrinkage, precisions, biases
    layer = 0
    for kind, run in itertools.groupby(rules, key=_kind):
        alike = list(run)
        rows = tuple(values[layer : layer + len(alike)] for values in numbers)
        terms = jnp.array([0 if kind is None else rule.terms for rule in alike])
        layer += len(alike)
        step = functools.partial(_layer, activation, alike[0])
        rows = (terms, *map(jnp.asarray, rows))
        if len(rules) > _UNROLLED and len(alike) > 1:
            covariance, _ = jax.lax.scan(step, covariance, rows)
            continue
        for row in zip(*rows, strict=True):
            covariance, _ = step(covariance, row)
    return covariance


def _kind(rule: Rule | None) -> Any:
    """Return that by which programs differ."""
    return None if rule is None else rule.kind


def _layer(
    activation: Activation, rule: Any, covariance: Covariance, numbers: tuple
) -> tuple[Covariance, None]:
    """Return one layer of `recursion`, as a step of `jax.lax.scan`."""
    terms, *rest = numbers
    if rule is not None:
        rule = dataclasses.replace(rule, terms=terms)
    covariance = layer_map(activation, covariance, *rest, rule)
    # without it the compiler computes a layer anew for each of its uses in the next
    return jax.lax.optimization_barrier(covariance), None


def layer_rules(
    network: Network,
    variances: np.ndarray,
    scales: np.ndarray | None = None,
    tolerance: float = 1e-8,
) -> tuple:
    """Choose each layer's quadrature rule from the variances its preactivations have.

    Parameters
    ----------
    network
        The network.
    variances
        Variances of the first preactivations over all patterns that will be used, shape (n,).
    scales
        max(Q̄_ℓ, 1/(1 + Q_ℓ)), shape (depth,); None where they are not known yet: then the rules
        of the layers that they change have room for twice the infinite-width variance.
    tolerance
        Wanted relative accuracy of the moments.

    Returns
    -------
    tuple
        One rule (or None) per hidden layer. Warns with AccuracyWarning where the
        tolerance cannot be met.

    Raises
    ------
    InputError
        If a layer's variances leave float64, or quadrature fails at them.
    """
    activation = network.activation
    closed = activation.kernel is not None
    exact = closed and (activation.mean is not None or activation.parity == "odd")
    rules = []
    points = _representatives(variances)
    for layer in range(1, network.depth + 1):
        rule = None
        if not exact:
            room = 2.0 if scales is None and layer > 1 else 1.0
            rule = prepare(activation, room * float(points.max()), tolerance=tolerance)
        rules.append(rule)
        # closed forms by themselves: for this shape they were compiled when they were checked
        square = jax.jit(activation.kernel) if closed else _second_moment(activation, rule)
        with float64():
            second = np.asarray(square(*(jnp.asarray(points),) * 3))
        scale = 1.0 if scales is None else float(scales[layer - 1])
        points = _next_variances(network, layer, points, second, scale)
    return tuple(rules)


def _representatives(variances: np.ndarray) -> np.ndarray:
    """Variances from the smallest to the largest that are there, as many as `PATTERNS`."""
    variances = np.asarray(variances, dtype=np.float64)
    positive = variances[variances > 0]
    if not positive.size:
        return np.zeros(len(PATTERNS))
    spread = np.geomspace(positive.min(), positive.max(), len(PATTERNS) - 1)
    return np.append(spread, variances.min())


def _second_moment(activation: Activation, rule: Any) -> Any:
    return functools.partial(_compiled_kernel, activation, rule=rule)


_compiled_kernel = jax.jit(_quadrature.kernel, static_argnums=0)


def _next_variances(
    network: Network, layer: int, points: np.ndarray, second: np.ndarray, scale: float
) -> np.ndarray:
    """Return the next layer's variances from E[σ²], or raise InputError where float64 ends."""
    precision, bias = network.weight_precision[layer], bias_variances(network)[layer]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        result = scale * second / precision + bias
    lost = ~(result <= _LARGEST)
    small = result < _SMALLEST
    if small.any():  # right only where the activation is zero
        with float64():
            root = jnp.sqrt(jnp.asarray(points))
            values = network.activation.fn(jnp.stack([root, -root]))
        lost |= small & np.any(np.asarray(values) != 0, axis=0)
    if lost.any():
        row = int(np.argmax(lost))
        raise InputError(
            f"expected X, weight_precision and bias_precision that keep the variances of layer "
            f"{layer + 1} between {_SMALLEST:.0e} and {_LARGEST:.0e}, got {result[row]:.1e} where "
            f"that of layer {layer} is {points[row]:.1e}"
        )
    return result
