"""One point of a sweep: a problem, and what is asked of it, a theory or sampling."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from .._basics.checks import check_count, check_iterable, check_number, check_temperature
from .._basics.errors import InputError, PluginError
from .._basics.plain import plain
from .._likelihoods import GAUSSIAN, Likelihood
from .._problem.network import Network, check_network
from .._results.sweeps import EXACT
from ..datasets import Dataset
from ..theories import Theory
from ..theories._theory import SHELF, choose_theory
from .labels import layers_text

__all__ = [
    "BEYOND",
    "EXACT",
    "R_HAT_LIMIT",
    "Effort",
    "MapPoint",
    "Point",
    "ask",
    "check_names",
    "check_theories",
    "default_theories",
    "theory_name",
    "theory_record",
]

R_HAT_LIMIT = 1.01

# What is no theory but is asked in a sweep like one: it has moments, and errors to the next order,
# but no law of f that both belong to.
BEYOND = ("fluctuations",)


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """What a theory, or sampling, is asked at one problem; checked where it is made.

    Parameters
    ----------
    data, network, temperature, likelihood
        The problem.
    theory
        A theory, its name, or one of `BEYOND`; "exact" for sampling.
    seed
        Seed of the sampler; None for a theory.
    """

    data: Dataset
    network: Network
    temperature: float
    likelihood: Likelihood
    theory: str | Theory
    seed: int | None = None

    @property
    def sampled(self) -> bool:
        """Whether it is sampled, not solved."""
        return self.seed is not None

    def __str__(self) -> str:
        net = self.network
        widths = "-".join(str(width) for width in net.widths)
        what = f"N={widths}" if net.dense else layers_text(net)
        return f"{self.data.name} {net.activation.name} {what} T={self.temperature:g}"


@dataclasses.dataclass(frozen=True, eq=False)
class MapPoint:
    """One problem of an error map: a data set, a network, a temperature.

    Parameters
    ----------
    data
        Training and test set, as `finwidth.load_dataset` gives it or made by hand.
    network
        The network.
    temperature
        T > 0.

    Raises
    ------
    InputError
        If an argument is not as described.
    """

    data: Dataset
    network: Network
    temperature: float

    def __post_init__(self) -> None:
        if not isinstance(self.data, Dataset):
            raise InputError(f"expected data = a finwidth.Dataset, got {type(self.data).__name__}")
        check_network(self.network)
        checked = check_temperature(self.temperature, zero=False)
        object.__setattr__(self, "temperature", checked)

    def __str__(self) -> str:
        return str(ask(self, EXACT))


def ask(problem: MapPoint, theory: str | Theory, seed: int | None = None) -> Point:
    """Return the point of a sweep where a problem is solved or, with a seed, sampled."""
    return Point(problem.data, problem.network, problem.temperature, GAUSSIAN, theory, seed)


@dataclasses.dataclass(frozen=True)
class Effort:
    """How well a point is sampled.

    Parameters
    ----------
    relative_mcse
        Wanted Monte Carlo standard error of the test error, relative to it.
    target_ess
        Effective draws of the test error that are asked for first.
    max_draws
        Most draws per chain.
    """

    relative_mcse: float = 0.01
    target_ess: float = 1000.0
    max_draws: int = 10_000

    def __post_init__(self) -> None:
        checked = {
            "relative_mcse": check_number("relative_mcse", self.relative_mcse, 0.0),
            "target_ess": check_number("target_ess", self.target_ess, 0.0),
            "max_draws": check_count("max_draws", self.max_draws),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def default_theories() -> tuple[str, ...]:
    """Return all theories but the slow ones, then what goes beyond a saddle point."""
    return (*(name for name, theory in SHELF.items().items() if not theory.slow), *BEYOND)


def theory_name(theory: str | Theory) -> str:
    """Return the name of a theory."""
    return theory.name if isinstance(theory, Theory) else theory


def theory_record(theory: str | Theory) -> dict[str, Any] | None:
    """Return what a theory's numbers depend on besides the problem (see `Theory.record`)."""
    if isinstance(theory, str) and theory in BEYOND:
        return {"function": theory}
    record = choose_theory(theory).record()
    if record is None:
        return None
    if not isinstance(record, Mapping):
        raise PluginError(
            f"expected record() of theory {theory_name(theory)!r} = a dict of JSON types or None, "
            f"got {record!r}"
        )
    return plain(f"record() of theory {theory_name(theory)!r}", record)


def check_theories(theories: Any) -> tuple[str | Theory, ...]:
    """Return the theories of a map, or raise InputError."""
    if theories is None:
        return default_theories()
    chosen = check_iterable("theories", theories, "a sequence of names or theories")
    check_names("theories", chosen)
    if not chosen:
        raise InputError("expected theories = different names, at least one, got []")
    return chosen


def check_names(argument: str, theories: tuple[Any, ...]) -> None:
    """Raise InputError where one is no theory, or two have one name."""
    for one in theories:
        if not (isinstance(one, str) and one in BEYOND):
            theory_record(one)
    names = [theory_name(one) for one in theories]
    if len(set(names)) < len(names) or EXACT in names:
        raise InputError(
            f"expected {argument} = different names, none of them {EXACT!r}, got {names}"
        )
