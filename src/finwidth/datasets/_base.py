"""What every data set shares: the record it returns and the path from rows to splits."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import ArrayLike

from .._basics.arrays import as_float64, check_inputs, check_labels, shown
from .._basics.checks import check_count, check_name, check_sequence
from .._basics.errors import InputError

__all__ = ["Dataset", "Pool", "Request", "check_rows", "make_dataset"]

_LARGEST = 2**36  # entries of generated inputs: half a terabyte


@dataclasses.dataclass(frozen=True, eq=False, init=False)
class Dataset:
    """A training and a test split with one output, checked and read-only.

    Parameters
    ----------
    X_train, y_train
        Training inputs, shape (P, N_0), and labels, shape (P,): finite, kept as float64.
    X_test, y_test
        Test inputs, shape (n_test, N_0), and labels, shape (n_test,).
    name
        Name of the data set.
    attrs
        How it was made: source, classes, standardisation, seed, sizes; JSON types only.

    Raises
    ------
    InputError
        If an array has the wrong shape, is not real or not finite.
    """

    X_train: Float[np.ndarray, "pattern input"]
    y_train: Float[np.ndarray, " pattern"]
    X_test: Float[np.ndarray, "test_pattern input"]
    y_test: Float[np.ndarray, " test_pattern"]
    name: str
    attrs: dict[str, Any]

    def __init__(
        self,
        X_train: ArrayLike,
        y_train: ArrayLike,
        X_test: ArrayLike,
        y_test: ArrayLike,
        name: str = "custom",
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        X = check_inputs(X_train, "X_train")
        X_new = check_inputs(X_test, "X_test", n_inputs=X.shape[1])
        arrays = {
            "X_train": X,
            "y_train": check_labels(y_train, len(X), "y_train", of="X_train"),
            "X_test": X_new,
            "y_test": check_labels(y_test, len(X_new), "y_test", of="X_test"),
        }
        for field, array in arrays.items():
            array.flags.writeable = False
            object.__setattr__(self, field, array)
        object.__setattr__(self, "name", check_name("name", name))
        object.__setattr__(self, "attrs", _check_attrs(attrs))

    def __reduce__(self) -> tuple[Any, ...]:
        """Make copies anew: checked and read-only."""
        return type(self), tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}, n_train={len(self.y_train)}, n_test={len(self.y_test)}, "
            f"n_inputs={self.X_train.shape[1]})"
        )


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


@dataclasses.dataclass(frozen=True, init=False)
class Request:
    """What the caller of `load_dataset` asked for, checked.

    Parameters
    ----------
    classes
        The labels of y = -1 and y = +1, or None for labels that are numbers already.
    n_train, n_test
        Sizes of the splits.
    seed
        Seed of the order or of the generated data; None for file order.
    """

    classes: Sequence[Any] | None
    n_train: int
    n_test: int
    seed: int | None

    def __init__(self, classes: Any, n_train: Any, n_test: Any, seed: Any) -> None:
        fields = {
            "classes": None if classes is None else _check_classes(classes),
            "n_train": check_count("n_train", n_train),
            "n_test": check_count("n_test", n_test),
            "seed": None if seed is None else check_count("seed", seed, minimum=0),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def generated(self) -> "Request":
        """Return the request for data that the seed itself generates: None means seed 0."""
        return self if self.seed is not None else dataclasses.replace(self, seed=0)


def _check_classes(classes: Any) -> tuple[Any, Any]:
    expected = "expected classes = two different labels or None"
    try:
        entries = check_sequence("classes", classes, "two labels")
    except InputError:
        raise InputError(f"{expected}, got {shown(classes)}") from None
    pair = tuple(value.item() if isinstance(value, np.generic) else value for value in entries)
    if not all(isinstance(value, (int, float, str)) for value in pair):
        raise InputError(f"{expected}, got {shown(pair)}")
    if len(pair) != 2 or pair[0] == pair[1]:
        raise InputError(f"{expected}, got {shown(pair)}")
    return pair


@dataclasses.dataclass(frozen=True, eq=False, init=False)
class Pool:
    """Rows to choose from: inputs (row, input or image axes) and one label per row.

    Parameters
    ----------
    X, labels
        Inputs and labels; images become one row of inputs each.
    known
        The labels there can be, where a few generated rows may lack one; None: those in `labels`.
    """

    X: Shaped[np.ndarray, "row input"]
    labels: Shaped[np.ndarray, " row"]
    known: tuple[Any, ...] | None

    def __init__(
        self, X: np.ndarray, labels: np.ndarray, known: tuple[Any, ...] | None = None
    ) -> None:
        if X.ndim > 2:  # images: one input per pixel and channel
            X = X.reshape(len(X), -1)
        if X.ndim != 2 or X.size == 0 or X.dtype.kind not in "fiub":
            raise InputError(
                "expected X = a real numeric array of shape (pattern, input), "
                f"got shape {X.shape} of dtype {X.dtype}"
            )
        if labels.shape != (len(X),):
            raise InputError(
                f"expected y = an array of shape ({len(X)},), one label for each row of X, "
                f"got shape {labels.shape}"
            )
        if labels.dtype.kind not in "fiubUS":
            raise InputError(
                f"expected y = real numbers or words as labels, got dtype {labels.dtype}"
            )
        for name, array in (("X", X), ("y", labels)):
            if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
                bad = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
                raise InputError(f"expected {name} = finite values only, got {array[bad]} at {bad}")
        object.__setattr__(self, "X", X)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "known", known)

    def select(self, classes: Sequence[Any] | None, name: str) -> "Pool":
        """Return the rows of the two classes with labels -1 and +1 (all rows for None)."""
        if classes is None:
            if self.labels.dtype.kind not in "fiub":
                raise InputError(
                    f"expected y = numbers in data set {name!r} where classes is None, "
                    f"got dtype {self.labels.dtype}"
                )
            return Pool(self.X, as_float64("y", self.labels, "(pattern,)"))
        known = np.unique(self.labels).tolist() if self.known is None else list(self.known)
        for value in classes:
            if value not in known:
                numbers = self.labels.dtype.kind in "fiub"
                hint = " (classes=None, --classes none, takes labels as numbers)" if numbers else ""
                raise InputError(
                    f"expected classes = labels that data set {name!r} has ({_shown(known)}), "
                    f"got {shown(value)}{hint}"
                )
        keep = np.isin(self.labels, classes)
        return Pool(self.X[keep], np.where(self.labels[keep] == classes[1], 1.0, -1.0))

    def shuffle(self, rng: np.random.Generator) -> "Pool":
        """Return the rows in random order."""
        order = rng.permutation(len(self.X))
        return Pool(self.X[order], self.labels[order])


def _shown(labels: list[Any], limit: int = 12) -> str:
    text = ", ".join(repr(value) for value in labels[:limit])
    return text if len(labels) <= limit else f"{text}, … {len(labels)} in all"


def make_dataset(
    request: Request,
    *,
    name: str,
    source: str,
    train: Pool,
    test: Pool | None = None,
    shuffle: bool = True,
) -> Dataset:
    """Choose classes, order and rows, split, and standardise.

    Parameters
    ----------
    request
        What the caller asked for.
    name, source
        Name of the data set and where the rows came from, kept in `attrs`.
    train
        Rows to train on; without `test` they give the test rows too.
    test
        Rows of a test set of its own.
    shuffle
        Whether a seed puts the rows in random order (False for generated rows).

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If classes are absent, rows too few, or entries not finite or all the same.
    """
    n_train, n_test = request.n_train, request.n_test
    rng = np.random.default_rng(request.seed) if shuffle and request.seed is not None else None
    pools = [pool.select(request.classes, name) for pool in (train, test) if pool is not None]
    if rng is not None:
        pools = [pool.shuffle(rng) for pool in pools]
    if len(pools) == 1:
        _check_rows("n_train + n_test", n_train + n_test, pools[0], name)
        rows, held_out = pools[0], Pool(pools[0].X[n_train:], pools[0].labels[n_train:])
    else:
        rows, held_out = pools
        _check_rows("n_train", n_train, rows, name)
        _check_rows("n_test", n_test, held_out, name)
    X_train = check_inputs(rows.X[:n_train], "X_train")
    mean, std = float(X_train.mean()), float(X_train.std())
    if std == 0.0:
        raise InputError(
            f"expected X_train = entries that vary in data set {name!r}, got {mean!r} everywhere"
        )
    X_test = check_inputs(held_out.X[:n_test], "X_test", n_inputs=X_train.shape[1])
    attrs = {
        "source": source,
        "classes": None if request.classes is None else list(request.classes),
        "standardisation": {"mean": mean, "std": std},
        "seed": request.seed,
        "sizes": {"n_train": n_train, "n_test": n_test, "n_inputs": X_train.shape[1]},
    }
    return Dataset(
        (X_train - mean) / std,
        rows.labels[:n_train],
        (X_test - mean) / std,
        held_out.labels[:n_test],
        name=name,
        attrs=attrs,
    )


def check_rows(request: Request, n_inputs: int) -> None:
    """Raise InputError if inputs of this size, which are to be generated, fit no memory."""
    rows = request.n_train + request.n_test
    if rows * n_inputs > _LARGEST:
        raise InputError(
            f"expected (n_train + n_test) n_inputs = at most {_LARGEST} entries to generate, got "
            f"{rows} patterns of {n_inputs} inputs"
        )


def _check_rows(argument: str, wanted: int, pool: Pool, name: str) -> None:
    if wanted > len(pool.X):
        raise InputError(
            f"expected {argument} = at most {len(pool.X)}, the rows that data set {name!r} has "
            f"for these classes, got {wanted}"
        )
