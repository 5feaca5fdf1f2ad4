"""Labels of classes: the number of each row's class, and what stands for it as y."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from .._basics.arrays import shown
from .._basics.checks import check_sequence
from .._basics.errors import InputError

__all__ = ["OUTPUTS", "check_classes", "class_attrs", "encode", "listed", "numbered", "numbers_of"]

OUTPUTS = ("index", "onehot")


def check_classes(classes: Any) -> tuple[Any, ...]:
    """Return the labels of two classes or more, or raise InputError."""
    expected = "expected classes = two different labels or more, or None"
    try:
        entries = check_sequence("classes", classes, "labels")
    except InputError:
        raise InputError(f"{expected}, got {shown(classes)}") from None
    labels = tuple(value.item() if isinstance(value, np.generic) else value for value in entries)
    if not all(isinstance(value, (int, float, str)) for value in labels):
        raise InputError(f"{expected}, got {shown(labels)}")
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise InputError(f"{expected}, got {shown(labels)}")
    return labels


def listed(labels: Sequence[Any], limit: int = 12) -> str:
    """Return labels as a message shows them."""
    text = ", ".join(repr(value) for value in labels[:limit])
    return text if len(labels) <= limit else f"{text}, … {len(labels)} in all"


def numbered(labels: Shaped[np.ndarray, "..."], name: str) -> tuple[int, ...]:
    """Return the classes 0 … D − 1 of labels that are their numbers, or raise InputError."""
    found = np.unique(labels)
    if labels.ndim != 1 or found.dtype.kind not in "fiub":
        raise InputError(
            f"expected y = the number of a class for each row of data set {name!r} with "
            f"outputs='index', got shape {labels.shape} of dtype {labels.dtype}: classes=… names "
            "them"
        )
    wrong = found[found != np.arange(len(found))]
    if wrong.size or len(found) < 2:
        raise InputError(
            f"expected y = ints 0, 1, … D − 1, at least two, each of which occurs, in data set "
            f"{name!r} with outputs='index', got {listed(found.tolist())}: classes=… names them"
        )
    return tuple(range(len(found)))


def numbers_of(
    labels: Shaped[np.ndarray, " row"], classes: Sequence[Any]
) -> tuple[Shaped[np.ndarray, " row"], Int[np.ndarray, " kept"]]:
    """Return which rows are of one of the classes, and the number of the class of those."""
    matches = np.stack([labels == value for value in classes])
    keep = np.any(matches, axis=0)
    return keep, np.argmax(matches[:, keep], axis=0)


def encode(
    numbers: Int[np.ndarray, " row"], n_classes: int, outputs: str | None
) -> Float[np.ndarray, " row"] | Float[np.ndarray, "row output"]:
    """Return y: −1 and +1 of two classes, 0 and 1 in D columns of more, or their numbers."""
    if outputs == "index":
        return numbers.astype(np.float64)
    if outputs == "onehot" or n_classes > 2:
        return np.eye(n_classes)[numbers]
    return np.where(numbers == 1, 1.0, -1.0)


def class_attrs(
    classes: Sequence[Any],
    outputs: str | None,
    train: Int[np.ndarray, " row"],
    test: Int[np.ndarray, " test_row"],
) -> dict[str, Any]:
    """Return what stands for a class, how many rows each has, and what one constant guess gets.

    The guess is the class with most training rows; its accuracy is that on the test rows.
    """
    counts = [np.bincount(numbers, minlength=len(classes)).tolist() for numbers in (train, test)]
    guess = int(np.argmax(counts[0]))
    return {
        "outputs": outputs or ("onehot" if len(classes) > 2 else "sign"),
        "balance": {"train": counts[0], "test": counts[1]},
        "constant_guess": {"class": classes[guess], "accuracy": counts[1][guess] / len(test)},
    }
