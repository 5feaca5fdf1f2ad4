"""What the pictures share: matplotlib on demand, axes, colours and symbols."""

from typing import Any

import numpy as np

from .._basics.arrays import shown
from .._basics.errors import InputError
from .._observables.squared_error import QUANTITIES

__all__ = ["BARS", "INFINITE", "LABELS", "POSTERIOR", "QUANTITIES", "THEORIES", "axes", "pyplot"]

# Okabe & Ito's colours, which colour-blind readers can tell apart.
POSTERIOR = "#000000"
THEORIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INFINITE = "#777777"
BARS = 2.0  # error bars, in MCSE
LABELS = {
    "error": r"$\langle\mathrm{error}\rangle$",
    "bias2": r"bias$^2$",
    "variance": "variance",
    "accuracy": "accuracy of a draw",
    "width": r"width $N_1$",
    "temperature": r"temperature $T$",
    "load": r"load $\alpha = P/N_1$",
}


def pyplot() -> Any:
    """Return ``matplotlib.pyplot``, or raise an ImportError that says how to install it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "expected matplotlib to be installed for plots, got none: pip install 'finwidth[plots]'"
        ) from error
    return plt


def axes(ax: Any, count: int, size: tuple[float, float]) -> np.ndarray:
    """Return `count` axes as an array: the user's own, or those of a new figure."""
    if ax is None:
        _, made = pyplot().subplots(1, count, figsize=size, squeeze=False, layout="constrained")
        return made[0]
    given = np.array([None], dtype=object)
    if isinstance(ax, (list, tuple, np.ndarray)):
        given = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
    else:  # what is no axes may have a length of its own
        given[0] = ax
    if given.size != count or not all(hasattr(entry, "errorbar") for entry in given):
        raise InputError(f"expected ax = {count} matplotlib axes for this picture, got {shown(ax)}")
    return given
