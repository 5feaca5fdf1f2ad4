"""The squared error on the test set and its two parts, of a prediction and of every draw."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from .._plugins.hooks import hookimpl
from ._observable import Draws, Estimate, Observable

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["QUANTITIES", "SquaredError", "error_series", "expected_error"]

QUANTITIES = ("error", "bias2", "variance")


class SquaredError(Observable):
    """error = bias2 + variance: means over the test patterns of (y − f)², (y − m)² and Var f."""

    name = "squared_error"
    quantities = QUANTITIES

    def of_prediction(
        self,
        prediction: Any,
        y_test: Float[np.ndarray, " test_pattern"] | Float[np.ndarray, "test_pattern output"],
    ) -> dict[str, float]:
        """Return error, bias2 and variance."""
        bias2 = float(np.mean((y_test - prediction.mean) ** 2))
        variance = float(np.mean(prediction.variance))
        return {"error": bias2 + variance, "bias2": bias2, "variance": variance}

    def of_draws(
        self, draws: Draws, y_test: Float[np.ndarray, " test_pattern"]
    ) -> dict[str, np.ndarray | Estimate]:
        """Return the estimates that `finwidth.compare` describes."""
        patterns = draws.patterns
        residual = y_test - patterns.mean
        spread = np.mean((draws.mean - patterns.mean) ** 2 + draws.variance, axis=-1)
        correction = float(np.mean(patterns.mcse**2))
        noise = math.sqrt(2.0) * correction
        bias2 = float(np.mean(residual**2)) - correction
        return {
            "error": _errors(draws.mean, draws.variance, y_test),
            "bias2": draws.of_posterior_mean(bias2, -2.0 * residual / y_test.size, noise),
            "variance": Estimate(spread, correction, noise),
        }


def _errors(mean: np.ndarray, variance: np.ndarray | float, y_test: np.ndarray) -> np.ndarray:
    return np.mean((y_test - mean) ** 2 + variance, axis=-1)


def expected_error(
    prediction: Any, y_test: Float[np.ndarray, " n"] | Float[np.ndarray, "n output"]
) -> "xr.Dataset":
    """Return error = bias2 + variance of a prediction, means over test patterns and outputs."""
    import xarray as xr

    return xr.Dataset(SquaredError().of_prediction(prediction, y_test))


def error_series(blocks: Sequence[dict[str, np.ndarray]], y_test: np.ndarray) -> np.ndarray:
    """Return the test error of every draw, shape (chain, draw), from blocks of draws."""
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
