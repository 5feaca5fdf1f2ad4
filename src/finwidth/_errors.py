"""Exceptions and warnings; every message reads 'expected …, got …' and names the argument."""

from typing import Any

__all__ = ["AccuracyWarning", "ConvergenceError", "FinwidthError", "InputError", "PluginError"]


class FinwidthError(Exception):
    """Base class of every error that finwidth raises on purpose."""


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
    """A result is returned, but its stated accuracy is worse than the one wanted."""
