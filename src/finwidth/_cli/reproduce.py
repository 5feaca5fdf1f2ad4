"""`finwidth reproduce`: the figures of the talk and of the article."""

import dataclasses
import importlib.util
import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._basics.errors import InputError
from ._app import app, complain
from ._option import option
from ._options import Files, options
from ._output import Folder, print_json, print_table, progress

if TYPE_CHECKING:
    import xarray as xr

    from ..articles import Figure, Study

__all__ = ["reproduce"]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large the figures are, and of which data."""

    quick: Annotated[
        bool, typer.Option("--quick", help="Small: all figures in minutes on two cores.")
    ] = False
    paper: Annotated[
        bool, typer.Option("--paper", help="N_0 = 784, P = 500 and up: hours; needs a file.")
    ] = False
    mnist: Annotated[
        str | None, option("--mnist", "MNIST, a file or folder; without it digits 0/1.")
    ] = None
    cifar: Annotated[
        str | None, option("--cifar", "CIFAR-10, a file or folder; without it digits 3/8.")
    ] = None

    @property
    def size(self) -> str:
        """The size's name."""
        if self.quick and self.paper:
            raise InputError("expected --quick or --paper, got both")
        return "quick" if self.quick else "paper" if self.paper else "default"


@app.command()
@options(out=Path("finwidth-figures"))
def reproduce(
    sizes: Sizes,
    files: Files,
    figure: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FIGURE]…",
            help="Figures, as 'finwidth info' lists them; default: all.",
        ),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", metavar="DIR", help="Where results are kept; default: DIR/store."),
    ] = None,
    scheduler: Annotated[
        str | None,
        option("--scheduler", "A running dask scheduler, tcp://HOST:PORT; none: this machine."),
    ] = None,
) -> None:
    """Make the talk's and the article's figures anew: tables, pictures and netCDF files.

    Each goes to DIR/FIGURE.nc and DIR/FIGURE.png. What was computed is kept, so that the same
    command continues one that was stopped. The article is Pacelli et al., Nat. Mach. Intell. 5,
    1497 (2023).
    """
    from ..articles import SHELF, Study

    names = list(dict.fromkeys(figure or SHELF.names()))
    figures = [SHELF.get(name) for name in names]
    folder = Folder(files.out, *(f"{name}.nc" for name in names))
    kept = folder.path / "store" if store is None else store.expanduser()
    study = Study(
        sizes.size, sizes.mnist, sizes.cifar, kept, scheduler, say=progress, progress=True
    )
    if importlib.util.find_spec("matplotlib") is None:
        complain("expected matplotlib for pictures, got none: install finwidth[plots]", "warning")
    records = []
    for one in figures:
        try:
            records.append(_make(one, study, folder))
        except KeyboardInterrupt:
            done = ", ".join(record["figure"] for record in records) or "none"
            complain(
                f"finished: {done}; the rest goes on from {kept} with the same command",
                kind="interrupted",
            )
            raise typer.Exit(130) from None
        if not files.json:
            _print(records[-1])
    if files.json:
        print_json({"figures": records})


def _make(figure: "Figure", study: "Study", folder: Folder) -> dict[str, Any]:
    """Compute a figure, write its files, and return what there is to print."""
    import finwidth as fw

    progress(f"{figure.name}: {figure.title}")
    start = time.perf_counter()
    dataset = figure.compute(study)
    seconds = time.perf_counter() - start
    dataset = dataset.assign_attrs(
        figure=figure.name, size=study.size, seconds=seconds, finwidth=fw.__version__
    )
    written = [_save(dataset, folder.file(f"{figure.name}.nc"))]
    written += _pictures(figure, dataset, folder)
    progress(f"{figure.name}: {seconds:.0f} s; written: {', '.join(map(str, written))}")
    return {
        "figure": figure.name,
        "title": figure.title,
        "seconds": seconds,
        "tables": [dataclasses.asdict(table) for table in figure.tabulate(dataset)],
        "files": written,
    }


def _save(dataset: "xr.Dataset", path: Path) -> Path:
    import xarray as xr

    import finwidth as fw

    return fw.save(xr.DataTree(dataset), path)


def _pictures(figure: "Figure", dataset: "xr.Dataset", folder: Folder) -> list[Path]:
    """Draw a figure's pictures and return where they are, none without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    from PIL import Image  # matplotlib needs it, too

    from .._basics.files import atomic_path

    written = []
    for suffix, picture in figure.draw(dataset).items():
        path = folder.file(f"{figure.name}-{suffix}.png" if suffix else f"{figure.name}.png")
        whole = io.BytesIO()
        picture.savefig(whole, format="png", dpi=100)
        with atomic_path(path) as temporary:  # 128 colours do, in a third of the bytes
            Image.open(whole).convert("RGB").quantize(128).save(temporary, optimize=True)
        written.append(path)
    return written


def _print(record: dict[str, Any]) -> None:
    for table in record["tables"]:
        print_table(table["title"], table["columns"], table["rows"])
