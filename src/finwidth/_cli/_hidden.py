"""The options that say which hidden layers there are: widths, or the layers themselves."""

import dataclasses
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from .._basics.errors import InputError
from ._option import all_widths, named, option, width_option, widths_option

if TYPE_CHECKING:
    from .._layers.layer import Layer

__all__ = ["LAYER", "Hidden", "Widths", "parse_layer", "parse_layers", "resized"]

_FORM = "KIND:WIDTH[,NAME=VALUE,…]"

LAYER = option(
    "--layer",
    "A hidden layer instead of a width, such as residual:30,skip=1,branch=0.5; repeat it for each "
    "further layer; 'finwidth info' lists the kinds.",
    metavar=_FORM,
)


def parse_layer(text: str) -> "Layer":
    """Return the layer of KIND:WIDTH[,NAME=VALUE,…], or raise InputError.

    KIND is the name of a layer, or as much of it as no other begins with.
    """
    from .._layers import SHELF

    expected = f"expected --layer = {_FORM}"
    kind, colon, rest = text.partition(":")
    first, *others = rest.split(",")
    if not kind or not colon or not first:
        raise InputError(f"{expected}, such as dense:30, got {text!r}")
    begin = [name for name in SHELF.names() if name.startswith(kind)]
    found = SHELF.get(begin[0] if len(begin) == 1 else kind)
    kinds = {one.name: one.annotation for one in inspect.signature(found).parameters.values()}
    size, *options = kinds
    try:
        width = int(first)
        pairs = [named(one) for one in others]
    except ValueError:
        raise InputError(f"{expected}, its {size} an int, got {text!r}") from None
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name not in options:
            raise InputError(
                f"expected options of --layer {found.name} out of {options}, got {name!r}"
            )
        if name in given:
            raise InputError(f"expected each option of --layer once, got {name!r} twice")
        whole = kinds[name] is float and type(value) is int
        given[name] = float(value) if whole else value
    try:
        return found(**{size: width}, **given)
    except TypeError:  # an option without a default
        raise InputError(
            f"{expected} with all that {found.name} needs, such as {_example(found)}, got {text!r}"
        ) from None


def _example(kind: "type[Layer]") -> str:
    """Return the shortest text of a layer of a kind."""
    size, *options = inspect.signature(kind).parameters.values()
    needed = [f",{one.name}=3" for one in options if one.default is inspect.Parameter.empty]
    return f"{kind.name}:5{''.join(needed)}"


def parse_layers(texts: Sequence[str]) -> "tuple[Layer, ...]":
    """Return the layers of several texts."""
    return tuple(parse_layer(text) for text in texts)


@dataclasses.dataclass(frozen=True)
class Hidden:
    """The hidden layers of one network."""

    width: Annotated[
        list[int],
        option(
            "--width",
            "Width of one hidden layer; repeat it for each further layer.",
            kind=int,
            metavar="INT",
            expected="an int, the width of one hidden layer (two layers: --width 10 --width 20)",
            shown="50",
        ),
    ] = dataclasses.field(default_factory=list)
    layer: Annotated[list[str], LAYER] = dataclasses.field(default_factory=list)

    def fields(self) -> dict[str, Any]:
        """Return what `Network` is given: widths, or layers."""
        if not self.layer:
            return {"widths": tuple(self.width or [50])}
        if self.width:
            raise InputError(f"expected --width or --layer, got both: {self.width}, {self.layer}")
        return {"layers": parse_layers(self.layer)}


@dataclasses.dataclass(frozen=True)
class Widths:
    """Several networks that differ in width."""

    widths: Annotated[
        list[Any],
        widths_option(
            "Widths of the networks, each with one hidden layer, or with those of --layer, all of "
            "that width.",
            shown="20,50,200",
        ),
    ] = dataclasses.field(default_factory=list)
    width: Annotated[int | None, width_option()] = None
    layer: Annotated[list[str], LAYER] = dataclasses.field(default_factory=list)

    def fields(self) -> list[dict[str, Any]]:
        """Return what `Network` is given for each; layers without --widths are one network."""
        widths = all_widths(self.widths, self.width)
        layers = parse_layers(self.layer)
        if len(set(widths)) < len(widths):
            raise InputError(f"expected --widths = different widths, got {widths}")
        if layers and not widths:
            return [{"layers": layers}]
        if not layers:
            return [{"widths": (width,)} for width in widths or (20, 50, 200)]
        return [{"layers": resized(layers, width)} for width in widths]


def resized(layers: "Sequence[Layer]", width: int) -> "tuple[Layer, ...]":
    """Return the layers, all of one width."""
    if width < 1:
        raise InputError(f"expected --widths = ints of at least 1, got {width}")
    return tuple(layer.resize(width) for layer in layers)
