"""Skip connections: error against skip strength and depth, and where the kernel degenerates.

The second question that the talk leaves open. Strengths keep c² + ρ² = 1, so that a block hands on
variances of the size that it got.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg

from .._layers.dense import Dense
from .._layers.residual import Residual
from .._plots._common import shades
from .._problem.network import Network
from .._problem.nngp import nngp_kernel
from .._sweeps.grid import Grid, grid as points
from .._sweeps.point import R_HAT_LIMIT
from ..datasets import Dataset
from ._figure import Figure, Table
from ._picture import exact, grid, style, write_legend
from ._study import Study
from .depth import critical_depth

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["figure", "network"]

_T = 0.1
_WITHOUT = "without r"
_THEORIES = ("exact", "nested", _WITHOUT, "infinite")
# σ and the λ of W that keeps the variance of σ(h) that of h: E relu² = c/2
_KERNELS = (("erf", 1.0), ("relu", 0.5))


@dataclasses.dataclass(frozen=True)
class _Size:
    n_train: int
    n_test: int
    width: int
    skips: tuple[float, ...]  # of one block
    blocks: tuple[int, ...]  # without skip, and with that of `deep`
    deep: float
    strengths: tuple[float, ...]  # of kernels of infinite width
    depths: tuple[int, ...]
    effort: dict[str, Any]


_ROUGH = {"relative_mcse": 0.02, "target_ess": 200.0, "max_draws": 4000}
_FINE = {"relative_mcse": 0.01, "target_ess": 1000.0, "max_draws": 10_000}
_STRENGTHS = (0.0, 0.5, 0.8, 0.95)
_SIZES = {
    "quick": _Size(
        60,
        100,
        20,
        (0.0, 0.4, 0.8, 1.0),
        (1, 2, 4),
        0.8,
        _STRENGTHS,
        (1, 2, 4, 8, 16, 32, 64),
        _ROUGH,
    ),
    "default": _Size(
        100,
        200,
        30,
        (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0),
        (1, 2, 4, 6),
        0.8,
        _STRENGTHS,
        (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64),
        _FINE,
    ),
    "paper": _Size(
        500,
        1000,
        100,
        (0.0, 0.4, 0.8, 1.0),
        (1, 2, 4),
        0.8,
        _STRENGTHS,
        (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64),
        {"relative_mcse": 0.02, "target_ess": 200.0, "max_draws": 600},
    ),
}


def network(
    width: int,
    skip: float,
    blocks: int = 1,
    *,
    activation: str = "erf",
    precision: float = 1.0,
    overlap: bool = True,
) -> Network:
    """Return a dense layer, blocks with c² + ρ² = 1, and a linear readout.

    Parameters
    ----------
    width
        N.
    skip
        c, from 0 to 1.
    blocks
        Number of blocks.
    activation, precision
        σ, and λ of the blocks' weights.
    overlap
        Whether the theory has the overlap r.
    """
    branch = math.sqrt(1.0 - skip**2)
    return Network(
        layers=(Dense(width), *(Residual(width, skip, branch, overlap),) * blocks),
        activation=activation,
        weight_precision=(1.0, *(precision,) * blocks, 1.0),
        readout_activation="identity",
    )


def _compute(study: Study) -> "xr.Dataset":
    import xarray as xr

    size = study.of(_SIZES)
    tasks = study.tasks(size.n_train, size.n_test)
    ladders = {"no skip": 0.0, f"c = {size.deep:g}": size.deep}
    shapes = [(skip, 1) for skip in size.skips]
    shapes += [(skip, count) for skip in ladders.values() for count in size.blocks]
    shapes = list(dict.fromkeys(shapes))
    found = []
    for name, data in tasks.items():
        study.say(f"{name}: {len(shapes)} networks, solved and sampled")
        rows = dict(zip(shapes, _rows(study, size, data, shapes), strict=True))
        one = xr.concat(
            [rows[skip, 1] for skip in size.skips], xr.Variable("skip", list(size.skips))
        )
        deep = [
            xr.concat(
                [rows[skip, count] for count in size.blocks],
                xr.Variable("blocks", list(size.blocks)),
            )
            for skip in ladders.values()
        ]
        ladder = xr.concat(deep, xr.Variable("ladder", list(ladders)))
        study.say(f"{name}: kernels of {max(size.depths)} blocks")
        parts = [one, ladder.rename({v: f"deep_{v}" for v in ladder}), _kernels(size, data)]
        found.append(xr.merge(parts, compat="no_conflicts", join="outer"))
    return xr.concat(found, xr.Variable("task", list(tasks))).assign_attrs(
        n_train=size.n_train, width=size.width, temperature=_T, deep=size.deep
    )


def _rows(
    study: Study, size: _Size, data: Dataset, shapes: list[tuple[float, int]]
) -> "list[xr.Dataset]":
    """Return error, its MCSE and R-hat of every network, by theory."""
    import xarray as xr

    full = [network(size.width, skip, blocks) for skip, blocks in shapes]
    naive = [network(size.width, skip, blocks, overlap=False) for skip, blocks in shapes]
    whole: Grid = points(
        data=[data], net=full, temperature=[_T], theory=["nested", "infinite"], sample=True
    )
    whole += points(data=[data], net=naive, temperature=[_T], theory=["nested"])
    found = study.sweep(whole, **size.effort).isel(data=0, temperature=0)
    nets = list(dict.fromkeys(point.network for point in whole))
    rows = []
    for with_r, without in zip(full, naive, strict=True):
        one, other = (found.isel(net=nets.index(net)) for net in (with_r, without))
        values = [
            float((other if name == _WITHOUT else one)["error"].sel(theory=theory))
            for name, theory in zip(
                _THEORIES, ("exact", "nested", "nested", "infinite"), strict=True
            )
        ]
        sampled = one.sel(theory="exact")
        rows.append(
            xr.Dataset(
                {
                    "error": ("theory", values),
                    "mcse": float(sampled["error_mcse"]),
                    "r_hat": float(sampled["r_hat"]),
                },
                coords={"theory": list(_THEORIES)},
            )
        )
    return rows


def _kernels(size: _Size, data: Dataset) -> "xr.Dataset":
    """Return the smallest eigenvalue over the mean one, and the criterion, of infinite width."""
    import xarray as xr

    shape = len(_KERNELS), len(size.strengths), len(size.depths)
    smallest, criterion = np.empty(shape), np.empty(shape)
    for i, (activation, precision) in enumerate(_KERNELS):
        for j, skip in enumerate(size.strengths):
            for k, blocks in enumerate(size.depths):
                net = network(1, skip, blocks, activation=activation, precision=precision)
                kernel = np.asarray(nngp_kernel(net, data.X_train))
                values, vectors = scipy.linalg.eigh(kernel)
                smallest[i, j, k] = values[0] / np.mean(values)
                shares = (vectors.T @ data.y_train) ** 2
                criterion[i, j, k] = np.sum(shares / values) / len(shares)
    dims = ("activation", "strength", "depth")
    coords = {
        "activation": [name for name, _ in _KERNELS],
        "strength": list(size.strengths),
        "depth": list(size.depths),
    }
    found = xr.Dataset(
        {"smallest": (dims, smallest), "criterion": (dims, criterion)}, coords=coords
    )
    critical = xr.apply_ufunc(
        lambda one: critical_depth(size.depths, one),
        found["criterion"],
        input_core_dims=[["depth"]],
        vectorize=True,
    )
    return found.assign(critical_depth=critical)


def _tabulate(dataset: "xr.Dataset") -> list[Table]:
    attrs = dataset.attrs
    tables = []
    for task in dataset["task"].values:
        part = dataset.sel(task=task)
        rows = [
            (f"{skip:g}", "1", *_cells(part.sel(skip=skip), "")) for skip in part["skip"].values
        ]
        rows += [
            (ladder, f"{blocks}", *_cells(part.sel(ladder=ladder, blocks=blocks), "deep_"))
            for ladder in part["ladder"].values
            for blocks in part["blocks"].values
        ]
        title = (
            f"{task}, P = {attrs['n_train']}, N = {attrs['width']}, T = {attrs['temperature']:g}, "
            f"erf, c² + ρ² = 1: test error (± MCSE; !: R-hat > {R_HAT_LIMIT:g})"
        )
        tables.append(Table(title, ("skip c", "blocks", *_THEORIES), rows))
        tables.append(_kernel_table(part, str(task)))
    return tables


def _cells(one: "xr.Dataset", prefix: str) -> list[str]:
    values = [f"{float(one[f'{prefix}error'].sel(theory=name)):.5f}" for name in _THEORIES]
    mark = "" if float(one[f"{prefix}r_hat"]) <= R_HAT_LIMIT else " !"
    values[0] += f" ± {float(one[f'{prefix}mcse']):.1g}{mark}"
    return values


def _kernel_table(part: "xr.Dataset", task: str) -> Table:
    shown = part["depth"].values
    rows = []
    for activation in part["activation"].values:
        for strength in part["strength"].values:
            one = part.sel(activation=activation, strength=strength)
            critical = float(one["critical_depth"])
            if math.isnan(critical):
                above = bool((one["criterion"] > 1.0).all())
                text = f"< {shown[0]}" if above else f"> {shown[-1]}"
            else:
                text = f"{critical:.1f}"
            values = (f"{float(value):.4f}" for value in one["smallest"].values)
            rows.append((f"{activation}", f"{strength:g}", *values, text))
    return Table(
        f"{task}: smallest eigenvalue of the kernel of infinite width over the mean one, by number "
        "of blocks, and the depth at which yᵀK⁻¹y/P passes 1",
        ("", "skip c", *(f"L = {depth}" for depth in shown), "critical"),
        rows,
    )


def _draw(dataset: "xr.Dataset") -> dict[str, Any]:
    tasks = dataset["task"].values
    picture, axes = grid(len(tasks), 4, (2.6, 2.1))
    for line, task in zip(axes, tasks, strict=True):
        part = dataset.sel(task=task)
        _errors(line[0], part, "skip", "")
        _ladders(line[1], part)
        for axis, activation in zip(line[2:], part["activation"].values, strict=True):
            _eigenvalues(axis, part.sel(activation=activation))
            axis.set_title(f"{activation}; dotted: criterion 1", fontsize="small")
        line[0].set_ylabel("test error")
        line[2].set_ylabel(r"$\lambda_{\min}/\bar\lambda$ of $K$")
        line[0].set_title(f"{task}, one block", fontsize="small")
        line[1].set_title(f"{task}, c = 0 (open) and {dataset.attrs['deep']:g}", fontsize="small")
    axes[-1, 0].set_xlabel(r"skip $c$, $\rho^2 = 1 - c^2$")
    for axis in axes[-1, 1:]:
        axis.set_xlabel("blocks $L$")
    write_legend(picture, axes, 8)
    return {"": picture}


def _errors(axis: Any, part: "xr.Dataset", x: str, prefix: str, **look: Any) -> None:
    for name in _THEORIES[1:]:
        options = {"color": "0.55", "linestyle": "-."} if name == _WITHOUT else style(name)
        label = None if look else name
        axis.plot(part[x], part[f"{prefix}error"].sel(theory=name), label=label, **(options | look))
    marks = {"mfc": "none", "label": None} if look else {}
    values = part[f"{prefix}error"].sel(theory="exact")
    exact(axis, part[x], values, part[f"{prefix}mcse"], **marks)


def _ladders(axis: Any, part: "xr.Dataset") -> None:
    first, second = part["ladder"].values
    _errors(axis, part.sel(ladder=first), "blocks", "deep_", alpha=0.5)
    _errors(axis, part.sel(ladder=second), "blocks", "deep_")
    axis.set_xticks(part["blocks"].values)


def _eigenvalues(axis: Any, part: "xr.Dataset") -> None:
    for shade, strength in zip(
        shades(part.sizes["strength"]), part["strength"].values, strict=True
    ):
        one = part.sel(strength=strength)
        values = one["smallest"].where(one["smallest"] > 1e-15)
        axis.plot(one["depth"], values, ".-", color=shade, label=f"c = {strength:g}")
        critical = float(one["critical_depth"])
        if not math.isnan(critical):
            axis.axvline(critical, color=shade, linestyle=":", linewidth=1.0)
    axis.set_yscale("log")
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter("{x:g}")


figure = Figure(
    "skip",
    "skip connections: error against their strength and depth, and the kernel's eigenvalues",
    _compute,
    _tabulate,
    _draw,
)
