"""Activations: `Activation`, the look-up by name, and the built-in ones, one module each.

To add one, add a module here with a `finwidth.hookimpl` function
``finwidth_register_activations``; nothing else needs to change. Modules whose names start
with an underscore are left alone.
"""

from ._activation import (
    Activation as Activation,
    activation_sources as activation_sources,
    activations as activations,
    get_activation as get_activation,
    list_activations as list_activations,
)

__all__ = [
    "Activation",
    "activation_sources",
    "activations",
    "get_activation",
    "list_activations",
]
