"""Scores over a grid of widths, temperatures or loads: theory lines, posterior points."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._basics.arrays import shown
from .._basics.checks import check_sequence
from .._basics.errors import InputError
from . import _common

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["plot_learning_curve"]

_MEANT = ("theory", "seed")  # dimensions that are drawn by themselves
_MIXED = 1.01  # R-hat of a run that counts


def plot_learning_curve(
    dataset: "xr.Dataset",
    x: str = "width",
    y: str | Sequence[str] = "error",
    *,
    ax: Any = None,
) -> "Axes | np.ndarray":
    """Plot the error, or other scores, against width, temperature or load.

    Parameters
    ----------
    dataset
        What `finwidth.solve_many` returned with test data: error, bias2 and variance over a
        grid. Or scores with the dimension theory, of which each has its line; ``exact_<score>``
        with ``exact_<score>_mcse`` are points of the posterior, with bars of ±2 MCSE. Over a
        dimension seed the mean is drawn, and ±2 standard errors of it: as bars of the points and
        as a band around the lines.
    x
        Name of the coordinate on the horizontal axis: "width", "temperature", "load" or any
        other of `dataset`. Where the grid has one further dimension there is one curve
        for each of its values; where it has none, bias² and variance are drawn beside the error.
    y
        The score, or several, each in a panel of its own: ``("error", "accuracy")``.
    ax
        Axes to draw on, as many as scores. None: a new figure.

    Returns
    -------
    matplotlib.axes.Axes or numpy.ndarray
        The axes; an array of them where `y` is a sequence.

    Raises
    ------
    InputError
        If the Dataset has no such score or no coordinate `x`, or more than one further dimension.
    ImportError
        If matplotlib is not installed.
    """
    import xarray as xr

    several = not isinstance(y, str)
    scores = check_sequence("y", y, "names of scores") if several else [y]
    if not isinstance(dataset, xr.Dataset) or not scores:
        raise InputError(
            "expected dataset = a Dataset with error, as finwidth.solve_many gives with test "
            f"data, and at least one score y, got {type(dataset).__name__}, y = {shown(y)}"
        )
    for score in scores:
        if not isinstance(score, str) or score not in dataset:
            held = sorted(map(str, dataset.data_vars))
            raise InputError(
                f"expected dataset = a Dataset with {_unquoted(score)}, as "
                f"finwidth.solve_many gives with test data, got {shown(held)}"
            )
    if not isinstance(x, str) or x not in dataset.coords or dataset[x].ndim != 1:
        one_dimensional = sorted(str(name) for name in dataset.coords if dataset[name].ndim == 1)
        raise InputError(f"expected x = one of {one_dimensional}, got {shown(x)}")
    if dataset[x].dtype.kind not in "fiu":
        raise InputError(f"expected x = a coordinate of numbers, got {x!r} of {dataset[x].dtype}")
    dimension = str(dataset[x].dims[0])
    others = {score: _others(dataset, score, dimension) for score in scores}
    axes = _common.axes(ax, len(scores), (5.5 if len(scores) == 1 else 4.8 * len(scores), 3.8))
    data = dataset.squeeze(drop=True) if dimension in dataset.squeeze().dims else dataset
    name = str(dataset.attrs.get("theory", ""))
    if "theory" in dataset.coords and "theory" not in data.dims:
        name = str(dataset["theory"].values.ravel()[0])
    data = data.sortby(x)
    for axis, score in zip(axes, scores, strict=True):
        _draw(axis, data, x, score, others[score], name)
    return axes if several else axes[0]


def _unquoted(score: object) -> str:
    return shown(score).strip("'")


def _others(dataset: "xr.Dataset", score: str, dimension: str) -> str | None:
    """Return the further dimension of a score, None if there is none."""
    found = [str(name) for name in dataset[score].dims if name != dimension]
    found = [name for name in found if dataset.sizes[name] > 1 and name not in _MEANT]
    if len(found) > 1 or (dimension in _MEANT and dimension != "seed"):
        raise InputError(
            f"expected {score} over {dimension!r} and at most one further dimension, got {found}: "
            "select some of them with dataset.sel"
        )
    return found[0] if found else None


def _draw(
    axis: "Axes", data: "xr.Dataset", x: str, score: str, other: str | None, name: str
) -> None:
    if "theory" in data[score].dims:
        for theory in map(str, data["theory"].values):
            part = data.sel(theory=theory)
            _lines(axis, part, x, score, other, _common.theory_style(theory), theory)
    elif other is not None:
        for shade, value in zip(_common.shades(data.sizes[other]), data[other].values, strict=True):
            text = _common.value_label(other, value)
            _line(axis, data.sel({other: value}), x, score, text, color=shade, marker=".")
    else:
        style = _common.theory_style(name) if name else {"color": "#0072B2", "marker": "."}
        parts = _common.QUANTITIES if score == "error" else (score,)
        for quantity, line in zip(parts, _common.LINES, strict=False):
            if quantity in data and set(data[quantity].dims) == set(data[score].dims):
                text = _common.label(quantity) + (f", {_common.theory_label(name)}" * bool(name))
                text = text if score == "error" else _common.theory_label(name or "the")
                _line(axis, data, x, quantity, text, linestyle=line, **style)
    _exact(axis, data, x, score, other)
    alone = "theory" not in data[score].dims and other is None and score == "error"
    axis.set_ylabel("mean over test points" if alone else _common.label(score))
    values = np.unique(data[x].values.astype(np.float64))
    if (values > 0).all():
        _common.width_axis(axis, values.tolist(), x)
    axis.set_xlabel(_common.label(x))
    if score in _common.QUANTITIES:
        axis.set_ylim(bottom=0.0)
    handles, labels = axis.get_legend_handles_labels()
    if len(handles) > 4:
        _common.legend_above(axis, handles, labels)
    else:
        axis.legend(fontsize="small", frameon=False)


def _lines(
    axis: "Axes",
    part: "xr.Dataset",
    x: str,
    score: str,
    other: str | None,
    style: dict[str, Any],
    theory: str,
) -> None:
    """Draw the curves of one theory, one for each value of a further dimension."""
    text = _common.theory_label(theory)
    if other is None or other not in part[score].dims:
        _line(axis, part, x, score, text, **style)
        return
    for i, value in enumerate(part[other].values):
        more = f"{text}, {_common.value_label(other, value)}"
        line = _common.LINES[i % len(_common.LINES)]
        _line(axis, part.sel({other: value}), x, score, more, linestyle=line, **style)


def _line(axis: "Axes", data: "xr.Dataset", x: str, score: str, text: str, **style: Any) -> None:
    mean, spread = _over_seeds(data[score])
    known = np.isfinite(mean.values)  # where a theory has no solution there is no point
    axis.plot(data[x].values[known], mean.values[known], label=text, linewidth=1.3, **style)
    if spread is not None:
        low, high = (mean + sign * spread for sign in (-1, 1))
        axis.fill_between(
            data[x].values[known],
            low.values[known],
            high.values[known],
            color=style["color"],
            alpha=0.15,
            linewidth=0,
        )


def _over_seeds(values: "xr.DataArray") -> "tuple[xr.DataArray, xr.DataArray | None]":
    """Return the mean over seeds and two standard errors of it, where there are several."""
    if "seed" not in values.dims:
        return values, None
    mean, n = values.mean("seed"), values.notnull().sum("seed")
    return mean, _common.BARS * values.std("seed", ddof=1) / np.sqrt(n)


def _exact(axis: "Axes", data: "xr.Dataset", x: str, score: str, other: str | None) -> None:
    """Draw the posterior's points, open where the chains have not mixed."""
    exact = f"exact_{score}"
    if exact not in data:
        return
    bars = data.get(f"{exact}_mcse", data.get("exact_mcse") if score == "error" else None)
    parts = [data]
    if other is not None and other in data[exact].dims:
        parts = [data.sel({other: value}) for value in data[other].values]
    seeds = "seed" in data[exact].dims
    texts = {
        _common.POSTERIOR: _common.posterior_legend("s.e. over seeds" if seeds else "MCSE"),
        "none": "not mixed",
    }
    for part in parts:
        mean, spread = _over_seeds(part[exact])
        if spread is None and bars is not None:
            spread = _common.BARS * bars.sel({other: part[other]} if len(parts) > 1 else {})
        mixed = _mixed(part, exact)
        for chosen, face in ((mixed, _common.POSTERIOR), (~mixed, "none")):
            chosen = chosen & np.isfinite(mean.values)
            if chosen.any():
                axis.errorbar(
                    part[x].values[chosen],
                    mean.values[chosen],
                    yerr=None if spread is None else spread.values[chosen],
                    fmt="o",
                    color=_common.POSTERIOR,
                    markerfacecolor=face,
                    markersize=5,
                    capsize=3,
                    linewidth=1.2,
                    zorder=3,
                    label=texts.pop(face, None),
                )


def _mixed(data: "xr.Dataset", exact: str) -> np.ndarray:
    """Return at which points the chains have mixed (with several seeds, all of them)."""
    good = np.ones(data[exact].shape, dtype=bool)
    if "counted" in data:
        good = data["counted"].broadcast_like(data[exact]).transpose(*data[exact].dims).values
    elif "r_hat" in data:
        limit = float(data.attrs.get("r_hat_limit", _MIXED))
        good = (data["r_hat"] <= limit).broadcast_like(data[exact])
        good = good.transpose(*data[exact].dims).values
    if "seed" in data[exact].dims:
        good = good.all(axis=data[exact].dims.index("seed"))
    return np.asarray(good, dtype=bool)
