"""`grid`: every combination of data sets, networks, temperatures, theories and seeds."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any, overload

from .._basics.arrays import check_labels, shown
from .._basics.checks import check_flag, check_iterable, check_seed, check_temperature
from .._basics.errors import InputError
from .._likelihoods import Likelihood, choose_likelihood
from .._problem.network import Network, check_network
from ..datasets import Dataset, load_dataset
from ..theories import Theory
from .point import EXACT, Point, check_names, theory_name

__all__ = ["AXES", "Grid", "grid"]

AXES = ("data", "net", "temperature", "likelihood", "theory", "seed")


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """The points of a sweep, made by `finwidth.grid`; nothing in it can change.

    It has a length, can be iterated over, and ``a + b`` has the points of both.

    Parameters
    ----------
    points
        The points, each one data set, network, temperature, likelihood, and a theory or a seed.
    listed
        Names of what was given as a list: dimensions of the result, however short.
    """

    points: tuple[Point, ...]
    listed: frozenset[str]

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    @overload
    def __getitem__(self, index: int) -> Point: ...

    @overload
    def __getitem__(self, index: slice) -> "Grid": ...

    def __getitem__(self, index: int | slice) -> "Point | Grid":
        if isinstance(index, slice):
            return Grid(self.points[index], self.listed)
        return self.points[index]

    def __add__(self, other: "Grid") -> "Grid":
        if not isinstance(other, Grid):
            return NotImplemented
        return Grid(self.points + other.points, self.listed | other.listed)

    def __repr__(self) -> str:
        def count(what: str, value: Callable[[Point], Any]) -> str:
            found = list(dict.fromkeys(value(point) for point in self.points))
            return f"{what}={found}" if len(found) < 5 else f"{len(found)} of {what}"

        parts = (
            count("data", lambda point: point.data.name),
            count("widths", lambda point: point.network.widths),
            count("temperature", lambda point: point.temperature),
            count("theory", lambda point: theory_name(point.theory)),
        )
        return f"Grid({len(self)} points: {', '.join(parts)})"


def grid(
    *,
    data: Any = "digits",
    net: Any,
    temperature: Any = None,
    theory: Any = "nested",
    sample: bool = False,
    seed: Any = 0,
    likelihood: Any = "gaussian",
) -> Grid:
    """Return every combination of problems, and of what is asked of them.

    Each argument is one value or several; several make a dimension of what `finwidth.sweep`
    returns.

    Parameters
    ----------
    data
        Data sets, or names of them (`finwidth.load_dataset` with its defaults).
    net
        Networks.
    temperature
        Temperatures T ≥ 0, T > 0 where anything is sampled; None for that of a likelihood of
        classes.
    theory
        Theories, by name or as `finwidth.theories.Theory`; "mixture", what `finwidth.mixture`
        computes, and "fluctuations" (`finwidth.fluctuations` of theory="nested") among them. Empty
        or None: nothing is solved.
    sample
        Whether the exact posterior is sampled, too. It stands as "exact" among the theories.
    seed
        Seeds of the sampler; theories do not depend on them.
    likelihood
        Likelihoods, by name or as objects.

    Returns
    -------
    Grid
        The points, as many as `len` says; ``+`` puts two grids together.

    Raises
    ------
    InputError
        If an argument is not as described, empty, or has a value twice; if data, network,
        likelihood and temperature do not fit each other at some point; if there is neither a
        theory nor sampling.
    """
    given = (data, net, temperature, likelihood, theory, seed)
    listed = {name for name, value in zip(AXES, given, strict=True) if _is_list(value)}
    sets = _several("data", data, _dataset)
    nets = _several("net", net, check_network)
    likelihoods = _several("likelihood", likelihood, choose_likelihood)
    temperatures = _several("temperature", temperature, _temperature)
    theories = () if theory is None else _values("theory", theory)
    check_names("theory", theories)
    seeds = _several("seed", seed, check_seed)
    if not theories and not check_flag("sample", sample):
        raise InputError("expected a theory or sample = True, got neither")
    asked: list[tuple[str | Theory, int | None]] = [(one, None) for one in theories]
    if check_flag("sample", sample):
        asked += [(EXACT, one) for one in seeds]
        if theories:
            listed.add("theory")
    else:
        listed.discard("seed")
    points = []
    for one, network, law in itertools.product(sets, nets, likelihoods):
        _check_labels(one, network, law)
        for value in temperatures:
            t = law.temperature(value)
            if sample and t == 0:
                raise InputError(f"expected temperature > 0 with sample = True, got {shown(value)}")
            points += [Point(one, network, t, law, *what) for what in asked]
    return Grid(tuple(points), frozenset(listed))


def _is_list(value: Any) -> bool:
    single = (str, Dataset, Network, Theory, Likelihood)
    several = hasattr(value, "__iter__") and getattr(value, "ndim", 1) != 0
    return several and not isinstance(value, single)


def _values(name: str, value: Any) -> tuple[Any, ...]:
    return check_iterable(name, value, "one value or several") if _is_list(value) else (value,)


def _several(name: str, value: Any, check: Callable[[Any], Any]) -> tuple[Any, ...]:
    """Return one value or several, checked and different, or raise InputError."""
    values = tuple(check(one) for one in _values(name, value))
    if not values:
        raise InputError(f"expected {name} = one value or several, got none")
    for n, one in enumerate(values):
        if any(one is other or (type(one) is type(other) and one == other) for other in values[:n]):
            raise InputError(f"expected {name} = different values, got {shown(one)} twice")
    return values


def _temperature(value: Any) -> float | None:
    return None if value is None else check_temperature(value)


def _dataset(value: Any) -> Dataset:
    if isinstance(value, str):
        return load_dataset(value)
    if not isinstance(value, Dataset):
        raise InputError(
            f"expected data = finwidth.Dataset objects or names, got {type(value).__name__}"
        )
    return value


def _check_labels(data: Dataset, net: Network, likelihood: Likelihood) -> None:
    """Raise InputError where the labels are not those of the network's outputs."""
    outputs = 1 if likelihood.one_label else net.outputs
    for part, X, y in (
        ("y_train", data.X_train, data.y_train),
        ("y_test", data.X_test, data.y_test),
    ):
        try:
            y = likelihood.check(check_labels(y, len(X), part, "X", outputs))
            likelihood.check_classes(y, net.outputs)
        except InputError as error:
            raise InputError(
                f"expected data, net and likelihood that fit, got {data!r}, {net!r} and "
                f"{likelihood.name!r}: {error}"
            ) from None
