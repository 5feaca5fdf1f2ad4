"""What every data set is: a training and a test split, checked and read-only."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from .._basics.arrays import (
    as_float64,
    check_inputs_shape,
    check_labels,
    check_patterns,
    shown,
)
from .._basics.checks import check_name
from .._basics.errors import InputError
from .._observables import Prediction

__all__ = ["Dataset"]


@dataclasses.dataclass(frozen=True, eq=False, init=False)
class Dataset:
    """A training and a test split with one output or several, checked and read-only.

    Parameters
    ----------
    X_train, y_train
        Training inputs, shape (P, N_0), or images, shape (P, row, column) or (P, channel, row,
        column), and labels, shape (P,), or (P, D) for D > 1 outputs: finite, kept as float64.
    X_test, y_test
        Test inputs, of such a shape, and labels, shape (n_test,) or (n_test, D).
    name
        Name of the data set.
    attrs
        How it was made: source, classes, standardisation, seed, sizes; JSON types only.
    y_mean, y_scale
        The labels were (y_mean + y_scale · y) in the user's units: floats, or of shape (D,).
        Squared errors are multiplied by y_scale², a log density loses log y_scale.

    Raises
    ------
    InputError
        If an array has the wrong shape, is not real or not finite.
    """

    X_train: Float[np.ndarray, "pattern ..."]
    y_train: Float[np.ndarray, " pattern"] | Float[np.ndarray, "pattern output"]
    X_test: Float[np.ndarray, "test_pattern ..."]
    y_test: Float[np.ndarray, " test_pattern"] | Float[np.ndarray, "test_pattern output"]
    name: str
    attrs: dict[str, Any]
    y_mean: float | Float[np.ndarray, " output"]
    y_scale: float | Float[np.ndarray, " output"]

    def __init__(
        self,
        X_train: ArrayLike,
        y_train: ArrayLike,
        X_test: ArrayLike,
        y_test: ArrayLike,
        name: str = "custom",
        attrs: Mapping[str, Any] | None = None,
        y_mean: float | ArrayLike = 0.0,
        y_scale: float | ArrayLike = 1.0,
    ) -> None:
        X = _check_patterns("X_train", X_train, None)
        X_new = _check_patterns("X_test", X_test, X.shape[1:])
        labels = as_float64("y_train", y_train, f"({len(X)},) or ({len(X)}, output)")
        outputs = max(labels.shape[1], 1) if labels.ndim == 2 else 1
        arrays = {
            "X_train": X,
            "y_train": check_labels(labels, len(X), "y_train", of="X_train", outputs=outputs),
            "X_test": X_new,
            "y_test": check_labels(y_test, len(X_new), "y_test", of="X_test", outputs=outputs),
        }
        for field, array in arrays.items():
            array.flags.writeable = False
            object.__setattr__(self, field, array)
        object.__setattr__(self, "name", check_name("name", name))
        object.__setattr__(self, "attrs", _check_attrs(attrs))
        object.__setattr__(self, "y_mean", _check_unit("y_mean", y_mean, outputs))
        object.__setattr__(self, "y_scale", _check_unit("y_scale", y_scale, outputs, above=0.0))

    @property
    def n_inputs(self) -> int:
        """N_0, of images the number of their entries."""
        return math.prod(self.X_train.shape[1:])

    def in_units(self, prediction: Prediction) -> Prediction:
        """Return a prediction in the units that labels had before they were centred and scaled.

        Parameters
        ----------
        prediction
            What `predict` of a solution returned for inputs of this data set.

        Returns
        -------
        Prediction
            ``y_mean + y_scale * mean`` and ``y_scale**2 * variance``, covariances likewise.
        """
        if not isinstance(prediction, Prediction):
            raise InputError(
                f"expected prediction = a finwidth.Prediction, got {type(prediction).__name__}"
            )
        outputs = self.y_train.shape[1:]
        if prediction.mean.shape[1:] != outputs:
            raise InputError(
                f"expected prediction = a mean of shape {('test_pattern', *outputs)}, got shape "
                f"{prediction.mean.shape}"
            )
        scale = np.broadcast_to(self.y_scale, outputs)
        product = np.multiply.outer(scale, scale)
        factors = {
            "mean": scale,
            "variance": scale**2,
            "covariance": product[:, None, :] if outputs else product,
            "output_covariance": product,
            "standard_error": scale,  # of mean and variance, where they are estimates
            "variance_error": scale**2,
        }
        values = {
            name: getattr(prediction, name) * factor
            for name, factor in factors.items()
            if getattr(prediction, name, None) is not None
        }
        values["mean"] = values["mean"] + self.y_mean
        return dataclasses.replace(prediction, **values)

    def __reduce__(self) -> tuple[Any, ...]:
        """Make copies anew: checked and read-only."""
        return type(self), tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def __repr__(self) -> str:
        outputs = f", n_outputs={self.y_train.shape[1]}" if self.y_train.ndim == 2 else ""
        shape = self.X_train.shape[1:]
        inputs = f"n_inputs={shape[0]}" if len(shape) == 1 else f"image={shape}"
        return (
            f"Dataset({self.name!r}, n_train={len(self.y_train)}, n_test={len(self.y_test)}, "
            f"{inputs}{outputs})"
        )


def _check_patterns(name: str, X: Any, like: tuple[int, ...] | None) -> np.ndarray:
    """Return inputs, flat or images; `like` is the shape that each must have, if that is known."""

    def check(shape: tuple[int, ...]) -> None:
        if len(shape) not in (3, 4) and (like is None or len(like) == 1):
            check_inputs_shape(shape, name, None if like is None else like[0])
        elif 0 in shape or (like is not None and shape[1:] != like):
            wanted = "row, column" if like is None else ", ".join(map(str, like))
            raise InputError(
                f"expected {name} = an array of shape (pattern, {wanted}), got shape {shape}"
            )

    return check_patterns(X, check, name, "(pattern, input)")


def _check_attrs(attrs: Any) -> dict[str, Any]:
    expected = "expected attrs = a mapping of JSON types or None"
    if attrs is not None and not isinstance(attrs, Mapping):
        raise InputError(f"{expected}, got {shown(attrs)}")
    attrs = dict(attrs or {})
    try:
        json.dumps(attrs)
    except (TypeError, ValueError) as error:
        raise InputError(f"{expected}, got {shown(attrs)} ({error})") from None
    return attrs


def _check_unit(
    name: str, value: Any, outputs: int, above: float = -np.inf
) -> float | Float[np.ndarray, " output"]:
    """Return a float, or a read-only array with one number for each of several outputs."""
    several = f" or an array of shape ({outputs},)" if outputs > 1 else ""
    unit = as_float64(name, value, f"(){several}")
    fits = unit.shape == () or (outputs > 1 and unit.shape == (outputs,))
    if not fits or not np.all(np.isfinite(unit)) or not np.all(unit > above):
        low = "" if above == -np.inf else f" > {above:g}"
        raise InputError(f"expected {name} = a finite float{low}{several}, got {shown(value)}")
    if unit.shape == ():
        return float(unit)
    unit.flags.writeable = False
    return unit
