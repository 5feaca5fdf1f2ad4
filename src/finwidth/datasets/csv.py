"""The user's own data in a table of text: one row per pattern, one column the label.

Spreadsheets write such tables in many ways: separated by commas, semicolons or tabs, with a decimal
comma, with a mark of the encoding in front. What can be read in one way only is read; what can
be read in two, or has a column that is no input, is refused with what to do.
"""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._errors import InputError
from .._inputs import shown
from ._base import Dataset, Pool, Request, make_dataset
from ._files import check_file

__all__ = ["load"]

_SEPARATORS = {"\t": "tabs", ";": "semicolons", ",": "commas"}
_EXPONENT = r"(?:[eE][+-]?[0-9]+)?"
_POINT = re.compile(rf"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+){_EXPONENT}", re.ASCII)
_COMMA = re.compile(rf"[+-]?(?:[0-9]+,[0-9]*|,[0-9]+){_EXPONENT}", re.ASCII)
_NO_NUMBER = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)  # refused as not finite
# 1,234 or 1.234: one thousand, or a number with three decimals
_GROUPED = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:[.,][0-9]{3})+", re.ASCII)


def load(request: Request, *, path: str | Path | None = None, target: str | None = None) -> Dataset:
    """Load a .csv table of numbers.

    A first row whose inputs are not numbers is taken as the names of the columns. Commas,
    semicolons or tabs separate the columns, and a decimal comma is understood where it cannot be
    taken for something else.

    Parameters
    ----------
    request
        Sizes, classes (labels as they stand in the target column: numbers or words) and seed.
    path
        The table.
    target
        Name of the label's column; None for the last column.
    """
    if target is not None and not isinstance(target, str):
        raise InputError(f"expected target = the name of a column or None, got {shown(target)}")
    X, labels = _read(check_file(path, "a .csv file"), target)
    return make_dataset(request, name="csv", source=str(path), train=Pool(X, labels))


class _Row(NamedTuple):
    number: int  # from 1, blank rows counted
    fields: list[str]


def _read(path: Path, target: str | None) -> tuple[np.ndarray, np.ndarray]:
    text, separators = _text(path), list(_SEPARATORS)
    stated = re.match(r"sep=([;,|\t])\r?\n", text)  # a line that spreadsheets write for each other
    if stated:
        text, separators = text[stated.end() :], [stated[1]]
    failures, unreadable = [], []
    for separator in separators:
        try:
            rows = _rows(path, text, separator)
        except InputError as error:  # a quoted field may end at another separator
            unreadable.append(error)
            continue
        if rows and len(rows[0].fields) > 1:
            try:
                return _table(path, rows, target, separator)
            except InputError as error:
                failures.append(error)
    for failure in failures + unreadable:
        raise failure
    raise InputError(
        "expected path = a .csv table with at least two columns, separated by commas, semicolons "
        f"or tabs, got {str(path)!r}"
    )


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        return content.decode("utf-16" if wide else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        hint = "; save it as UTF-8" if isinstance(error, UnicodeDecodeError) else ""
        raise InputError(
            f"expected path = a .csv file, got {str(path)!r} ({error}{hint})"
        ) from None


def _rows(path: Path, text: str, separator: str) -> list[_Row]:
    """Return the rows that are not blank, without columns that are empty throughout at the end."""
    rows = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        for number, row in enumerate(reader, start=1):
            fields = [field.strip() for field in row]
            if any(fields):
                rows.append(_Row(number, fields))
    except csv.Error as error:
        raise InputError(f"expected path = a .csv file, got {str(path)!r} ({error})") from None
    used = max((_used(row.fields) for row in rows), default=0)
    return [_Row(number, fields[: max(used, 1)]) for number, fields in rows]


def _used(fields: Sequence[str]) -> int:
    """Return how many fields there are up to the last that is not empty."""
    return max((i for i, field in enumerate(fields, start=1) if field), default=0)


def _table(
    path: Path, rows: list[_Row], target: str | None, separator: str
) -> tuple[np.ndarray, np.ndarray]:
    rows = list(rows)
    first = rows[0].fields
    has_names = target is not None or not all(_is_number(field) for field in first[:-1])
    if not has_names and len(first) > 2 and first == [str(i) for i in range(len(first))]:
        raise InputError(
            "expected the first row of the table = names of columns or a pattern, got the numbers "
            f"0 to {len(first) - 1}, which may be either: give the columns names, or leave the row "
            "out (to_csv(header=False))"
        )
    names = rows.pop(0).fields if has_names else []
    _check_names(names, target)
    if not rows:
        raise InputError(
            f"expected path = a .csv table with at least one row, got only names in {str(path)!r}"
        )
    column = names.index(target) if target is not None else -1
    n_columns = len(first)
    inputs, labels = [], []
    for number, fields in rows:
        if len(fields) != n_columns:
            raise InputError(
                f"expected {n_columns} columns in row {number} of the table, got {len(fields)} "
                f"(separated by {_SEPARATORS.get(separator, repr(separator))})"
            )
        row = list(fields)
        labels.append(row.pop(column))
        if not labels[-1]:
            raise InputError(f"expected a label in row {number} of the table, got an empty field")
        for field in row:
            if not _is_number(field):
                raise _no_number(number, field)
        inputs.append(row)
    numeric = all(_is_number(label) for label in labels)
    fields = [field for row in inputs for field in row] + (labels if numeric else [])
    point = _decimal_mark(fields, separator)
    X = np.array([[float(field.replace(point, ".")) for field in row] for row in inputs])
    if numeric:
        return X, np.array([float(label.replace(point, ".")) for label in labels])
    return X, np.array(labels)


def _check_names(names: list[str], target: str | None) -> None:
    if target is not None and target not in names:
        raise InputError(f"expected target = one of the columns {names}, got {target!r}")
    for number, name in enumerate(names, start=1):
        if not name or re.fullmatch(r"Unnamed: [0-9]+", name):
            raise InputError(
                f"expected a name for each column of the table, got column {number} without a name "
                "(an index? to_csv(index=False) leaves it out)"
            )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"expected different names of the columns, got {twice[0]!r} twice")


def _no_number(number: int, field: str) -> InputError:
    hint = ""
    if field and _is_number(re.sub(r"[\s.,'\u2019_]", "", field)):
        hint = " (no separators of thousands, and one decimal mark)"
    what = shown(field) if field else "an empty field"
    return InputError(f"expected a number in row {number} of the table, got {what}{hint}")


def _is_number(text: str) -> bool:
    # not float(), which takes 5_0 and digits of other alphabets
    return any(pattern.fullmatch(text) for pattern in (_POINT, _COMMA, _NO_NUMBER))


def _decimal_mark(fields: Sequence[str], separator: str) -> str:
    """Return the decimal mark of all numbers of a table, or raise InputError if it has two."""
    marked = {mark: [field for field in fields if mark in field] for mark in ".,"}
    if marked["."] and marked[","]:
        raise InputError(
            f"expected one decimal mark in the table, got {marked['.'][0]!r} and "
            f"{marked[','][0]!r}: write numbers without separators of thousands"
        )
    for mark, found in marked.items():
        # where commas separate columns, a point is no separator of thousands
        doubtful = mark == "," or separator == ";"
        if found and doubtful and all(_GROUPED.fullmatch(field) for field in found):
            raise InputError(
                f"expected numbers without separators of thousands in the table, got {found[0]!r}, "
                f"which may be {found[0].replace(mark, '')} or {found[0].replace(mark, '.')}: "
                "write decimals with a point, in columns separated by commas"
            )
    return "," if marked[","] else "."
