"""The options that commands share, each written once.

A command takes the groups it needs as parameters (`Setting`, `Sampling`, …); `options` turns
the fields of each group into command-line options and gives the command the filled group.
"""

import copy
import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._option import (
    CLASSES,
    PRECISIONS,
    data_options,
    float_option,
    int_option,
    named,
    option,
    temperature_option,
)
from ._output import progress

if TYPE_CHECKING:
    from .._problem.network import Network
    from ..datasets import Dataset

__all__ = [
    "Extent",
    "Files",
    "Given",
    "Json",
    "Setting",
    "Report",
    "Sampling",
    "options",
]


@dataclasses.dataclass(frozen=True)
class Setting:
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
    target: Annotated[
        str | None, option("--target", "Column of the labels in a table; default: the last one.")
    ] = None
    classes: Annotated[Any, CLASSES] = (0, 1)
    train: Annotated[int, int_option("--train", "Number of training patterns.")] = 100
    test: Annotated[int, int_option("--test", "Number of test patterns.")] = 100
    activation: Annotated[str, option("--activation", "Activation, built in or plugin.")] = "erf"
    readout_activation: Annotated[
        str | None,
        option("--readout-activation", "That before the readout; default: --activation."),
    ] = None
    temperature: Annotated[
        Any,
        temperature_option(
            "T: variance of the Gaussian likelihood, or 'evidence', where the theory's evidence is "
            "largest; default: 0.01, classes 1."
        ),
    ] = None
    likelihood: Annotated[
        str,
        option(
            "--likelihood",
            "gaussian (regression); logit, probit (two classes); softmax (classes).",
        ),
    ] = "gaussian"
    weight_precision: Annotated[
        Any, option("--weight-precision", "Weight precisions, input layer first.", **PRECISIONS)
    ] = 1.0
    bias_precision: Annotated[
        Any,
        option("--bias-precision", "Bias precisions, likewise; none: no biases.", **PRECISIONS),
    ] = None
    theory: Annotated[str, option("--theory", "Theory; 'finwidth info' lists them.")] = "nested"
    seed: Annotated[int, int_option("--seed", "Seed of the sampler.")] = 0

    def __post_init__(self) -> None:
        """Set the temperature where none is given."""
        if self.temperature is None:
            from .._likelihoods import choose_likelihood

            default = choose_likelihood(self.likelihood).default_temperature
            object.__setattr__(self, "temperature", 0.01 if default is None else default)

    @property
    def indexed(self) -> bool:
        """Whether labels are class indices, of which the likelihood wants one a pattern."""
        from .._likelihoods import choose_likelihood

        return choose_likelihood(self.likelihood).one_label

    def network(self, **hidden: Any) -> "Network":
        """Return the network with these widths or layers, or raise InputError."""
        import finwidth as fw

        n_classes, fewest = len(self.classes or ()), 2 if self.indexed else 3
        return fw.Network(
            **hidden,
            activation=self.activation,
            weight_precision=self.weight_precision,
            bias_precision=self.bias_precision,
            outputs=n_classes if n_classes >= fewest else 1,
            readout_activation=self.readout_activation,
        )

    def dataset(self, network: "Network") -> "Dataset":
        """Return the data as the network takes them, or raise InputError."""
        import finwidth as fw

        pairs = list(self.data_option)
        if self.data_path is not None:
            pairs.append(("path", self.data_path))
        if self.target is not None:
            pairs.append(("target", self.target))
        if self.indexed:
            pairs.append(("outputs", "index"))
        if network.layers[0].images:
            pairs.append(("image", True))
        data = fw.load_dataset(
            self.data,
            classes=self.classes,
            n_train=self.train,
            n_test=self.test,
            seed=self.data_seed,
            **data_options("--data-option", pairs),
        )
        _tell(data)
        return data


def _tell(data: "Dataset") -> None:
    """Say on stderr what one unit of a regression's error is, and of rows that occur twice."""
    twice = data.attrs.get("duplicates", {})
    if any(twice.values()):
        progress(
            f"duplicates: {twice['train']} training rows repeat an earlier one, "
            f"{twice['test_in_train']} test rows are training rows too"
        )
    if isinstance(data.y_scale, float) and data.y_scale != 1.0:
        guess = data.attrs["constant_guess"]["error"]
        progress(
            f"labels centred by {data.y_mean:g} and scaled by {data.y_scale:g}: the unit of errors "
            f"is {data.y_scale**2:g}, and predicting the training mean has {guess:.6f} of them"
        )


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the posterior is sampled."""

    model: Annotated[
        str | None,
        option(
            "--model",
            "marginal (readout integrated; the default), network (all weights; the default with "
            "classes), or student_t (the theory's scale mixture).",
        ),
    ] = None
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


class Given(frozenset[str]):
    """The names of the parameters that the command line gives, be their values the defaults."""

    @classmethod
    def of(cls, context: Any) -> "Given":
        """Return those of a command's context."""
        sources = {name: context.get_parameter_source(name) for name in context.params}
        unset = (None, "DEFAULT", "DEFAULT_MAP")
        return cls(
            name for name, source in sources.items() if getattr(source, "name", None) not in unset
        )


def options(*refused: str, **defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make the fields of a command's option groups its command-line options.

    A parameter of type `Given` is told which of all its options the command line gives.

    Parameters
    ----------
    *refused
        Fields that this command has no use for: it refuses them, and --help has them not.
    **defaults
        Defaults of this command that differ from those of the groups.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        hints = typing.get_type_hints(function, include_extras=True)
        groups: dict[str, Any] = {}
        given: list[str] = []
        parameters: list[inspect.Parameter] = []
        for name, parameter in inspect.signature(function).parameters.items():
            if dataclasses.is_dataclass(hints[name]):
                groups[name] = hints[name]
                parameters += _fields(hints[name], refused, defaults)
            elif hints[name] is Given:
                given.append(name)
                parameters.append(
                    inspect.Parameter(
                        "context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context
                    )
                )
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
            if given:
                filled[given[0]] = Given.of(values.pop("context"))
            function(**filled, **values)

        command.__signature__ = inspect.Signature(parameters)  # pyright: ignore
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def _fields(
    group: Any, refused: Collection[str], defaults: dict[str, Any]
) -> list[inspect.Parameter]:
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
                annotation=_hidden(hints[field.name])
                if field.name in refused
                else hints[field.name],
            )
        )
    return found


def _hidden(hint: Any) -> Any:
    """Return an option that --help does not list."""
    kind, info = typing.get_args(hint)
    info = copy.copy(info)
    info.hidden = True
    return Annotated[kind, info]
