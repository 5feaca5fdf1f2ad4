"""Order parameters, layer by layer or over a grid."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from .._basics.arrays import shown
from .._basics.checks import check_solution
from .._basics.errors import InputError
from . import _common

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["plot_order_parameters"]


def plot_order_parameters(theory: Any, x: str = "layer", *, ax: Any = None) -> "Axes":
    r"""Plot the order parameters q̄ of theories, which are 1 at infinite width.

    Parameters
    ----------
    theory
        What `finwidth.solve` or `finwidth.mixture` returned, or several of them; or a Dataset
        with q_bar, as `finwidth.solve_many` returns it.
    x
        Coordinate on the horizontal axis: "layer", or of a Dataset also "width", "temperature" …
        Of a Dataset one curve is drawn for each value of the one further dimension.
    ax
        Axes to draw on. None: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        With several outputs there is one curve for each direction of them. Bars, where a theory
        has a law of its order parameters (the mixture), are ±2 standard deviations. Of a
        convolution without pooling an image of Q̄_ab − δ_ab over pairs of patches, row by row:
        what finite width adds; of one whose patches share no weights, an image of Q̄_a − 1 over
        their places.

    Raises
    ------
    InputError
        If there is no q_bar, no coordinate `x`, or more than one further dimension.
    ImportError
        If matplotlib is not installed.
    """
    import xarray as xr

    named = _of_dataset(theory) if isinstance(theory, xr.Dataset) else _of_solutions(theory)
    if any("patch" in data.dims for _, data in named):
        return _draw_patches(named, x, ax)
    curves = [one for name, data in named for one in _curves(name, data, x)]
    (axis,) = _common.axes(ax, 1, (5.2, 3.8))
    axis.axhline(1.0, color=_common.INFINITE, linewidth=1.0, linestyle=":", zorder=0)
    for values, bars, text, style in curves:
        place = values[x].values
        axis.errorbar(place, values.values, bars, label=text, capsize=3, linewidth=1.3, **style)
    places = np.unique(np.concatenate([values[x].values for values, *_ in curves]))
    axis.set_xlabel(_common.label(x))
    if x in ("layer", "depth"):
        axis.set_xticks(places)
        axis.margins(x=0.15)
    elif (places > 0).all():
        _common.width_axis(axis, [float(place) for place in places], x)
    axis.set_ylabel(_common.LABELS["q_bar"])
    axis.legend(fontsize="small", frameon=False)
    return axis


def _draw_patches(named: list[Any], x: Any, ax: Any) -> "Axes":
    """Draw the one matrix over patches."""
    name, data = named[0]
    dims = data["q_bar"].dims
    if len(named) > 1 or dims not in (("layer", "patch"), ("layer", "patch", "patch_")):
        raise InputError(
            "expected theory = one solution where q_bar is a matrix over patches (of a Dataset "
            f"select one), got {len(named)} with q_bar over {dims}"
        )
    if x != "layer":
        raise InputError(f"expected x = 'layer' of a matrix over patches, got {shown(x)}")
    matrix = data["q_bar"].values[0]
    texts = "patch", "patch", r"$\bar Q_{ab} - \delta_{ab}$"
    if len(dims) == 3:
        difference = matrix - np.eye(len(matrix))
    else:  # in their places, row by row
        rows = int(data["patch_row"].values.max()) + 1
        difference = matrix.reshape(rows, -1) - 1.0
        texts = "column of the patch", "row of the patch", r"$\bar Q_a - 1$"
    largest = float(np.max(np.abs(difference))) or 1.0
    (axis,) = _common.axes(ax, 1, (4.6, 3.8))
    image = axis.imshow(difference, cmap="RdBu_r", vmin=-largest, vmax=largest)
    axis.figure.colorbar(image, ax=axis, label=texts[2])
    for side in (axis.xaxis, axis.yaxis):
        side.get_major_locator().set_params(integer=True)
    axis.set_xlabel(texts[0])
    axis.set_ylabel(texts[1])
    axis.set_title(_common.theory_label(name), fontsize="medium")
    return axis


def _of_dataset(dataset: "xr.Dataset") -> "list[tuple[str, xr.Dataset]]":
    if "q_bar" not in dataset:
        raise InputError(
            "expected theory = a Dataset with q_bar, as finwidth.solve_many returns it, got "
            f"{sorted(map(str, dataset.data_vars))}"
        )
    if "theory" in dataset["q_bar"].dims:
        return [(str(name), dataset.sel(theory=name)) for name in dataset["theory"].values]
    return [(str(dataset.attrs.get("theory", "")), dataset)]


def _of_solutions(theory: Any) -> "list[tuple[str, xr.Dataset]]":
    expected = "expected theory = a solution, several of them, or a Dataset with q_bar"
    several = theory if isinstance(theory, (list, tuple)) else [theory]
    if not several or (isinstance(theory, Iterable) and several == [theory]):
        raise InputError(f"{expected}, got {shown(theory)}")
    named = []
    for one in several:
        check_solution(one, "theory")
        order = getattr(one, "order_parameters", None)
        if order is None or not {"q_bar", "q_bar_direction"} & set(order):
            held = [] if order is None else sorted(map(str, order))
            raise InputError(f"{expected}, got theory {one.theory!r} with {held}")
        named.append((str(one.theory), order))
    return named


def _curves(name: str, data: "xr.Dataset", x: Any) -> list[tuple[Any, Any, str, dict[str, Any]]]:
    """Return the curves of a theory: values, bars, text of the legend, style."""
    values = data["q_bar_direction" if "q_bar_direction" in data else "q_bar"]
    if not isinstance(x, str) or x not in values.coords or values[x].ndim != 1:
        known = sorted(str(one) for one in values.coords if values[one].ndim == 1)
        raise InputError(f"expected x = one of {known}, got {shown(x)}")
    dimension = values[x].dims[0]
    others = [dim for dim in values.dims if dim != dimension]
    bars = data.get("q_bar_sd")
    bars = None if bars is None or bars.dims != values.dims else _common.BARS * bars.values
    values = values.squeeze([dim for dim in others if values.sizes[dim] == 1], drop=True)
    others = [dim for dim in others if dim in values.dims]
    if len(others) > 1:
        raise InputError(
            f"expected q_bar over {x!r} and at most one further dimension, got {others}: select "
            "some of them with dataset.sel"
        )
    style = _common.theory_style(name) if name else {"color": "#0072B2", "marker": "o"}
    text = _common.theory_label(name) if name else r"$\bar Q$"
    if not others:
        bars = None if bars is None else bars.reshape(values.shape)
        return [(values, bars, text, style)]
    (other,) = others
    lines = _common.LINES
    curves = []
    for i in range(values.sizes[other]):
        one = values.isel({other: i})
        value = one[other].item() if other in one.coords else i
        more = f"{text}, {_common.value_label(other, value)}"
        curves.append((one, None, more, style | {"linestyle": lines[i % len(lines)]}))
    return curves
