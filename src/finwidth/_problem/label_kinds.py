"""Labels of classes where numbers are wanted: refused, or one warning."""

from typing import Any

import numpy as np

from .._basics.errors import InputError, warn

__all__ = ["check_label_kind"]

_CLASSES = 20  # the most class numbers that are taken for some; more are counts


def check_label_kind(y: Any, *, regression: bool) -> None:
    """Refuse booleans, and warn where one output of a regression is given the numbers of classes.

    Parameters
    ----------
    y
        The labels as they came, which are known to be an array of numbers.
    regression
        Whether the likelihood is Gaussian.
    """
    raw = np.asarray(y)
    if raw.dtype.kind == "b" or (
        raw.dtype.kind == "O" and all(isinstance(one, (bool, np.bool_)) for one in raw.flat)
    ):
        raise InputError("expected y = numbers, got booleans: np.where(y, 1, -1) makes labels")
    if not regression or raw.ndim != 1 or raw.dtype.kind not in "iu":
        return
    found = np.unique(raw)
    if 2 <= found.size <= _CLASSES and np.array_equal(found, np.arange(found.size)):
        warn(
            "expected y = labels -1 and +1, one-hot rows with outputs=D or likelihood='softmax' "
            f"for classes, got their numbers 0 … {found[-1]} for a regression of one output (as "
            "floats they are taken without this warning)",
            about="kind of labels",
        )
