"""`finwidth sweep`: any grid of problems, solved and sampled, here or on a cluster."""

import dataclasses
import itertools
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._basics.errors import InputError
from ._app import app, command_line, complain
from ._grid import Accuracy, Problems, several, share
from ._hidden import LAYER, parse_layers, resized
from ._option import PRECISIONS, float_option, int_option, option
from ._options import Given, Json, options
from ._output import Folder, print_json, print_table, progress
from ._toml import read_table

if TYPE_CHECKING:
    import xarray as xr

    from .._problem.network import Network
    from .._sweeps.grid import Grid
    from ..datasets import Dataset

__all__ = ["sweep"]

_MOST_ROWS = 200  # of the table on stdout


@dataclasses.dataclass(frozen=True)
class Points(Problems):
    """The grid: every combination of these."""

    temperature: Annotated[
        list[float], float_option("--temperature", "T. Default: 0.01, classes 1.")
    ] = several()
    theory: Annotated[
        list[str],
        option("--theory", "Theory, mixture or fluctuations; none: none. Default: nested."),
    ] = several()
    likelihood: Annotated[
        list[str], option("--likelihood", "gaussian (the default), logit, probit, softmax.")
    ] = several()
    weight_precision: Annotated[
        list[Any],
        option("--weight-precision", "Weight precisions, input layer first.", **PRECISIONS),
    ] = several()
    bias_precision: Annotated[
        list[Any], option("--bias-precision", "Bias precisions, likewise.", **PRECISIONS)
    ] = several()
    sample: Annotated[
        bool, typer.Option("--sample", help="Sample the exact posterior at each point, too.")
    ] = False
    seed: Annotated[list[int], int_option("--seed", "Seed of the sampler.")] = several()
    layer: Annotated[list[str], LAYER] = several()
    readout_activation: Annotated[
        str | None,
        option("--readout-activation", "That before the readout; default: --activation."),
    ] = None

    def grid(self) -> "Grid":
        """Return the points, or raise InputError."""
        from .._likelihoods import choose_likelihood

        grids = []
        for name in self.likelihood or ["gaussian"]:
            law = choose_likelihood(name)
            more: dict[str, Any] = {"outputs": "index"} if law.one_label else {}
            default = 0.01 if law.default_temperature is None else law.default_temperature
            for text in self.data:
                if any(layer.images for layer in parse_layers(self.layer)):
                    more |= {"image": True}
                data = self.dataset(text, **more)
                grids.append(self._of(data, name, law.one_label, self.temperature or [default]))
        whole = grids[0]
        for one in grids[1:]:
            whole += one
        return whole

    def _of(self, data: "Dataset", law: str, indexed: bool, temperatures: list[float]) -> "Grid":
        import finwidth as fw

        theories = self.theory or ["nested"]
        return fw.grid(
            data=[data],
            net=self._networks(data, indexed),
            temperature=temperatures,
            theory=[] if theories == ["none"] else theories,
            sample=self.sample,
            seed=self.seed or 0,
            likelihood=law,
        )

    def _networks(self, data: "Dataset", indexed: bool) -> "list[Network]":
        import finwidth as fw

        for load in self.load:
            if not load > 0:
                raise InputError(f"expected load = a float > 0, got {load!r}")
        for depth in self.depth:
            if depth < 1:
                raise InputError(f"expected depth = an int of at least 1, got {depth!r}")
        loads = [max(1, round(len(data.y_train) / one)) for one in self.load]
        if indexed:
            outputs = max(len(set(data.y_train.tolist())), len(self.classes or ()))
        else:
            outputs = 1 if data.y_train.ndim == 1 else data.y_train.shape[1]
        return [
            fw.Network(
                activation=activation,
                weight_precision=weight,
                bias_precision=bias,
                outputs=outputs,
                readout_activation=self.readout_activation,
                **hidden,
            )
            for activation, weight, bias, hidden in itertools.product(
                self.activation,
                self.weight_precision or [1.0],
                self.bias_precision or [None],
                self._hidden(loads),
            )
        ]

    def _hidden(self, loads: list[int]) -> list[dict[str, Any]]:
        """Return the widths or layers of each network."""
        if not self.layer:
            widths = dict.fromkeys([*self.all_widths, *loads])
            return [
                {"widths": (width,) * depth}
                for depth, width in itertools.product(self.depth, widths)
            ]
        if self.depth != [1]:
            raise InputError(f"expected --depth or --layer, got both: {self.depth}, {self.layer}")
        layers = parse_layers(self.layer)
        if not self.widths and self.width is None and not self.load:
            return [{"layers": layers}]
        widths = dict.fromkeys([*self.all_widths, *loads])
        return [{"layers": resized(layers, width)} for width in widths]


@app.command()
@options()
def sweep(
    given: Given,
    points: Points,
    accuracy: Accuracy,
    file: Annotated[
        Path | None,
        typer.Argument(help="A TOML file: [grid] has the options, as lists; [sampling] the rest."),
    ] = None,
    store: Annotated[
        Path, typer.Option("--store", metavar="DIR", help="Where results are kept; made if absent.")
    ] = Path("finwidth-sweep"),
    scheduler: Annotated[
        str | None,
        option("--scheduler", "A running dask scheduler, tcp://HOST:PORT; none: this machine."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for the files; default: the store."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 also if chains have not mixed.")
    ] = False,
    json: Json = False,
) -> None:
    """Solve and sample every combination of data, networks, temperatures and theories.

    The grid is that of FILE or of the options. It is written to DIR/sweep.nc and DIR/sweep.zarr.
    The store keeps each result: the same command continues a sweep that was stopped, and a changed
    one does what has changed.
    """
    import xarray as xr

    import finwidth as fw

    if file is not None:
        _refuse_with_file(given)
        tables = read_table(file, {"grid": Points, "sampling": Accuracy})
        points, accuracy = tables["grid"], tables["sampling"]
    folder = Folder(store if out is None else out, "sweep.nc")
    grid = points.grid()
    try:
        dataset = fw.sweep(
            grid,
            store=store,
            scheduler=scheduler,
            relative_mcse=accuracy.relative_mcse,
            target_ess=accuracy.ess,
            max_draws=accuracy.draws,
        )
    except KeyboardInterrupt:
        complain(f"what was computed is in {store}; the same command continues", kind="interrupted")
        raise typer.Exit(130) from None
    dataset = dataset.assign_attrs(command=command_line())
    files = [folder.file("sweep.nc"), folder.file("sweep.zarr")]
    fw.save(xr.DataTree(dataset), files[0])
    _write_zarr(dataset, files[1])
    rows = _rows(dataset)
    counts = Counter(row["state"] for row in rows)
    if json:
        print_json({"points": rows, "states": counts, "files": files})
    else:
        _print(rows)
        print(", ".join(f"{count} {state}" for state, count in counts.items()))
        progress("written: " + ", ".join(str(path) for path in files))
    _exit(rows, strict)


def _exit(rows: list[dict[str, Any]], strict: bool) -> None:
    """Exit 1 where points failed or, if `strict`, chains have not mixed."""
    bad = [row for row in rows if row["state"] in ("failed", "not converged")]
    if strict:
        bad += [row for row in rows if row["state"] == "sampled" and not row["converged"]]
    if bad:
        complain(f"{len(bad)} of {len(rows)} points have not succeeded; the first: {_line(bad[0])}")
        raise typer.Exit(1)


def _refuse_with_file(given: Given) -> None:
    """Raise InputError if an option is given although the file answers it."""
    for name in sorted(given - {"file", "store", "scheduler", "out", "strict", "json"}):
        raise InputError(
            "expected no options of the grid or of sampling with FILE, which holds them, got "
            f"--{name.replace('_', '-')}"
        )


def _write_zarr(dataset: "xr.Dataset", path: Path) -> None:
    """Write a Zarr folder, whole or not at all."""
    new, old = path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")
    for left in (new, old):  # of a command that was killed
        shutil.rmtree(left, ignore_errors=True)
    dataset.to_zarr(new, mode="w", zarr_format=2, consolidated=True)
    if path.exists():
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


_AXES = ("data", "net", "temperature", "likelihood", "theory", "seed")
_MORE = ("widths", "activation", "n_patterns", "load", "weight_precision")


def _rows(dataset: "xr.Dataset") -> list[dict[str, Any]]:
    """Return the points that were asked, one after the other."""
    full = dataset.expand_dims(
        [name for name in _AXES if name in dataset and name not in dataset.dims]
    )
    flat = full.stack(point=[name for name in _AXES if name in full.dims])
    rows = []
    for i in range(flat.sizes["point"]):
        row = flat.isel(point=i)
        if row["state"].item() == "not asked":
            continue
        names = [name for name in (*_AXES, *_MORE, *map(str, flat.data_vars)) if name in row]
        rows.append({name: row[name].item() for name in names})
    return rows


def _line(row: dict[str, Any]) -> str:
    what = f"{row['data']} {row['net']} T={row['temperature']:g} {row['theory']}: {row['state']}"
    return f"{what}, {row['reason']}" if row["reason"] else what


def _print(rows: list[dict[str, Any]]) -> None:
    scores = [name for name in ("error", "accuracy", "log_loss") if any(name in r for r in rows)]
    lines = []
    for row in rows[:_MOST_ROWS]:
        cells = [share(row[name], row.get(f"{name}_mcse", math.nan)) for name in scores]
        mark = row["state"] if row["state"] != "sampled" else f"R-hat {row['r_hat']:.3f}"
        seed = f" seed {row['seed']}" if row["theory"] == "exact" and row.get("seed") else ""
        label = f"{row['data']} {row['net']} T={row['temperature']:g}"
        lines.append((label, f"{row['theory']}{seed}", *cells, mark))
    title = "Scores of theories and of the exact posterior (± Monte Carlo error)"
    print_table(title, ("", "theory", *scores, ""), lines)
    if len(rows) > len(lines):
        print(f"and {len(rows) - len(lines)} more")
