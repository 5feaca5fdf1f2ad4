"""`finwidth plot`: the pictures of a result that is on disk."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._basics.errors import InputError
from ._app import app
from ._option import option
from ._options import Files, options
from ._output import Folder, print_json, progress

if TYPE_CHECKING:
    from .._results.kinds import Result

__all__ = ["plot"]

_FORMATS = ("png", "svg", "pdf")
_DPI = 150


@app.command()
@options(out=Path("finwidth-plots"))
def plot(
    files: Files,
    path: Annotated[
        Path,
        typer.Argument(help="File or folder of a run, comparison, map, learning curve or sweep."),
    ],
    x: Annotated[
        str | None,
        option("--x", "Of a curve or sweep: the coordinate of the horizontal axis."),
    ] = None,
    score: Annotated[
        list[str] | None,
        option("--score", "Of a curve or sweep: error, accuracy, …; repeatable, a panel each."),
    ] = None,
    format: Annotated[str, option("--format", "png, svg or pdf.")] = "png",
) -> None:
    """Draw what 'finwidth sample', 'compare', 'demo', 'map' or 'sweep' wrote, into DIR.

    A run: theory against posterior, f against the labels, ranks of the draws, order parameters of
    deep networks. Several runs or a comparison: scores over widths. A map, a learning curve or a
    sweep: errors over its grid.
    """
    from .._basics.checks import check_choice
    from .._results.kinds import read_result

    check_choice("--format", format, _FORMATS)
    folder = Folder(files.out)
    result = read_result(path)
    drawn = _draw(result, x, score, folder, format)
    if files.json:
        print_json({"kind": result.kind, "files": drawn})
    else:
        for file in drawn:
            print(file)


def _draw(
    result: "Result", x: str | None, score: list[str] | None, folder: Folder, suffix: str
) -> list[Path]:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise InputError(
            "expected matplotlib for pictures, got none: install finwidth[plots]"
        ) from None
    from .._basics.files import atomic_path
    from .._plots._pictures import pictures

    plt.switch_backend("Agg")
    wanted = pictures(result, x, score)
    drawn = []
    for picture in wanted:
        progress(f"drawing: {picture.title}")
        figure, file = picture.draw(), folder.file(f"{picture.name}.{suffix}")
        with atomic_path(file) as temporary:
            figure.savefig(temporary, dpi=_DPI)
        plt.close(figure)
        drawn.append(file)
    return drawn
