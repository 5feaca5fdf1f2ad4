"""Arrays as scikit-learn checks them, and its complaints as errors of finwidth's."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from .._basics.arrays import shown
from .._basics.errors import FinwidthError, InputError

__all__ = ["generator", "refusals", "taken", "training_set"]


class _TypeInputError(InputError, TypeError):
    """An input of a wrong type, which those who know scikit-learn catch as TypeError."""


@contextlib.contextmanager
def refusals(names: str) -> Iterator[None]:
    """Raise what scikit-learn says of an argument as InputError, in its words."""
    try:
        yield
    except (FinwidthError, NotFittedError):
        raise
    except Exception as error:  # of scikit-learn, NumPy, or an object's own way to become an array
        text = str(error)
        if text.startswith("The feature names should match"):  # a list of names, line by line
            raise
        kind = _TypeInputError if isinstance(error, TypeError) else InputError
        said = text if len(text) < 500 else shown(text, 500)
        raise kind(f"expected {names} as scikit-learn takes them, got: {said}") from None


def generator(random_state: Any) -> np.random.RandomState:
    """Return the generator that `random_state` stands for in scikit-learn, or raise InputError."""
    try:
        return check_random_state(random_state)
    except Exception:  # of an object's own repr, too
        raise InputError(
            "expected random_state = an int of at least 0, a numpy.random.RandomState or None, "
            f"got {shown(random_state)}"
        ) from None


def training_set(
    estimator: Any, X: Any, y: Any, **checks: Any
) -> tuple[Float[np.ndarray, "pattern input"], Shaped[np.ndarray, "..."]]:
    """Return the checked training set of an estimator, whose inputs are noted in it."""
    with refusals("X and y"):
        found: Any = validate_data(
            estimator, X, y, dtype=np.float64, ensure_min_samples=2, copy=True, **checks
        )
    return found


def taken(estimator: Any, X: Any) -> Float[np.ndarray, "point input"]:
    """Return checked inputs like those that the estimator was fitted to."""
    check_is_fitted(estimator)
    with refusals("X"):
        found: Any = validate_data(estimator, X, dtype=np.float64, reset=False)
    return found
