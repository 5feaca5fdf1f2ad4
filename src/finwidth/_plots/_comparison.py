"""Theory against posterior, for one run or over widths."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._basics.arrays import as_number
from .._basics.checks import check_solution
from .._basics.errors import InputError
from .._results.compare import compare
from . import _common

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["plot_comparison"]

# of each quantity: the theory's line, the posterior's marker
_QUANTITY_STYLE: dict[str, tuple[Any, str]] = {
    "error": ("-", "o"),
    "bias2": ("-", "o"),
    "variance": ("--", "^"),
    "accuracy": ("-", "o"),
}


def plot_comparison(
    theory: Any,
    tree: "xr.DataTree | None" = None,
    *,
    infinite: Any = None,
    ax: Any = None,
) -> np.ndarray:
    """Plot a theory against a posterior, for one run or over widths.

    ``plot_comparison(theory, tree)`` compares first, as `finwidth.compare` does with the same
    arguments; ``plot_comparison(reports)`` draws what it returned.

    Parameters
    ----------
    theory
        What `finwidth.solve` or `finwidth.mixture` returned, with `tree`; or, without, what
        `finwidth.compare` returned: one report, several, or several concatenated along width.
        Reports of several theories may be mixed.
    tree
        What `finwidth.sample` returned with X_test and y_test, for the same network, temperature
        and training set.
    infinite
        Infinite-width values for comparison: what ``generalization_error`` of a solution with
        ``theory="infinite"`` returned (or ``scores``), or a mapping with error and, if known,
        bias2, variance and accuracy. Drawn as horizontal lines; only used over widths.
    ax
        Axes to draw on: two for one report; over widths three, four where all reports have an
        accuracy. None: a new figure.

    Returns
    -------
    numpy.ndarray
        The matplotlib axes. For one report: the means at the test points, theory against
        posterior; and error, bias² and variance, with the accuracy above. Over widths: the error;
        bias² and variance; the relative difference of the error; and the accuracy of a draw of the
        posterior, where the reports have it. Error bars are ±2 Monte Carlo standard
        errors; open symbols mark runs that `finwidth.compare` would not judge.

    Raises
    ------
    InputError
        If `theory` is not made of reports, two of them have the same theory and width, theory and
        tree do not belong together, or `ax` has another number of axes.
    ImportError
        If matplotlib is not installed.
    """
    reports = theory if tree is None else compare(check_solution(theory, "theory"), tree)
    groups = _by_theory(reports)
    widths = {tuple(data["width"].values.tolist()) for data in groups.values()}
    if len(widths) == 1 and len(next(iter(widths))) == 1:
        if infinite is not None:
            raise InputError(
                "expected infinite = None for a single report, got values: give reports of "
                "several widths"
            )
        single = [data.isel(width=0) for data in groups.values()]
        return _plot_single(single, _common.axes(ax, 2, (8.4, 3.8)))
    accurate = all("accuracy" in data["quantity"].values for data in groups.values())
    axes = _common.axes(ax, 4, (14.4, 3.6)) if accurate else _common.axes(ax, 3, (11.0, 3.6))
    return _plot_widths(groups, _infinite(infinite), axes)


def _by_theory(reports: Any) -> dict[str, "xr.Dataset"]:
    """Sort reports by theory; each entry has the dimension width, ascending."""
    import xarray as xr

    expected = "expected theory = a solution with its tree, or Datasets from finwidth.compare"
    if isinstance(reports, xr.Dataset):
        reports = [reports]
    refused = isinstance(reports, (str, bytes, Mapping)) or getattr(reports, "ndim", 1) == 0
    if refused or not isinstance(reports, Iterable):
        raise InputError(f"{expected}, got {type(reports).__name__}")
    sorted_out: dict[str, list[xr.Dataset]] = {}
    for report in reports:
        if not isinstance(report, xr.Dataset):
            raise InputError(f"{expected}, got {type(report).__name__}")
        missing = {"theory", "exact", "mcse", "outcome", "width"} - set(report.variables)
        if missing:
            raise InputError(f"{expected}, got a Dataset without {sorted(missing)}")
        wide = report if "width" in report.dims else report.expand_dims("width")
        for index in range(wide.sizes["width"]):
            single = wide.isel(width=index)
            sorted_out.setdefault(str(single["theory_name"].values), []).append(single)
    if not sorted_out:
        raise InputError(f"{expected}, got none")
    groups = {}
    for name, members in sorted_out.items():
        members.sort(key=lambda report: int(report["width"]))
        widths = [int(report["width"]) for report in members]
        if len(set(widths)) != len(widths):
            raise InputError(f"expected one report per theory and width, got {name} at {widths}")
        drawn = ["theory", "exact", "mcse", "outcome"]
        if len(members) == 1:  # the means at the test points are drawn for a single report only
            drawn += ["mean_theory", "mean_exact", "mean_mcse"]
        groups[name] = xr.concat(
            [
                report[drawn].reset_coords(drop=True).assign_coords(width=width)
                for report, width in zip(members, widths, strict=True)
            ],
            dim="width",
            join="inner",  # quantities that all of them have
        ).assign_attrs(theory_name=name)
    return groups


def _infinite(values: Any) -> dict[str, float]:
    if values is None:
        return {}
    if not isinstance(values, Mapping) or "error" not in values:
        raise InputError(f"expected infinite = a mapping with 'error', got {values!r}")
    given = {name: as_number(values[name]) for name in _QUANTITY_STYLE if name in values}
    for name, value in given.items():
        if not math.isfinite(value):
            raise InputError(f"expected infinite = finite numbers, got {name} = {values[name]!r}")
    return given


def _plot_widths(
    groups: dict[str, "xr.Dataset"], infinite: dict[str, float], axes: np.ndarray
) -> np.ndarray:
    error_panel, parts_panel, difference_panel, *accuracy_panel = axes
    panels = {"error": error_panel, "bias2": parts_panel, "variance": parts_panel}
    panels |= dict(zip(["accuracy"], accuracy_panel, strict=False))
    posterior: dict[int, xr.Dataset] = {}  # theories of the same run share their points
    for data in groups.values():
        for index, width in enumerate(data["width"].values):
            posterior.setdefault(int(width), data.isel(width=[index]))
    for quantity, panel in panels.items():
        line, marker = _QUANTITY_STYLE[quantity]
        for name, data in groups.items():
            panel.plot(
                data["width"],
                data["theory"].sel(quantity=quantity),
                line,
                label=_common.theory_label(name),
                **_common.theory_style(name),
            )
        for data in posterior.values():
            one = data.sel(quantity=quantity)
            _points(panel, one, one["exact"], one["mcse"], _common.POSTERIOR, marker)
        if quantity in infinite:
            panel.axhline(
                infinite[quantity],
                linestyle=(0, (1, 1.5)) if line == "-" else (0, (4, 2, 1, 2)),
                color=_common.INFINITE,
                label="infinite width",
                zorder=1,
            )
    for name, data in groups.items():
        one = data.sel(quantity="error")
        ratio = one["theory"] / one["exact"]
        noise = ratio * one["mcse"] / np.abs(one["exact"])
        style = _common.theory_style(name)
        _points(
            difference_panel,
            one,
            100 * (ratio - 1),
            100 * noise,
            style["color"],
            style["marker"],
        )
    difference_panel.axhline(0.0, color=_common.POSTERIOR, linewidth=0.8, zorder=1)
    error_panel.set_ylabel(_common.LABELS["error"])
    parts_panel.set_ylabel(f"{_common.LABELS['bias2']}, {_common.LABELS['variance']}")
    difference_panel.set_ylabel("error: theory / posterior − 1, %")
    for panel in accuracy_panel:
        panel.set_ylabel(_common.LABELS["accuracy"])
    for panel in axes:
        _common.width_axis(panel, [float(width) for width in sorted(posterior)])
        panel.margins(y=0.12)
    for panel in (error_panel, parts_panel):
        panel.set_ylim(bottom=min(0.0, panel.get_ylim()[0]) if _has_negative(panel) else 0.0)
    _legends(error_panel, parts_panel, any(_unjudged(data).any() for data in groups.values()))
    return axes


def _has_negative(panel: "Axes") -> bool:
    return any(np.any(np.asarray(line.get_ydata()) < 0) for line in panel.get_lines())


def _unjudged(data: "xr.Dataset") -> np.ndarray:
    return data["outcome"].values == "not judged"


def _legends(error_panel: "Axes", parts_panel: "Axes", unjudged: bool) -> None:
    """Say above the first panel what the colours mean, above the second the shapes."""
    from matplotlib.lines import Line2D

    black: dict[str, Any] = {"color": _common.POSTERIOR, "markersize": 5}
    handles, labels = error_panel.get_legend_handles_labels()
    handles = [handle for handle in handles if isinstance(handle, Line2D)]
    handles.append(Line2D([], [], linestyle="", marker="o", **black))
    labels.append(_common.posterior_legend())
    if unjudged:
        handles.append(Line2D([], [], linestyle="", marker="o", markerfacecolor="none", **black))
        labels.append("not judged")
    _common.legend_above(error_panel, handles, labels)
    shapes = [
        Line2D([], [], linestyle=line, marker=marker, label=_common.LABELS[quantity], **black)
        for quantity, (line, marker) in _QUANTITY_STYLE.items()
        if quantity in ("bias2", "variance")
    ]
    _common.legend_above(parts_panel, shapes, [str(shape.get_label()) for shape in shapes])


def _points(
    ax: "Axes",
    data: "xr.Dataset",
    values: "xr.DataArray",
    mcse: "xr.DataArray",
    color: str,
    marker: str,
) -> None:
    """Draw values over width with error bars, open where the run was not judged."""
    unjudged = _unjudged(data)
    for chosen, face in ((~unjudged, color), (unjudged, "none")):
        if np.any(chosen):
            ax.errorbar(
                data["width"].values[chosen],
                values.values[chosen],
                yerr=_common.BARS * mcse.values[chosen],
                fmt=marker,
                color=color,
                markerfacecolor=face,
                markersize=5,
                capsize=3,
                linewidth=1.2,
                zorder=3,
            )


def _plot_single(reports: "list[xr.Dataset]", axes: np.ndarray) -> np.ndarray:
    """Draw the theories of one run: the means at the test points, and the errors."""
    points, bars = axes
    _plot_means(reports, points)
    quantities = list(_common.QUANTITIES)
    position, breadth = np.arange(len(quantities)), 0.8 / (len(reports) + 1)
    for i, report in enumerate(reports):
        name, picked = str(report.attrs["theory_name"]), report.sel(quantity=quantities)
        bars.bar(
            position + breadth * (i - len(reports) / 2),
            picked["theory"].values,
            breadth,
            color=_common.theory_style(name)["color"],
            label=_common.theory_label(name),
        )
    exact = reports[0].sel(quantity=quantities)
    bars.bar(
        position + breadth * len(reports) / 2,
        exact["exact"].values,
        breadth,
        yerr=_common.BARS * exact["mcse"].values,
        capsize=3,
        color="#BBBBBB",
        label=_common.posterior_legend(),
    )
    bars.set_xticks(position, [_common.LABELS[quantity] for quantity in quantities])
    bars.set_ylabel("mean over test points")
    _common.legend_above(bars, *bars.get_legend_handles_labels())
    notes = [rf"$N_1 = {int(reports[0]['width'])}$"]
    if "accuracy" in reports[0]["quantity"].values:
        notes[0] += ", accuracy of a draw:"
        parts = [f"{report.attrs['theory_name']} {_accuracy(report):.4f}" for report in reports]
        notes += [", ".join(parts[i : i + 3]) for i in range(0, len(parts), 3)]
        one = reports[0].sel(quantity="accuracy")
        notes.append(f"posterior {float(one['exact']):.4f} ± {float(one['mcse']):.4f}")
    if any(str(report["outcome"].values) == "not judged" for report in reports):
        notes.append("not judged")
    bars.set_xlabel("\n".join(notes), fontsize="small", loc="left")
    return axes


def _accuracy(report: "xr.Dataset") -> float:
    return float(report["theory"].sel(quantity="accuracy"))


def _plot_means(reports: "list[xr.Dataset]", points: "Axes") -> None:
    names = ("mean_exact", "mean_theory")
    shown = np.concatenate([report[name].values.ravel() for report in reports for name in names])
    low, high = np.nanmin(shown), np.nanmax(shown)
    margin = 0.05 * (high - low) or 1.0
    line = np.array([low - margin, high + margin])
    points.plot(line, line, color=_common.INFINITE, linewidth=1, label="equal", zorder=1)
    for report in reversed(reports):  # the first on top
        name = str(report.attrs["theory_name"])
        style = _common.theory_style(name)
        points.errorbar(
            report["mean_exact"].values.ravel(),
            report["mean_theory"].values.ravel(),
            xerr=_common.BARS * report["mean_mcse"].values.ravel(),
            fmt=style["marker"],
            color=style["color"],
            markersize=style["markersize"],
            linewidth=1,
            alpha=0.8,
            label=_common.theory_label(name),
        )
    points.set(xlim=line, ylim=line, aspect="equal")
    points.set_xlabel(rf"posterior mean of $f(x)$, ±{_common.BARS:g} MCSE")
    points.set_ylabel(r"mean of $f(x)$ in theory")
    points.legend(fontsize="small", frameon=False)
