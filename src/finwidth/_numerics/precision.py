"""Floating-point precision: decided here, once.

Importing finwidth changes no JAX flag. Theory always runs in float64, inside the scoped
context `float64`; sampling runs in float64 unless the caller asks for float32. The
context ends with the call, so the caller's own JAX code keeps the precision it had.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator

import jax

from .._basics.errors import one_call

__all__ = ["float64", "in_float64", "precision"]


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Run the enclosed JAX code with `dtype`, "float64" or "float32", as default float."""
    with jax.enable_x64(dtype == "float64"), one_call():
        yield


def float64() -> contextlib.AbstractContextManager[None]:
    """Run the enclosed JAX code in float64 and restore the caller's setting afterwards."""
    return precision("float64")


def in_float64[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Decorate `function` so that its body runs inside `float64`."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with float64():
            return function(*args, **kwargs)

    return wrapped
