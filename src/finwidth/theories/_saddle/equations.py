"""The two parts of the stationarity equations, as functions that can be pickled."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..._basics.arrays import as_float64, shown
from ..._basics.errors import InputError
from ..._layers.order import Chart
from ..._numerics.continuation import LARGEST_LOG
from ..._problem.problem import Problem
from .action import dense_gradient, scaled_gradient

__all__ = ["DataPart", "PriorPart", "check_start"]


@dataclasses.dataclass(frozen=True, eq=False)
class PriorPart:
    """θ -> (gradient, Hessian) of the prior term, each row divided by `rows`."""

    chart: Chart
    rows: np.ndarray

    def __call__(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gradient, hessian = self.chart.derivatives(theta)
        return gradient / self.rows, hessian / self.rows[:, None]


@dataclasses.dataclass(frozen=True, eq=False)
class DataPart:
    """θ -> gradient of the data term, each row divided by `rows`.

    A pickle holds what the function is made of; the function is made when it is first called.
    """

    theory: Any  # a SaddleTheory, which stands above
    problem: Problem
    rows: np.ndarray

    @functools.cached_property
    def _gradient(self) -> Callable[[np.ndarray], np.ndarray]:
        chart = self.theory.chart(self.problem.network)
        form = self.theory.form(self.problem)
        if form is not None:
            return functools.partial(
                scaled_gradient, form.kernel, form.parts, chart, self.problem.temperature
            )
        return dense_gradient(self.problem, self.theory.kernel, chart)

    def __reduce__(self) -> tuple[Any, ...]:
        return DataPart, (self.theory, self.problem, self.rows)

    def __call__(self, theta: np.ndarray) -> np.ndarray:
        return self._gradient(theta) / self.rows


def check_start(start: Any, size: int) -> np.ndarray:
    start = as_float64("start", start, f"({size},)")
    if start.shape != (size,) or not np.all(np.abs(start) <= LARGEST_LOG):
        raise InputError(
            f"expected start = {size} logarithm(s) of order parameters, of at most {LARGEST_LOG:g} "
            f"in size, got {shown(start)}"
        )
    return start
