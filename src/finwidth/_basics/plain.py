"""Values in the types that JSON has."""

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

from .errors import InputError

__all__ = ["plain"]


def plain(name: str, value: Any, *, finite: bool = False) -> Any:
    """Return `value` in the types that JSON has, or raise InputError.

    Parameters
    ----------
    name
        What it is called in the error.
    value
        Numbers, strings, arrays, paths, dataclasses, and collections of these.
    finite
        Whether numbers that are not finite, which JSON has no word for, become None.
    """

    def entry(value: Any) -> Any:
        if isinstance(value, float) and finite and not math.isfinite(value):
            return None
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        if isinstance(value, Mapping):
            return {str(key): entry(one) for key, one in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            entries = sorted(value) if isinstance(value, (set, frozenset)) else value
            return [entry(one) for one in entries]
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if hasattr(value, "__array__"):
            import numpy as np  # here, as the command's errors and help do without it

            if np.asarray(value).dtype.kind in "biufU":
                return entry(np.asarray(value).tolist())
        raise InputError(f"expected {name} = something JSON can hold, got {value!r}")

    return entry(value)
