"""Options of a command from a TOML file."""

import dataclasses
import tomllib
import typing
from pathlib import Path
from typing import Any

from .._basics.errors import InputError

__all__ = ["read_table"]


def read_table(path: Path, groups: dict[str, Any]) -> dict[str, Any]:
    """Return the groups of options that a file's tables of the same names fill.

    Parameters
    ----------
    path
        The file.
    groups
        By the name of a table the dataclass of its options.

    Raises
    ------
    InputError
        If there is no such file, it is no TOML, or has a table, option or value that is none.
    """
    expected = f"expected FILE = a TOML file with the tables {sorted(groups)}"
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{expected}, got {str(path)!r} ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{expected}, got {str(path)!r} ({error})") from None
    for name, table in tables.items():
        if name not in groups or not isinstance(table, dict):
            raise InputError(f"{expected}, got {name!r} in {str(path)!r}")
    return {name: _fill(name, tables.get(name, {}), group) for name, group in groups.items()}


def _fill(table: str, values: dict[str, Any], group: Any) -> Any:
    hints = typing.get_type_hints(group, include_extras=True)
    names = [field.name for field in dataclasses.fields(group)]
    filled = {}
    for given, value in values.items():
        name = given.replace("-", "_")
        if name not in names:
            raise InputError(f"expected options of [{table}] out of {names}, got {given!r}")
        if name in filled:
            raise InputError(f"expected {name} of [{table}] once, got it twice")
        hint, info = typing.get_args(hints[name])
        try:
            filled[name] = _value(f"{name} of [{table}]", value, hint)
        except InputError as error:
            if isinstance(value, list) and typing.get_origin(hint) is not list:
                raise InputError(f"{error} ({info.help.rstrip('.')})") from None
            raise
    return group(**filled)


def _value(name: str, value: Any, hint: Any) -> Any:
    """Return a value of the file as the option has it, or raise InputError."""
    if typing.get_origin(hint) is list:
        (kind,) = typing.get_args(hint)
        several = value if isinstance(value, list) else [value]
        if not several:
            raise InputError(f"expected {name} = one value or several, got []")
        if name.startswith("widths "):
            return [tuple(_value(name, one, int) for one in several)]
        return [_value(name, one, kind) for one in several]
    if hint is Any:  # classes, or precisions, which are checked where they are used
        return tuple(value) if isinstance(value, list) else None if value == "none" else value
    from .._basics.arrays import shown

    kinds = [one for one in (bool, int, float, str) if one is hint or one in typing.get_args(hint)]
    if bool not in kinds and isinstance(value, bool):
        kinds = []
    if float in kinds:
        kinds.append(int)
    if not isinstance(value, tuple(kinds) or ()):
        what = " or ".join(one.__name__ for one in kinds) or getattr(hint, "__name__", str(hint))
        raise InputError(f"expected {name} = {what}, got {shown(value)}")
    return float(value) if float in kinds else value
