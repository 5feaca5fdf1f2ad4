"""Grids of points for an error map: products of settings, and the grid of the documentation."""

from collections.abc import Iterable, Sequence

from .._basics.errors import InputError
from .._layers.convolution import Convolution
from .._layers.dense import Dense
from .._layers.residual import Residual
from .._problem.network import Network
from ..datasets import Dataset, load_dataset
from .point import MapPoint

__all__ = ["PRESETS", "docs_points", "grid_points"]


def grid_points(
    data: Sequence[Dataset],
    *,
    activations: Sequence[str],
    depths: Sequence[int],
    widths: Sequence[int],
    loads: Sequence[float],
    temperatures: Sequence[float],
) -> list[MapPoint]:
    """Return the product of settings as points, all hidden layers of a network alike.

    Networks have as many outputs as the data.

    Parameters
    ----------
    data
        Data sets.
    activations, depths, temperatures
        σ, L and T.
    widths
        Widths N.
    loads
        P/N, each of which gives a width for each data set, rounded.

    Returns
    -------
    list of MapPoint
        Narrow networks first.

    Raises
    ------
    InputError
        If a value is wrong, or there is neither a width nor a load.
    """
    for load in loads:
        if not load > 0:
            raise InputError(f"expected load = a float > 0, got {load!r}")
    if not widths and not loads:
        raise InputError("expected at least one width or load, got none")
    for depth in depths:
        if depth < 1:
            raise InputError(f"expected depth = an int of at least 1, got {depth!r}")
    found = [
        MapPoint(one, Network((width,) * depth, activation, outputs=_outputs(one)), temperature)
        for one in data
        for activation in activations
        for depth in depths
        for width in _widths(widths, loads, len(one.y_train))
        for temperature in temperatures
    ]
    return sorted(found, key=_cost)


def _outputs(data: Dataset) -> int:
    return 1 if data.y_train.ndim == 1 else data.y_train.shape[1]


def _widths(widths: Sequence[int], loads: Sequence[float], n_patterns: int) -> list[int]:
    found = [*widths, *(max(1, round(n_patterns / load)) for load in loads)]
    return list(dict.fromkeys(found))


def _cost(point: MapPoint) -> float:
    """Return a number that grows with the time a point takes: weights times stiffness."""
    width, inputs = point.network.widths[0], point.data.n_inputs
    weights = width * inputs + (point.network.depth - 1) * width**2
    return weights * len(point.data.y_train) / point.temperature**0.5


def docs_points() -> list[MapPoint]:
    """Return the grid that the documentation shows; quick points first."""
    digits = load_dataset("digits", n_train=100, n_test=100)
    few = load_dataset("digits", n_train=20, n_test=100)
    images = load_dataset("digits", n_train=100, n_test=100, image=True)
    random = load_dataset("random", n_train=60, n_test=100)
    teacher = load_dataset("teacher", n_train=60, n_test=100)
    generated, both = (random, teacher), ("erf", "relu")

    def grid(
        data: Iterable[Dataset],
        activations: Sequence[str],
        depth: int,
        widths: Sequence[int],
        temperatures: Sequence[float],
    ) -> list[MapPoint]:
        return grid_points(
            tuple(data),
            activations=activations,
            depths=(depth,),
            widths=widths,
            loads=(),
            temperatures=temperatures,
        )

    points = [
        *grid(generated, both, 1, (20, 50, 200), (0.5, 0.1)),
        *grid((digits,), both, 1, (20, 50, 200), (0.1, 0.01)),
        *grid((digits,), ("erf",), 1, (1000,), (0.1, 0.01)),
        *grid(generated, ("erf",), 1, (1000,), (0.5, 0.1)),
        *grid((*generated, digits), both, 2, (50,), (0.1,)),
        *grid((digits,), ("erf",), 2, (50, 200), (0.01,)),
        *grid((few,), both, 3, (10, 100), (0.1, 0.01)),
    ]
    points += [
        MapPoint(images, Network(layers=(Convolution(channels, patch),)), 0.01)
        for patch in (3, 4)
        for channels in (5, 20)
    ]
    # strengths with c² + ρ² = 1, and the linear readout for which the theory of a block is derived
    points += [
        MapPoint(digits, _residual(width, skip, branch), 0.01)
        for skip, branch in ((0.6, 0.8), (0.8, 0.6))
        for width in (20, 50)
    ]
    return sorted(points, key=_cost)


def _residual(width: int, skip: float, branch: float) -> Network:
    layers = Dense(width), Residual(width, skip, branch)
    return Network(layers=layers, readout_activation="identity")


PRESETS = {"docs": docs_points}
