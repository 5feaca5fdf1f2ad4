"""Bias and variance at T = 0 against λ_1 and N_1, and their laws."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from .._plots._common import shades
from .._problem.network import Network
from .._solve import solve
from .._sweeps.many import solve_many
from .._sweeps.point import R_HAT_LIMIT
from ..datasets import Dataset
from ._figure import Figure, Table
from ._picture import exact, grid, log_axis, write_legend
from ._sampled import SMALL, Sampled, sampled_points, sampled_size
from ._study import Study

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["figure", "variance_law"]


@dataclasses.dataclass(frozen=True)
class _Size:
    widths: tuple[int, ...]
    precisions: tuple[float, ...]


def _precisions(count: int) -> tuple[float, ...]:
    return tuple(float(f"{value:.3g}") for value in np.geomspace(0.1, 10.0, count))


_SIZES = {
    "quick": _Size((10, 20, 50, 200, 1000), _precisions(9)),
    "default": _Size((10, 20, 50, 100, 200, 1000), _precisions(17)),
    "paper": _Size((20, 50, 100, 200, 500, 1000), _precisions(17)),
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

    size, sampled = study.of(_SIZES), sampled_size(study)
    tasks = study.tasks(sampled.n_train, sampled.n_test)
    found = []
    for name, data in tasks.items():
        study.say(f"{name}: {len(size.precisions)} precisions × {len(size.widths)} widths at T = 0")
        found.append(_of_task(size, data).assign(_exact(study, sampled, data)))
    return xr.concat(found, xr.Variable("task", list(tasks))).assign_attrs(
        n_train=sampled.n_train, activation="erf", temperature=0.0, sampled_temperature=SMALL
    )


def _exact(study: Study, sampled: Sampled, data: Dataset) -> "dict[str, xr.DataArray]":
    """Return bias² and variance of the posterior at a small T, by λ_1 and N_1."""
    import xarray as xr

    grids = [sampled_points(data, sampled.widths, one, (SMALL,)) for one in sampled.precisions]
    found = study.sweep(sum(grids[1:], start=grids[0]), **sampled.effort)
    shape = len(sampled.precisions), len(sampled.widths)  # networks in the order of their points
    coords = {"sampled_precision": list(sampled.precisions), "sampled_width": list(sampled.widths)}
    names = ("bias2", "bias2_mcse", "variance", "variance_mcse", "r_hat")
    return {
        f"exact_{name}": xr.DataArray(found[name].values.reshape(shape), coords) for name in names
    }


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
        np.asarray(size.widths, dtype=np.float64),
        np.asarray(size.precisions, dtype=np.float64),
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
    return [*tables, _exact_table(dataset)]


def _exact_table(dataset: "xr.Dataset") -> Table:
    rows = []
    for name in dataset["task"].values:
        for precision in dataset["sampled_precision"].values:
            for width in dataset["sampled_width"].values:
                at = {"sampled_precision": precision, "sampled_width": width}
                one = dataset.sel(task=name, **at)
                values = [
                    f"{float(one[f'exact_{part}']):.4f} ± {float(one[f'exact_{part}_mcse']):.1g}"
                    for part in ("bias2", "variance")
                ]
                # P is the same, so the load is N_1's
                law = variance_law(
                    np.array([float(width)]),
                    np.array([float(precision)]),
                    float(one["criterion"]),
                    float(one["infinite_variance"]),
                    int(dataset.attrs["n_train"]),
                )
                theory = f"{float(one['infinite_bias2']):.4f}", f"{law[0, 0]:.4f}"
                mark = "" if float(one["exact_r_hat"]) <= R_HAT_LIMIT else " !"
                rows.append(
                    (
                        f"{name}",
                        f"{precision:g}",
                        f"{width}",
                        theory[0],
                        values[0] + mark,
                        theory[1],
                        values[1] + mark,
                    )
                )
    t = dataset.attrs["sampled_temperature"]
    return Table(
        f"The posterior, sampled at T = {t:g}, beside the theory at T = 0 (± MCSE; !: R-hat > "
        f"{R_HAT_LIMIT:g})",
        ("", "λ_1", "N_1", "bias², theory", "bias²", "variance, law", "variance"),
        rows,
    )


def _draw(dataset: "xr.Dataset") -> dict[str, Any]:
    count = dataset.sizes["task"]
    picture, axes = grid(count, 2, (3.3, 2.4), sharex=True)
    for row, name in zip(axes, dataset["task"].values, strict=True):
        part = dataset.sel(task=name)
        for shade, width in zip(shades(part.sizes["width"]), part["width"].values, strict=True):
            one = part.sel(width=width)
            row[0].plot(one["precision"], one["bias2"], ".", color=shade)
            row[1].plot(one["precision"], one["variance"], ".", color=shade, label=f"{width}")
            row[1].plot(one["precision"], one["law"], "-", color=shade, linewidth=1.0)
        for width, marker in zip(dataset["sampled_width"].values, "ox^sDv", strict=False):
            for axis, score in zip(row, ("bias2", "variance"), strict=True):
                one = part.sel(sampled_width=width)
                exact(
                    axis,
                    one["sampled_precision"],
                    one[f"exact_{score}"],
                    one[f"exact_{score}_mcse"],
                    fmt=marker,
                    mfc="none",
                    label=f"sampled, {width}",
                )
        row[0].axhline(float(part["infinite_bias2"]), color="0.6", linewidth=1.0, zorder=0)
        row[0].set_ylim(0.0, 1.5 * float(part["bias2"].mean()))
        row[1].axvline(1.0 / float(part["criterion"]), color="0.6", linestyle=":", zorder=0)
        row[0].set_ylabel(r"bias$^2$")
        row[1].set_ylabel("variance")
        log_axis(row[1], "y", (1.0, 3.0))
        row[0].set_title(f"{name}, P = {dataset.attrs['n_train']}, T = 0", fontsize="small")
        row[1].set_title(
            r"dots: solved, lines: law; dotted: $\lambda_1 = P/y^\top K^{-1}y$", fontsize="small"
        )
    write_legend(picture, axes[:, 1], 7, title=r"$N_1$, theory at $T = 0$ and sampled")
    for axis in axes[-1]:
        axis.set_xlabel(r"precision of the readout $\lambda_1$")
    for axis in axes.flat:
        log_axis(axis)
    return {"": picture}


figure = Figure(
    "bias", "bias constant and variance law in λ_1 at T = 0", _compute, _tabulate, _draw
)
