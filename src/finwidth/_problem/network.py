"""The network: one frozen description that theory and sampling share (theory.md, section 1)."""

import dataclasses
import functools
import math
import numbers
from collections.abc import Sequence
from typing import Any

from .._basics.arrays import as_number, shown
from .._basics.checks import check_count, check_sequence
from .._basics.errors import InputError
from .._layers.architecture import Layered
from .._layers.convolution import Patchwise
from .._layers.dense import Dense
from .._layers.layer import Layer, check_layer
from .._layers.stack import by_scales, links

__all__ = ["Network", "check_network"]

_WIDEST = 2**53  # what a float64 can count to


def _widths(value: Any) -> tuple[int, ...]:
    expected = "expected widths = a non-empty tuple of positive ints, one per hidden layer"
    hint = f": widths=({value},)" if type(value) is int else ""
    try:
        widths = check_sequence("widths", value, "ints")
    except InputError:
        raise InputError(f"{expected}, got {shown(value)}{hint}") from None
    if not widths:
        raise InputError(f"{expected}, got an empty sequence")
    for width in widths:
        integral = isinstance(width, numbers.Integral) and not isinstance(width, bool)
        if not integral or int(width) <= 0:
            raise InputError(f"{expected}, got {shown(width)}")
        if int(width) > _WIDEST:
            raise InputError(f"expected widths = ints of at most {_WIDEST}, got {shown(width)}")
    return tuple(int(width) for width in widths)


def _precisions(name: str, value: Any, depth: int) -> tuple[float, ...]:
    expected = (
        f"expected {name} = one positive float, or {depth + 1} of them "
        f"(input layer first, readout last) for {depth} hidden layer(s)"
    )
    several = hasattr(value, "__len__") and getattr(value, "ndim", 1) != 0
    try:
        entries = check_sequence(name, value, "floats") if several else [value] * (depth + 1)
    except InputError:
        raise InputError(f"{expected}, got {shown(value)}") from None
    if len(entries) != depth + 1:
        raise InputError(f"{expected}, got {len(entries)} value(s)")
    for entry in entries:
        if isinstance(entry, (str, bytes, bool)):
            raise InputError(f"{expected}, got {shown(entry)}")
        number = as_number(entry)
        if not math.isfinite(number) or number <= 0:
            raise InputError(f"{expected}, got {shown(entry)}")
    return tuple(as_number(entry) for entry in entries)


def _activation(name: str, value: Any) -> Any:
    from ..activations._activation import Activation, get_activation

    if isinstance(value, Activation):
        return value
    if isinstance(value, str):
        return get_activation(value)
    raise InputError(
        f"expected {name} = a registered name or a finwidth.Activation, got {shown(value)}"
    )


def _layers(value: Any) -> tuple[Layer, ...]:
    try:
        layers = check_sequence("layers", value, "finwidth layers")
    except InputError:
        raise InputError(
            f"expected layers = a non-empty tuple of finwidth layers, got {shown(value)}"
        ) from None
    if not layers:
        raise InputError("expected layers = a non-empty tuple of finwidth layers, got none")
    layers = tuple(check_layer(layer) for layer in layers)
    for before, layer in zip((None, *layers), layers, strict=False):
        if before is not None and not before.single:
            raise InputError(
                f"expected no layer above {before!r}, for which no theory is derived "
                f"(pooling='average' takes dense layers above), got {layer!r}"
            )
        layer.check(before)
    return layers


@dataclasses.dataclass(frozen=True, init=False)
class Network(Layered):
    """A Bayesian network with Gaussian priors and one output or several.

    h¹ = W¹x/√N₀ (+ b¹), h^ℓ = W^ℓ σ(h^{ℓ-1})/√N_{ℓ-1} (+ b^ℓ), f_d = v_d·σ(h^L)/√N_L (+ b_d^{L+1}),
    every weight drawn from N(0, 1/λ).

    Parameters
    ----------
    widths
        N_1 … N_L, one positive int per hidden layer, which is then a `Dense` one.
    activation
        Name of a registered activation (see `finwidth.list_activations`), or a
        `finwidth.Activation`.
    weight_precision
        λ_0 … λ_L, precisions of the weight priors: one float for all, or L + 1 floats,
        input layer first, readout last.
    bias_precision
        λ^b_0 … λ^b_L, precisions of the bias priors, given likewise; None for no biases.
    layers
        The hidden layers themselves, instead of `widths`: `Dense`, or a `Convolution` as first.
    outputs
        D. With one output labels have the shape (pattern,), with several (pattern, D).
    readout_activation
        What the last h passes through before the readout, given as `activation` is, which it is
        by default. "identity": f = v·h^L/√N_L.

    Raises
    ------
    InputError
        If an argument is of the wrong type, sign or length, an activation is unknown, or a layer
        cannot follow the one before it.

    References
    ----------
    Pacelli et al., Nat. Mach. Intell. 5, 1497 (2023), eqs. 1-3.
    """

    layers: tuple[Layer, ...]
    activation: Any
    weight_precision: tuple[float, ...]
    bias_precision: tuple[float, ...] | None
    outputs: int
    readout_activation: Any

    def __init__(
        self,
        widths: Sequence[int] | None = None,
        activation: Any = "erf",
        weight_precision: float | Sequence[float] = 1.0,
        bias_precision: float | Sequence[float] | None = None,
        *,
        layers: Sequence[Layer] | None = None,
        outputs: int = 1,
        readout_activation: Any = None,
    ) -> None:
        set_field = object.__setattr__
        if layers is None:
            layers = tuple(Dense(width) for width in _widths(widths))
        elif widths is not None:
            raise InputError(f"expected widths or layers, got both: {shown(widths)} and layers")
        set_field(self, "layers", _layers(layers))
        activation = _activation("activation", activation)
        set_field(self, "activation", activation)
        if readout_activation is not None:
            activation = _activation("readout_activation", readout_activation)
        set_field(self, "readout_activation", activation)
        set_field(
            self, "weight_precision", _precisions("weight_precision", weight_precision, self.depth)
        )
        bias = bias_precision
        if bias is not None:
            bias = _precisions("bias_precision", bias, self.depth)
        set_field(self, "bias_precision", bias)
        set_field(self, "outputs", check_count("outputs", outputs))

    @property
    def dense(self) -> bool:
        """Whether all layers are dense ones."""
        return all(type(layer) is Dense for layer in self.layers)

    @property
    def odd(self) -> bool:
        """Whether all activations are odd, so that E σ = 0 in every layer."""
        return all(activation.parity == "odd" for activation in self.activations)

    @property
    def by_scales(self) -> bool:
        """Whether every order parameter is that of a dense layer: a Q̄ and, with a mean, a Q."""
        return self.dense or by_scales(self)

    @property
    def by_patches(self) -> bool:
        """Whether the order parameter is a matrix over the patches of a convolution."""
        return any(isinstance(link.order, Patchwise) for link in links(self))

    def replace(self, **changes: Any) -> "Network":
        """Return a new, validated network with some fields changed.

        Parameters
        ----------
        **changes
            Arguments of `Network` by name. New `widths` keep the kinds of the layers, and must
            keep their number unless all are dense. Where the depth changes, precisions that were
            the same for all layers are carried over; others must be given anew. A readout
            activation that is the activation stays it.

        Returns
        -------
        Network
        """
        names = {field.name for field in dataclasses.fields(self)} | {"widths"}
        for name in changes:
            if name not in names:
                raise InputError(f"expected a field out of {sorted(names)}, got {name!r}")
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if self.readout_activation == self.activation:
            fields["readout_activation"] = None
        if "widths" in changes:
            if "layers" in changes:
                raise InputError("expected widths or layers, got both")
            changes["layers"] = self._resized(_widths(changes.pop("widths")))
        if "layers" in changes and len(_layers(changes["layers"])) != self.depth:
            for name in ("weight_precision", "bias_precision"):
                value = fields[name]
                if value is not None and len(set(value)) == 1:
                    fields[name] = value[0]
        return Network(**(fields | changes))

    def _resized(self, widths: tuple[int, ...]) -> tuple[Layer, ...]:
        """Return the layers at other widths."""
        if self.dense:
            return tuple(Dense(width) for width in widths)
        if len(widths) != self.depth:
            raise InputError(f"expected widths = {self.depth} ints, one a layer, got {len(widths)}")
        return tuple(layer.resize(width) for layer, width in zip(self.layers, widths, strict=True))

    def record(self) -> dict[str, Any]:
        """Return the network as plain JSON types.

        Returns
        -------
        dict
            widths, activation (its name), activation_digest (of its values: two functions of one
            name differ in it; None where it has none), weight_precision and bias_precision; layers
            (their records) where not all are dense, outputs where there are several,
            readout_activation and its digest where it is another one.
        """
        bias = self.bias_precision
        more: dict[str, Any] = {} if self.outputs == 1 else {"outputs": self.outputs}
        if not self.dense:
            more["layers"] = [layer.record() for layer in self.layers]
        if self.readout_activation != self.activation:
            last = self.readout_activation
            more |= {"readout_activation": last.name, "readout_activation_digest": last.digest}
        return {
            "widths": list(self.widths),
            "activation": self.activation.name,
            "activation_digest": self.activation.digest,
            "weight_precision": list(self.weight_precision),
            "bias_precision": None if bias is None else list(bias),
        } | more

    def __copy__(self) -> "Network":
        return self  # nothing in it can change

    def __deepcopy__(self, memo: dict[int, Any]) -> "Network":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return functools.partial(type(self), **fields), ()

    def __repr__(self) -> str:
        of = f"widths={self.widths}" if self.dense else f"layers={self.layers}"
        return (
            f"Network({of}, activation={self.activation.name!r}, "
            f"weight_precision={self.weight_precision}, bias_precision={self.bias_precision}"
            f"{'' if self.outputs == 1 else f', outputs={self.outputs}'}{self._last()})"
        )

    def _last(self) -> str:
        last = self.readout_activation
        return "" if last == self.activation else f", readout_activation={last.name!r}"


def check_network(net: Any, name: str = "net") -> Network:
    """Return `net` if it is a Network, or raise InputError."""
    if not isinstance(net, Network):
        raise InputError(f"expected {name} = a finwidth.Network, got {type(net).__name__}")
    return net
