"""The page: sections and pictures put into the template, and written whole or not at all."""

import base64
import dataclasses
import functools
import importlib.metadata
import importlib.resources
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._basics.files import atomic_path
from .._plots._pictures import Picture, pictures
from .._results.kinds import Result
from .repeat import repeat
from .scores import diagnostics, numbers, verdicts
from .settings import headline, provenance_rows, settings
from .table import Table

__all__ = ["render", "write_report"]

_DPI = 110
_TITLES = {
    "run": "Run",
    "comparison": "Comparison",
    "map": "Error map",
    "curve": "Learning curve",
}
_RUNS = 4  # runs of which each has its own pictures


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """A picture as the page holds it."""

    title: str
    alt: str
    source: str
    width: int
    height: int


def write_report(
    result: Result, path: str | os.PathLike[str], say: Callable[[str], None] | None = None
) -> Path:
    """Write the page of a result.

    Parameters
    ----------
    result
        What `read_result` found.
    path
        The HTML file; its folder must exist. An older one is replaced once the new one is whole.
    say
        Told of each picture before it is drawn.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(render(result, say), "utf-8")
    return Path(path)


def render(result: Result, say: Callable[[str], None] | None = None) -> str:
    """Return the page of a result as HTML."""
    shown = pictures(result)
    if len(result.runs) > _RUNS:
        shown = shown[:1]
    drawn = []
    for picture in shown:
        if say is not None:
            say(f"drawing: {picture.title}")
        drawn.append(_drawn(picture))
    tables: list[Table | None] = [*numbers(result), diagnostics(result.reports)]
    sentence, lines = repeat(result)
    return _template().render(
        title=f"{_TITLES[result.kind]}: {result.path.name}",
        headline=headline(result),
        version=importlib.metadata.version("finwidth"),
        verdicts=verdicts(result.reports),
        pictures=drawn,
        tables=[table for table in tables if table is not None],
        settings=settings(result),
        provenance=provenance_rows(result),
        repeat=sentence,
        lines=lines,
    )


@functools.cache
def _template() -> Any:
    import jinja2

    source = importlib.resources.files(__package__).joinpath("page.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)


def _drawn(picture: Picture) -> _Drawn:
    import matplotlib.pyplot as plt
    from matplotlib.image import imread

    plt.switch_backend("Agg")
    figure, content = picture.draw(), io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.08)
    plt.close(figure)
    content.seek(0)
    height, width = imread(content).shape[:2]
    source = base64.b64encode(content.getvalue()).decode("ascii")
    return _Drawn(picture.title, picture.alt, f"data:image/png;base64,{source}", width, height)
