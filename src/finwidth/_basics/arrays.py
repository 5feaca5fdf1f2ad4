"""Checks of the arrays that users pass in; they run before any work.

What is accepted is taken exactly: an entry that float64 cannot hold, a masked or a missing one is
refused, never rounded, filled or dropped.
"""

import contextlib
import math
import numbers
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from .errors import InputError

__all__ = [
    "as_float64",
    "as_number",
    "check_concrete",
    "check_inputs",
    "check_inputs_shape",
    "check_labels",
    "check_labels_shape",
    "check_patterns",
    "shown",
]

_EXACT = 2**53  # float64 holds every int up to here
_DEEPEST = 64  # axes that an array of NumPy can have


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
        array = _as_numpy(value)
    except Exception as error:  # of NumPy, or of the object's own way to become an array
        if isinstance(error, ValueError) and isinstance(value, (list, tuple)):
            raise InputError(f"{expected}, got a ragged sequence") from None
        raise InputError(
            f"{expected}, got {_kind(value)} ({type(error).__name__}: {shown(str(error))})"
        ) from None
    _check_parts(name, array)
    array = np.asarray(array)
    if array.dtype.kind == "O":
        if array.ndim == 0 and not isinstance(value, np.ndarray):
            hint = " (its toarray() gives one)" if hasattr(value, "toarray") else ""
            raise InputError(f"{expected}, got {_kind(value)}{hint}")
        return _from_objects(name, array, expected)
    # beyond NumPy's own kinds: bfloat16 and its like, of ml_dtypes
    if array.dtype.kind not in "fiub" and not np.can_cast(array.dtype, np.float64):
        words = array.dtype.kind in "US" and array.size > 0 and name.startswith("y")
        hint = (
            f": np.where({name} == {array.flat[0].item()!r}, 1, -1) makes labels" if words else ""
        )
        raise InputError(f"{expected}, got dtype {array.dtype}{hint}")
    return _exactly(name, array)


def _kind(value: Any) -> str:
    return f"an object of type {type(value).__name__}"


def _as_numpy(value: Any) -> np.ndarray:
    """Return `value` as NumPy sees it, with its mask: xarray and dask drop it on the way."""
    if type(value).__module__.startswith("xarray.") and hasattr(value, "data"):
        value = value.data
    if hasattr(value, "__dask_graph__"):
        value = value.compute()
    return np.asanyarray(value)


def _check_parts(name: str, value: Any, depth: int = 0) -> None:
    """Refuse what NumPy would lose or trip over, at any depth of nested sequences."""
    if isinstance(value, (float, str, bytes)) or depth > _DEEPEST:
        return
    if isinstance(value, (np.ndarray, np.generic)):
        _check_mask(name, value)
        _check_ints(name, value)
        if value.dtype.kind == "O":
            for part in np.asarray(value).ravel().tolist():
                _check_parts(name, part, depth + 1)
    elif isinstance(value, memoryview):
        _check_parts(name, np.asarray(value), depth)
    elif isinstance(value, Sequence):
        try:
            parts = list(value)
        except Exception:  # of the object's own: NumPy meets it again, and it is reported then
            return
        for part in parts:
            _check_parts(name, part, depth + 1)
    elif isinstance(value, int):
        if abs(value) > _EXACT and not _holds(value):
            raise _inexact(name, value)
    elif hasattr(value, "iloc") and hasattr(value, "columns"):
        if len(set(value.dtypes)) > 1:  # a DataFrame brings its columns to one type
            for column in range(value.shape[1]):
                _check_parts(name, np.asarray(value.iloc[:, column]), depth + 1)
    else:
        check_concrete(name, value)
        if depth and hasattr(value, "__array__"):
            with contextlib.suppress(Exception):  # NumPy meets it again, and it is reported then
                value = _as_numpy(value)
            if isinstance(value, np.ndarray):
                _check_parts(name, value, depth + 1)


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
    return check_patterns(X, lambda got: check_inputs_shape(got, name, n_inputs), name, shape)


def check_patterns(
    X: Any, check: Callable[[tuple[int, ...]], None], name: str, shape: str
) -> np.ndarray:
    """Return `X` as a finite float64 array whose shape passes `check`, or raise InputError.

    `shape` is what is wanted, for the message.
    """
    array = as_float64(name, X, shape)
    check(array.shape)
    _check_finite(name, array)
    return array


def check_inputs_shape(got: tuple[int, ...], name: str = "X", n_inputs: int | None = None) -> None:
    """Raise InputError if `got` is not the shape (pattern, input) of some patterns."""
    shape = f"(pattern, {'input' if n_inputs is None else n_inputs})"
    if len(got) != 2:
        hint = f": {name}.reshape(len({name}), -1) makes flat patterns" if len(got) > 2 else ""
        raise InputError(f"expected {name} = an array of shape {shape}, got shape {got}{hint}")
    if got[0] == 0 or got[1] == 0:
        raise InputError(f"expected {name} = at least one pattern and one input, got shape {got}")
    if n_inputs is not None and got[1] != n_inputs:
        raise InputError(f"expected {name} = an array of shape {shape}, got shape {got}")


def check_labels(
    y: Any, n_patterns: int, name: str = "y", of: str = "X", outputs: int = 1
) -> np.ndarray:
    """Return `y` as a float64 array, or raise InputError.

    Of shape (pattern,) for one output, (pattern, output) for several.
    """
    array = as_float64(name, y, str(_labels_shape(n_patterns, outputs)))
    check_labels_shape(array.shape, n_patterns, name, of, outputs)
    _check_finite(name, array)
    return array


def check_labels_shape(
    got: tuple[int, ...], n_patterns: int, name: str = "y", of: str = "X", outputs: int = 1
) -> None:
    """Raise InputError if `got` is not the shape of the labels of all patterns."""
    expected = _labels_shape(n_patterns, outputs)
    if got != expected:
        what = "one label" if outputs == 1 else f"{outputs} labels, one an output,"
        raise InputError(
            f"expected {name} = an array of shape {expected}, {what} for each row of {of}, "
            f"got shape {got}{_other_labels(got, n_patterns, name, outputs)}"
        )


def _other_labels(got: tuple[int, ...], n_patterns: int, name: str, outputs: int) -> str:
    """Return how labels of a shape that is usual elsewhere become those that are wanted."""
    if got == (n_patterns, 1):
        return f": {name}[:, 0]"
    if outputs == 1 and len(got) == 2 and got[0] == n_patterns:
        return f": {name}.argmax(1) of one-hot rows, or outputs={got[1]} with likelihood='gaussian'"
    if outputs > 1 and got == (n_patterns,):
        return f": np.eye({outputs})[{name}] of the numbers of classes"
    return ""


def _labels_shape(n_patterns: int, outputs: int) -> tuple[int, ...]:
    return (n_patterns,) if outputs == 1 else (n_patterns, outputs)


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
