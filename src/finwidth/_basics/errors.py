"""Exceptions and warnings; every message reads 'expected …, got …' and names the argument."""

import contextlib
import contextvars
import functools
import os
import warnings
from collections.abc import Hashable, Iterator
from typing import Any

__all__ = [
    "AccuracyWarning",
    "ConvergenceError",
    "FinwidthError",
    "InputError",
    "PluginError",
    "nothing_said",
    "one_call",
    "warn",
]

# what lies between the place that warns and the user's line: finwidth, and cached properties (a
# prefix must be shorter than the name)
_PACKAGE = os.path.dirname(os.path.dirname(__file__))
_INSIDE = (os.path.join(_PACKAGE, ""), functools.__file__.removesuffix(".py"))
_LONGEST = 1000  # characters of a message; the middle of a longer one is cut out
_told: contextvars.ContextVar[set[Hashable] | None] = contextvars.ContextVar("told", default=None)


class FinwidthError(Exception):
    """Base class of every error that finwidth raises on purpose; its message is one line."""

    def __init__(self, message: str = "") -> None:
        # what is quoted in it, a repr or another library's message, may have line breaks or be long
        text = " ".join(message.split()) if len(message.splitlines()) > 1 else message
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 3 :]}"
        super().__init__(text)


class InputError(FinwidthError, ValueError):
    """An argument is not what the function takes; raised before any long work."""


class ConvergenceError(FinwidthError, RuntimeError):
    """A solver stopped before its tolerance; the best point it reached is attached.

    Parameters
    ----------
    message
        What was expected and what came.
    best
        The best point that was reached (for `finwidth.solve` a `finwidth.Solution`
        with ``converged=False``), or None.
    """

    def __init__(self, message: str, best: Any = None) -> None:
        super().__init__(message)
        self.best = best


class PluginError(FinwidthError, RuntimeError):
    """A plugin cannot be loaded, registers a name twice, or breaks its contract."""


class AccuracyWarning(UserWarning):
    """A result is returned, but less accurate than wanted, or its labels do not fit the prior."""


@contextlib.contextmanager
def one_call() -> Iterator[None]:
    """Mark what one call of the user's runs; within it `warn` says a thing once."""
    if _told.get() is not None:
        yield
        return
    token = _told.set(set())
    try:
        yield
    finally:
        _told.reset(token)


class _Everything(set):
    def __contains__(self, key: object) -> bool:
        return True


@contextlib.contextmanager
def nothing_said() -> Iterator[None]:
    """Mark work on results that nobody sees, such as the steps of a search: `warn` is silent."""
    token = _told.set(_Everything())
    try:
        yield
    finally:
        _told.reset(token)


def warn(
    message: str, category: type[Warning] = AccuracyWarning, about: Hashable | None = None
) -> None:
    """Warn at the line outside of finwidth that called it.

    Parameters
    ----------
    message
        What was expected and what came.
    category
        Class of the warning.
    about
        What the message is about: within one call of the user's, only the first message about it
        is given. By default the message itself.
    """
    told = _told.get()
    key = (category, message if about is None else about)
    if told is not None:
        if key in told:
            return
        told.add(key)
    warnings.warn(message, category, skip_file_prefixes=_INSIDE)
