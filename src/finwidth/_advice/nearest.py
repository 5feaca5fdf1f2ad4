"""What an error map knows of a theory near a problem: its nearest points, error and cost there."""

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from .features import FEATURES, Features, differences, of_map
from .spread import pairwise, spread

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FAR", "NEAR", "UNKNOWN", "Known", "Measured", "trust"]

NEAR, FAR = 1.5, 3.0  # steps
_AS_NEAR = 1.0  # by how many steps a point may be further than the nearest, to count beside it


class Known(NamedTuple):
    """What is measured of one theory near a problem.

    Attributes
    ----------
    points
        Numbers of the nearest points at which the theory was asked, shape (neighbour,).
    distance
        Their distances, in steps.
    expected_error
        Mean of |relative error| over the nearest, weighted by 1/distance², each at least the noise
        of the exact error; NaN where it has no solution at more than half of them, or nothing was
        asked.
    largest_error
        The largest |relative error| at all of `points`.
    likely_error
        Twice the root of the sum of squares of ``expected_error`` and of the median difference
        between errors at points of the map that are as far apart.
    share_solved
        At which share of the nearest it has a solution.
    accuracy_error
        Mean of |accuracy − exact accuracy| likewise; NaN where no labels are classes.
    cancelled
        By how much bias² and variance are off in opposite directions, in units of the exact error,
        likewise: the smaller of both deviations; NaN where the map has not both.
    seconds
        At the nearest point with a solution; NaN where nothing says it.
    seconds_patterns
        P there.
    """

    points: Int[np.ndarray, " neighbour"]
    distance: Float[np.ndarray, " neighbour"]
    expected_error: float
    largest_error: float
    likely_error: float
    share_solved: float
    accuracy_error: float
    cancelled: float
    seconds: float
    seconds_patterns: int


UNKNOWN = Known(np.zeros(0, int), np.zeros(0), *(math.nan,) * 7, seconds_patterns=0)


def trust(distance: float) -> str:
    """Return how far a measurement at this distance goes: measured, near, far, none."""
    if distance == 0:
        return "measured"
    return "near" if distance <= NEAR else "far" if distance <= FAR else "none"


class Measured:
    """An error map, seen from one problem.

    Parameters
    ----------
    dataset
        The map; points whose chains have not mixed are left out.
    features
        Of the problem.
    """

    def __init__(self, dataset: "xr.Dataset", features: Features) -> None:
        self.dataset = dataset.isel(point=np.flatnonzero(dataset["counted"].values))
        self.points = of_map(self.dataset)
        self.differences = np.zeros((len(self.points), len(FEATURES)))
        for row, point in zip(self.differences, self.points, strict=True):
            row[:] = differences(features, point)
        self.distance = np.sqrt(np.sum(self.differences**2, axis=1))

    @functools.cached_property
    def _apart(self) -> np.ndarray:
        return pairwise(self.points)

    def of(self, name: str, theory: str) -> np.ndarray:
        """Return a variable of a theory, NaN where the map has none."""
        if name not in self.dataset:
            return np.full(self.dataset.sizes["point"], np.nan)
        return self.dataset[name].sel(theory=theory).values

    def seconds(self, theory: str) -> np.ndarray:
        """Return CPU seconds where the map has them, else those of the clock."""
        used = self.of("cpu_seconds", theory)
        return np.where(np.isfinite(used), used, self.of("seconds", theory))

    def near(self, theory: str, neighbours: int) -> Known:
        """Return what is known of a theory; of one that the map has not, nothing."""
        if theory not in self.dataset["theory"].values:
            return UNKNOWN
        relative = self.of("relative_error", theory)
        solved = np.isfinite(relative)
        asked = solved
        if "state" in self.dataset:
            asked = solved | (self.dataset["state"].sel(theory=theory).values == "not converged")
        order = np.argsort(np.where(asked, self.distance, np.inf), kind="stable")
        order = order[asked[order]][:neighbours]
        distance = self.distance[order]
        count = order[distance <= distance.min(initial=np.inf) + _AS_NEAR]
        if distance.min(initial=np.inf) == 0:
            count = order[distance == 0]
        share = float(np.mean(solved[count])) if count.size else math.nan
        right = self.of("accuracy", theory) - self._exact("exact_accuracy")
        timed = [i for i in order if solved[i] and np.isfinite(self.seconds(theory)[i])]
        noise = self.dataset["exact_mcse"].values / np.abs(self.dataset["exact_error"].values)
        size = np.where(solved, np.maximum(np.abs(relative), noise), np.nan)
        found = size[order][solved[order]]
        expected = self._mean(size, count) if share >= 0.5 else math.nan
        beyond = math.nan
        if math.isfinite(expected):
            beyond = spread(self._apart, relative, float(distance[0]))
        return Known(
            order,
            distance,
            expected,
            float(found.max()) if found.size else math.nan,
            2.0 * math.hypot(expected, beyond),
            share,
            self._mean(np.abs(right), count),
            self._mean(self._cancelled(theory), count),
            float(self.seconds(theory)[timed[0]]) if timed else math.nan,
            int(self.dataset["n_patterns"][timed[0]]) if timed else 0,
        )

    def _cancelled(self, theory: str) -> np.ndarray:
        bias2, variance = (
            (self.of(name, theory) - self._exact(f"exact_{name}"))
            / np.abs(self.dataset["exact_error"].values)
            for name in ("bias2", "variance")
        )
        return np.where(bias2 * variance > 0, 0.0, np.minimum(np.abs(bias2), np.abs(variance)))

    def _exact(self, name: str) -> np.ndarray:
        if name in self.dataset:
            return self.dataset[name].values
        return np.full(self.dataset.sizes["point"], np.nan)

    def sampling_seconds(self) -> tuple[float, int]:
        """Return what exact sampling took at the nearest point, and which one that is."""
        nearest = int(np.argmin(self.distance))
        used = float(self._exact("exact_cpu_seconds")[nearest])
        return (
            used if math.isfinite(used) else float(self._exact("exact_seconds")[nearest])
        ), nearest

    def _mean(self, values: np.ndarray, points: np.ndarray) -> float:
        points = points[np.isfinite(values[points])]
        if not points.size:
            return math.nan
        nearest = self.distance[points].min()
        # relative to the nearest; at distance zero there are no others
        weights = (nearest / self.distance[points]) ** 2 if nearest > 0 else None
        return float(np.average(values[points], weights=weights))
