"""Rows that occur twice: within the training set, and in both sets."""

import numpy as np
from jaxtyping import Float

from .._basics.errors import warn

__all__ = ["duplicates"]

_MANY = 0.05  # of the test rows: fewer are found in many tables, as in the irises


def duplicates(
    X_train: Float[np.ndarray, "pattern input"],
    X_test: Float[np.ndarray, "test_pattern input"],
    name: str,
) -> dict[str, int]:
    """Return how many inputs occur more than once, to the last bit.

    Returns
    -------
    dict
        ``train``: training rows that are the same as an earlier one; ``test_in_train``: test rows
        that are the same as a training row.

    Warns
    -----
    UserWarning
        If more than one test row in twenty is a training row too: the test error is then in part
        one of training.
    """
    train, test = (_keys(X) for X in (X_train, X_test))
    known = set(train)
    leaked = [row for row, key in enumerate(test) if key in known]
    if len(leaked) > _MANY * len(test):
        warn(
            f"expected test rows of data set {name!r} that are no training rows, got "
            f"{len(leaked)} of {len(test)} that are, the first of them row {leaked[0]}: their "
            "error says little of patterns that are new",
            UserWarning,
        )
    return {"train": len(train) - len(known), "test_in_train": len(leaked)}


def _keys(X: Float[np.ndarray, "row input"]) -> list[bytes]:
    return [row.tobytes() for row in X + 0.0]  # of -0.0, too
