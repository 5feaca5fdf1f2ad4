"""`finwidth map`: all theories against exact sampling over a grid of problems."""

import dataclasses
import math
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._basics.errors import InputError
from ._app import app, complain
from ._option import CLASSES, data_options, float_option, int_option, named, option, widths_option
from ._options import Files, Given, options
from ._output import Folder, print_json, print_table, progress

if TYPE_CHECKING:
    import xarray as xr

    from .._sweeps.map import MapPoint
    from ..datasets import Dataset

__all__ = ["map_"]


def _list(*default: Any) -> Any:
    return dataclasses.field(default_factory=lambda: list(default))


@dataclasses.dataclass(frozen=True)
class Grid:
    """The points: the product of all these, or a preset."""

    data: Annotated[
        list[str],
        option(
            "--data",
            "Data set, with options: digits, random:n_inputs=50,train=120, mnist:path=FILE; "
            "repeatable, like all options down to --theory.",
            metavar="NAME[:OPTION=VALUE,…]",
        ),
    ] = _list("digits")
    activation: Annotated[list[str], option("--activation", "Activation.")] = _list("erf")
    depth: Annotated[list[int], int_option("--depth", "Number of hidden layers.")] = _list(1)
    widths: Annotated[
        list[Any],
        widths_option(
            "Widths N, one network for each; all hidden layers of a network have one width. "
            "Default: 20,50,200 if there is no --load.",
        ),
    ] = _list()
    load: Annotated[list[float], float_option("--load", "P/N instead of a width.")] = _list()
    temperature: Annotated[list[float], float_option("--temperature", "T.")] = _list(0.01)
    theory: Annotated[
        list[str],
        option(
            "--theory",
            "Theory, mixture or fluctuations. Default: all but cavity, which is slow.",
        ),
    ] = _list()
    train: Annotated[int, int_option("--train", "Number of training patterns P.")] = 100
    test: Annotated[int, int_option("--test", "Number of test patterns.")] = 100
    data_seed: Annotated[
        int | None, int_option("--data-seed", "Seed of the order or of generated data.")
    ] = None
    classes: Annotated[Any, CLASSES] = (0, 1)
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
        widths = [width for part in self.widths for width in part]
        if not widths and not self.load:
            widths = [20, 50, 200]
        return grid_points(
            [self._dataset(text) for text in self.data],
            activations=self.activation,
            depths=self.depth,
            widths=widths,
            loads=self.load,
            temperatures=self.temperature,
        )

    def _dataset(self, text: str) -> "Dataset":
        """Return the data set of NAME[:OPTION=VALUE,…]; its options win over the common ones."""
        import finwidth as fw

        name, _, rest = text.partition(":")
        common: dict[str, Any] = {
            "classes": self.classes,
            "train": self.train,
            "test": self.test,
            "seed": self.data_seed,
        }
        try:
            pairs = [named(part) for part in rest.split(",")] if rest else []
        except ValueError:
            raise InputError(f"expected --data = NAME[:OPTION=VALUE,…], got {text!r}") from None
        options = common | data_options("--data", pairs, allowed=common)
        n_train, n_test = options.pop("train"), options.pop("test")
        return fw.load_dataset(name, n_train=n_train, n_test=n_test, **options)


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """How well each point is sampled."""

    relative_mcse: Annotated[
        float,
        float_option("--relative-mcse", "Monte Carlo error of the test error, relative to it."),
    ] = 0.01
    ess: Annotated[
        float,
        float_option("--ess", "Effective draws at first; more follow until R-hat ≤ 1.01."),
    ] = 1000.0
    draws: Annotated[int, int_option("--draws", "Most draws of each chain.")] = 10_000
    seed: Annotated[int, int_option("--seed", "Seed of the sampler.")] = 0


@app.command("map")
@options(out=Path("finwidth-map"))
def map_(given: Given, grid: Grid, accuracy: Accuracy, files: Files) -> None:
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
        )
    except KeyboardInterrupt:
        complain(
            f"what was computed is in {folder.path}; the same command continues",
            kind="interrupted",
        )
        raise typer.Exit(130) from None
    path = folder.file("map.nc")
    fw.save(xr.DataTree(dataset), path)
    if files.json:
        print_json(_record(dataset) | {"file": path})
        return
    _print(dataset)
    progress(f"written: {path}")


_POINT = ("data", "activation", "widths", "n_patterns", "load", "temperature")
_EXACT = (
    "exact_error",
    "exact_mcse",
    "exact_accuracy",
    "exact_accuracy_mcse",
    "r_hat",
    "ess",
    "counted",
)
_THEORY = ("relative_error", "z", "state", "seconds")


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
    columns = ("n_solved", "n_closest", "n_within", "median", "largest")
    return [
        {name: row[name].item() for name in ("data", "activation", "depth", "temperature")}
        | {"theory": str(theory), "n_points": row["n_points"].item()}
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
                f"{row['data'].item()} {row['activation'].item()} "
                f"N={row['widths'].item().replace(',', '-')} T={row['temperature'].item():g}",
                f"{row['exact_error'].item():.4f} ± {row['exact_mcse'].item():.4f}",
                "",
                f"R-hat {row['r_hat'].item():.3f}{mark}",
                _share(row["exact_accuracy"].item(), row["exact_accuracy_mcse"].item()),
            )
        )
        for name in dataset["theory"].values:
            one = row.sel(theory=name)
            if one["state"].item() != "solved":
                rows.append((f"  {name}", one["state"].item(), "", "", ""))
                continue
            relative, z = one["relative_error"].item(), one["z"].item()
            values = (f"{one['error'].item():.4f}", f"{100 * relative:+.1f} %", f"{z:+.1f}")
            rows.append((f"  {name}", *values, _share(one["accuracy"].item())))
    print_table(
        "Exact test error and accuracy of a draw ± Monte Carlo error (MCSE), and below them what "
        "theories say",
        ("", "error", "relative", "z", "accuracy"),
        rows,
    )
    _print_summary(dataset)


def _share(value: float, mcse: float = math.nan) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.4f}" if math.isnan(mcse) else f"{value:.4f} ± {mcse:.4f}"


def _print_summary(dataset: "xr.Dataset") -> None:
    records = _summary(dataset)
    left_out = int((~dataset["counted"]).sum())
    if left_out:
        print(f"{left_out} point(s) with R-hat > 1.01 (!) are left out below")
    regimes: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for one in records:
        key = tuple(one[name] for name in ("data", "activation", "depth", "temperature"))
        regimes.setdefault(key, []).append(one)
    for (data, activation, depth, temperature), found in regimes.items():
        n_points = found[0]["n_points"]
        ranked = sorted(found, key=lambda one: -one["n_closest"])
        closest = ", ".join(
            f"{one['theory']} {one['n_closest']}" for one in ranked if one["n_closest"]
        )
        within = ", ".join(f"{one['theory']} {one['n_within']}" for one in found if one["n_within"])
        print(
            f"{data}, {activation}, L = {depth}, T = {temperature:g}: closest of {n_points}: "
            f"{closest or 'none'}; within 2 MCSE: {within or 'none'}"
        )
