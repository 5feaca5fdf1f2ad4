"""Bias and variance at T = 0 against λ_1 and N_1, and their laws."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from .._problem.network import Network
from .._solve import solve
from .._sweeps.many import solve_many
from ..datasets import Dataset
from ._figure import Figure, Table
from ._picture import grid, legend, log_axis, shades
from ._study import Study

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["figure", "variance_law"]


@dataclasses.dataclass(frozen=True)
class _Size:
    n_train: int
    n_test: int
    widths: tuple[int, ...]
    precisions: tuple[float, ...]


def _precisions(count: int) -> tuple[float, ...]:
    return tuple(float(f"{value:.3g}") for value in np.geomspace(0.1, 10.0, count))


_SIZES = {
    "quick": _Size(60, 200, (10, 20, 50, 200, 1000), _precisions(9)),
    "default": _Size(100, 200, (10, 20, 50, 100, 200, 1000), _precisions(17)),
    "paper": _Size(500, 1000, (20, 50, 100, 200, 500, 1000), _precisions(17)),
}


def variance_law(
    widths: Float[np.ndarray, " width"],
    precisions: Float[np.ndarray, " precision"],
    criterion: float,
    variance: float,
    n_patterns: int,
) -> Float[np.ndarray, "precision width"]:
    """Return the variance at T = 0 of one odd hidden layer, in closed form.

    Parameters
    ----------
    widths, precisions
        N_1 and λ_1.
    criterion, variance
        yᵀK⁻¹y/P and the variance of infinite width, both at λ_1 = 1.
    n_patterns
        P.

    Returns
    -------
    numpy.ndarray
        variance · Q̄(λ_1, N_1)/λ_1.

    References
    ----------
    theory.md, section 2.
    """
    load, precision = n_patterns / np.asarray(widths), np.asarray(precisions)[:, None]
    root = np.sqrt((1.0 - load) ** 2 + 4.0 * load * precision * criterion)
    return variance * 0.5 * (1.0 - load + root) / precision


def _compute(study: Study) -> "xr.Dataset":
    import xarray as xr

    size = study.of(_SIZES)
    tasks = study.tasks(size.n_train, size.n_test)
    found = []
    for name, data in tasks.items():
        study.say(f"{name}: {len(size.precisions)} precisions × {len(size.widths)} widths at T = 0")
        found.append(_of_task(size, data))
    return xr.concat(found, xr.Variable("task", list(tasks))).assign_attrs(
        n_train=size.n_train, n_test=size.n_test, activation="erf", temperature=0.0
    )


def _of_task(size: _Size, data: Dataset) -> "xr.Dataset":
    net = Network(widths=(1,), activation="erf")
    options: dict[str, Any] = {"X_test": data.X_test, "y_test": data.y_test}
    found = solve_many(
        net,
        data.X_train,
        data.y_train,
        widths=size.widths,
        temperature=0.0,
        weight_precision=[(1.0, one) for one in size.precisions],
        **options,
    ).isel(temperature=0, layer=0, drop=True)
    found = found[["error", "bias2", "variance", "q_bar"]].assign_coords(
        precision=list(size.precisions)
    )
    infinite = solve(net, data.X_train, data.y_train, temperature=0.0, theory="infinite")
    scores = infinite.scores(data.X_test, data.y_test)
    law = variance_law(
        np.asarray(size.widths),
        np.asarray(size.precisions),
        float(np.asarray(infinite.criterion)),
        float(scores["variance"]),
        len(data.y_train),
    )
    return found.drop_vars(["load", "weight_precision"], errors="ignore").assign(
        law=(("precision", "width"), law),
        infinite_bias2=float(scores["bias2"]),
        infinite_variance=float(scores["variance"]),
        criterion=float(np.asarray(infinite.criterion)),
    )


def _tabulate(dataset: "xr.Dataset") -> list[Table]:
    tables = []
    for name in dataset["task"].values:
        part = dataset.sel(task=name)
        bias2 = part["bias2"].values
        rows = []
        for precision in dataset["precision"].values[:: max(1, dataset.sizes["precision"] // 4)]:
            for width in dataset["width"].values[[0, dataset.sizes["width"] // 2, -1]]:
                one = part.sel(precision=precision, width=width)
                values = (one["bias2"], one["variance"], one["law"], one["error"])
                rows.append(
                    (f"{precision:g}", f"{width}", *(f"{float(value):.6f}" for value in values))
                )
        spread = np.ptp(bias2) / bias2.mean()
        off = np.abs(part["variance"] / part["law"] - 1.0).max()
        flat = 1.0 / float(part["criterion"])
        tables.append(
            Table(
                f"{name}, P = {dataset.attrs['n_train']}, T = 0: bias² varies by {spread:.1e} of "
                f"itself over N_1 and λ_1, the variance is {float(off):.1e} off its law; it does "
                f"not depend on N_1 at λ_1 = P/yᵀK⁻¹y = {flat:.3g}",
                ("λ_1", "N_1", "bias²", "variance", "law", "error"),
                rows,
            )
        )
    return tables


def _draw(dataset: "xr.Dataset") -> dict[str, Any]:
    count = dataset.sizes["task"]
    picture, axes = grid(count, 2, (3.3, 2.4), sharex=True)
    for row, name in zip(axes, dataset["task"].values, strict=True):
        part = dataset.sel(task=name)
        for shade, width in zip(
            shades(part.sizes["width"]), part["width"].values, strict=True
        ):
            one = part.sel(width=width)
            row[0].plot(one["precision"], one["bias2"], ".", color=shade)
            row[1].plot(one["precision"], one["variance"], ".", color=shade, label=f"{width}")
            row[1].plot(one["precision"], one["law"], "-", color=shade, linewidth=1.0)
        row[0].axhline(float(part["infinite_bias2"]), color="0.6", linewidth=1.0, zorder=0)
        row[0].set_ylim(0.0, 2.0 * float(part["bias2"].mean()))
        row[1].axvline(1.0 / float(part["criterion"]), color="0.6", linestyle=":", zorder=0)
        row[0].set_ylabel(r"bias$^2$")
        row[1].set_ylabel("variance")
        log_axis(row[1], "y", (1.0, 3.0))
        row[0].set_title(f"{name}, P = {dataset.attrs['n_train']}, T = 0", fontsize="small")
        row[1].set_title(r"dots: solved, lines: law; dotted: $\lambda_1 = P/y^\top K^{-1}y$",
                         fontsize="small")
    legend(axes[0, 1], title=r"$N_1$", title_fontsize="x-small")
    for axis in axes[-1]:
        axis.set_xlabel(r"precision of the readout $\lambda_1$")
    for axis in axes.flat:
        log_axis(axis)
    return {"": picture}


figure = Figure(
    "bias", "bias constant and variance law in λ_1 at T = 0", _compute, _tabulate, _draw
)
