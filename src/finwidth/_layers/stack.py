"""All layers, one after the other: the recursion of kernels, and its rules of quadrature."""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .._basics.arrays import shown
from .._basics.errors import InputError
from .._numerics.precision import float64
from ..activations import _moments
from ..activations._activation import Activation
from ..activations._contract import PATTERNS
from ..activations._rules import prepare
from .architecture import Architecture
from .covariance import LARGEST, SMALLEST, Covariance, Local, Square
from .dense import bias_variances, layer_map
from .layer import Link, check_link
from .order import Chart, OrderParameters, Scale, WithMean

__all__ = ["Stack", "by_scales", "chart", "infinite_width", "layer_rules", "links", "recursion"]

# Layers that are compiled one by one; more are a loop, so that any depth compiles fast.
_UNROLLED = 4


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("precisions", "biases", "numbers", "rules"),
    meta_fields=("activations", "maps"),
)
@dataclasses.dataclass(frozen=True, eq=False)
class Stack:
    """The hidden layers and the readout as a theory's kernel sees them; a JAX type.

    Attributes
    ----------
    activations
        σ of each layer's h; that of the last is the readout's (static under jit).
    maps
        The `Link.map` after each layer (static under jit).
    precisions, biases
        λ_1 … λ_L and 1/λ^b_1 … 1/λ^b_L, shape (layer,).
    numbers
        Their `Link.numbers`.
    rules
        Each layer's quadrature rule, from `layer_rules`; None for a closed form.
    """

    activations: tuple[Any, ...]
    maps: tuple[Any, ...]
    precisions: Float[Any, " layer"]
    biases: Float[Any, " layer"]
    numbers: tuple[tuple[Any, ...], ...]
    rules: tuple[Any, ...]

    @classmethod
    def of(
        cls, network: Architecture, rules: tuple, precisions: Any = None, biases: Any = None
    ) -> "Stack":
        """Return the layers of a network, with its own λ_ℓ and 1/λ^b_ℓ or others."""
        followers = links(network)
        return cls(
            network.activations,
            tuple(link.map for link in followers),
            np.asarray(network.weight_precision[1:]) if precisions is None else precisions,
            bias_variances(network)[1:] if biases is None else biases,
            tuple(link.numbers for link in followers),
            rules,
        )

    @property
    def depth(self) -> int:
        """L."""
        return len(self.maps)

    def replace(self, **changes: Any) -> "Stack":
        """Return the stack with some fields changed."""
        return dataclasses.replace(self, **changes)

    def unbiased(self) -> "Stack":
        """Return the stack with a readout without bias."""
        return self.replace(biases=np.append(self.biases[:-1], 0.0))


def links(network: Architecture, mean: bool = False) -> tuple[Link, ...]:
    """Return what follows each hidden layer: the next one, and after the last f.

    `mean`: whether the theory has mean terms, where E σ ≠ 0.
    """
    layers = network.layers
    means = [mean and sigma.parity != "odd" for sigma in network.activations]
    pairs = zip(itertools.pairwise(layers), means, strict=False)
    between = [after.link(before, biased) for (before, after), biased in pairs]
    found = (*between, layers[-1].readout(means[-1]))
    for number, link in enumerate(found, start=1):
        check_link(link, number)
    return found


def by_scales(network: Architecture) -> bool:
    """Whether every order parameter is that of a dense layer: a Q̄ and, with a mean, a Q."""
    return all(
        link.map is layer_map and type(link.order) in (Scale, WithMean) for link in links(network)
    )


def chart(network: Architecture, mean: bool) -> Chart:
    """Return the order parameters of a network's layers, with or without mean terms."""
    return Chart(tuple(link.order for link in links(network, mean)))


def infinite_width(network: Architecture) -> OrderParameters:
    """Return what the maps take at infinite width."""
    without_mean = chart(network, False)
    return without_mean.value(np.zeros(without_mean.size))


def recursion(stack: Stack, covariance: Covariance | Local, order: OrderParameters) -> Covariance:
    """Return K_L of the renormalised recursion, the maps of all layers.

    Parameters
    ----------
    stack
        The layers.
    covariance
        C.
    order
        What the map of each layer takes, for dense layers Q̄_ℓ and 1/(1 + Q_ℓ).

    Raises
    ------
    InputError
        If an argument is of another type, or has another number of layers.
    """
    for name, value, kind in (
        ("stack", stack, Stack),
        ("covariance", covariance, Covariance),
        ("order", order, OrderParameters),
    ):
        if not isinstance(value, kind) and not (kind is Covariance and isinstance(value, Local)):
            raise InputError(f"expected {name} = a {kind.__name__}, got {type(value).__name__}")
    if len(order.values) != stack.depth:
        raise InputError(
            f"expected order = values for {stack.depth} layer(s), got {len(order.values)}"
        )
    return _recursion(stack, covariance, order)


@jax.jit
def _recursion(stack: Stack, covariance: Any, order: OrderParameters) -> Covariance:
    layers = zip(
        stack.maps,
        stack.rules,
        order.values,
        stack.numbers,
        stack.activations,
        range(stack.depth),
        strict=True,
    )
    for _, run in itertools.groupby(layers, key=_kind):
        alike = list(run)
        maps, rules, values, numbers, activations, places = zip(*alike, strict=True)
        terms = () if rules[0] is None else tuple(rule.terms for rule in rules)
        step = functools.partial(_layer, activations[0], maps[0], rules[0])
        span = slice(places[0], places[-1] + 1)
        precisions, biases = stack.precisions[span], stack.biases[span]
        if stack.depth > _UNROLLED and len(alike) > 1:
            values, numbers = (
                jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
                for parts in (values, numbers)
            )
            terms = jnp.stack(terms) if terms else None
            rows = values, precisions, biases, terms, numbers
            covariance, _ = jax.lax.scan(step, covariance, rows)
            continue
        for i in range(len(alike)):
            term = terms[i] if terms else None
            row = values[i], precisions[i], biases[i], term, numbers[i]
            covariance, _ = step(covariance, row)
    return covariance


def _kind(layer: tuple) -> Any:
    """Return that by which the programs of layers differ."""
    layer_map, rule, value, numbers, activation, _ = layer
    shapes = str(jax.tree.map(jnp.shape, (value, numbers)))
    kind = None if rule is None else rule.kind
    return layer_map, activation, kind, jax.tree.structure(value), shapes


def _layer(
    activation: Activation, layer_map: Any, rule: Any, covariance: Any, row: tuple
) -> tuple[Covariance, None]:
    """Return one layer of `recursion`, as a step of `jax.lax.scan`."""
    value, precision, bias, terms, numbers = row
    if rule is not None:
        rule = dataclasses.replace(rule, terms=terms)
    covariance = layer_map(activation, covariance, value, precision, bias, rule, *numbers)
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
    rules = []
    followers = links(network)
    points = _representatives(variances)
    for layer, activation in enumerate(network.activations, start=1):
        closed = activation.kernel is not None
        exact = closed and (activation.mean is not None or activation.parity == "odd")
        rule = None
        if not exact or followers[layer - 1].quadrature:
            room = 2.0 if scales is None and layer > 1 else 1.0
            rule = prepare(activation, room * float(points.max()), tolerance=tolerance)
        rules.append(rule)
        link = followers[layer - 1]
        if link.map is not layer_map:
            points = _mapped(network, layer, link, points, rule, scales)
            continue
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


def _mapped(
    network: Architecture,
    layer: int,
    link: Link,
    points: np.ndarray,
    rule: Any,
    scales: np.ndarray | None,
) -> np.ndarray:
    """Return the next layer's variances where the link is not that of dense layers."""
    precision, bias = network.weight_precision[layer], bias_variances(network)[layer]
    value = link.order.value(np.zeros(link.order.size))
    with float64():
        variances = jnp.asarray(points)
        covariance = Square(jnp.diag(variances), variances, variances)
        after = _compiled_map(
            link.map,
            network.activations[layer - 1],
            covariance,
            value,
            precision,
            bias,
            rule,
            *link.numbers,
        )
    if not isinstance(after, Covariance) or np.shape(after.diag_a) != points.shape:
        raise InputError(
            f"expected the map after layer {layer} = a function that returns a Covariance of the "
            f"patterns it is given, got {shown(after)}"
        )
    room = 1.0 if scales is None else float(scales[layer - 1])
    result = room * np.asarray(after.diag_a)
    if not np.all(np.isfinite(result)) or np.any(result < 0):
        raise InputError(
            f"expected the map after layer {layer} = a function whose variances are finite and "
            f"not negative, got {shown(result)}"
        )
    return result


@functools.partial(jax.jit, static_argnums=(0, 1))
def _compiled_map(layer_map: Any, activation: Activation, *arguments: Any) -> Any:
    return layer_map(activation, *arguments)


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
            values = network.activations[layer - 1].fn(jnp.stack([root, -root]))
        lost |= small & np.any(np.asarray(values) != 0, axis=0)
    if lost.any():
        row = int(np.argmax(lost))
        raise InputError(
            f"expected X, weight_precision and bias_precision that keep the variances of layer "
            f"{layer + 1} between {SMALLEST:.0e} and {LARGEST:.0e}, got {result[row]:.1e} where "
            f"that of layer {layer} is {points[row]:.1e}"
        )
    return result
