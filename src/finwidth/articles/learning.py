"""Learning curves of one hidden layer: error and accuracy against N_1, theories and posterior."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .._sweeps.grid import Grid, grid as points
from .._sweeps.point import R_HAT_LIMIT
from ..datasets import Dataset
from ._figure import Figure, Table
from ._picture import exact, grid, log_axis, style, write_legend
from ._sampled import SMALL, Sampled, network, sampled_points, sampled_size
from ._study import Study

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["figure"]

_TEMPERATURES = (SMALL, 0.1)
_EVERYWHERE = ("infinite", "nested")  # at every width; the rest where the posterior is sampled


@dataclasses.dataclass(frozen=True)
class _Size:
    settings: tuple[tuple[int, float], ...]  # P, λ_1
    widths: tuple[int, ...]
    slow: tuple[str, ...]  # theories


_WIDTHS = (5, 10, 20, 50, 100, 200, 500, 1000)
_SIZES = {
    "quick": _Size(((30, 1.0), (60, 1.0), (60, 4.0)), _WIDTHS, ("adaptive",)),
    "default": _Size(((50, 1.0), (100, 1.0), (100, 4.0)), _WIDTHS, ("adaptive", "cavity")),
    "paper": _Size(
        ((250, 1.0), (500, 1.0), (500, 4.0)), (20, 50, 100, 200, 500, 1000, 2000), ("adaptive",)
    ),
}
_SCORES = ("error", "accuracy", "accuracy_mean", "bias2", "variance")


def _grid(size: _Size, sampled: Sampled, data: Dataset, precision: float) -> Grid:
    """Return the points of the curves of one panel."""

    def asked(widths: tuple[int, ...], theories: tuple[str, ...]) -> Grid:
        nets = [network(width, precision) for width in widths]
        return points(data=[data], net=nets, temperature=_TEMPERATURES, theory=theories)

    theories = asked(size.widths, _EVERYWHERE)
    if size.slow:
        theories += asked(sampled.widths, size.slow)
    return theories + sampled_points(data, sampled.widths, precision, _TEMPERATURES)


def _compute(study: Study) -> "xr.Dataset":
    import xarray as xr

    size, sampled = study.of(_SIZES), sampled_size(study)
    names: dict[str, None] = {}
    panels: list[tuple[str, int, float]] = []
    whole = Grid((), frozenset())
    for n_train in dict.fromkeys(n for n, _ in size.settings):
        for name, data in study.tasks(n_train, sampled.n_test).items():
            names[name] = None
            for precision in (one for n, one in size.settings if n == n_train):
                panels.append((name, n_train, precision))
                whole += _grid(size, sampled, data, precision)
    n_sampled = sum(point.sampled for point in whole)
    study.say(f"{len(whole) - n_sampled} points of theories, {n_sampled} sampled posteriors")
    found = study.sweep(whole, **sampled.effort)
    # the sweep's sets of data, and its networks, are in the order of their first point
    sets = list(dict.fromkeys((name, n_train) for name, n_train, _ in panels))
    nets = list(dict.fromkeys(point.network for point in whole))
    widths = sorted({*size.widths, *sampled.widths})

    def of(name: str, n_train: int, precision: float) -> "xr.Dataset":
        chosen = [nets.index(network(width, precision)) for width in widths]
        part = found.isel(data=sets.index((name, n_train)), net=chosen)
        part = part[[*_SCORES, *(f"{one}_mcse" for one in _SCORES), "r_hat", "state", "seconds"]]
        return part.reset_coords(drop=True).drop_vars("net").rename(net="width")

    by_task = [
        xr.concat([of(name, *setting) for setting in size.settings], "setting") for name in names
    ]
    return (
        xr.concat(by_task, xr.Variable("task", list(names)))
        .assign_coords(
            width=widths,
            n_train=("setting", [n for n, _ in size.settings]),
            readout_precision=("setting", [one for _, one in size.settings]),
        )
        .assign_attrs(activation="erf")
    )


def _tabulate(dataset: "xr.Dataset") -> list[Table]:
    return [
        _table(dataset.sel(task=task), str(task), score)
        for task in dataset["task"].values
        for score in ("error", "accuracy")
    ]


def _table(part: "xr.Dataset", task: str, score: str) -> Table:
    theories = [str(one) for one in part["theory"].values if one != "exact"]
    sampled = part[score].sel(theory="exact").notnull().any(["setting", "temperature"])
    rows = []
    for k in range(part.sizes["setting"]):
        for t in part["temperature"].values:
            for width in part["width"].values[sampled.values]:
                one = part.isel(setting=k).sel(temperature=t, width=width)
                rows.append(
                    (
                        f"P = {int(one['n_train'])}, λ_1 = {float(one['readout_precision']):g}",
                        f"{t:g}",
                        f"{width}",
                        *(_number(float(one[score].sel(theory=name))) for name in theories),
                        _exact_cell(one.sel(theory="exact"), score),
                    )
                )
    best = ""
    if score == "accuracy":
        mean = part["accuracy_mean"]
        of = {name: mean.sel(theory=name) for name in ("nested", "exact")}
        best = "; best of the posterior mean: " + ", ".join(
            f"{name} {float(one.max()):.4f}" for name, one in of.items()
        )
    title = {"error": "test error", "accuracy": "accuracy of a draw of the posterior"}[score]
    return Table(
        f"{task}: {title}{best}",
        ("", "T", "N_1", *theories, "exact ± MCSE (!: R-hat > 1.01)"),
        rows,
    )


def _exact_cell(one: "xr.Dataset", score: str) -> str:
    if not math.isfinite(float(one[score])):
        return str(one["state"].item())
    mark = "" if float(one["r_hat"]) <= R_HAT_LIMIT else " !"
    return f"{_number(float(one[score]))} ± {float(one[f'{score}_mcse']):.1g}{mark}"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def _draw(dataset: "xr.Dataset") -> dict[str, Any]:
    pictures = {}
    for task in dataset["task"].values:
        part = dataset.sel(task=task)
        rows = [(score, t) for score in ("error", "accuracy") for t in part["temperature"].values]
        picture, axes = grid(
            len(rows), part.sizes["setting"], (2.5, 1.6), sharex=True, sharey="row"
        )
        for line, (score, t) in zip(axes, rows, strict=True):
            for k, axis in enumerate(line):
                _panel(axis, part.isel(setting=k).sel(temperature=t), score)
            limit = r"T \to 0" if t == SMALL else f"T = {t:g}"
            line[0].set_ylabel(f"{score}, ${limit}$")
        for k, axis in enumerate(axes[0]):
            one = part.isel(setting=k)
            axis.set_title(
                f"P = {int(one['n_train'])}, "
                rf"$\lambda_1$ = {float(one['readout_precision']):g}",
                fontsize="small",
            )
        for axis in axes[-1]:
            axis.set_xlabel(r"width $N_1$")
        picture.suptitle(f"{task}, erf", fontsize="medium")
        write_legend(picture, axes, min(5, 2 * part.sizes["setting"]))
        pictures["".join(letter if letter.isalnum() else "-" for letter in str(task))] = picture
    return pictures


def _panel(axis: Any, part: "xr.Dataset", score: str) -> None:
    for name in part["theory"].values:
        one = part.sel(theory=name)
        known = one.isel(width=np.flatnonzero(np.isfinite(one[score].values)))
        if not known.sizes["width"]:
            continue
        if name == "exact":
            exact(axis, known["width"], known[score], known[f"{score}_mcse"])
        else:
            axis.plot(known["width"], known[score], label=str(name), **style(str(name)))
    log_axis(axis)


figure = Figure(
    "learning",
    "learning curves of one hidden layer: error and accuracy against N_1",
    _compute,
    _tabulate,
    _draw,
)
