"""Activations: `Activation`, the look-up by name, and the built-in ones, one module each.

To add one, add a module of its name here with a function ``finwidth_register_activations`` that
returns it in a list, as a plugin's does; nothing else needs to change. Modules whose names start
with an underscore are left alone.
"""

from ._activation import (
    SHELF as SHELF,
    Activation as Activation,
    ActivationFamily as ActivationFamily,
    activation_sources as activation_sources,
    get_activation as get_activation,
    list_activations as list_activations,
)

__all__ = [
    "SHELF",
    "Activation",
    "ActivationFamily",
    "activation_sources",
    "get_activation",
    "list_activations",
]
