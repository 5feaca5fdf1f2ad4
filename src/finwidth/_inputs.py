"""Checks of the arrays, numbers and names that users pass in; they run before any work.

What is accepted is taken exactly: an entry that float64 cannot hold, a masked or a missing one is
refused, never rounded, filled or dropped.
"""

import math
import numbers
import os
import sys
from collections.abc import Iterable, Mapping, Set
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from ._errors import InputError

__all__ = [
    "as_float64",
    "as_number",
    "check_choice",
    "check_concrete",
    "check_count",
    "check_flag",
    "check_inputs",
    "check_inputs_shape",
    "check_iterable",
    "check_labels",
    "check_labels_shape",
    "check_name",
    "check_number",
    "check_options",
    "check_path",
    "check_seed",
    "check_sequence",
    "check_temperature",
    "check_training",
    "shown",
]

_EXACT = 2**53  # float64 holds every int up to here


def shown(value: Any, limit: int = 120) -> str:
    """Return `value` as it is shown after 'got': one line, not too long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a repr of the user's own
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def as_float64(name: str, value: Any, shape: str) -> np.ndarray:
    """Return `value` as a new float64 array that holds the same numbers, or raise InputError.

    Parameters
    ----------
    name
        The argument, for the message.
    value
        Whatever came.
    shape
        The shape that is wanted, for the message.
    """
    expected = f"expected {name} = a real numeric array of shape {shape}"
    _check_parts(name, value)
    try:
        array = np.asanyarray(value)  # keeps a mask
    except Exception as error:  # of NumPy, or of the object's own way to become an array
        if isinstance(error, ValueError) and isinstance(value, (list, tuple)):
            raise InputError(f"{expected}, got a ragged sequence") from None
        raise InputError(
            f"{expected}, got {_kind(value)} ({type(error).__name__}: {shown(str(error))})"
        ) from None
    _check_mask(name, array)
    array = np.asarray(array)
    if array.dtype.kind == "O":
        if array.ndim == 0 and not isinstance(value, np.ndarray):
            hint = " (its toarray() gives one)" if hasattr(value, "toarray") else ""
            raise InputError(f"{expected}, got {_kind(value)}{hint}")
        return _from_objects(name, array, expected)
    # beyond NumPy's own kinds: bfloat16 and its like, of ml_dtypes
    if array.dtype.kind not in "fiub" and not np.can_cast(array.dtype, np.float64):
        raise InputError(f"{expected}, got dtype {array.dtype}")
    return _exactly(name, array)


def _kind(value: Any) -> str:
    return f"an object of type {type(value).__name__}"


def _check_parts(name: str, value: Any) -> None:
    """Refuse what NumPy would lose or trip over, at any depth of nested sequences."""
    if isinstance(value, float):
        return
    if isinstance(value, (list, tuple)):
        for part in value:
            _check_parts(name, part)
    elif isinstance(value, int):
        if abs(value) > _EXACT and not _holds(value):
            raise _inexact(name, value)
    elif isinstance(value, (np.ndarray, np.generic)):
        _check_mask(name, value)
        _check_ints(name, value)
    elif hasattr(value, "iloc") and hasattr(value, "columns"):
        if len(set(value.dtypes)) > 1:  # a DataFrame brings its columns to one type
            for column in range(value.shape[1]):
                _check_ints(name, np.asarray(value.iloc[:, column]))
    else:
        check_concrete(name, value)


def check_concrete(name: str, value: Any) -> None:
    """Raise InputError if `value` is a tracer: inside jax.jit, grad or vmap there are no values."""
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(value, jax.core.Tracer):
        raise InputError(
            f"expected {name} = concrete values, got a JAX tracer: call finwidth outside of "
            "jax.jit, jax.grad and jax.vmap"
        )


def _check_mask(name: str, array: Any) -> None:
    if isinstance(array, np.ma.MaskedArray):
        masked = int(np.count_nonzero(np.ma.getmaskarray(array)))
        if masked:
            raise InputError(f"expected {name} = no masked entries, got {masked} of {array.size}")


def _holds(number: Any) -> bool:
    """Say whether float64 holds this real number exactly."""
    try:
        return float(number) == number
    except OverflowError:
        return False


def _inexact(name: str, entry: Any) -> InputError:
    return InputError(
        f"expected {name} = numbers that float64 holds exactly, got {shown(entry)} (round it "
        "yourself, for example by float)"
    )


def _check_ints(name: str, array: Any) -> None:
    if array.dtype.kind in "iu" and array.dtype.itemsize >= 8:
        for entry in array[(array > _EXACT) | (array < -_EXACT)].ravel().tolist():
            if not _holds(entry):
                raise _inexact(name, entry)


def _exactly(name: str, array: np.ndarray) -> np.ndarray:
    """Return a float64 copy: nobody can change the data of a solution afterwards."""
    with np.errstate(over="ignore"):  # of longdouble, refused below
        converted = np.array(array, dtype=np.float64)
    _check_ints(name, array)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        lost = (converted.astype(array.dtype) != array) & ~np.isnan(array)
        if np.any(lost):
            raise _inexact(name, array[lost].ravel()[0])
    return converted


def _from_objects(name: str, array: np.ndarray, expected: str) -> np.ndarray:
    """Return an array of Python objects, as pandas makes, as the numbers that they are."""
    converted = np.empty(array.shape, dtype=np.float64)
    for index, entry in np.ndenumerate(array):
        check_concrete(name, entry)
        where = f" at {index}" if index else ""
        if isinstance(entry, (np.generic, np.ndarray)) or hasattr(entry, "__array__"):
            if np.ndim(entry) != 0:
                raise InputError(f"{expected}, got an array of arrays")
            entry = as_float64(name, entry, "()").item()
        elif entry is None or type(entry).__name__ in ("NAType", "NaTType"):
            raise InputError(f"{expected}, got a missing entry ({entry!s}){where}")
        elif not isinstance(entry, (numbers.Real, Decimal)):
            raise InputError(f"{expected}, got {shown(entry)}{where}")
        if not _holds(entry) and entry == entry:  # NaN is left to the check of finite values
            raise _inexact(name, entry)
        converted[index] = float(entry)
    return converted


def _check_finite(name: str, array: np.ndarray) -> None:
    bad = int(np.size(array) - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise InputError(f"expected {name} = finite values only, got {bad} NaN or infinite entries")


def check_inputs(X: Any, name: str = "X", n_inputs: int | None = None) -> np.ndarray:
    """Return `X` as a float64 array of shape (pattern, input), or raise InputError."""
    shape = f"(pattern, {'input' if n_inputs is None else n_inputs})"
    array = as_float64(name, X, shape)
    check_inputs_shape(array.shape, name, n_inputs)
    _check_finite(name, array)
    return array


def check_inputs_shape(got: tuple[int, ...], name: str = "X", n_inputs: int | None = None) -> None:
    """Raise InputError if `got` is not the shape (pattern, input) of some patterns."""
    shape = f"(pattern, {'input' if n_inputs is None else n_inputs})"
    if len(got) != 2:
        raise InputError(f"expected {name} = an array of shape {shape}, got shape {got}")
    if got[0] == 0 or got[1] == 0:
        raise InputError(f"expected {name} = at least one pattern and one input, got shape {got}")
    if n_inputs is not None and got[1] != n_inputs:
        raise InputError(f"expected {name} = an array of shape {shape}, got shape {got}")


def check_labels(y: Any, n_patterns: int, name: str = "y", of: str = "X") -> np.ndarray:
    """Return `y` as a float64 array of shape (pattern,), or raise InputError."""
    array = as_float64(name, y, f"({n_patterns},)")
    check_labels_shape(array.shape, n_patterns, name, of)
    _check_finite(name, array)
    return array


def check_labels_shape(
    got: tuple[int, ...], n_patterns: int, name: str = "y", of: str = "X"
) -> None:
    """Raise InputError if `got` is not the shape of one label for each pattern."""
    if got != (n_patterns,):
        raise InputError(
            f"expected {name} = an array of shape ({n_patterns},), one label for each row of {of}, "
            f"got shape {got}"
        )


def check_training(X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the checked training set (X, y) in float64."""
    X = check_inputs(X)
    return X, check_labels(y, X.shape[0])


def as_number(value: Any) -> float:
    """Return a number, or an array of no dimensions, as a float; NaN for anything else."""
    if isinstance(value, (np.generic, np.ndarray)) or hasattr(value, "__array__"):
        try:
            array = as_float64("value", value, "()")
        except InputError:
            return math.nan
        is_bool = getattr(getattr(value, "dtype", None), "kind", "b") == "b"
        return math.nan if array.ndim or is_bool else float(array)
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, Decimal)):
        return math.nan
    try:
        return float(value)
    except (OverflowError, ValueError):
        return math.nan


def check_number(
    name: str, value: Any, low: float, high: float = math.inf, *, include_low: bool = False
) -> float:
    """Return `value` as a float between `low` and `high` (excluded), or raise InputError."""
    check_concrete(name, value)
    number = as_number(value)
    if low < number < high or (include_low and number == low):
        return number
    at_least = "≥" if include_low else ">"
    below = "" if high == math.inf else f" and < {high:g}"
    raise InputError(
        f"expected {name} = a finite float {at_least} {low:g}{below}, got {shown(value)}"
    )


def check_temperature(temperature: Any, *, zero: bool = True) -> float:
    """Return the temperature as a float, or raise InputError; `zero` says whether T = 0 may be."""
    return check_number("temperature", temperature, 0.0, include_low=zero)


def check_count(name: str, value: Any, minimum: int = 1, maximum: int = 2**53) -> int:
    """Return `value` as an int of at least `minimum`, or raise InputError.

    The default `maximum` is what a float64 can count to.
    """
    integral = isinstance(value, numbers.Integral) and not isinstance(value, (bool, np.timedelta64))
    if not integral or not minimum <= value:
        raise InputError(f"expected {name} = an int of at least {minimum}, got {shown(value)}")
    if value > maximum:
        raise InputError(f"expected {name} = an int of at most {maximum}, got {shown(value)}")
    return int(value)


def check_seed(seed: Any) -> int:
    """Return a seed of JAX's generators, or raise InputError."""
    return check_count("seed", seed, 0, 2**63 - 1)


def check_flag(name: str, value: Any) -> bool:
    """Return `value` if it is True or False, or raise InputError."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"expected {name} = True or False, got {shown(value)}")
    return bool(value)


def check_choice(name: str, value: Any, choices: Any) -> str:
    """Return `value` if it is one of the `choices`, or raise InputError with the closest one."""
    import difflib

    names = sorted(choices)
    if not isinstance(value, str) or value not in names:
        close = difflib.get_close_matches(str(value), names, n=1) if _is_short(value) else []
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise InputError(f"expected {name} = one of {names}, got {shown(value)}{hint}")
    return value


def _is_short(value: Any) -> bool:
    return isinstance(value, str) and len(value) < 80


def check_name(name: str, value: Any) -> str:
    """Return `value` if it is a non-empty string, or raise InputError."""
    if not isinstance(value, str) or not value:
        raise InputError(f"expected {name} = a non-empty string, got {shown(value)}")
    return value


def check_sequence(name: str, value: Any, what: str, *, ordered: bool = True) -> list[Any]:
    """Return the entries of a sequence or of an array's first axis, or raise InputError.

    Parameters
    ----------
    name, what
        The argument and what its entries should be, for the message.
    value
        Whatever came. Strings, mappings and iterators are refused, and sets if `ordered`.
    ordered
        Whether the order matters.
    """
    refused = (str, bytes, bytearray, Mapping, *((Set,) if ordered else ()))
    check_concrete(name, value)
    if not isinstance(value, refused) and hasattr(value, "__len__"):
        try:
            return list(value)
        except Exception:  # an array of no dimensions, or an object of the user's own
            pass
    raise InputError(f"expected {name} = a sequence of {what}, got {shown(value)}")


def check_iterable(name: str, value: Any, what: str) -> tuple[Any, ...]:
    """Return the entries of anything that can be iterated over but text, or raise InputError."""
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Iterable):
        raise InputError(f"expected {name} = {what}, got {shown(value)}")
    try:
        return tuple(value)
    except Exception:  # an array of no dimensions, or an iterator that fails
        raise InputError(f"expected {name} = {what}, got {shown(value)}") from None


def check_options(name: str, value: Any) -> dict[str, Any]:
    """Return a mapping from names to values as a dict ({} for None), or raise InputError."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"expected {name} = a mapping from names to values, got {shown(value)}")
    return dict(value)


def check_path(name: str, value: Any, what: str) -> Path:
    """Return `value` as a Path with ~ expanded, or raise InputError."""
    if isinstance(value, (str, os.PathLike)):
        try:
            text = os.fspath(value)
            os.fsencode(text)
        except (TypeError, UnicodeEncodeError):
            text = None
        if isinstance(text, str) and text and "\0" not in text:
            try:
                return Path(text).expanduser()
            except RuntimeError:  # no home
                pass
    raise InputError(f"expected {name} = {what}, got {shown(value)}")
