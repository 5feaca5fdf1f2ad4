"""The options that commands share, each written once.

A command takes the groups it needs as parameters (`Problem`, `Sampling`, …); `options` turns
the fields of each group into command-line options and gives the command the filled group.
"""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._errors import InputError

if TYPE_CHECKING:
    from .._network import Network
    from ..datasets import Dataset

__all__ = [
    "CLASSES",
    "Extent",
    "Files",
    "Hidden",
    "Json",
    "Problem",
    "Report",
    "Sampling",
    "Widths",
    "float_option",
    "int_option",
    "named",
    "option",
    "options",
]


def _parser(option: str, kind: Callable[[str], Any], expected: str) -> Callable[[Any], Any]:
    """Return a parser for one option; its error names the option, what it takes and what came."""

    def parse(text: Any) -> Any:
        try:
            if isinstance(text, str) and "_" in text and kind in (int, float):
                raise ValueError  # Python's 5_0 is no number elsewhere
            return kind(text)
        except ValueError:
            raise InputError(f"expected {option} = {expected}, got {text!r}") from None

    parse.__name__ = option.lstrip("-")
    return parse


def _scalar(text: str) -> int | float | str:
    for kind in (int, float) if "_" not in text else ():
        try:
            return kind(text)
        except ValueError:
            pass
    return text.strip()


def _labels(text: Any) -> tuple[Any, ...] | None:
    if not isinstance(text, str):
        return text
    return None if text == "none" else tuple(_scalar(part) for part in text.split(","))


def _precisions(text: Any) -> float | tuple[float, ...]:
    if not isinstance(text, str):
        return text
    if "_" in text:
        raise ValueError  # Python's 5_0 is no number elsewhere
    values = tuple(float(part) for part in text.split(","))
    return values[0] if len(values) == 1 else values


def named(text: Any) -> tuple[str, Any]:
    """Return (name, value) of NAME=VALUE, or raise ValueError."""
    if not isinstance(text, str):
        return text
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError
    return name.replace("-", "_"), _scalar(value)


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


def int_option(name: str, help_text: str) -> Any:
    """Return an option that takes an int."""
    return option(name, help_text, kind=int, metavar="INT", expected="an int")


def float_option(name: str, help_text: str) -> Any:
    """Return an option that takes a float."""
    return option(name, help_text, kind=float, metavar="FLOAT", expected="a float")


CLASSES = option(
    "--classes",
    "Labels of y = -1 and y = +1; 'none' takes labels as numbers.",
    kind=_labels,
    metavar="A,B",
    expected="two labels separated by a comma",
    shown="0,1",
)
_PRECISIONS: dict[str, Any] = {
    "kind": _precisions,
    "metavar": "FLOAT[,FLOAT…]",
    "expected": "one float, or one per layer separated by commas",
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """Data, network (but for its widths), temperature and theory: the same for all commands."""

    data: Annotated[str, option("--data", "Data set; 'finwidth info' lists them.")] = "digits"
    data_path: Annotated[
        str | None, option("--data-path", "File or folder of the data set.", "--path")
    ] = None
    data_seed: Annotated[
        int | None,
        int_option("--data-seed", "Seed of the order or of generated data; none: file order."),
    ] = None
    data_option: Annotated[
        list[Any],
        option(
            "--data-option",
            "Further option of the data set, such as n_inputs=50; repeatable.",
            kind=named,
            metavar="NAME=VALUE",
            expected="NAME=VALUE",
        ),
    ] = dataclasses.field(default_factory=list)
    classes: Annotated[Any, CLASSES] = (0, 1)
    train: Annotated[int, int_option("--train", "Number of training patterns.")] = 100
    test: Annotated[int, int_option("--test", "Number of test patterns.")] = 100
    activation: Annotated[str, option("--activation", "Activation, built in or plugin.")] = "erf"
    temperature: Annotated[
        float, float_option("--temperature", "T: variance of the likelihood.")
    ] = 0.01
    weight_precision: Annotated[
        Any, option("--weight-precision", "Weight precisions, input layer first.", **_PRECISIONS)
    ] = 1.0
    bias_precision: Annotated[
        Any,
        option("--bias-precision", "Bias precisions, likewise; none: no biases.", **_PRECISIONS),
    ] = None
    theory: Annotated[str, option("--theory", "Theory; 'finwidth info' lists them.")] = "nested"
    seed: Annotated[int, int_option("--seed", "Seed of the sampler.")] = 0

    def network(self, widths: list[int]) -> "Network":
        """Return the network with these widths, or raise InputError."""
        import finwidth as fw

        return fw.Network(
            widths=tuple(widths),
            activation=self.activation,
            weight_precision=self.weight_precision,
            bias_precision=self.bias_precision,
        )

    def dataset(self) -> "Dataset":
        """Return the data, or raise InputError."""
        import finwidth as fw

        given: dict[str, Any] = dict(self.data_option)
        if self.data_path is not None:
            given["path"] = self.data_path
        return fw.load_dataset(
            self.data,
            classes=self.classes,
            n_train=self.train,
            n_test=self.test,
            seed=self.data_seed,
            **given,
        )


@dataclasses.dataclass(frozen=True)
class Hidden:
    """The widths of one network."""

    width: Annotated[
        list[int], int_option("--width", "Width of a hidden layer; one for each layer.")
    ] = dataclasses.field(default_factory=lambda: [50])


@dataclasses.dataclass(frozen=True)
class Widths:
    """The widths of several networks with one hidden layer."""

    width: Annotated[
        list[int], int_option("--width", "Width of a network; one for each network.")
    ] = dataclasses.field(default_factory=lambda: [20, 50, 200])


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the posterior is sampled."""

    model: Annotated[
        str,
        option(
            "--model",
            "marginal (readout integrated), network, or student_t (the theory's scale mixture).",
        ),
    ] = "marginal"
    sampler: Annotated[
        str | None,
        option("--sampler", "Sampler; 'finwidth info' lists them. Default: the model's."),
    ] = None
    warmup: Annotated[
        int | None, int_option("--warmup", "Warm-up draws of each chain; default: the sampler's.")
    ] = None
    draws: Annotated[
        int | None, int_option("--draws", "Draws kept of each chain; default: the sampler's.")
    ] = None
    chains: Annotated[int, int_option("--chains", "Number of chains.")] = 4
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 if the chains have not mixed.")
    ] = False


@dataclasses.dataclass(frozen=True)
class Extent:
    """How long a run goes on, and what survives if it does not."""

    target_mcse: Annotated[
        float | None,
        float_option(
            "--target-mcse", "Stop when the test error's Monte Carlo error is this small."
        ),
    ] = None
    target_ess: Annotated[
        float | None,
        float_option(
            "--target-ess", "Stop when the test error's effective sample size is this large."
        ),
    ] = None
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="DIR",
            help="Write draws there as they come; the same command continues a killed run.",
        ),
    ] = None
    thin: Annotated[int, int_option("--thin", "Transitions per draw.")] = 1
    dtype: Annotated[str, option("--dtype", "float64 or float32.")] = "float64"


Json = Annotated[bool, typer.Option("--json", help="Machine-readable results on stdout.")]
_OUT = typer.Option("--out", metavar="DIR", help="Folder for files; made if absent.")


@dataclasses.dataclass(frozen=True)
class Report:
    """Where results go; no files unless a folder is given."""

    out: Annotated[Path | None, _OUT] = None
    json: Json = False


@dataclasses.dataclass(frozen=True)
class Files(Report):
    """Where results go, for commands that always write files."""

    out: Annotated[Path, _OUT] = Path("finwidth-results")


def options(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make the fields of a command's option groups its command-line options.

    Parameters
    ----------
    **defaults
        Defaults of this command that differ from those of the groups.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        hints = typing.get_type_hints(function, include_extras=True)
        groups: dict[str, Any] = {}
        parameters: list[inspect.Parameter] = []
        for name, parameter in inspect.signature(function).parameters.items():
            if dataclasses.is_dataclass(hints[name]):
                groups[name] = hints[name]
                parameters += _fields(hints[name], defaults)
            else:
                parameters.append(
                    parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
                )

        @functools.wraps(function)
        def command(**values: Any) -> None:
            filled = {
                name: group(**{f.name: values.pop(f.name) for f in dataclasses.fields(group)})
                for name, group in groups.items()
            }
            function(**filled, **values)

        command.__signature__ = inspect.Signature(parameters)  # pyright: ignore
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def _fields(group: Any, defaults: dict[str, Any]) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(group, include_extras=True)
    found = []
    for field in dataclasses.fields(group):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        found.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(field.name, default),
                annotation=hints[field.name],
            )
        )
    return found
