"""`finwidth compare`: theory against exact posterior."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._basics.errors import InputError
from ._app import app, command_line, complain
from ._hidden import Hidden
from ._options import Given, Report, Sampling, Setting, options
from ._output import Folder, print_json, print_table, progress, write_json
from ._records import comparison_record, mixed
from ._run import comparison_rows, sample_and_compare, solve_theory

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["compare"]

_WITH_FILE = {"file", "theory", "strict", "out", "json"}


@app.command()
@options()
def compare(
    given: Given,
    setting: Setting,
    hidden: Hidden,
    sampling: Sampling,
    report: Report,
    file: Annotated[
        Path | None, typer.Argument(help="A file that 'finwidth sample' wrote.")
    ] = None,
) -> None:
    """Compare a theory with the exact posterior: of FILE, or sampled now.

    Every score: error, its parts, and for labels -1 and +1 or one-hot the accuracy. The baseline is
    what a constant guess scores: the mean of the training labels, their most frequent class.
    With --out, DIR/compare.json holds what --json prints, DIR/compare.nc what 'finwidth plot' and
    'report' take, and DIR/sample.nc what was sampled.
    """
    import xarray as xr

    import finwidth as fw

    names = ("compare.json", "compare.nc", *(("sample.nc",) if file is None else ()))
    folder = None if report.out is None else Folder(report.out, *names)
    if file is None:
        network = setting.network(**hidden.fields())
        data = setting.dataset(network)
        solution = solve_theory(setting, network, data)
        tree, [comparison] = sample_and_compare(setting, sampling, network, data, [solution])
        if folder is not None:
            path = folder.file("sample.nc")
            fw.save(tree, path)
            progress(f"written: {path}")
    else:
        _refuse_with_file(given)
        comparison = _compare_file(file, setting.theory)
    record = comparison_record(comparison)
    if folder is not None:
        write_json(record, folder.file("compare.json"))
        comparison = comparison.assign_attrs(command=command_line())
        fw.save(xr.DataTree(comparison), folder.file("compare.nc"))
    if report.json:
        print_json(record)
    else:
        sampled = comparison.attrs["posterior"]
        print_table(
            f"{setting.theory} theory against {sampled} posterior",
            ("", "theory", f"{sampled} ± MCSE", "z", "baseline"),
            comparison_rows(comparison),
        )
        print(record["verdict"])
    if sampling.strict and not mixed(comparison):
        complain(record["verdict"])
        raise typer.Exit(1)


def _refuse_with_file(given: Given) -> None:
    """Raise InputError if an option is given although the file answers it."""
    for name in sorted(given - _WITH_FILE):
        raise InputError(
            "expected no data, network or sampler options with FILE, which holds them, "
            f"got --{name.replace('_', '-')}"
        )


def _compare_file(file: Path, theory: str) -> "xr.Dataset":
    """Solve the theory of a file's run and compare the two."""
    import finwidth as fw

    from .._problem.restored import restored_network
    from .._results.provenance import read_provenance

    tree = fw.load(file)
    record = read_provenance(tree)
    for group, name in (("constant_data", "X"), ("observed_data", "y")):
        if group not in tree.children or name not in tree[group].data_vars:
            raise InputError(
                f"expected FILE = a run with {name} in group {group!r}, got {str(file)!r}"
            )
    network = record.get("network")
    if not isinstance(network, dict) or "temperature" not in record:
        raise InputError(
            "expected FILE = a run whose provenance has network and temperature, "
            f"got {sorted(record)}"
        )
    # of an activation the record has a name and a digest, which `compare` checks
    solution = fw.solve(
        restored_network(network),
        tree["constant_data"]["X"].values,
        tree["observed_data"]["y"].values,
        temperature=record["temperature"],
        theory=theory,
        likelihood=record.get("likelihood", "gaussian"),
    )
    return fw.compare(solution, tree)
