"""Depth: where finite width wins at T = 0, for erf and ReLU, and the depth where ReLU stops it."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .._plots._common import shades
from .._problem.network import Network
from .._solve import solve
from .._sweeps.many import solve_many
from ..datasets import Dataset
from ._figure import Figure, Table
from ._picture import LIGHT, grid, write_legend
from ._study import Study

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["critical_depth", "figure"]

# Activation, precision of all layers but the first, theory. Each layer multiplies ReLU's covariance
# by about 1/(2 λ). Of one kernel times a scale, as "wishart" has, the criterion is exact at T = 0.
_NETWORKS = (
    ("erf", 1.0, "nested"),
    ("erf", 0.5, "nested"),
    ("relu", 1.0, "wishart"),
    ("relu", 0.5, "wishart"),
)


@dataclasses.dataclass(frozen=True)
class _Size:
    n_train: int
    n_test: int
    depths: tuple[int, ...]
    widths: tuple[int, ...]


_SIZES = {
    "quick": _Size(40, 200, (1, 2, 4, 6), (20, 100)),
    "default": _Size(100, 200, (1, 2, 3, 4, 5, 6, 8, 10, 12), (20, 100, 500)),
    "paper": _Size(500, 1000, (1, 2, 3, 4, 5, 6, 8), (100, 500, 2000)),
}


def critical_depth(depths: Sequence[int], criterion: ArrayLike) -> float:
    """Return the depth, between two of them, at which the criterion passes 1; NaN if it does not.

    Parameters
    ----------
    depths
        Numbers of hidden layers, increasing.
    criterion
        yᵀK⁻¹y/P at each; its logarithm is taken as linear between two of them.
    """
    logs = np.log(np.asarray(criterion, dtype=np.float64))
    for k in range(1, len(logs)):
        if logs[k - 1] <= 0.0 < logs[k]:
            return float(np.interp(0.0, logs[k - 1 : k + 1], depths[k - 1 : k + 1]))
    return math.nan


def _compute(study: Study) -> "xr.Dataset":
    import xarray as xr

    size = study.of(_SIZES)
    tasks = study.tasks(size.n_train, size.n_test)
    labels = [f"{name}, λ = {precision:g}" for name, precision, _ in _NETWORKS]
    by_task = []
    for name, data in tasks.items():
        by_network = []
        for activation, precision, theory in _NETWORKS:
            study.say(f"{name}: {activation}, λ = {precision:g}, {max(size.depths)} layers")
            layers = [
                _at(data, activation, precision, theory, depth, size.widths)
                for depth in size.depths
            ]
            by_network.append(xr.concat(layers, xr.Variable("depth", list(size.depths))))
        by_task.append(xr.concat(by_network, xr.Variable("network", labels)))
    result = xr.concat(by_task, xr.Variable("task", list(tasks)))
    critical = xr.apply_ufunc(
        lambda one: critical_depth(size.depths, one),
        result["criterion"],
        input_core_dims=[["depth"]],
        vectorize=True,
    )
    return (
        result.assign(critical_depth=critical)
        .assign_coords(
            activation=("network", [name for name, *_ in _NETWORKS]),
            weight_precision=("network", [one for _, one, _ in _NETWORKS]),
            theory=("network", [theory for *_, theory in _NETWORKS]),
        )
        .assign_attrs(n_train=size.n_train, n_test=size.n_test, temperature=0.0)
    )


def _at(
    data: Dataset,
    activation: str,
    precision: float,
    theory: str,
    depth: int,
    widths: Sequence[int],
) -> "xr.Dataset":
    """Return what finite and infinite width give at one depth."""
    net = Network((1,) * depth, activation, (1.0, *(precision,) * depth))
    X, y, test = data.X_train, data.y_train, (data.X_test, data.y_test)
    infinite = solve(net, X, y, temperature=0.0, theory="infinite")
    finite = solve_many(
        net,
        X,
        y,
        widths=widths,
        temperature=0.0,
        theory=theory,
        X_test=data.X_test,
        y_test=data.y_test,
    ).isel(temperature=0, drop=True)
    scores = infinite.scores(*test)
    return (
        finite[["error", "bias2", "variance"]]
        .assign(
            scale=finite["q_bar"].prod("layer"),
            criterion=float(np.asarray(infinite.criterion)),
            infinite_error=scores["error"],
            infinite_bias2=scores["bias2"],
        )
        .drop_vars(["load", "layer"], errors="ignore")
        .drop_attrs()
    )


def _tabulate(dataset: "xr.Dataset") -> list[Table]:
    tables = []
    for name in dataset["task"].values:
        rows = []
        for network in dataset["network"].values:
            part = dataset.sel(task=name, network=network)
            for depth in dataset["depth"].values:
                one = part.sel(depth=depth)
                gains = (one["error"] / one["infinite_error"] - 1.0).values
                rows.append(
                    (
                        f"{network}",
                        f"{depth}",
                        f"{float(one['criterion']):.4f}",
                        f"{float(one['infinite_error']):.4f}",
                        *(f"{100 * gain:+.1f} %" for gain in gains),
                    )
                )
            empty = ("" for _ in dataset["width"])
            rows.append(("  critical L", _critical(part), "", "", *empty))
        tables.append(
            Table(
                f"{name}, P = {dataset.attrs['n_train']}, T = 0: yᵀK⁻¹y/P, the error of infinite "
                "width, and what finite width N adds to it",
                (
                    "network",
                    "L",
                    "criterion",
                    "infinite",
                    *(f"N = {width}" for width in dataset["width"].values),
                ),
                rows,
            )
        )
    return tables


def _critical(part: "xr.Dataset") -> str:
    depth = float(part["critical_depth"])
    if not math.isnan(depth):
        return f"{depth:.2f}"
    first, last = (int(part["depth"].values[k]) for k in (0, -1))
    return f"< {first}" if bool((part["criterion"] > 1.0).all()) else f"> {last}"


def _draw(dataset: "xr.Dataset") -> dict[str, Any]:
    names = list(dict.fromkeys(dataset["activation"].values.tolist()))
    tasks = dataset["task"].values
    picture, axes = grid(2, len(tasks) * len(names), (2.5, 2.0), sharex=True, sharey="row")
    column = 0
    for task in tasks:
        for name in names:
            part = dataset.sel(task=task, network=dataset["activation"] == name)
            _panel(axes[:, column], part)
            theory = str(part["theory"].values[0])
            axes[0, column].set_title(f"{task}, {name} ({theory})", fontsize="small")
            column += 1
    axes[0, 0].set_yscale("log")
    axes[0, 0].set_ylabel(r"criterion $y^\top K^{-1}y/P$")
    axes[1, 0].set_ylabel("error / infinite width − 1")
    for axis in axes[1]:
        axis.set_xlabel(r"hidden layers $L$")
    write_legend(picture, axes, 4)
    return {"": picture}


def _panel(pair: Any, part: "xr.Dataset") -> None:
    depths = part["depth"].values
    colors = shades(part.sizes["width"])
    for k, (network, marker) in enumerate(zip(part["network"].values, "os", strict=False)):
        one, line = part.sel(network=network), ("-", "--")[k]
        precision = f"λ = {float(one['weight_precision']):g}"
        pair[0].plot(
            depths, one["criterion"], line, marker=marker, color="black", label=precision, ms=4
        )
        for color, width in zip(colors, one["width"].values, strict=True):
            gain = one["error"].sel(width=width) / one["infinite_error"] - 1.0
            pair[1].plot(
                depths,
                gain,
                line,
                marker=marker,
                color=color,
                ms=4,
                label=f"N = {width}" if k == 0 else None,
            )
        for axis in pair:
            if not math.isnan(float(one["critical_depth"])):
                axis.axvline(float(one["critical_depth"]), color="0.6", ls=":", lw=1.0, zorder=0)
    pair[0].axhline(1.0, **LIGHT)
    pair[1].axhline(0.0, **LIGHT)


figure = Figure(
    "depth",
    "depth: the criterion for finite width to win, and the critical depth of ReLU",
    _compute,
    _tabulate,
    _draw,
)
