"""All layers, one after the other: the recursion of kernels, and its rules of quadrature."""

import dataclasses
import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from .._basics.arrays import shown
from .._basics.errors import InputError
from .._numerics.precision import float64
from ..activations import _moments
from ..activations._activation import Activation
from ..activations._contract import PATTERNS
from ..activations._rules import Rule, prepare
from .architecture import Architecture
from .covariance import LARGEST, SMALLEST, Covariance
from .dense import bias_variances, layer_map

__all__ = ["LayerConstants", "layer_rules", "recursion"]

# Layers that are compiled one by one; more are a loop, so that any depth compiles fast.
_UNROLLED = 4


class LayerConstants(NamedTuple):
    """Numbers that enter the kernel: λ_1 … λ_L and 1/λ^b_1 … 1/λ^b_L, each shape (layer,)."""

    precisions: Float[Any, " layer"]
    biases: Float[Any, " layer"]

    def unbiased(self) -> "LayerConstants":
        """Return the constants of a readout without bias."""
        return self._replace(biases=np.append(self.biases[:-1], 0.0))


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
    network: Architecture,
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


_compiled_kernel = jax.jit(_moments.kernel, static_argnums=0)


def _next_variances(
    network: Architecture, layer: int, points: np.ndarray, second: np.ndarray, scale: float
) -> np.ndarray:
    """Return the next layer's variances from E[σ²], or raise InputError where float64 ends."""
    precision, bias = network.weight_precision[layer], bias_variances(network)[layer]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        result = scale * second / precision + bias
    lost = ~(result <= LARGEST)
    small = result < SMALLEST
    if small.any():  # right only where the activation is zero
        with float64():
            root = jnp.sqrt(jnp.asarray(points))
            values = network.activation.fn(jnp.stack([root, -root]))
        lost |= small & np.any(np.asarray(values) != 0, axis=0)
    if lost.any():
        row = int(np.argmax(lost))
        raise InputError(
            f"expected X, weight_precision and bias_precision that keep the variances of layer "
            f"{layer + 1} between {SMALLEST:.0e} and {LARGEST:.0e}, got {result[row]:.1e} where "
            f"that of layer {layer} is {points[row]:.1e}"
        )
    return result
