"""The user's own data in a table of text: one row per pattern, one column the label."""

import csv
import io
import re
from pathlib import Path

import numpy as np

from .._basics.arrays import shown
from .._basics.errors import InputError
from ._base import Dataset, Pool, Request, make_dataset
from ._files import check_file

__all__ = ["load"]

_SEPARATORS = {"\t": "a tab", ";": "';'", ",": "a comma"}
_POINT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity)", re.I | re.A)
_COMMA = re.compile(r"[+-]?(\d+,?\d*|,\d+)(e[+-]?\d+)?", re.I | re.A)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}([.,]\d{3})+", re.A)

_BROKEN = re.compile(r"[+\-\u2212]?[\d.,][\d\s.,_'\u2019%:/+-]*")  # meant as a number or a date

type _Row = tuple[int, list[str]]  # its line in the file, and its fields


def load(request: Request, *, path: str | Path | None = None, target: str | None = None) -> Dataset:
    """Load a table of numbers, as spreadsheets and pandas write it.

    Columns are separated by commas, semicolons or tabs; beside the last two, numbers may have a
    decimal comma. Separators between thousands, an index column without a name and columns of
    the same name are refused. A first row whose inputs are not numbers is taken as the names of
    the columns. Rows and last columns that are empty throughout are left out. Each column of the
    inputs is standardised by itself.

    Parameters
    ----------
    request
        Sizes, classes (labels as they stand in the target column: numbers or words) and seed.
    path
        The table, in UTF-8, or in UTF-16 with a byte-order mark.
    target
        Name of the label's column; None for the last column.
    """
    if target is not None and not isinstance(target, str):
        raise InputError(f"expected target = the name of a column or None, got {shown(target)}")
    pool = _read(check_file(path, "a .csv file"), target)
    return make_dataset(request, name="csv", source=str(path), train=pool, table=True)


def _read(path: Path, target: str | None) -> Pool:
    text, declared = _decoded(path)
    try:
        separator, rows = _parsed(text, declared)
    except csv.Error as error:
        raise InputError(f"expected path = a .csv file, got {str(path)!r} ({error})") from None
    if not rows or len(rows[0][1]) < 2:
        raise InputError(
            "expected path = a .csv table with at least two columns, separated by ',', ';' or a "
            f"tab, got {str(path)!r}"
        )
    decimal = _decimal(rows, separator)
    first = rows[0][1]
    named = target is not None or not all(_number(field, decimal) for field in first[:-1])
    if named and target is None:
        _check_first(first, decimal)
    names = rows.pop(0)[1] if named else []
    _check_names(names or first, named, target)
    if not rows:
        raise InputError(
            f"expected path = a .csv table with at least one row, got only names in {str(path)!r}"
        )
    column = names.index(target) if target is not None else len(first) - 1
    separated = f"(separated by {_SEPARATORS.get(separator, repr(separator))})"
    inputs, labels = [], []
    for line, row in rows:
        if len(row) != len(first):
            index = ": an index column without a name?" if len(row) == len(first) + 1 else ""
            raise InputError(
                f"expected {len(first)} columns in row {line} of the table, got {len(row)} "
                f"{separated}{index if named else ''}"
            )
        if not row[column]:
            raise InputError(f"expected a label in row {line} of the table, got an empty field")
        for n, field in enumerate(row):
            if n != column and not _number(field, decimal):
                where = f" in column {names[n]!r}" if names else ""
                raise InputError(
                    f"expected a number in row {line} of the table, got {shown(field)}{where}"
                    f"{_hint(field, decimal)} {separated}"
                )
        labels.append(row[column])
        inputs.append([_value(field, decimal) for n, field in enumerate(row) if n != column])
    if all(_number(label, decimal) for label in labels):
        labels = [_value(label, decimal) for label in labels]
    columns = tuple(one for n, one in enumerate(names) if n != column) if names else None
    return Pool(np.array(inputs), np.array(labels), columns=columns)


def _decoded(path: Path) -> tuple[str, str | None]:
    """Return the text, and the separator if its first line declares one (``sep=;``, of Excel)."""
    try:
        raw = path.read_bytes()
        wide = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
        text = raw.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"expected path = a .csv file in UTF-8, got {str(path)!r} ({error}): save it as "
            "'CSV UTF-8'"
        ) from None
    except OSError as error:
        raise InputError(
            f"expected path = a .csv file, got {str(path)!r} ({error.strerror})"
        ) from None
    declared = re.match(r'"?sep=(.)"?[ \t]*(\r\n|\r|\n|$)', text)
    if declared is None:
        return text, None
    # an empty line in its place: lines keep their numbers
    return text[declared.start(2) :], declared[1]


def _parsed(text: str, declared: str | None) -> tuple[str, list[_Row]]:
    """Return the separator of columns and the rows that it gives.

    It is the first that gives every row as many columns; where none does, the one that gives the
    first row most, for the message that names the row.
    """
    found: dict[str, list[_Row]] = {}
    failures: list[csv.Error] = []
    for separator in [declared] if declared else _SEPARATORS:
        try:
            found[separator] = _rows(text, separator)
        except csv.Error as error:  # quotes make no sense with this separator
            failures.append(error)
    for separator, rows in found.items():
        if rows and len(rows[0][1]) > 1 and len({len(row) for _, row in rows}) == 1:
            return separator, rows
    if failures:
        raise failures[-1]
    return max(found.items(), key=lambda item: len(item[1][0][1]) if item[1] else 0)


def _rows(text: str, separator: str) -> list[_Row]:
    """Return the rows without those, and without last columns, that are empty throughout."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    stripped = ((reader.line_num, [field.strip() for field in row]) for row in reader)
    rows = [(line, row) for line, row in stripped if any(row)]
    width = max((n for _, row in rows for n, field in enumerate(row, start=1) if field), default=0)
    return [(line, row[:width]) for line, row in rows]


def _decimal(rows: list[_Row], separator: str) -> str:
    """Return the decimal sign of the numbers, or raise InputError if they have two."""
    fields = [field for _, row in rows for field in row]
    commas = [field for field in fields if "," in field and _COMMA.fullmatch(field)]
    points = [field for field in fields if "." in field and _POINT.fullmatch(field)]
    if commas and points:
        raise InputError(
            f"expected one decimal sign in the table, got {commas[0]!r} and {points[0]!r}: write "
            "numbers with a decimal point and nothing between thousands"
        )
    # 1,234 alone may be either number; only where ';' separates may a point be more than decimal
    for found in (commas, points if separator == ";" else []):
        if found and all(_THOUSANDS.fullmatch(field) for field in found):
            raise InputError(
                f"expected numbers with one meaning in the table, got {found[0]!r}, which may "
                "have a decimal sign or one between thousands: write them with a decimal point, in "
                "columns separated by commas"
            )
    return "," if commas else "."


def _number(field: str, decimal: str) -> bool:
    # not float(): it takes '5_0' and digits of other scripts
    return (_COMMA if decimal == "," else _POINT).fullmatch(field) is not None


def _value(field: str, decimal: str) -> float:
    return float(field.replace(",", ".") if decimal == "," else field)


def _check_first(first: list[str], decimal: str) -> None:
    """Refuse a first row that may be names or a pattern with an entry that is no number."""
    numbers = [field for field in first[:-1] if _number(field, decimal)]
    others = [field for field in first[:-1] if field and not _number(field, decimal)]
    doubtful = others if numbers else [field for field in others if _BROKEN.fullmatch(field)]
    if doubtful:
        raise InputError(
            f"expected numbers or names in the first row of the table, got {shown(doubtful[0])}"
            f"{_hint(doubtful[0], decimal)}: if the row is the names of columns, say which holds "
            "the labels (target=…)"
        )


def _hint(field: str, decimal: str) -> str:
    """Return what may be wrong with a field that is not a number."""
    if not field:
        return " (a missing entry)"
    grouped = re.fullmatch(r"[+-]?\d{1,3}([ .,'’_\u00a0\u2009\u202f]\d{3})+([.,]\d*)?", field)
    if grouped:
        return " (write numbers with nothing between thousands)"
    if decimal == "." and _COMMA.fullmatch(field):
        return " (write numbers with a decimal point, or separate columns by ';')"
    return ""


def _check_names(names: list[str], named: bool, target: str | None) -> None:
    """Refuse names that are missing, come twice, or are pandas' numbers of columns."""
    if not named:
        if len(names) > 2 and names == [str(n) for n in range(len(names))]:
            raise InputError(
                f"expected names of columns or numbers in the first row of the table, got {names}, "
                "which look like pandas' numbers of columns: name the columns, or leave that row "
                "out by to_csv(header=False)"
            )
        return
    if target is not None and target not in names:
        raise InputError(f"expected target = one of the columns {names}, got {target!r}")
    for n, name in enumerate(names):
        if not name or re.fullmatch(r"Unnamed: \d+", name):
            raise InputError(
                f"expected a name for every column of the table, got column {n + 1} without a "
                "name: if it is an index of pandas, leave it out by to_csv(index=False)"
            )
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise InputError(f"expected columns of different names in the table, got {double} twice")
