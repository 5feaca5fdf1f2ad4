"""Checks of the arrays and numbers that users pass in; they run before any work."""

import math
import numbers
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ._errors import InputError

__all__ = [
    "as_float",
    "check_array",
    "check_bool",
    "check_choice",
    "check_count",
    "check_inputs",
    "check_labels",
    "check_number",
    "check_path",
    "check_sequence",
    "check_solution",
    "check_temperature",
    "check_text",
    "check_training",
    "check_tree",
]

_LARGEST_INT = 2**63 - 1


def _as_float64(name: str, value: Any, shape: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError:
        raise InputError(
            f"expected {name} = a numeric array of shape {shape}, got a ragged sequence"
        ) from None
    if array.dtype.kind not in "fiub":
        raise InputError(
            f"expected {name} = a real numeric array of shape {shape}, got dtype {array.dtype}"
        )
    # a copy: nobody can change the data of a solution afterwards
    return np.array(array, dtype=np.float64)


def _check_finite(name: str, array: np.ndarray) -> None:
    bad = int(np.size(array) - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise InputError(f"expected {name} = finite values only, got {bad} NaN or infinite entries")


def check_inputs(X: Any, name: str = "X", n_inputs: int | None = None) -> np.ndarray:
    """Return `X` as a float64 array of shape (pattern, input), or raise InputError."""
    shape = f"(pattern, {'input' if n_inputs is None else n_inputs})"
    array = _as_float64(name, X, shape)
    if array.ndim != 2:
        raise InputError(f"expected {name} = an array of shape {shape}, got shape {array.shape}")
    if array.shape[0] == 0 or array.shape[1] == 0:
        raise InputError(
            f"expected {name} = at least one pattern and one input, got shape {array.shape}"
        )
    if n_inputs is not None and array.shape[1] != n_inputs:
        raise InputError(f"expected {name} = an array of shape {shape}, got shape {array.shape}")
    _check_finite(name, array)
    return array


def check_labels(y: Any, n_patterns: int, name: str = "y", of: str = "X") -> np.ndarray:
    """Return `y` as a float64 array of shape (pattern,), or raise InputError."""
    array = _as_float64(name, y, f"({n_patterns},)")
    if array.shape != (n_patterns,):
        raise InputError(
            f"expected {name} = an array of shape ({n_patterns},), one label for each row of {of}, "
            f"got shape {array.shape}"
        )
    _check_finite(name, array)
    return array


def check_training(X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the checked training set (X, y) in float64."""
    X = check_inputs(X)
    return X, check_labels(y, X.shape[0])


def check_number(
    name: str, value: Any, low: float, high: float = math.inf, *, include_low: bool = False
) -> float:
    """Return `value` as a float between `low` and `high` (excluded), or raise InputError."""
    number = as_float(value)
    if low < number < high or (include_low and number == low):
        return number
    at_least = "≥" if include_low else ">"
    below = "" if high == math.inf else f" and < {high:g}"
    raise InputError(f"expected {name} = a finite float {at_least} {low:g}{below}, got {value!r}")


def check_temperature(temperature: Any, *, zero: bool = True) -> float:
    """Return the temperature as a float, or raise InputError; `zero` says whether T = 0 may be."""
    return check_number("temperature", temperature, 0.0, include_low=zero)


def check_count(name: str, value: Any, minimum: int = 1) -> int:
    """Return `value` as an int of at least `minimum` that 64 bits hold, or raise InputError."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < minimum:
        raise InputError(f"expected {name} = an int of at least {minimum}, got {value!r}")
    if value > _LARGEST_INT:
        raise InputError(f"expected {name} = an int of at most {_LARGEST_INT}, got one beyond it")
    return int(value)


def check_choice(name: str, value: Any, choices: Any) -> str:
    """Return `value` if it is one of the `choices`, or raise InputError with the closest one."""
    import difflib

    names = sorted(choices)
    if not isinstance(value, str) or value not in names:
        close = difflib.get_close_matches(str(value), names, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise InputError(f"expected {name} = one of {names}, got {value!r}{hint}")
    return value


def as_float(value: Any) -> float:
    """Return `value` as a float, NaN if it is not one real number."""
    if isinstance(value, (bool, str, bytes, bytearray)) or getattr(value, "shape", ()) != ():
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def check_bool(name: str, value: Any) -> bool:
    """Return `value` as a bool, or raise InputError."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"expected {name} = True or False, got {value!r}")
    return bool(value)


def check_text(name: str, value: Any) -> str:
    """Return `value` if it is a string, or raise InputError."""
    if not isinstance(value, str):
        raise InputError(f"expected {name} = a string, got {value!r}")
    return value


def check_path(name: str, value: Any, what: str = "a path") -> Path:
    """Return `value` as a Path with the user's home filled in, or raise InputError."""
    if isinstance(value, (str, os.PathLike)):
        text = os.fspath(value)
        if isinstance(text, str) and text and "\0" not in text:
            try:
                return Path(text).expanduser()
            except RuntimeError:  # no home of this user's
                pass
    raise InputError(f"expected {name} = {what}, got {value!r}")


def check_sequence(name: str, value: Any, what: str) -> tuple[Any, ...]:
    """Return the entries of `value`, at least one, or raise InputError that says what it takes."""
    refused = isinstance(value, (str, bytes, Mapping)) or getattr(value, "ndim", 1) == 0
    entries = () if refused or not isinstance(value, Iterable) else tuple(value)
    if not entries:
        raise InputError(f"expected {name} = {what}, at least one, got {value!r}")
    return entries


def check_array(name: str, value: Any, shape: str) -> np.ndarray:
    """Return `value` as an array of real numbers, or raise InputError."""
    return _as_float64(name, value, shape)


def check_tree(tree: Any) -> Any:
    """Return `tree` if it is an xarray.DataTree, or raise InputError."""
    import xarray as xr

    if not isinstance(tree, xr.DataTree):
        raise InputError(f"expected tree = an xarray.DataTree, got {type(tree).__name__}")
    return tree


def check_solution(solution: Any, name: str = "solution") -> Any:
    """Return `solution` if it is one (or answers like one), or raise InputError."""
    wanted = ("network", "temperature", "theory", "predict", "generalization_error")
    if isinstance(solution, type) or not all(hasattr(solution, part) for part in wanted):
        raise InputError(
            f"expected {name} = what finwidth.solve or finwidth.mixture returned, got "
            f"{type(solution).__name__}"
        )
    return solution
