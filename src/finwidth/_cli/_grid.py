"""The options of commands over many problems: `map` and `sweep`."""

import dataclasses
import math
from typing import TYPE_CHECKING, Annotated, Any

from .._basics.errors import InputError
from ._option import (
    CLASSES,
    all_widths,
    data_options,
    float_option,
    int_option,
    named,
    option,
    parse_labels,
    width_option,
    widths_option,
)

if TYPE_CHECKING:
    from ..datasets import Dataset

__all__ = ["Accuracy", "Problems", "several", "share"]


def several(*default: Any) -> Any:
    """Return a field that is a list."""
    return dataclasses.field(default_factory=lambda: list(default))


@dataclasses.dataclass(frozen=True)
class Problems:
    """Data sets, networks and temperatures, all of which are combined."""

    data: Annotated[
        list[str],
        option(
            "--data",
            "Data set, with options: digits:classes=3,8, random:n_inputs=50,train=120, "
            "mnist:path=FILE; repeatable, like all options down to --theory.",
            metavar="NAME[:OPTION=VALUE,…]",
        ),
    ] = several("digits")
    activation: Annotated[list[str], option("--activation", "Activation.")] = several("erf")
    depth: Annotated[list[int], int_option("--depth", "Number of hidden layers.")] = several(1)
    widths: Annotated[
        list[Any],
        widths_option(
            "Widths N, one network for each; all hidden layers of a network have one width. "
            "Default: 20,50,200 if there is no --load.",
        ),
    ] = several()
    width: Annotated[int | None, width_option()] = None
    load: Annotated[list[float], float_option("--load", "P/N instead of a width.")] = several()
    temperature: Annotated[list[float], float_option("--temperature", "T.")] = several(0.01)
    theory: Annotated[
        list[str],
        option(
            "--theory",
            "Theory, mixture or fluctuations. Default: all.",
        ),
    ] = several()
    train: Annotated[
        int,
        int_option(
            "--train",
            "Number of training patterns P; for several: --data digits:train=10 --data "
            "digits:train=20.",
        ),
    ] = 100
    test: Annotated[int, int_option("--test", "Number of test patterns.")] = 100
    data_seed: Annotated[
        int | None, int_option("--data-seed", "Seed of the order or of generated data.")
    ] = None
    classes: Annotated[Any, CLASSES] = (0, 1)

    @property
    def all_widths(self) -> list[int]:
        """All widths that are given, or the default ones where there is no load either."""
        widths = all_widths(self.widths, self.width)
        return widths if widths or self.load else [20, 50, 200]

    def dataset(self, text: str, **more: Any) -> "Dataset":
        """Return the data set of NAME[:OPTION=VALUE,…]; its options win over the common ones."""
        import finwidth as fw

        name, _, rest = text.partition(":")
        common: dict[str, Any] = {
            "classes": self.classes,
            "train": self.train,
            "test": self.test,
            "seed": self.data_seed,
        }
        try:
            pairs = [named(part) for part in _parts(rest)] if rest else []
        except ValueError:
            raise InputError(
                f"expected --data = NAME[:OPTION=VALUE,…], such as digits:classes=3,8,train=10, "
                f"got {text!r}"
            ) from None
        options = common | data_options("--data", pairs, allowed=common) | more
        options["classes"] = parse_labels(options["classes"])
        n_train, n_test = options.pop("train"), options.pop("test")
        return fw.load_dataset(name, n_train=n_train, n_test=n_test, **options)


def _parts(text: str) -> list[str]:
    """Return the OPTION=VALUE between commas; the value of classes has commas of its own."""
    found: list[str] = []
    for part in text.split(","):
        if "=" not in part and found and found[-1].startswith("classes="):
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """How well each point is sampled."""

    relative_mcse: Annotated[
        float,
        float_option("--relative-mcse", "Monte Carlo error of the test error, relative to it."),
    ] = 0.01
    ess: Annotated[
        float,
        float_option("--ess", "Effective draws at first; more follow until R-hat ≤ 1.01."),
    ] = 1000.0
    draws: Annotated[int, int_option("--draws", "Most draws of each chain.")] = 10_000


def share(value: float, mcse: float = math.nan) -> str:
    """Return a number with its Monte Carlo error as text; empty where there is none."""
    if math.isnan(value):
        return ""
    return f"{value:.4f}" if math.isnan(mcse) else f"{value:.4f} ± {mcse:.4f}"
