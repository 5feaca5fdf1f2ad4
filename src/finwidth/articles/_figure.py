"""What a figure is: numbers, then tables and pictures of these numbers."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

    from ._study import Study

__all__ = ["Figure", "Table"]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table as users read it.

    Parameters
    ----------
    title
        What it shows.
    columns
        Its columns' names.
    rows
        Its cells, as text.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure of the talk or the article, made anew.

    Parameters
    ----------
    name
        What users write: the name of the module that holds it.
    title
        What it shows, in a line.
    compute
        Returns its numbers; the rest needs nothing but these.
    tabulate
        Returns its tables.
    draw
        Returns its pictures, matplotlib figures, by a suffix of the file's name ("" for one).
    """

    name: str
    title: str
    compute: "Callable[[Study], xr.Dataset]"
    tabulate: "Callable[[xr.Dataset], list[Table]]"
    draw: "Callable[[xr.Dataset], dict[str, Any]]"
