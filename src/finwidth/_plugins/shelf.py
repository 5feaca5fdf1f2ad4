"""Packages whose modules are what users name: found without an import, imported when asked for.

A module whose name starts with an underscore is not one of them.
"""

import importlib
import pkgutil
from types import ModuleType

__all__ = ["modules", "names"]


def names(package: str) -> list[str]:
    """Return the sorted names of the modules of `package`; none of them is imported."""
    path = importlib.import_module(package).__path__
    return sorted(info.name for info in pkgutil.iter_modules(path) if not info.name.startswith("_"))


def modules(package: str) -> list[ModuleType]:
    """Return the modules of `package`, imported, in the order of their names."""
    return [importlib.import_module(f"{package}.{name}") for name in names(package)]
