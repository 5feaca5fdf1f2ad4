"""The relative errors of theories over an error map."""

import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._basics.errors import InputError
from . import _common

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["plot_error_map"]

_LINEAR = 0.1  # |relative error| up to which the axis is linear, logarithmic beyond

_TITLE = 28  # characters of a line

_TICKS = {"−50 %": -0.5, "−10 %": -0.1, "0": 0.0, "10 %": 0.1, "50 %": 0.5, "200 %": 2.0}


class _Panel(NamedTuple):
    data: str
    network: str
    activation: str
    temperature: float

    @property
    def row(self) -> tuple[str, bool]:
        return self.data, self.network != "dense"

    @property
    def title(self) -> str:
        lines = [] if self.network == "dense" else textwrap.wrap(self.network, _TITLE)
        return "\n".join((*lines, f"{self.data}, {self.activation}, T = {self.temperature:g}"))


def plot_error_map(dataset: "xr.Dataset", *, ax: Any = None) -> "np.ndarray":
    """Plot the relative error of each theory against N_1/P.

    One panel for each data set, kind of network, activation and temperature. Lines join networks
    with one hidden layer, or the fewest that this kind has; open symbols are those with two, half
    open ones deeper. Bars at zero are the noise of the exact error, ±2 MCSE: a
    symbol within them cannot be told from the exact result. Crosses at zero are points whose
    chains have not mixed. The vertical axis is linear up to ±10 %, logarithmic beyond.

    Parameters
    ----------
    dataset
        What `finwidth.error_map` returned, or a part of it.
    ax
        As many axes as there are panels, to draw on. None: a new figure, one row for each data
        set, and one for its networks that are not all dense.

    Returns
    -------
    numpy.ndarray
        The axes, shape (panel,).

    Raises
    ------
    InputError
        If `dataset` is no error map.
    ImportError
        If matplotlib is not installed.
    """
    from .._results.map_summary import check_map, with_network

    dataset = with_network(check_map(dataset))
    panels = _panels(dataset)
    axes = _figure(panels) if ax is None else _common.axes(ax, len(panels), (4.0, 3.0))
    for axis, panel in zip(axes, panels, strict=True):
        _draw(axis, dataset, panel)
    handles = {}
    for axis in axes:
        lines, texts = axis.get_legend_handles_labels()
        handles |= dict(zip(texts, lines, strict=True))
    if ax is None:
        axes[0].figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False
        )
    else:
        axes[0].legend(handles.values(), handles.keys(), fontsize="small", frameon=False)
    return axes


def _panels(dataset: "xr.Dataset") -> list[_Panel]:
    columns = (dataset[name].values.tolist() for name in _Panel._fields)
    found = {_Panel(*values) for values in zip(*columns, strict=True)}
    if not found:
        raise InputError("expected dataset = a map of at least one point, got none")
    return sorted(found, key=lambda one: (one.row, one.network, one.activation, -one.temperature))


def _figure(panels: list[_Panel]) -> np.ndarray:
    """Return one axis for each panel of a new figure, row by row."""
    rows = sorted({panel.row for panel in panels})
    across = max(sum(panel.row == row for panel in panels) for row in rows)
    figure, made = _common.pyplot().subplots(
        len(rows),
        across,
        figsize=(2.7 * across + 0.6, 2.3 * len(rows) + 0.8),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    chosen = []
    for row, line in zip(rows, made, strict=True):
        inside = sum(panel.row == row for panel in panels)
        chosen += list(line[:inside])
        for axis in line[inside:]:
            axis.remove()
    return np.array(chosen, dtype=object)


def _draw(axis: "Axes", dataset: "xr.Dataset", panel: _Panel) -> None:
    from matplotlib.ticker import LogLocator

    inside = np.logical_and.reduce(
        [dataset[name].values == value for name, value in panel._asdict().items()]
    )
    part = dataset.isel(point=np.flatnonzero(inside)).sortby("width")
    x = 1.0 / part["load"].values
    counted = part["counted"].values.astype(bool)
    noise = _common.BARS * (part["exact_mcse"] / np.abs(part["exact_error"])).values
    axis.axhline(0.0, color="0.8", linewidth=0.8, zorder=0)
    axis.errorbar(
        x[counted],
        np.zeros(counted.sum()),
        noise[counted],
        fmt="none",
        ecolor=_common.POSTERIOR,
        capsize=3,
        zorder=5,
        label="exact ± 2 MCSE",
    )
    if not counted.all():
        axis.plot(x[~counted], 0.0 * x[~counted], "x", color=_common.POSTERIOR, label="not mixed")
    depth = part["depth"].values
    least = 1 if panel.network == "dense" else depth.min()
    for name in map(str, dataset["theory"].values):
        style = _common.theory_style(name)
        y = part["relative_error"].sel(theory=name).values
        known = counted & np.isfinite(y)
        filled = known & (depth == least)
        axis.plot(x[filled], y[filled], linewidth=1.0, label=name, **style)
        for chosen, fill in ((depth == least + 1, "none"), (depth > least + 1, "left")):
            some = known & chosen
            axis.plot(x[some], y[some], linestyle="", fillstyle=fill, **style)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.tick_params(axis="x", labelsize="small")
    axis.xaxis.minorticks_off()
    axis.set_yscale("symlog", linthresh=_LINEAR)
    axis.set_yticks(list(_TICKS.values()), list(_TICKS))
    axis.set_title(panel.title, fontsize="medium")
    axis.set_xlabel(r"$N_1/P$")
    axis.set_ylabel("theory / exact − 1")
    axis.label_outer()
