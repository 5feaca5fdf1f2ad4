"""yᵀK⁻¹y/P over data sets: where finite width lowers the error at T = 0."""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from .._plots._common import shades
from .._problem.network import Network
from .._solve import solve
from .._sweeps.many import solve_many
from ..datasets import Dataset, load_dataset
from ._figure import Figure, Table
from ._picture import LIGHT, grid, log_axis
from ._study import Study

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["figure"]

_MARKERS = {"erf": "o", "relu": "s"}
_PRECISIONS = (1.0, 0.2)  # λ_1, by which the criterion is multiplied


@dataclasses.dataclass(frozen=True)
class _Size:
    n_train: tuple[int, ...]
    n_test: int
    n_seeds: int
    n_inputs: int  # of generated data


_SIZES = {
    "quick": _Size((25, 100), 200, 3, 64),
    "default": _Size((25, 50, 100, 150), 200, 5, 200),
    "paper": _Size((125, 250, 500, 1000), 1000, 5, 784),
}


def _sets(study: Study, size: _Size, n_train: int, seed: int) -> dict[str, Dataset]:
    """Return the tasks of images, and data without structure, or with a network's."""
    found = study.tasks(n_train, size.n_test, seed=seed)
    sizes: dict[str, Any] = {"n_train": n_train, "n_test": size.n_test, "seed": seed}
    inputs = f"N_0 = {size.n_inputs}"
    for name in ("teacher", "random"):
        found[f"{name}, {inputs}"] = load_dataset(name, n_inputs=size.n_inputs, **sizes)
    return found


def _compute(study: Study) -> "xr.Dataset":
    import xarray as xr

    size = study.of(_SIZES)
    columns: dict[str, list[list[Any]]] = {}
    names: list[str] = []
    for n_train in size.n_train:
        study.say(f"P = {n_train}: {size.n_seeds} choices of patterns of each data set")
        by_seed = [_sets(study, size, n_train, seed) for seed in range(size.n_seeds)]
        names = list(by_seed[0])
        for activation in _MARKERS:
            for name in names:
                found = [_at(one[name], activation) for one in by_seed]
                for key in found[0]:
                    columns.setdefault(key, []).append([row[key] for row in found])
    dims = ("n_train", "activation", "data", "seed", "precision")
    shape = len(size.n_train), len(_MARKERS), len(names), size.n_seeds, len(_PRECISIONS)
    return xr.Dataset(
        {key: (dims, np.reshape(rows, shape)) for key, rows in columns.items()},
        coords={
            "n_train": list(size.n_train),
            "activation": list(_MARKERS),
            "data": names,
            "seed": list(range(size.n_seeds)),
            "precision": list(_PRECISIONS),
        },
        attrs={"temperature": 0.0},
    )


def _at(data: Dataset, activation: str) -> dict[str, np.ndarray]:
    """Return by λ_1 the criterion, and what a width N_1 = P changes at T = 0."""
    X, y, net = data.X_train, data.y_train, Network((len(data.y_train),), activation)
    infinite = solve(net, X, y, temperature=0.0, theory="infinite")
    test: dict[str, Any] = {"X_test": data.X_test, "y_test": data.y_test}
    finite = solve_many(
        net,
        X,
        y,
        widths=net.widths,
        temperature=0.0,
        weight_precision=[(1.0, one) for one in _PRECISIONS],
        **test,
    ).squeeze(["width", "temperature", "layer"])
    precision, scores = np.array(_PRECISIONS), infinite.scores(data.X_test, data.y_test)
    return {
        "criterion": precision * float(np.asarray(infinite.criterion)),
        # at T = 0 the kernel's scale leaves the mean as it is
        "infinite_error": float(scores["bias2"]) + float(scores["variance"]) / precision,
        "error": finite["error"].values,
        "q_bar": finite["q_bar"].values,
    }


def _tabulate(dataset: "xr.Dataset") -> list[Table]:
    rows = []
    for name in dataset["data"].values:
        for activation in dataset["activation"].values:
            for n_train in dataset["n_train"].values:
                one = dataset.sel(data=name, activation=activation, n_train=n_train)
                gain = 100.0 * (one["error"] / one["infinite_error"] - 1.0).mean("seed")
                criterion = one["criterion"].sel(precision=1.0).values
                rows.append(
                    (
                        str(name),
                        str(activation),
                        f"{n_train}",
                        f"{criterion.mean():.3f} ± {criterion.std():.3f}",
                        f"{1.0 / criterion.mean():.3g}",
                        f"{float(one['q_bar'].sel(precision=1.0).mean()):.3f}",
                        *(f"{float(gain.sel(precision=value)):+.1f} %" for value in _PRECISIONS),
                    )
                )
    title = (
        "yᵀK⁻¹y/P at λ = 1, T = 0 (mean ± standard deviation over choices of patterns): finite "
        "width lowers the error below λ_1 = P/yᵀK⁻¹y; Q̄ at λ_1 = 1, and what finite width adds to "
        "the error, both at N_1 = P"
    )
    columns = (
        "data",
        "network",
        "P",
        "yᵀK⁻¹y/P",
        "P/yᵀK⁻¹y",
        "Q̄",
        *(f"error, λ_1 = {value:g}" for value in _PRECISIONS),
    )
    return [Table(title, columns, rows)]


def _draw(dataset: "xr.Dataset") -> dict[str, Any]:
    picture, axes = grid(1, 2, (4.0, 2.8))
    left, right = axes[0]
    for color, name in zip(shades(dataset.sizes["data"]), dataset["data"].values, strict=True):
        for activation, marker in _MARKERS.items():
            one = dataset.sel(data=name, activation=activation)
            left.errorbar(
                one["n_train"],
                one["criterion"].sel(precision=1.0).mean("seed"),
                one["criterion"].sel(precision=1.0).std("seed"),
                fmt=f"{marker}-" if activation == "erf" else f"{marker}--",
                color=color,
                ms=4,
                capsize=2,
                label=f"{name}, {activation}",
            )
            gain = one["error"] / one["infinite_error"] - 1.0
            right.plot(
                one["criterion"].values.ravel(),
                gain.values.ravel(),
                marker,
                color=color,
                ms=4,
                mfc="none",
            )
    left.axhline(1.0, **LIGHT)
    right.axhline(0.0, **LIGHT)
    right.axvline(1.0, **LIGHT)
    for axis, which in ((left, "x"), (left, "y"), (right, "x")):
        log_axis(axis, which, (1.0, 2.0, 5.0))
    left.set_xlabel(r"training patterns $P$")
    left.set_ylabel(r"$y^\top K^{-1}y/P$ at $\lambda_1 = 1$")
    right.set_xlabel(r"$\lambda_1 y^\top K^{-1}y/P$, $\lambda_1$ = 1 and 0.2")
    right.set_ylabel("error at $N_1 = P$ / infinite width − 1")
    handles, texts = left.get_legend_handles_labels()
    picture.legend(
        handles, texts, loc="outside lower center", ncols=4, frameon=False, fontsize="small"
    )
    return {"": picture}


figure = Figure(
    "criterion",
    "yᵀK⁻¹y/P over the data sets: where finite width wins at T = 0",
    _compute,
    _tabulate,
    _draw,
)
