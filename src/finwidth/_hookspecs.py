"""The hooks a plugin can implement, and the markers that declare them.

To add a hook: write its specification here, then ask `_plugins.registered` for what it
collects, with the type that its items must have. All hooks take no arguments and return
a list; results of all plugins are collected, so none can shadow another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from ._activation import Activation

__all__ = ["PROJECT", "finwidth_register_activations", "hookimpl", "hookspec"]

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
