"""The error over a grid of widths, temperatures or loads."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .._basics.arrays import shown
from .._basics.errors import InputError
from . import _common

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["plot_learning_curve"]


def plot_learning_curve(dataset: "xr.Dataset", x: str = "width", *, ax: Any = None) -> "Axes":
    """Plot the error against width, temperature or load.

    Parameters
    ----------
    dataset
        What `finwidth.solve_many` returned with test data: error, bias2 and variance over a
        grid.
    x
        Name of the coordinate on the horizontal axis: "width", "temperature", "load" or any
        other of `dataset`. Where the grid has one further dimension there is one error curve
        for each of its values; where it has none, bias² and variance are drawn as well.
    ax
        Axes to draw on. None: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If the Dataset has no error or no coordinate `x`, or more than one further dimension.
    ImportError
        If matplotlib is not installed.
    """
    import xarray as xr

    if not isinstance(dataset, xr.Dataset) or "error" not in dataset:
        raise InputError(
            "expected dataset = a Dataset with error, as finwidth.solve_many gives with test "
            f"data, got {sorted(map(str, getattr(dataset, 'data_vars', [])))}"
        )
    if not isinstance(x, str) or x not in dataset.coords or dataset[x].ndim != 1:
        one_dimensional = sorted(str(name) for name in dataset.coords if dataset[name].ndim == 1)
        raise InputError(f"expected x = one of {one_dimensional}, got {shown(x)}")
    dimension = dataset[x].dims[0]
    others = [name for name in dataset["error"].dims if name != dimension]
    others = [name for name in others if dataset.sizes[name] > 1]
    if len(others) > 1:
        raise InputError(
            f"expected error over {dimension!r} and at most one further dimension, got {others}: "
            "select some of them with dataset.sel"
        )
    (axis,) = _common.axes(ax, 1, (5.5, 3.8))
    data = dataset.squeeze(drop=True) if dimension in dataset.squeeze().dims else dataset
    data = data.sortby(x)
    if others:
        (other,) = others
        shades = _common.pyplot().get_cmap("viridis")(np.linspace(0.0, 0.85, data.sizes[other]))
        symbol = _common.LABELS.get(str(other), str(other)).split(" ", 1)[-1]
        for shade, value in zip(shades, data[other].values, strict=True):
            curve = data["error"].sel({other: value})
            text = f"{value:g}" if isinstance(value, (int, float, np.number)) else str(value)
            axis.plot(data[x], curve, color=shade, marker=".", label=f"{symbol} = {text}")
        axis.set_ylabel(_common.LABELS["error"])
    else:
        for quantity, color, style in zip(
            _common.QUANTITIES, _common.THEORIES[:3], ("-", "--", ":"), strict=True
        ):
            if quantity in data:
                axis.plot(
                    data[x],
                    data[quantity],
                    style,
                    color=color,
                    marker=".",
                    label=_common.LABELS[quantity],
                )
        axis.set_ylabel("mean over test points")
    axis.set_xlabel(_common.LABELS.get(x, x))
    if (data[x] > 0).all():
        axis.set_xscale("log")
    axis.set_ylim(bottom=0.0)
    axis.legend(fontsize="small", frameon=False)
    return axis
