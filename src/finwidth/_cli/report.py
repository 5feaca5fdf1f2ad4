"""`finwidth report`: a result as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from .._basics.errors import InputError
from ._app import app
from ._options import Json, options
from ._output import print_json, progress

__all__ = ["report"]


@app.command()
@options()
def report(
    path: Annotated[
        Path,
        typer.Argument(help="File or folder of a run, comparison, map, learning curve or sweep."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The page; default: PATH with .html."),
    ] = None,
    json: Json = False,
) -> None:
    """Write one self-contained HTML page: verdicts, pictures, tables, settings, how to repeat it.

    It needs no network, no script and no other file.
    """
    import importlib.util

    from .._basics.files import check_target
    from .._results.kinds import read_result

    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("expected matplotlib for pictures, got none: install finwidth[plots]")
    result = read_result(path)
    target = out if out is not None else _beside(path)
    check_target(target)
    from .._report import write_report

    file = write_report(result, target, progress)
    size = file.stat().st_size
    if json:
        print_json({"kind": result.kind, "file": file, "bytes": size})
    else:
        print(file)


def _beside(path: Path) -> Path:
    """Return where the page of a file or folder goes: beside it."""
    whole = path.resolve()
    return whole.with_name(f"{whole.name.removesuffix('.nc')}.html")
