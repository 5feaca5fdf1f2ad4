"""What a layer is to theory and sampling alike; knows no network as a whole.

The modules `dense`, `residual`, … hold a kind of layer each, with a function
``finwidth_register_layers`` as a plugin has; the others are what all of them are made of.
"""

import dataclasses
import inspect

from .._basics.errors import PluginError
from .._plugins.shelf import Shelf
from .layer import Layer

__all__ = ["SHELF"]


def _check(kind: type[Layer]) -> None:
    expected = f"expected layer {kind.name!r} = a class derived from finwidth.theories.Layer"
    if not (inspect.isclass(kind) and issubclass(kind, Layer)):
        raise PluginError(f"{expected}, got {kind!r}")
    if "name" not in vars(kind):
        raise PluginError(f"{expected} with a name of its own, got that of {kind.__base__}")
    missing = sorted(getattr(kind, "__abstractmethods__", ()))
    if missing:
        raise PluginError(f"{expected} with {', '.join(missing)}, got none")
    # a class derived from a dataclass passes for one
    if "__dataclass_params__" not in vars(kind) or not dataclasses.is_dataclass(kind):
        raise PluginError(f"{expected} that is a frozen dataclass itself, got {kind!r}")


SHELF: Shelf[type[Layer]] = Shelf(
    "finwidth._layers",
    "layer",
    type,
    "classes derived from finwidth.theories.Layer",
    hook="finwidth_register_layers",
    check=_check,
)
