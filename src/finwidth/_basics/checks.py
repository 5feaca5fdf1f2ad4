"""Checks of the numbers, names and objects that users pass in; they run before any work."""

import math
import numbers
import os
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import as_number, check_concrete, shown
from .errors import InputError

__all__ = [
    "LARGEST_COUNT",
    "check_choice",
    "check_count",
    "check_flag",
    "check_iterable",
    "check_name",
    "check_number",
    "check_pair",
    "check_path",
    "check_seed",
    "check_sequence",
    "check_solution",
    "check_temperature",
    "check_tree",
]

LARGEST_COUNT = 2**31 - 1  # of what compiled code counts: with float32 come ints of 32 bits


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
    if isinstance(temperature, (list, tuple)):
        raise InputError(
            f"expected temperature = one float, got {shown(temperature)}: finwidth.solve_many "
            "takes several"
        )
    return check_number("temperature", temperature, 0.0, include_low=zero)


def check_count(name: str, value: Any, minimum: int = 1, maximum: int = 2**53) -> int:
    """Return `value` as an int of at least `minimum`, or raise InputError.

    The default `maximum` is what a float64 can count to.
    """
    check_concrete(name, value)
    integral = isinstance(value, numbers.Integral) and not isinstance(value, (bool, np.timedelta64))
    count = int(value) if integral else minimum - 1
    if count < minimum:
        raise InputError(f"expected {name} = an int of at least {minimum}, got {shown(value)}")
    if count > maximum:
        raise InputError(f"expected {name} = an int of at most {maximum}, got {shown(value)}")
    return count


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
    except TypeError:  # an array of no dimensions
        raise InputError(f"expected {name} = {what}, got {shown(value)}") from None


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


def check_tree(tree: Any) -> Any:
    """Return `tree` if it is an xarray.DataTree, or raise InputError."""
    import xarray as xr

    if not isinstance(tree, xr.DataTree):
        raise InputError(f"expected tree = an xarray.DataTree, got {type(tree).__name__}")
    return tree


def check_pair(theory: Any, tree: Any, call: str) -> None:
    """Raise InputError unless `theory` is a solution and `tree` an xarray.DataTree.

    Handed over the wrong way round they are told apart; `call` says which is the right one.
    """
    if hasattr(theory, "children") and hasattr(tree, "generalization_error"):
        raise InputError(f"expected {call}, in this order, got the tree in place of the theory")
    check_tree(tree)
    check_solution(theory, "theory")


def check_solution(solution: Any, name: str = "solution") -> Any:
    """Return `solution` if it is one, or answers like one, or raise InputError."""
    wanted = ("network", "temperature", "theory", "predict", "generalization_error")
    if isinstance(solution, type) or not all(hasattr(solution, part) for part in wanted):
        raise InputError(
            f"expected {name} = what finwidth.solve or finwidth.mixture returned, got "
            f"{type(solution).__name__}"
        )
    return solution
