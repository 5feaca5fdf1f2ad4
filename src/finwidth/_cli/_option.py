"""One command-line option: how its text is read, and what is said of a text that is not right."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import typer

from .._basics.errors import InputError

__all__ = [
    "CLASSES",
    "PRECISIONS",
    "all_widths",
    "data_options",
    "float_option",
    "int_option",
    "named",
    "option",
    "parse_labels",
    "temperature_option",
    "width_option",
    "widths_option",
]


def _parser(option: str, kind: Callable[[str], Any], expected: str) -> Callable[[Any], Any]:
    """Return a parser for one option; its error names the option, what it takes and what came."""

    def parse(text: Any) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise InputError(f"expected {option} = {expected}, got {text!r}") from None

    parse.__name__ = option.lstrip("-")
    return parse


def _scalar(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text.strip()


def parse_labels(text: Any) -> tuple[Any, ...] | None:
    """Return the labels of A,B,…, None of the word none."""
    if not isinstance(text, str):
        return text
    return None if text == "none" else tuple(_scalar(part) for part in text.split(","))


def _precisions(text: Any) -> float | tuple[float, ...]:
    if not isinstance(text, str):
        return text
    values = tuple(float(part) for part in text.split(","))
    return values[0] if len(values) == 1 else values


def named(text: Any) -> tuple[str, Any]:
    """Return (name, value) of NAME=VALUE, or raise ValueError."""
    if not isinstance(text, str):
        return text
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError
    return name.replace("-", "_"), {"true": True, "false": False}.get(value, _scalar(value))


def _widths(text: Any) -> tuple[int, ...]:
    if not isinstance(text, str):
        return text
    return tuple(int(part) for part in text.split(","))


# Arguments of `load_dataset` that have options of their own.
_OF_ALL_DATA = {
    "classes": "--classes",
    "n_train": "--train",
    "n_test": "--test",
    "seed": "--data-seed",
    "name": "--data",
}


def data_options(
    option: str, pairs: Iterable[tuple[str, Any]], allowed: Collection[str] = ()
) -> dict[str, Any]:
    """Return NAME=VALUE pairs as a dict, or raise InputError for a name that is not free.

    Parameters
    ----------
    option
        The option that they were given with.
    pairs
        What `named` makes of each.
    allowed
        Arguments that may be given although they have options of their own.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in _OF_ALL_DATA and name not in allowed:
            raise InputError(
                f"expected {option} = options of the data set's own, got {name!r}, which is "
                f"{_OF_ALL_DATA[name]}"
            )
        if name in found:
            raise InputError(f"expected {option} = each name once, got {name!r} twice")
        found[name] = value
    return found


def option(
    name: str,
    help_text: str,
    *more: str,
    kind: Callable[[str], Any] = str,
    metavar: str = "TEXT",
    expected: str = "",
    shown: bool | str = True,
) -> Any:
    """Return a command-line option whose parser is `kind`; its error says what is `expected`."""
    parser = None if kind is str else _parser(name, kind, expected)
    return typer.Option(
        name, *more, help=help_text, parser=parser, metavar=metavar, show_default=shown
    )


def _temperature(text: Any) -> float | str:
    return text if text == "evidence" else float(text)


def temperature_option(help_text: str) -> Any:
    """Return the option that takes T, or the word evidence."""
    expected = "a float, or evidence"
    return option("--temperature", help_text, kind=_temperature, metavar="FLOAT", expected=expected)


def int_option(name: str, help_text: str) -> Any:
    """Return an option that takes an int."""
    return option(name, help_text, kind=int, metavar="INT", expected="an int")


def float_option(name: str, help_text: str) -> Any:
    """Return an option that takes a float."""
    return option(name, help_text, kind=float, metavar="FLOAT", expected="a float")


def widths_option(help_text: str, shown: bool | str = True) -> Any:
    """Return the option for the widths of a grid, one network for each: a list of tuples."""
    return option(
        "--widths",
        help_text,
        kind=_widths,
        metavar="INT[,INT…]",
        expected="ints separated by commas, one for each network",
        shown=shown,
    )


def width_option() -> Any:
    """Return the option for a grid of one width, as commands of one network spell it."""
    return int_option("--width", "The width of one network; for several: --widths 10,20.")


def all_widths(widths: Iterable[Iterable[int]], width: int | None) -> list[int]:
    """Return what --widths and --width give, of which only one may be given."""
    several = [one for part in widths for one in part]
    if several and width is not None:
        raise InputError(f"expected --widths or --width, got both: {several}, {width}")
    return several if width is None else [width]


CLASSES = option(
    "--classes",
    "Labels of y = -1 and y = +1, or of more classes; 'none', for a regression, takes labels as "
    "numbers.",
    kind=parse_labels,
    metavar="A,B[,C…]",
    expected="two labels or more separated by commas",
    shown="0,1",
)
PRECISIONS: dict[str, Any] = {
    "kind": _precisions,
    "metavar": "FLOAT[,FLOAT…]",
    "expected": "one float, or one per layer separated by commas",
}
