"""The user's own data in a comma-separated table: one row per pattern, one column the label."""

import csv
from pathlib import Path

import numpy as np

from .._errors import InputError
from ._base import Dataset, Pool, Request, make_dataset
from ._files import check_path

__all__ = ["load"]


def load(request: Request, *, path: str | Path | None = None, target: str | None = None) -> Dataset:
    """Load a .csv table of numbers.

    A first row whose inputs are not numbers is taken as the names of the columns.

    Parameters
    ----------
    request
        Sizes, classes (labels as they stand in the target column: numbers or words) and seed.
    path
        The table.
    target
        Name of the label's column; None for the last column.
    """
    X, labels = _read(check_path(path, "a .csv file"), target)
    return make_dataset(request, name="csv", source=str(path), train=Pool(X, labels))


def _read(path: Path, target: str | None) -> tuple[np.ndarray, np.ndarray]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [[field.strip() for field in row] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"expected path = a .csv file, got {str(path)!r} ({error})") from None
    if not rows or len(rows[0]) < 2:
        raise InputError(
            f"expected path = a .csv table with at least two columns, got {str(path)!r}"
        )
    has_names = target is not None or not all(_is_number(field) for field in rows[0][:-1])
    names = rows.pop(0) if has_names else []
    if target is not None and target not in names:
        raise InputError(f"expected target = one of the columns {names}, got {target!r}")
    if not rows:
        raise InputError(
            f"expected path = a .csv table with at least one row, got only names in {str(path)!r}"
        )
    column = names.index(target) if target is not None else -1
    n_columns = len(names or rows[0])
    inputs, labels = [], []
    for i, row in enumerate(rows, start=1 + bool(names)):
        if len(row) != n_columns:
            raise InputError(
                f"expected {n_columns} columns in row {i} of the table, got {len(row)}"
            )
        labels.append(row.pop(column))
        for field in row:
            if not _is_number(field):
                raise InputError(f"expected a number in row {i} of the table, got {field!r}")
        inputs.append([float(field) for field in row])
    if all(_is_number(label) for label in labels):
        return np.array(inputs), np.array([float(label) for label in labels])
    return np.array(inputs), np.array(labels)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
