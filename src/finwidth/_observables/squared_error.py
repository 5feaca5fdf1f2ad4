"""The test error, of a prediction and of every draw."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float

from .prediction import Prediction

__all__ = ["error_series", "expected_error"]


def expected_error(prediction: Prediction, y_test: Float[np.ndarray, " n"]) -> xr.Dataset:
    """Return error = bias2 + variance of a prediction, means over the test patterns."""
    bias2 = float(np.mean((y_test - prediction.mean) ** 2))
    variance = float(np.mean(prediction.variance))
    return xr.Dataset({"error": bias2 + variance, "bias2": bias2, "variance": variance})


def error_series(blocks: Sequence[dict[str, np.ndarray]], y_test: np.ndarray) -> np.ndarray:
    """Return the test error of every draw, shape (chain, draw), from blocks of draws."""
    series = []
    for block in blocks:
        if "f_mean" in block:
            squares = (y_test - block["f_mean"]) ** 2 + block["f_variance"]
        else:
            squares = (y_test - block["f"]) ** 2
        series.append(squares.mean(axis=-1))
    return np.concatenate(series, axis=1)
