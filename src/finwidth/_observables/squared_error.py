"""The squared error on the test set and its two parts, of a prediction and of every draw."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._plugins.hooks import hookimpl
from ._labels import as_rows
from ._observable import Draws, Estimate, Labels, Observable

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["QUANTITIES", "SquaredError", "error_series", "expected_error"]

QUANTITIES = ("error", "bias2", "variance")


class SquaredError(Observable):
    """error = bias2 + variance: means of (y − f)², (y − m)² and Var f.

    The means are over the test patterns and, where there are several, the outputs.
    """

    name = "squared_error"
    quantities = QUANTITIES

    def covers(self, given: Any, y_test: Labels) -> bool:
        """Return whether labels are numbers that f estimates, and not classes to the likelihood."""
        return getattr(given, "probabilities", None) is None

    def of_prediction(self, prediction: Any, y_test: Labels) -> dict[str, float]:
        """Return error, bias2 and variance."""
        bias2 = float(np.mean((y_test - prediction.mean) ** 2))
        variance = float(np.mean(prediction.variance))
        return {"error": bias2 + variance, "bias2": bias2, "variance": variance}

    def of_draws(self, draws: Draws, y_test: Labels) -> dict[str, np.ndarray | Estimate]:
        """Return the estimates that `finwidth.compare` describes."""
        patterns = draws.patterns
        residual = y_test - patterns.mean
        spread = _mean((draws.mean - patterns.mean) ** 2 + draws.variance)
        correction = float(np.mean(patterns.mcse**2))
        noise = math.sqrt(2.0) * correction
        bias2 = float(np.mean(residual**2)) - correction
        return {
            "error": _errors(draws.mean, draws.variance, y_test),
            "bias2": draws.of_posterior_mean(bias2, -2.0 * residual / y_test.size, noise),
            "variance": Estimate(spread, correction, noise),
        }


def _errors(mean: np.ndarray, variance: np.ndarray | float, y_test: np.ndarray) -> np.ndarray:
    return _mean((y_test - mean) ** 2 + variance)


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over all axes but chain and draw."""
    return np.mean(values, axis=tuple(range(2, values.ndim)))


def expected_error(prediction: Any, y_test: Labels) -> "xr.Dataset":
    """Return error = bias2 + variance of a prediction, means over test patterns and outputs."""
    import xarray as xr

    return xr.Dataset(SquaredError().of_prediction(prediction, y_test))


def error_series(blocks: Sequence[dict[str, np.ndarray]], y_test: np.ndarray) -> np.ndarray:
    """Return the test error of every draw, shape (chain, draw), from blocks of draws."""
    if y_test.ndim < blocks[0]["f"].ndim - 2:  # class indices
        y_test = as_rows(y_test, blocks[0]["f"].shape[-1])
    series = [
        _errors(block["f_mean"], block["f_variance"], y_test)
        if "f_mean" in block
        else _errors(block["f"], 0.0, y_test)
        for block in blocks
    ]
    return np.concatenate(series, axis=1)


@hookimpl
def finwidth_register_observables() -> list[Observable]:
    """Register the observable."""
    return [SquaredError()]
