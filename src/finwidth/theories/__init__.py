"""Theories of the posterior, one file each.

A module of this package that defines ``theory``, an instance of `Theory`, is a theory that users
name in ``finwidth.solve(..., theory=name)``; adding one touches no other file.
"""

import functools
import importlib
import pkgutil

from ._base import (
    LayerConstants as LayerConstants,
    OrderParameters as OrderParameters,
    Problem as Problem,
    SaddlePoint as SaddlePoint,
    SaddleTheory as SaddleTheory,
    ScaledForm as ScaledForm,
    Theory as Theory,
)

__all__ = [
    "LayerConstants",
    "OrderParameters",
    "Problem",
    "SaddlePoint",
    "SaddleTheory",
    "ScaledForm",
    "Theory",
    "available",
]


@functools.cache
def available() -> dict[str, Theory]:
    """Return the theories by name."""
    found = {}
    for module_info in pkgutil.iter_modules(__path__):
        if not module_info.name.startswith("_"):
            module = importlib.import_module(f"{__name__}.{module_info.name}")
            found[module.theory.name] = module.theory
    return dict(sorted(found.items()))
