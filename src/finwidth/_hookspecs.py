"""The hooks a plugin can implement, and the markers that declare them.

To add a hook: write its specification here, and name the type of its items in `_plugins`; then
`_plugins.registered` returns what it collects. All hooks take no arguments and return
a list; results of all plugins are collected, so none can shadow another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from ._activation import Activation
    from .theories import Theory

__all__ = [
    "PROJECT",
    "finwidth_register_activations",
    "finwidth_register_theories",
    "hookimpl",
    "hookspec",
]

#: Name of the pluggy project and of the entry-point group.
PROJECT = "finwidth"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def finwidth_register_activations() -> list[Activation]:
    """Return the activations that this plugin adds.

    Returns
    -------
    list of `finwidth.Activation`
        With names that neither finwidth nor another plugin uses.
    """
    raise NotImplementedError  # a specification: only its signature is used


@hookspec
def finwidth_register_theories() -> list[Theory]:
    """Return the theories of the posterior that this plugin adds.

    Returns
    -------
    list of `finwidth.theories.Theory`
        Instances, with names that neither finwidth nor another plugin uses.
    """
    raise NotImplementedError  # a specification: only its signature is used
