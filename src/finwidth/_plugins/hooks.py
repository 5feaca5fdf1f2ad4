"""The hooks a plugin can implement, and the markers that declare them.

To add a hook: write its specification here, and name the type of its items and the folder of its
built-in plugins in `registry`; then `registry.registered` returns what it collects. All hooks take
no arguments and return a list; results of all plugins are collected, so none can shadow another.
"""

from typing import Protocol, runtime_checkable

import pluggy

__all__ = [
    "PROJECT",
    "Named",
    "finwidth_register_activations",
    "finwidth_register_theories",
    "hookimpl",
    "hookspec",
]

#: Name of the pluggy project and of the entry-point group.
PROJECT = "finwidth"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@runtime_checkable
class Named(Protocol):
    """What a hook returns a list of: anything that users ask for by its name."""

    name: str


@hookspec
def finwidth_register_activations() -> list[Named]:
    """Return the activations that this plugin adds.

    Returns
    -------
    list of `finwidth.Activation`
        With names that neither finwidth nor another plugin uses.
    """
    raise NotImplementedError  # a specification: only its signature is used


@hookspec
def finwidth_register_theories() -> list[Named]:
    """Return the theories of the posterior that this plugin adds.

    Returns
    -------
    list of `finwidth.theories.Theory`
        Instances, with names that neither finwidth nor another plugin uses.
    """
    raise NotImplementedError  # a specification: only its signature is used
