"""What commands write: results on stdout, progress on stderr, files in one folder."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .._basics.errors import InputError
from .._basics.plain import plain
from ._app import say

__all__ = ["Folder", "print_json", "print_table", "progress", "write_json"]


class Folder:
    """A folder for results: checked at once, made with the first file.

    Parameters
    ----------
    path
        The folder; it and its parents may be absent.
    *names
        Names of the files that will be written there.

    Raises
    ------
    InputError
        If it could not be made, or is not writable, or a name is that of something else than a
        file. Nothing is made here.
    """

    def __init__(self, path: Path, *names: str) -> None:
        from .._basics.files import check_target

        self.path = path.expanduser()
        nearest = self.path
        while not os.path.lexists(nearest) and nearest != nearest.parent:
            nearest = nearest.parent
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError(
                f"expected --out = a folder that is writable or can be made, got {str(path)!r} "
                f"({str(nearest)!r} is not a writable folder)"
            )
        if nearest == self.path:
            for name in names:
                check_target(self.path / name)

    def file(self, name: str) -> Path:
        """Return the path of a file to write; the folder is there afterwards."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"expected --out = a folder that is writable or can be made, "
                f"got {str(self.path)!r} ({error.strerror})"
            ) from None
        return self.path / name


def progress(message: str) -> None:
    """Write a line about what is being done to stderr."""
    say(message)


def _json(record: Mapping[str, Any]) -> str:
    return json.dumps(plain("record", record, finite=True), indent=2, allow_nan=False)


def print_json(record: Mapping[str, Any]) -> None:
    """Print a record as JSON on stdout."""
    print(_json(record))


def write_json(record: Mapping[str, Any], path: Path) -> None:
    """Write a record as a JSON file, whole or not at all."""
    from .._basics.files import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(_json(record) + "\n", "utf-8")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout; columns after the first are set right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=any(columns))
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    print(title)
    Console(highlight=False, markup=False).print(table)
