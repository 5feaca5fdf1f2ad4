"""`finwidth demo`: theory and exact posterior at several widths, a table and a picture."""

import dataclasses
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .._basics.errors import ConvergenceError, InputError
from ._app import app, complain
from ._hidden import Widths
from ._options import Files, Sampling, Setting, options
from ._output import Folder, print_json, print_table, progress
from ._records import comparison_record, mixed, setting_record
from ._run import sample_and_compare, score_cells, solve_theory

if TYPE_CHECKING:
    import xarray as xr

    from ..datasets import Dataset
    from ..theories._solution import Solution

__all__ = ["demo"]


@dataclasses.dataclass(frozen=True)
class _Finished:
    """A width whose run is on disk, compared with the theory and with infinite width."""

    theory: "xr.Dataset"
    infinite: "xr.Dataset"
    file: Path

    @property
    def width(self) -> int:
        return int(self.theory.width)


@app.command()
@options(temperature=0.1, out=Path("finwidth-demo"))
def demo(setting: Setting, widths: Widths, sampling: Sampling, files: Files) -> None:
    """Compare theory, infinite width and exact posterior at several widths: error and accuracy.

    One network with one hidden layer, or with those of --layer, for each of --widths. DIR gets a
    netCDF file for each and a picture of all; Ctrl-C keeps the widths that are finished. A constant
    guess is the mean of the training labels, and their most frequent class.
    """
    networks = [setting.network(**fields) for fields in widths.fields()]
    wanted = [network.widths[0] for network in networks]
    if isinstance(setting.temperature, str):
        raise InputError(
            "expected --temperature = a float, the same for all widths, got "
            f"{setting.temperature!r}"
        )
    folder = Folder(files.out, "comparison.png", *map(_file_name, wanted))
    data = setting.dataset(networks[0])
    solutions = [
        [solve_theory(setting, network, data, theory) for theory in (None, "infinite")]
        for network in networks
    ]
    finished: list[_Finished] = []
    code = 0
    try:
        for pair in solutions:
            finished.append(_sample(setting, sampling, data, pair, folder))
    except KeyboardInterrupt:
        complain(_kept(finished, wanted, folder), kind="interrupted")
        code = 130
    except ConvergenceError as error:
        complain(f"{error}; {_kept(finished, wanted, folder)}")
        code = 1
    if finished:
        picture = _picture(finished, folder)
        if files.json:
            asked = setting_record(networks[0], setting.temperature, data)
            depth = len(asked["network"]["widths"])
            asked["network"]["widths"] = [[one.width] * depth for one in finished]
            print_json(asked | {"runs": _runs(finished), "picture": picture})
        else:
            _print(setting, data, finished)
        progress(f"written: {', '.join(str(p) for p in _files(finished, picture))}")
    if not code and sampling.strict and not all(mixed(one.theory) for one in finished):
        complain("expected chains that have mixed, got a larger R-hat; see the verdicts")
        code = 1
    if code:
        raise typer.Exit(code)


def _sample(
    setting: Setting,
    sampling: Sampling,
    data: "Dataset",
    solutions: Sequence["Solution"],
    folder: Folder,
) -> _Finished:
    import finwidth as fw

    network = solutions[0].network
    width = network.widths[0]
    progress(f"width {width}: sampling the exact posterior")
    # hidden weights would make the files ten times as large; 'finwidth sample' keeps them
    tree, reports = sample_and_compare(setting, sampling, network, data, solutions, keep=("v",))
    file = folder.file(_file_name(width))
    fw.save(tree, file)
    return _Finished(theory=reports[0], infinite=reports[1], file=file)


def _file_name(width: int) -> str:
    return f"width-{width}.nc"


def _kept(finished: Sequence[_Finished], widths: Sequence[int], folder: Folder) -> str:
    kept = ", ".join(str(one.width) for one in finished)
    if not kept:
        return f"none of the widths {list(widths)} was finished, nothing was written"
    return f"kept the finished widths ({kept}) of {list(widths)} in {folder.path}"


def _picture(finished: Sequence[_Finished], folder: Folder) -> Path | None:
    """Draw all comparisons and return where, or None where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        complain(
            "expected matplotlib for the picture, got none: install finwidth[plots]", "warning"
        )
        return None
    import matplotlib

    import finwidth as fw

    from .._basics.files import atomic_path

    matplotlib.use("Agg")
    infinite = finished[0].infinite
    values = {str(q): float(infinite.theory.sel(quantity=q)) for q in infinite["quantity"].values}
    path = folder.file("comparison.png")
    with atomic_path(path) as temporary:
        axes = fw.plot_comparison(
            [one.theory for one in finished], infinite=values if len(finished) > 1 else None
        )
        axes[0].figure.savefig(temporary, dpi=150)
    return path


def _runs(finished: Sequence[_Finished]) -> list[dict[str, Any]]:
    return [
        {
            "width": one.width,
            **comparison_record(one.theory),
            "infinite": comparison_record(one.infinite)["quantities"],
            "file": one.file,
        }
        for one in finished
    ]


def _files(finished: Sequence[_Finished], picture: Path | None) -> list[Path]:
    return [one.file for one in finished] + ([] if picture is None else [picture])


def _print(setting: Setting, data: "Dataset", finished: Sequence[_Finished]) -> None:
    rows, guesses = [], {}
    for one in finished:
        width = str(one.width)
        for name, digits in (("error", 4), ("accuracy", 5), ("log_loss", 5)):
            if name in one.theory["quantity"].values:
                theory, exact, z, guesses[name] = score_cells(one.theory, name, digits)
                infinite = score_cells(one.infinite, name, digits)[0]
                rows.append((width, name, theory, infinite, exact, z))
                width = ""
    print_table(
        f"Test error and accuracy of a draw: {data.name}, P = {len(data.y_train)}, "
        f"{setting.activation}, T = {setting.temperature:g}",
        ("width", "", setting.theory, "infinite", "exact ± MCSE", "z"),
        rows,
    )
    known = [f"{name} {guess}" for name, guess in guesses.items() if guess]
    print(f"A constant guess: {', '.join(known)}")
    for one in finished:
        print(f"width {one.width}: {one.theory.attrs['verdict']}")
