"""`finwidth sample`: the exact posterior."""

from pathlib import Path

import typer

from ._app import app, complain
from ._hidden import Hidden
from ._options import Extent, Files, Sampling, Setting, options
from ._output import Folder, print_json, print_table, progress
from ._records import comparison_record, mixed, setting_record
from ._run import diagnostics_rows, sample_and_compare, solve_theory

__all__ = ["sample"]


@app.command()
@options(out=Path("finwidth-sample"))
def sample(
    setting: Setting, hidden: Hidden, sampling: Sampling, extent: Extent, files: Files
) -> None:
    """Sample the exact posterior and write it, with the theory's prediction, to DIR/sample.nc.

    Ctrl-C keeps the draws there are; a run with --checkpoint survives any kill.
    """
    import finwidth as fw

    from .._sampling.sample import SamplingInterrupted

    folder = Folder(files.out, "sample.nc")
    network = setting.network(**hidden.fields())
    data = setting.dataset(network)
    solution = solve_theory(setting, network, data)
    try:
        tree, [comparison] = sample_and_compare(
            setting, sampling, network, data, [solution], extent=extent
        )
    except SamplingInterrupted as interruption:
        path = folder.file("sample.nc")
        fw.save(interruption.tree, path)
        complain(f"kept the draws so far in {path}", kind="interrupted")
        raise typer.Exit(130) from None
    path = folder.file("sample.nc")
    fw.save(tree, path)
    if files.json:
        asked = setting_record(network, solution.temperature, data)
        print_json(asked | comparison_record(comparison) | {"file": path})
    else:
        sampled = comparison.attrs["posterior"]
        print_table(
            f"{sampled} posterior, {data.name}, "
            f"widths {list(network.widths)}, T = {solution.temperature:g}",
            ("", f"{setting.theory} theory", f"{sampled} ± MCSE", "baseline"),
            diagnostics_rows(comparison),
        )
        progress(f"written: {path}")
    if sampling.strict and not mixed(comparison):
        complain(comparison.attrs["verdict"])
        raise typer.Exit(1)
