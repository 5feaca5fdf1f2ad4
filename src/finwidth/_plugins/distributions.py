"""Installed distributions with finwidth plugins, and which of them are wanted.

The environment variable ``FINWIDTH_LOAD_PLUGINS`` names the distributions to load, separated
by commas: unset loads all, empty none.
"""

import importlib.metadata
import os
import re

from .._basics.errors import InputError
from .hooks import PROJECT

__all__ = ["VARIABLE", "selected_entry_points"]

VARIABLE = "FINWIDTH_LOAD_PLUGINS"


def selected_entry_points() -> list[importlib.metadata.EntryPoint]:
    """Return the entry points to load, in the order of distribution and name."""

    def distribution(entry: importlib.metadata.EntryPoint) -> str:
        return _canonical(entry.dist.name if entry.dist else "unknown")

    entries = importlib.metadata.entry_points(group=PROJECT)
    ordered = sorted(entries, key=lambda entry: (distribution(entry), entry.name))
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return ordered
    names = {_canonical(name.strip()) for name in wanted.split(",") if name.strip()}
    installed = {distribution(entry) for entry in ordered}
    unknown = sorted(names - installed)
    if unknown:
        raise InputError(
            f"expected {VARIABLE} = names of distributions with finwidth plugins, out of "
            f"{sorted(installed)}, separated by commas, got {', '.join(unknown)!r}"
        )
    return [entry for entry in ordered if distribution(entry) in names]


def _canonical(name: str) -> str:
    """A distribution's name as packaging tools compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
