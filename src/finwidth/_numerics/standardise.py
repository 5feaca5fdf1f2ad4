"""Centring and scaling by the training rows: all entries alike, column by column, or labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from .._basics.errors import InputError

__all__ = ["column_scale", "label_scale", "scalar_scale"]

type _Unit = float | Float[np.ndarray, " column"]


def scalar_scale(
    X: Float[np.ndarray, "pattern input"], name: str
) -> tuple[float, float, dict[str, Any]]:
    """Return mean and standard deviation of all entries, and the record of them."""
    mean, std = float(X.mean()), float(X.std())
    if std == 0.0:
        raise InputError(
            f"expected X_train = entries that vary in data set {name!r}, got {mean!r} everywhere"
        )
    return mean, std, {"mean": mean, "std": std}


def column_scale(
    X: Float[np.ndarray, "pattern input"], name: str, columns: Sequence[Any] | None = None
) -> tuple[Float[np.ndarray, " input"], Float[np.ndarray, " input"], dict[str, Any]]:
    """Return mean and standard deviation of each column, and the record of them.

    A column that is constant has the standard deviation 1: it is centred, and zero in training.
    The record names it, by `columns` or by its position.
    """
    mean, std = _moments(X, f"X_train in data set {name!r}")
    constant = np.ptp(X, axis=0) == 0.0
    if constant.all():
        raise InputError(
            f"expected X_train = entries that vary in data set {name!r}, got the same in all "
            f"{len(X)} row(s)"
        )
    names = range(X.shape[1]) if columns is None else columns
    record = {
        "mean": mean.tolist(),
        "std": std.tolist(),
        "constant": [one for one, same in zip(names, constant, strict=True) if same],
    }
    return mean, std, record


def label_scale(
    y: Float[np.ndarray, " pattern"] | Float[np.ndarray, "pattern output"], name: str
) -> tuple[_Unit, _Unit]:
    """Return mean and standard deviation of the labels, of each output by itself."""
    mean, std = _moments(y, f"y_train in data set {name!r}")
    return (mean, std) if y.ndim == 2 else (float(mean), float(std))


def _moments(
    values: Float[np.ndarray, "pattern ..."], what: str
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Return mean and standard deviation along the first axis; 1 for values that are the same."""
    same = np.ptp(values, axis=0) == 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.where(same, values[0], values.mean(axis=0))
        centred = values - mean
        # squares of very small or large numbers would leave float64
        unit = np.where(same, 1.0, np.max(np.abs(centred), axis=0))
        std = np.where(same, 1.0, unit * np.sqrt(np.mean((centred / unit) ** 2, axis=0)))
    if not np.all(np.isfinite(mean)) or not np.all(np.isfinite(std)):
        raise InputError(f"expected {what} = entries whose differences float64 holds, got others")
    return mean, std
