"""`finwidth map`: all theories against exact sampling over a grid of problems."""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._basics.errors import InputError
from ._app import app, command_line, complain
from ._grid import Accuracy, Problems, share
from ._option import int_option, option
from ._options import Files, Given, options
from ._output import Folder, print_json, print_table, progress

if TYPE_CHECKING:
    import xarray as xr

    from .._sweeps.map import MapPoint

__all__ = ["map_"]


@dataclasses.dataclass(frozen=True)
class Grid(Problems):
    """The points: the product of all these, or a preset."""

    preset: Annotated[
        str | None,
        option("--preset", "docs: the grid of the documentation, instead of a grid of one's own."),
    ] = None

    def points(self, given: Collection[str] = ()) -> "list[MapPoint]":
        """Return the points, or raise InputError, also for a field `given` beside a preset."""
        from .._basics.checks import check_choice
        from .._sweeps.map_grid import PRESETS, grid_points

        if self.preset is not None:
            make = PRESETS[check_choice("preset", self.preset, PRESETS)]
            for name in given:
                if name not in ("preset", "theory"):
                    raise InputError(
                        "expected no options of the grid with --preset, got "
                        f"--{name.replace('_', '-')}"
                    )
            return make()
        return grid_points(
            [self.dataset(text) for text in self.data],
            activations=self.activation,
            depths=self.depth,
            widths=self.all_widths,
            loads=self.load,
            temperatures=self.temperature,
        )


@dataclasses.dataclass(frozen=True)
class Sampled(Accuracy):
    """How well each point is sampled, and with which seed."""

    seed: Annotated[int, int_option("--seed", "Seed of the sampler.")] = 0


@app.command("map")
@options(out=Path("finwidth-map"))
def map_(
    given: Given,
    grid: Grid,
    accuracy: Sampled,
    files: Files,
    scheduler: Annotated[
        str | None,
        option("--scheduler", "A running dask scheduler, tcp://HOST:PORT; none: this machine."),
    ] = None,
) -> None:
    """Compare all theories with exact sampling over a grid, and write it to DIR/map.nc.

    DIR also keeps each result, so that the same command continues a map that was stopped, and
    more points or theories add to it.
    """
    import xarray as xr

    import finwidth as fw

    folder = Folder(files.out, "map.nc")
    points = grid.points([name for name in sorted(given) if hasattr(grid, name)])
    theories = grid.theory or None
    try:
        dataset = fw.error_map(
            points,
            theories=theories,
            folder=files.out,
            relative_mcse=accuracy.relative_mcse,
            target_ess=accuracy.ess,
            max_draws=accuracy.draws,
            seed=accuracy.seed,
            scheduler=scheduler,
        )
    except KeyboardInterrupt:
        complain(
            f"what was computed is in {folder.path}; the same command continues",
            kind="interrupted",
        )
        raise typer.Exit(130) from None
    path = folder.file("map.nc")
    fw.save(xr.DataTree(dataset.assign_attrs(command=command_line())), path)
    if files.json:
        print_json(_record(dataset) | {"file": path})
        return
    _print(dataset)
    progress(f"written: {path}")


_REGIME = ("data", "network", "activation", "depth", "temperature")
_POINT = ("data", "activation", "widths", "network", "layers", "n_patterns", "load", "temperature")
_EXACT = (
    "exact_error",
    "exact_mcse",
    "exact_accuracy",
    "exact_accuracy_mcse",
    "r_hat",
    "ess",
    "counted",
    "exact_cpu_seconds",
)
_THEORY = ("relative_error", "z", "state", "seconds", "cpu_seconds")


def _record(dataset: "xr.Dataset") -> dict[str, Any]:
    from .._sweeps.map import QUANTITIES

    points = []
    for i in range(dataset.sizes["point"]):
        row = dataset.isel(point=i)
        columns = (*QUANTITIES, *_THEORY)
        theories = {
            str(name): {column: row[column].sel(theory=name).item() for column in columns}
            for name in dataset["theory"].values
        }
        values = {name: row[name].item() for name in (*_POINT, *_EXACT)}
        points.append(values | {"theories": theories})
    return {"points": points, "summary": _summary(dataset)}


def _summary(dataset: "xr.Dataset") -> list[dict[str, Any]]:
    """Return the summary, one entry for each regime and theory; none if no point counts."""
    import finwidth as fw

    if not bool(dataset["counted"].any()):
        return []
    summary = fw.summarize_error_map(dataset)
    columns = ("n_solved", "n_closest", "n_within", "median", "largest", "cpu_seconds")
    return [
        {name: row[name].item() for name in (*_REGIME, "n_points", "exact_cpu_seconds")}
        | {"theory": str(theory)}
        | {name: row[name].sel(theory=theory).item() for name in columns}
        for row in (summary.isel(regime=i) for i in range(summary.sizes["regime"]))
        for theory in summary["theory"].values
    ]


def _print(dataset: "xr.Dataset") -> None:
    rows = []
    for i in range(dataset.sizes["point"]):
        row = dataset.isel(point=i)
        mark = "" if row["counted"].item() else " !"
        rows.append(
            (
                f"{row['data'].item()} {row['activation'].item()} {_layers(row)} "
                f"T={row['temperature'].item():g}",
                f"{row['exact_error'].item():.4f} ± {row['exact_mcse'].item():.4f}",
                "",
                f"R-hat {row['r_hat'].item():.3f}{mark}",
                share(row["exact_accuracy"].item(), row["exact_accuracy_mcse"].item()),
            )
        )
        for name in dataset["theory"].values:
            one = row.sel(theory=name)
            if one["state"].item() != "solved":
                rows.append((f"  {name}", one["state"].item(), "", "", ""))
                continue
            relative, z = one["relative_error"].item(), one["z"].item()
            values = (f"{one['error'].item():.4f}", f"{100 * relative:+.1f} %", f"{z:+.1f}")
            rows.append((f"  {name}", *values, share(one["accuracy"].item())))
    print_table(
        "Exact test error and accuracy of a draw ± Monte Carlo error (MCSE), and below them what "
        "theories say",
        ("", "error", "relative", "z", "accuracy"),
        rows,
    )
    _print_summary(dataset)
    _print_costs(dataset)


def _layers(row: "xr.Dataset") -> str:
    if row["network"].item() != "dense":
        return row["layers"].item()
    return f"N={row['widths'].item().replace(',', '-')}"


def _print_costs(dataset: "xr.Dataset") -> None:
    """Print the cost of each theory, and of sampling the same points, where it is known."""
    times = dataset["cpu_seconds"].where(dataset["state"] == "solved")
    exact = dataset["exact_cpu_seconds"]
    rows = []
    for name in dataset["theory"].values:
        both = times.sel(theory=name).notnull() & exact.notnull()
        if both.any():
            pair = times.sel(theory=name), exact
            own, of_exact = (one.where(both).median().item() for one in pair)
            rows.append((str(name), str(int(both.sum())), f"{own:.3g}", f"{of_exact:.3g}"))
    if rows:
        print_table(
            "CPU seconds of a point that the theory solves, and of sampling it (medians)",
            ("theory", "points", "solved", "sampled"),
            rows,
        )


def _print_summary(dataset: "xr.Dataset") -> None:
    records = _summary(dataset)
    left_out = int((~dataset["counted"]).sum())
    if left_out:
        print(f"{left_out} point(s) with R-hat > 1.01 (!) are left out below")
    regimes: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for one in records:
        key = tuple(one[name] for name in _REGIME)
        regimes.setdefault(key, []).append(one)
    for (data, network, activation, depth, temperature), found in regimes.items():
        n_points = found[0]["n_points"]
        ranked = sorted(found, key=lambda one: -one["n_closest"])
        closest = ", ".join(
            f"{one['theory']} {one['n_closest']}" for one in ranked if one["n_closest"]
        )
        within = ", ".join(f"{one['theory']} {one['n_within']}" for one in found if one["n_within"])
        print(
            f"{data}, {network}, {activation}, L = {depth}, T = {temperature:g}: closest of "
            f"{n_points}: {closest or 'none'}; within 2 MCSE: {within or 'none'}"
        )
