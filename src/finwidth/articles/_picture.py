"""How the figures look: one grid of panels, colours of theories, one colour map for numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._plots import _common

__all__ = ["LIGHT", "exact", "grid", "legend", "log_axis", "style", "write_legend"]

LIGHT = {"color": "0.8", "linewidth": 0.8, "zorder": 0}  # lines that values are compared with


def grid(rows: int, columns: int, size: tuple[float, float], **shared: Any) -> tuple[Any, Any]:
    """Return a matplotlib figure and its axes, shape (rows, columns); `size` is one panel's.

    No window belongs to it, whatever the backend.
    """
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(size[0] * columns + 0.4, size[1] * rows + 0.6), layout="constrained", dpi=100
    )
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def style(theory: str) -> dict[str, Any]:
    """Return how a theory is drawn, everywhere the same."""
    line = "--" if theory == "infinite" else "-"
    return {"color": _common.theory_style(theory)["color"], "linestyle": line}


def exact(axis: Any, x: Any, value: Any, mcse: Any, **options: Any) -> None:
    """Draw what was sampled, with bars of ±2 MCSE."""
    axis.errorbar(
        x,
        value,
        _common.BARS * np.asarray(mcse),
        **{
            "fmt": "o",
            "color": _common.POSTERIOR,
            "markersize": 3.5,
            "capsize": 2,
            "label": "exact ± 2 MCSE",
            "zorder": 5,
        }
        | options,
    )


def log_axis(axis: Any, which: str = "x", subs: Sequence[float] = (1.0,)) -> None:
    """Make an axis logarithmic, with plain numbers at its ticks."""
    from matplotlib.ticker import LogLocator

    getattr(axis, f"set_{which}scale")("log")
    line = getattr(axis, f"{which}axis")
    line.set_major_locator(LogLocator(subs=subs))
    line.set_major_formatter("{x:g}")
    line.minorticks_off()


def write_legend(figure: Any, axes: Any, columns: int = 6, **options: Any) -> None:
    """Write one legend below all panels."""
    handles: dict[str, Any] = {}
    for axis in np.ravel(axes):
        lines, texts = axis.get_legend_handles_labels()
        handles |= dict(zip(texts, lines, strict=True))
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize="small",
        **options,
    )


def legend(axis: Any, **options: Any) -> None:
    """Write a legend inside a panel."""
    axis.legend(fontsize="x-small", frameon=False, **options)
