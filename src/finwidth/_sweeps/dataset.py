"""Results of a sweep as one labelled Dataset."""

import dataclasses
import importlib.metadata
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._problem.network import Network
from .._results.sweeps import CHAINS, TEXTS, TIMES
from .grid import AXES, Grid
from .keys import NUMERICS, data_digest
from .point import R_HAT_LIMIT, Effort, Point, theory_name

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["dataset"]

_FIRST = ("error", "bias2", "variance", "accuracy", "accuracy_mean", "log_loss")


def dataset(grid: Grid, effort: Effort, results: Sequence[dict[str, Any]]) -> "xr.Dataset":
    """Put the results of a grid's points in one Dataset."""
    import xarray as xr

    axes = {name: _Axis(value, grid) for name, value in _VALUES.items()}
    shape = tuple(len(axis.values) for axis in axes.values())
    found = {name for result in results for name in result} - {*TEXTS, *CHAINS, *TIMES}
    names = [name for first in _FIRST for name in (first, f"{first}_mcse") if name in found]
    names += sorted(found - set(names))
    arrays: dict[str, Any] = {name: np.full(shape, np.nan) for name in (*names, *TIMES)}
    if any(point.sampled for point in grid):
        arrays |= {name: np.full(shape, np.nan) for name in CHAINS}
    arrays |= {"state": np.full(shape, "not asked", object), "reason": np.full(shape, "", object)}
    converged = np.zeros(shape, bool)
    for point, result in zip(grid, results, strict=True):
        index: list[Any] = [axis.index(point) for axis in axes.values()]
        if not point.sampled:
            index[-1] = slice(None)  # whatever the seed
        where = tuple(index)
        for name, value in result.items():
            if value is not None:
                arrays[name][where] = value
        converged[where] = _converged(result)
    variables = {
        name: (AXES, array.astype(str) if name in TEXTS else array)
        for name, array in arrays.items()
    }
    variables["converged"] = (AXES, converged)
    result = xr.Dataset(variables, coords=_coordinates(axes)).assign_attrs(
        finwidth=importlib.metadata.version("finwidth"),
        numerics=NUMERICS,
        r_hat_limit=R_HAT_LIMIT,
        **dataclasses.asdict(effort),
    )
    single = [
        name
        for name, axis in axes.items()
        if len(axis.values) == 1 and (name not in grid.listed or name == "seed" and not axis.known)
    ]
    result = result.squeeze(single)
    return result if axes["seed"].known else result.drop_vars("seed")


def _converged(result: dict[str, Any]) -> bool:
    if result["state"] == "sampled":
        return bool(result["r_hat"] <= R_HAT_LIMIT)
    return result["state"] == "solved"


def _seed(point: Point) -> int | None:
    return point.seed


_VALUES: dict[str, Callable[[Point], Any]] = {
    "data": lambda point: data_digest(point.data),
    "net": lambda point: point.network,
    "temperature": lambda point: point.temperature,
    "likelihood": lambda point: point.likelihood,
    "theory": lambda point: theory_name(point.theory),
    "seed": _seed,
}


class _Axis:
    """The different values of one kind that a grid's points have, in their order."""

    def __init__(self, value: Callable[[Point], Any], grid: Grid) -> None:
        self._value = value
        self.points: dict[Any, Point] = {}
        for point in grid:
            self.points.setdefault(self._key(point), point)
        self.known = True
        if value is _seed:  # of theories there is none
            self.points = {k: p for k, p in self.points.items() if k is not None} or self.points
            self.known = None not in self.points
        self.values = list(self.points)
        self._index = {key: n for n, key in enumerate(self.values)}

    def _key(self, point: Point) -> Hashable:
        value = self._value(point)
        try:
            hash(value)
        except TypeError:  # a likelihood of the user's own
            return id(value)
        return value

    def index(self, point: Point) -> int:
        return self._index.get(self._key(point), 0)


def _coordinates(axes: dict[str, _Axis]) -> dict[str, Any]:
    sets = [point.data for point in axes["data"].points.values()]
    nets: list[Network] = axes["net"].values
    n_patterns = np.array([len(data.y_train) for data in sets])
    width = np.array([net.widths[0] for net in nets])
    laws = [point.likelihood.name for point in axes["likelihood"].points.values()]
    precisions = [",".join(f"{one:g}" for one in net.weight_precision) for net in nets]
    names = _different(
        [data.name for data in sets],
        [f"P={len(data.y_train)}" for data in sets],
        [f"N0={data.n_inputs}" for data in sets],
        [str(digest) for digest in axes["data"].values],
    )
    labels = _different(
        [f"{net.activation.name} {'-'.join(map(str, net.widths))}" for net in nets],
        [f"λ={text}" for text in precisions],
        ["" if net.dense else str(net.layers) for net in nets],
        [f"readout {net.readout_activation.name}" for net in nets],
        ["" if net.bias_precision is None else f"λb={net.bias_precision}" for net in nets],
        [str(net.activation.digest) for net in nets],
        [f"#{n}" for n in range(len(nets))],
    )
    return {
        "data": names,
        "n_patterns": ("data", n_patterns),
        "n_inputs": ("data", [data.n_inputs for data in sets]),
        "n_test": ("data", [len(data.y_test) for data in sets]),
        "net": labels,
        "activation": ("net", [net.activation.name for net in nets]),
        "width": ("net", width),
        "widths": ("net", [",".join(map(str, net.widths)) for net in nets]),
        "depth": ("net", [net.depth for net in nets]),
        "outputs": ("net", [net.outputs for net in nets]),
        "weight_precision": ("net", precisions),
        "readout_precision": ("net", [net.weight_precision[-1] for net in nets]),
        "load": (("data", "net"), n_patterns[:, None] / width),
        "temperature": np.array(axes["temperature"].values, np.float64),
        "likelihood": _different(laws, [f"#{n}" for n in range(len(laws))]),
        "theory": [str(name) for name in axes["theory"].values],
        "seed": [-1 if seed is None else seed for seed in axes["seed"].values],
    }


def _different(names: list[str], *more: list[str]) -> list[str]:
    """Return names, each with as much of `more` as it takes to tell all apart."""
    for further in more:
        if len(set(names)) == len(names):
            break
        count = Counter(names)
        names = [
            f"{name} {text}".strip() if count[name] > 1 else name
            for name, text in zip(names, further, strict=True)
        ]
    return names
