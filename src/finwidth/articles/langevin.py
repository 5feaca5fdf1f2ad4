"""The seeds' discrete Langevin dynamics beside the exact sampler: its bias and its cost."""

import dataclasses
import hashlib
import json
import math
import shutil
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._basics.errors import AccuracyWarning
from .._basics.files import digest
from .._problem.network import Network
from .._results.compare import compare
from .._results.files import load, save
from .._results.scores import scores
from .._sampling.sample import sample
from .._solve import solve
from ..datasets import Dataset
from ._figure import Figure, Table
from ._picture import LIGHT, exact, grid, log_axis
from ._study import Study

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["figure"]


@dataclasses.dataclass(frozen=True)
class _Size:
    n_train: int
    n_test: int
    width: int
    steps: tuple[float, ...]  # h = η/T, with η the learning rate
    interval: float  # h times the steps between two draws that are kept
    draws: int  # of each chain


_TEMPERATURE = 0.1
_SIZES = {
    "quick": _Size(30, 100, 10, (0.015, 0.005, 0.0015), 0.3, 800),
    "default": _Size(100, 200, 20, (0.004, 0.0015, 0.0005), 0.1, 2000),
    "paper": _Size(500, 1000, 100, (0.001, 0.0003, 0.0001), 0.03, 2000),
}
_EXACT = "exact, readout integrated"


def _runs(size: _Size) -> dict[str, dict[str, Any]]:
    """Return the arguments of `sample` for each run."""
    whole: dict[str, Any] = {"model": "network", "num_samples": size.draws}
    runs: dict[str, dict[str, Any]] = {
        _EXACT: {"num_samples": size.draws},
        "exact, all weights": whole,
    }
    for h in size.steps:
        steps = round(size.interval / h)
        runs[f"Langevin, h = {h:g}"] = whole | {
            "sampler": "langevin",
            "num_warmup": max(50, size.draws // 4),
            "sampler_options": {"step_size": h, "num_steps": steps, "adjusted": False},
        }
    steps = round(size.interval / size.steps[0])
    runs["Langevin, Metropolis test"] = whole | {
        "sampler": "langevin",
        "num_warmup": size.draws // 2,
        "sampler_options": {"num_steps": steps},
    }
    return runs


def _compute(study: Study) -> "xr.Dataset":
    import xarray as xr

    size = study.of(_SIZES)
    name, data = next(iter(study.tasks(size.n_train, size.n_test).items()))
    net = Network((size.width,), "erf")
    runs, found = _runs(size), []
    for number, (run, arguments) in enumerate(runs.items(), start=1):
        study.say(f"{number}/{len(runs)} {run}")
        found.append(_stored(study, net, data, arguments))
    steps = [one.get("sampler_options", {}).get("step_size", math.nan) for one in runs.values()]
    return (
        xr.concat(found, xr.Variable("run", list(runs)))
        .assign_coords(step_size=("run", steps))
        .assign_attrs(
            data=name,
            n_train=size.n_train,
            width=size.width,
            activation="erf",
            temperature=_TEMPERATURE,
            interval=size.interval,
        )
    )


def _stored(study: Study, net: Network, data: Dataset, arguments: dict[str, Any]) -> "xr.Dataset":
    """Return what a run says, from the store if it is there; a run that was stopped goes on."""
    import xarray as xr

    if study.store is None:
        return _run(net, data, arguments, None, study.progress)
    told = json.dumps([net.record(), _TEMPERATURE, arguments], sort_keys=True)
    arrays = digest(data.X_train, data.y_train, data.X_test, data.y_test)
    key = hashlib.sha256(f"{told} {arrays}".encode()).hexdigest()[:16]
    folder = Path(study.store).expanduser() / "langevin"
    file, checkpoint = folder / f"{key}.nc", folder / key
    if file.exists():
        return load(file).to_dataset()
    folder.mkdir(parents=True, exist_ok=True)
    found = _run(net, data, arguments, checkpoint, study.progress)
    save(xr.DataTree(found), file)
    shutil.rmtree(checkpoint, ignore_errors=True)
    return found


def _run(
    net: Network,
    data: Dataset,
    arguments: dict[str, Any],
    checkpoint: Path | None,
    progress: bool,
) -> "xr.Dataset":
    """Return the scores of a run and what it cost."""
    import xarray as xr

    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)  # that a run is biased is what is shown
        tree = sample(
            net,
            data.X_train,
            data.y_train,
            temperature=_TEMPERATURE,
            X_test=data.X_test,
            y_test=data.y_test,
            keep=("v",),
            log_likelihood=False,
            posterior_predictive=False,
            checkpoint=checkpoint,
            progress=progress,
            **arguments,
        )
        seconds = time.perf_counter() - start
        theory = solve(net, data.X_train, data.y_train, temperature=_TEMPERATURE, theory="infinite")
        chains = compare(theory, tree)
        values = scores(tree)
    stats = tree["sample_stats"].to_dataset()
    return xr.Dataset(
        {str(name): float(value) for name, value in values.items()}
        | {
            "gradients": float(stats["n_steps"].sum()),
            "ess": float(chains["ess_bulk_min"]),
            "r_hat": float(chains["r_hat_max"]),
            "acceptance": float(stats["acceptance_rate"].mean()),
            "seconds": seconds,
        }
    )


def _bias(dataset: "xr.Dataset") -> "tuple[xr.DataArray, xr.DataArray]":
    """Return the error relative to the exact one, and its standard error."""
    exactly = dataset.sel(run=_EXACT, drop=True)
    ratio = dataset["error"] / exactly["error"]
    first, second = (one["error_mcse"] / one["error"] for one in (dataset, exactly))
    return ratio - 1.0, ratio * np.hypot(first, second)


def _tabulate(dataset: "xr.Dataset") -> list[Table]:
    bias, noise = _bias(dataset)
    rows = []
    for run in dataset["run"].values:
        one = dataset.sel(run=run)
        off = 100.0 * float(bias.sel(run=run)), 100.0 * float(noise.sel(run=run))
        ess = float(one["ess"])
        rows.append(
            (
                str(run),
                f"{float(one['error']):.5f} ± {float(one['error_mcse']):.5f}",
                "" if run == _EXACT else f"{off[0]:+.1f} ± {off[1]:.1f} %",
                f"{float(one['accuracy']):.4f}",
                f"{float(one['acceptance']):.3f}",
                f"{float(one['r_hat']):.3f}",
                f"{ess:.0f}",
                f"{float(one['gradients']) / ess:.0f}",
                f"{1000.0 * float(one['seconds']) / ess:.1f}",
            )
        )
    attrs = dataset.attrs
    return [
        Table(
            f"{attrs['data']}, P = {attrs['n_train']}, N_1 = {attrs['width']}, erf, "
            f"T = {attrs['temperature']:g}: discrete Langevin dynamics of learning rate η = h T, "
            f"a draw every {attrs['interval']:g}/h steps; gradients and milliseconds per effective "
            "draw (smallest bulk ESS)",
            (
                "",
                "error ± MCSE",
                "beside exact",
                "accuracy",
                "acceptance",
                "R-hat",
                "ESS",
                "gradients/ESS",
                "ms/ESS",
            ),
            rows,
        )
    ]


def _draw(dataset: "xr.Dataset") -> dict[str, Any]:
    picture, axes = grid(1, 2, (3.4, 2.6))
    left, right = axes[0]
    bias, noise = _bias(dataset)
    walks = np.flatnonzero(np.isfinite(dataset["step_size"].values))
    exact(left, dataset["step_size"][walks], bias[walks], noise[walks], label=None)
    left.axhline(0.0, **LIGHT)
    log_axis(left, "x", (1.0, 3.0))
    left.set_xlabel(r"step $h = \eta/T$")
    left.set_ylabel("error / exact − 1, ±2 MCSE")
    left.set_title("without Metropolis test", fontsize="small")
    cost = dataset["gradients"] / dataset["ess"]
    names = [str(one).replace(": ", ":\n").replace(", ", ",\n") for one in cost["run"].values]
    right.barh(np.arange(len(names)), cost, color="0.6")
    right.set_yticks(np.arange(len(names)), names, fontsize="x-small")
    right.invert_yaxis()
    log_axis(right, "x")
    right.set_xlabel("gradients per effective draw")
    return {"": picture}


figure = Figure(
    "langevin",
    "discrete Langevin dynamics beside the exact sampler: bias and cost",
    _compute,
    _tabulate,
    _draw,
)
