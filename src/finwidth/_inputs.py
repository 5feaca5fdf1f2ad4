"""Checks of the arrays and numbers that users pass in; they run before any work."""

import math
import numbers
from typing import Any

import numpy as np

from ._errors import InputError

__all__ = [
    "check_choice",
    "check_count",
    "check_inputs",
    "check_labels",
    "check_number",
    "check_temperature",
    "check_training",
]


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
    number = math.nan
    if not isinstance(value, bool | str | bytes):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
    if low < number < high or (include_low and number == low):
        return number
    at_least = "≥" if include_low else ">"
    below = "" if high == math.inf else f" and < {high:g}"
    raise InputError(f"expected {name} = a finite float {at_least} {low:g}{below}, got {value!r}")


def check_temperature(temperature: Any, *, zero: bool = True) -> float:
    """Return the temperature as a float, or raise InputError; `zero` says whether T = 0 may be."""
    return check_number("temperature", temperature, 0.0, include_low=zero)


def check_count(name: str, value: Any, minimum: int = 1) -> int:
    """Return `value` as an int of at least `minimum`, or raise InputError."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < minimum:
        raise InputError(f"expected {name} = an int of at least {minimum}, got {value!r}")
    return int(value)


def check_choice(name: str, value: Any, choices: Any) -> str:
    """Return `value` if it is one of the `choices`, or raise InputError with the closest one."""
    import difflib

    names = sorted(choices)
    if value not in names:
        close = difflib.get_close_matches(str(value), names, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise InputError(f"expected {name} = one of {names}, got {value!r}{hint}")
    return value
