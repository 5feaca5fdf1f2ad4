"""The hooks a plugin can implement, and the markers that declare them.

To add a hook: write its specification here, with the package whose ``SHELF`` collects its items.
All hooks take no arguments and return a list; results of all plugins are collected, so none can
shadow another.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import pluggy

__all__ = [
    "NO_ITEMS",
    "PACKAGES",
    "PROJECT",
    "Named",
    "finwidth_register_activations",
    "finwidth_register_datasets",
    "finwidth_register_layers",
    "finwidth_register_likelihoods",
    "finwidth_register_observables",
    "finwidth_register_samplers",
    "finwidth_register_theories",
    "hookimpl",
    "hookspec",
]

#: Name of the pluggy project and of the entry-point group.
PROJECT = "finwidth"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

#: Package whose modules are the built-in items of each hook; its ``SHELF`` collects the others.
PACKAGES: dict[str, str] = {}

#: Modules of such a package that hold no item, though their names have no leading underscore.
NO_ITEMS: dict[str, frozenset[str]] = {}


def _fills[F: Callable[..., object]](package: str, *no_items: str) -> Callable[[F], F]:
    """Declare a hook whose items stand on the shelf of `package`, all modules but `no_items`."""

    def declare(function: F) -> F:
        PACKAGES[function.__name__] = package
        NO_ITEMS[package] = frozenset(no_items)
        return hookspec(function)

    return declare


@runtime_checkable
class Named(Protocol):
    """What a hook returns a list of: anything that users ask for by its name."""

    name: str


@_fills("finwidth.activations")
def finwidth_register_activations() -> list[Named]:
    """Return the activations that this plugin adds.

    Returns
    -------
    list of `finwidth.Activation` and `finwidth.ActivationFamily`
        With names that neither finwidth nor another plugin uses, without a colon.
    """
    raise NotImplementedError  # a specification: only its signature is used


@_fills(
    "finwidth._layers",
    "architecture",
    "covariance",
    "inputs",
    "law",
    "layer",
    "order",
    "patches",
    "stack",
)
def finwidth_register_layers() -> list[Named]:
    """Return the kinds of hidden layers that this plugin adds.

    Returns
    -------
    list of type
        Classes derived from `finwidth.theories.Layer`, frozen dataclasses, each with a class
        attribute `name` that neither finwidth nor another plugin uses.
    """
    raise NotImplementedError  # a specification: only its signature is used


@_fills("finwidth.theories")
def finwidth_register_theories() -> list[Named]:
    """Return the theories of the posterior that this plugin adds.

    Returns
    -------
    list of `finwidth.theories.Theory`
        Instances, with names that neither finwidth nor another plugin uses.
    """
    raise NotImplementedError  # a specification: only its signature is used


@_fills("finwidth._observables")
def finwidth_register_observables() -> list[Named]:
    """Return the observables that this plugin adds to comparisons.

    Returns
    -------
    list of `finwidth.Observable`
        Instances, with names, and names of quantities, that neither finwidth nor another plugin
        uses.
    """
    raise NotImplementedError  # a specification: only its signature is used


@_fills("finwidth.samplers")
def finwidth_register_samplers() -> list[Named]:
    """Return the samplers that this plugin adds.

    Returns
    -------
    list of `finwidth.samplers.Sampler`
        With names that neither finwidth nor another plugin uses.
    """
    raise NotImplementedError  # a specification: only its signature is used


@_fills("finwidth.datasets")
def finwidth_register_datasets() -> list[Named]:
    """Return the data sets that this plugin adds.

    Returns
    -------
    list of `finwidth.datasets.Source`
        With names that neither finwidth nor another plugin uses.
    """
    raise NotImplementedError  # a specification: only its signature is used


@_fills("finwidth._likelihoods")
def finwidth_register_likelihoods() -> list[Named]:
    """Return the likelihoods that this plugin adds.

    Returns
    -------
    list of `finwidth.theories.Likelihood`
        Instances, with names that neither finwidth nor another plugin uses.
    """
    raise NotImplementedError  # a specification: only its signature is used
