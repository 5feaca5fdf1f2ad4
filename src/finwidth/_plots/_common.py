"""What the pictures share: matplotlib on demand, axes, and one style for the same thing everywhere.

Colours are Okabe & Ito's and Tol's, which colour-blind readers can tell apart; markers differ, too.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._basics.arrays import shown
from .._basics.errors import InputError
from .._observables.squared_error import QUANTITIES

__all__ = [
    "BARS",
    "INFINITE",
    "LABELS",
    "LINES",
    "POSTERIOR",
    "QUANTITIES",
    "axes",
    "label",
    "legend_above",
    "posterior_legend",
    "pyplot",
    "shades",
    "theory_label",
    "theory_style",
    "value_label",
    "width_axis",
]

POSTERIOR = "#000000"
INFINITE = "#777777"
BARS = 2.0  # error bars, in MCSE
LINES = ("-", "--", ":", "-.")  # of what colours are not free for

# The colour and marker of each theory, in every picture.
_THEORIES = {
    "nested": ("#0072B2", "o"),
    "wishart": ("#D55E00", "s"),
    "adaptive": ("#009E73", "D"),
    "mixture": ("#CC79A7", "v"),
    "corrected": ("#E69F00", "^"),
    "perturbative": ("#56B4E9", "P"),
    "cavity": ("#882255", "X"),
    "fluctuations": ("#332288", "*"),
    "student_t_process": ("#999933", "h"),
    "infinite": (INFINITE, "p"),
}
_OTHERS = ("#117733", "#AA4499", "#661100", "#44AA99")  # of plugins, by their names

LABELS = {
    "error": r"$\langle\mathrm{error}\rangle$",
    "bias2": r"bias$^2$",
    "variance": "variance",
    "accuracy": "accuracy of a draw",
    "accuracy_mean": "accuracy of the mean",
    "log_loss": "log loss",
    "width": r"width $N_1$",
    "temperature": r"temperature $T$",
    "load": r"load $\alpha = P/N_1$",
    "n_patterns": r"training patterns $P$",
    "n_train": r"training patterns $P$",
    "layer": r"layer $\ell$",
    "depth": r"depth $L$",
    "q_bar": r"order parameter $\bar Q_\ell$",
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
        for one in made[0]:
            one.spines[["top", "right"]].set_visible(False)
        return made[0]
    given = np.array([None], dtype=object)
    if isinstance(ax, (list, tuple, np.ndarray)):
        given = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
    else:  # what is no axes may have a length of its own
        given[0] = ax
    if given.size != count or not all(hasattr(entry, "errorbar") for entry in given):
        raise InputError(f"expected ax = {count} matplotlib axes for this picture, got {shown(ax)}")
    return given


def theory_style(name: str) -> dict[str, Any]:
    """Return colour and marker of a theory, the same in every picture."""
    other = _OTHERS[zlib.crc32(name.encode()) % len(_OTHERS)], "<"
    color, marker = _THEORIES.get(name, other)
    return {"color": color, "marker": marker, "markersize": 4}


def theory_label(name: str) -> str:
    """Return how a legend calls a theory."""
    return "infinite width" if name == "infinite" else f"{name} theory"


def label(name: Any) -> str:
    """Return how an axis calls a score or a coordinate."""
    return LABELS.get(str(name), str(name).replace("_", " "))


def value_label(name: Any, value: Any) -> str:
    """Return what a legend says of one value of a coordinate."""
    symbol = LABELS.get(str(name), str(name).replace("_", " ")).split(" ", 1)[-1]
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return f"{symbol} = {value:g}" if number else f"{symbol} = {value}"


def shades(count: int) -> np.ndarray:
    """Return colours of the values of a coordinate, from dark to light."""
    from matplotlib import colormaps

    return colormaps["viridis"](np.linspace(0.0, 0.85, count))


def posterior_legend(of: str = "MCSE") -> str:
    """Return how a legend calls the points of a posterior, with bars of what."""
    return f"posterior, ±{BARS:g} {of}"


def legend_above(ax: Any, handles: Sequence[Any], labels: Sequence[str], ncols: int = 2) -> None:
    """Put a legend above the axes, where it hides nothing."""
    ax.legend(
        handles,
        labels,
        fontsize="small",
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        borderaxespad=0.2,
        columnspacing=1.2,
        ncols=ncols,
    )


def width_axis(ax: Any, values: Sequence[float], name: str = "width") -> None:
    """Make the horizontal axis logarithmic, with the values themselves as ticks if they are few."""
    ax.set_xscale("log")
    ax.set_xlabel(label(name))
    if len(values) <= 6 and all(b >= 1.5 * a for a, b in zip(values, values[1:], strict=False)):
        ax.set_xticks(list(values), [f"{value:g}" for value in values])
        ax.minorticks_off()
    elif min(values) >= 1e-3 and max(values) <= 1e5 and max(values) < 1e4 * min(values):
        from matplotlib.ticker import LogLocator

        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.minorticks_off()
