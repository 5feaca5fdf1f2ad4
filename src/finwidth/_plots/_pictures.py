"""The pictures of a result: what `finwidth plot` writes and `finwidth report` shows."""

import dataclasses
import itertools
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._basics.errors import InputError
from .._results.attached import attached_theories
from .._results.kinds import SCORES, Result
from ._comparison import plot_comparison
from ._curve import plot_learning_curve
from ._map import plot_error_map
from ._order import plot_order_parameters
from ._predictions import plot_predictions, shown_theories
from ._ranks import rank_figure, slowest

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Picture", "pictures"]

_MOST = 24  # pictures of one Dataset


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture, not drawn yet.

    Attributes
    ----------
    name
        Of its file, without a suffix.
    title
        A line above it.
    alt
        What can be seen there, in words.
    draw
        Returns the matplotlib figure.
    """

    name: str
    title: str
    alt: str
    draw: Callable[[], Any]


def pictures(
    result: Result, x: str | None = None, scores: Sequence[str] | None = None
) -> list[Picture]:
    """Return the pictures of a result.

    Parameters
    ----------
    result
        What `read_result` found.
    x
        Coordinate on the horizontal axis of learning curves; None: the first that fits of width,
        load, n_patterns, temperature and the others.
    scores
        Scores of learning curves; None: the error, and the accuracy where there is one.

    Raises
    ------
    InputError
        If there is nothing to draw, or a Dataset has no such coordinate or score.
    """
    if result.kind != "curve" and (x is not None or scores):
        raise InputError(
            f"expected --x and --score for a learning curve or a sweep alone, got a {result.kind}"
        )
    if result.kind == "map":
        found = [_map(result.dataset)]
    elif result.kind == "curve":
        found = _curves(result.dataset, x, scores)
    else:
        found = [*_comparison(result.reports), *_runs(result)]
    if not found:
        raise InputError(
            f"expected PATH = a run with y_test in group 'predictions_constant_data', got "
            f"{str(result.path)!r}: sample with y_test=…"
        )
    return found


def _figure(axes: Any) -> Any:
    return np.ravel(np.asarray(axes, dtype=object))[0].figure


def _value(report: "xr.Dataset", column: str, quantity: str = "error") -> float:
    return float(report[column].sel(quantity=quantity))


def _comparison(reports: "Sequence[xr.Dataset]") -> list[Picture]:
    if not reports:
        return []
    widths = sorted({int(report["width"].values) for report in reports})
    parts = [
        f"width {int(report['width'].values)}, {report['theory_name'].values!s}: error "
        f"{_value(report, 'theory'):.4g} against {_value(report, 'exact'):.4g} ± "
        f"{_value(report, 'mcse'):.1g} of the posterior"
        for report in reports
    ]
    what = "Means of f at the test points and errors" if len(widths) == 1 else "Scores over widths"
    return [
        Picture(
            "comparison",
            "Theory against posterior",
            f"{what}, theory against posterior. {'; '.join(parts)}.",
            lambda: _figure(plot_comparison(list(reports))),
        )
    ]


def _runs(result: Result) -> list[Picture]:
    found = []
    for file, tree in sorted(result.runs.items(), key=lambda item: _natural(item[0])):
        constants = tree.children.get("predictions_constant_data")
        if constants is None or "y_test" not in constants.data_vars:
            continue
        stem = file.removesuffix(".nc")
        prefix, of = (f"{stem}-", f" ({stem})") if len(result.runs) > 1 else ("", "")
        found += [_predictions(tree, prefix, of), _ranks(tree, prefix, of)]
        orders = _orders(tree)
        if orders and orders[0][1].sizes["layer"] > 1:
            found.append(_order_parameters(orders, prefix, of))
    return found


def _natural(name: str) -> list[Any]:
    """Return what sorts width-5 before width-20."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _predictions(tree: "xr.DataTree", prefix: str, of: str) -> Picture:
    theories = shown_theories(tree)
    beside = f", beside {' and '.join(theories)} theory" if theories else ""
    n_test = tree["predictions_constant_data"].sizes["test_pattern"]
    return Picture(
        f"{prefix}predictions",
        f"Posterior of f and the labels{of}",
        f"Mean and two standard deviations of f at {n_test} test points against their labels"
        f"{beside}.",
        lambda: _figure(plot_predictions(tree)),
    )


def _ranks(tree: "xr.DataTree", prefix: str, of: str) -> Picture:
    points = ", ".join(str(index[0]) for index in slowest(tree))
    return Picture(
        f"{prefix}ranks",
        f"Ranks of the draws{of}",
        "Ranks of the draws of each chain among all, for the test error and for f at the test "
        f"points {points}, where R-hat is largest: the difference of their distribution from that "
        "of chains that have mixed; black marks where it is too large for chance.",
        lambda: rank_figure(tree),
    )


def _orders(tree: "xr.DataTree") -> "list[tuple[str, xr.Dataset]]":
    groups = [(name, tree["theory"][name].to_dataset()) for name in attached_theories(tree)]
    return [(name, one) for name, one in groups if "q_bar" in one and "layer" in one["q_bar"].dims]


def _order_parameters(orders: "list[tuple[str, xr.Dataset]]", prefix: str, of: str) -> Picture:
    name, order = orders[0]
    return Picture(
        f"{prefix}order-parameters",
        f"Order parameters{of}",
        f"Order parameters of the {name} theory, layer by layer; the dotted line at 1 is infinite "
        "width.",
        lambda: _figure(plot_order_parameters(order.assign_attrs(theory=name))),
    )


def _map(dataset: "xr.Dataset | None") -> Picture:
    assert dataset is not None
    theories = ", ".join(map(str, dataset["theory"].values))
    return Picture(
        "map",
        "Relative error of each theory",
        f"Relative difference of the test error of {theories} from the posterior's, against N_1/P, "
        f"at {dataset.sizes['point']} points; a table below has the summary.",
        lambda: _figure(plot_error_map(dataset)),
    )


def _curves(
    dataset: "xr.Dataset | None", x: str | None, scores: Sequence[str] | None
) -> list[Picture]:
    """Return a picture for each combination of what is neither drawn as lines nor averaged."""
    assert dataset is not None
    chosen = list(scores or [one for one in SCORES if one in dataset][:2])
    lead = chosen[0]
    if lead not in dataset:
        held = sorted(map(str, dataset.data_vars))
        raise InputError(f"expected --score = one of {held}, got {lead!r}")
    x = x or _axis(dataset, lead)
    dimension = dataset[x].dims[0] if x in dataset.coords and dataset[x].ndim == 1 else x
    drawn = {dimension, "theory", "seed"}
    sizes = {str(d): n for d, n in dataset[lead].sizes.items() if d not in drawn and n > 1}
    if sizes and "theory" not in dataset[lead].dims:
        few = [name for name, n in sizes.items() if n <= 6]
        sizes.pop(few[-1] if few else "", None)  # has a curve for each value
    if np.prod([*sizes.values(), 1]) > _MOST:
        raise InputError(
            f"expected at most {_MOST} pictures of the learning curve, got dimensions {sizes} "
            f"beside {x}: select some of them with dataset.sel"
        )
    found = []
    for index in itertools.product(*(range(n) for n in sizes.values())):
        at = dict(zip(sizes, index, strict=True))
        part = dataset.isel(at)
        where = ", ".join(
            f"{name} = {_named(part, name, i)}".removeprefix("network = ") for name, i in at.items()
        )
        number = f"-{len(found) + 1}" if sizes else ""
        found.append(
            Picture(
                f"curve{number}",
                f"Learning curve{f': {where}' if where else ''}",
                f"{' and '.join(chosen).replace('_', ' ').capitalize()} against {x}. "
                f"{_spoken(part, x, lead)}",
                lambda part=part: _figure(plot_learning_curve(part, x, chosen)),
            )
        )
    return found


def _named(part: "xr.Dataset", name: str, index: int) -> Any:
    value = part[name].item() if name in part.coords else index
    return f"{value:g}" if isinstance(value, float) else value


def _axis(dataset: "xr.Dataset", lead: str) -> str:
    """Return the coordinate that a learning curve is most likely over."""
    dims = [str(name) for name, n in dataset[lead].sizes.items() if n > 1]
    numeric = [
        name for name in dims if name in dataset.coords and dataset[name].dtype.kind in "fiu"
    ]
    usual = ("width", "load", "n_patterns", "n_train", "temperature", "depth")
    for name in (*usual, *numeric, "width"):
        if name in numeric or (name == "width" and "width" in dataset.coords):
            return name
    raise InputError(
        f"expected PATH = a learning curve over at least one coordinate of numbers, got {dims}"
    )


def _spoken(part: "xr.Dataset", x: str, lead: str) -> str:
    """Return the ends of the curve in words."""
    if x not in part.coords:
        return ""
    data = part.sortby(x) if part[x].ndim == 1 else part
    ends = []
    for index in (0, -1):
        one = data.isel({data[x].dims[0]: index}) if data[x].ndim else data
        values = np.asarray(one[lead].values, dtype=np.float64)
        known = values[np.isfinite(values)]
        if known.size:
            span = f"{known.min():.4g}" + ("" if known.size == 1 else f" to {known.max():.4g}")
            ends.append(f"{lead} {span} at {x} {one[x].item():g}")
    return f"{'; '.join(ends).capitalize()}." if ends else ""
