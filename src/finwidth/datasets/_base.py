"""What every data set shares: what was asked for, and the path from rows to splits."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from .._basics.arrays import as_float64, check_inputs, shown
from .._basics.checks import check_choice, check_count, check_flag
from .._basics.errors import InputError
from .._numerics.standardise import column_scale, label_scale, scalar_scale
from ._dataset import Dataset
from ._duplicates import duplicates
from ._images import Images, folded
from ._labels import OUTPUTS, check_classes, class_attrs, encode, listed, numbered, numbers_of

__all__ = ["Dataset", "Pool", "Request", "check_rows", "make_dataset"]

_LARGEST = 2**36  # entries of generated inputs: half a terabyte


@dataclasses.dataclass(frozen=True, init=False)
class Request:
    """What the caller of `load_dataset` asked for, checked.

    Parameters
    ----------
    classes
        The labels of the classes, or None for labels that are numbers already.
    n_train, n_test
        Sizes of the splits.
    seed
        Seed of the order or of the generated data; None for file order.
    outputs
        "onehot", "index", or None: -1 and +1 of two classes, "onehot" of more.
    standardise_y
        Whether a regression's labels are centred and scaled; None: unless generated.
    image
        Whether images stay images, (row, column) or (channel, row, column).
    """

    classes: Sequence[Any] | None
    n_train: int
    n_test: int
    seed: int | None
    outputs: str | None
    standardise_y: bool | None
    image: bool

    def __init__(
        self,
        classes: Any,
        n_train: Any,
        n_test: Any,
        seed: Any,
        outputs: Any = None,
        standardise_y: Any = None,
        image: Any = False,
    ) -> None:
        fields = {
            "classes": None if classes is None else check_classes(classes),
            "n_train": check_count("n_train", n_train),
            "n_test": check_count("n_test", n_test),
            "seed": None if seed is None else check_count("seed", seed, minimum=0),
            "outputs": None if outputs is None else check_choice("outputs", outputs, OUTPUTS),
            "standardise_y": None
            if standardise_y is None
            else check_flag("standardise_y", standardise_y),
            "image": check_flag("image", image),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        if self.classes is None and self.outputs == "onehot":
            raise InputError(
                "expected outputs = None or 'index' where classes is None (a regression), got "
                "'onehot': classes=… names the classes"
            )

    def generated(self) -> "Request":
        """Return the request for data that the seed itself generates: None means seed 0.

        Their labels have a scale of their own, and keep it unless it is asked for.
        """
        return dataclasses.replace(
            self,
            seed=0 if self.seed is None else self.seed,
            standardise_y=bool(self.standardise_y),
        )


@dataclasses.dataclass(frozen=True, eq=False, init=False)
class Pool:
    """Rows to choose from: inputs (row, input or image axes) and one label per row, or several.

    Parameters
    ----------
    X, labels
        Inputs and labels; images become one row of inputs each.
    known
        The labels there can be, where a few generated rows may lack one; None: those in `labels`.
    columns
        Names of the inputs, where they have some.

    Attributes
    ----------
    image_shape
        Axes of an image, None where the inputs are none.
    """

    X: Shaped[np.ndarray, "row input"]
    labels: Shaped[np.ndarray, " row"] | Shaped[np.ndarray, "row output"]
    known: tuple[Any, ...] | None
    columns: tuple[str, ...] | None
    image_shape: tuple[int, ...] | None

    def __init__(
        self,
        X: np.ndarray,
        labels: np.ndarray,
        known: tuple[Any, ...] | None = None,
        columns: tuple[str, ...] | None = None,
    ) -> None:
        image_shape = X.shape[1:] if X.ndim > 2 else None
        if X.ndim > 2:  # images: one input per pixel and channel
            X = X.reshape(len(X), -1)
        if X.ndim != 2 or X.size == 0 or X.dtype.kind not in "fiub":
            raise InputError(
                "expected X = a real numeric array of shape (pattern, input), "
                f"got shape {X.shape} of dtype {X.dtype}"
            )
        several = labels.ndim == 2 and labels.shape[1] > 1
        if not (labels.ndim == 1 or several) or len(labels) != len(X):
            raise InputError(
                f"expected y = an array of shape ({len(X)},), one label for each row of X, "
                f"got shape {labels.shape}"
            )
        if labels.dtype.kind not in "fiubUS":
            raise InputError(
                f"expected y = real numbers or words as labels, got dtype {labels.dtype}"
            )
        if labels.dtype.kind == "S":
            labels = _decoded(labels)
        for name, array in (("X", X), ("y", labels)):
            if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
                bad = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
                raise InputError(f"expected {name} = finite values only, got {array[bad]} at {bad}")
        object.__setattr__(self, "X", X)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "known", known)
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "image_shape", image_shape)

    def select(self, classes: Sequence[Any] | None, name: str) -> "Pool":
        """Return the rows of the classes with the numbers of these as labels (all for None)."""
        if classes is None:
            if self.labels.dtype.kind not in "fiub":
                raise InputError(
                    f"expected y = numbers in data set {name!r} where classes is None, "
                    f"got dtype {self.labels.dtype}"
                )
            return Pool(self.X, as_float64("y", self.labels, "(pattern,)"))
        keep, numbers = numbers_of(self.labels, classes)
        return Pool(self.X[keep], numbers)

    def check(self, classes: Sequence[Any], name: str) -> None:
        """Raise InputError where there are no rows of one of the classes."""
        if self.labels.ndim == 2:
            raise InputError(
                f"expected y = one label for each row in data set {name!r} where classes are "
                f"given, got shape {self.labels.shape} (classes=None, --classes none, takes labels "
                "as numbers)"
            )
        known = np.unique(self.labels).tolist() if self.known is None else list(self.known)
        for value in classes:
            if value not in known:
                numbers = self.labels.dtype.kind in "fiub"
                hint = " (classes=None, --classes none, takes labels as numbers)" if numbers else ""
                raise InputError(
                    f"expected classes = labels that data set {name!r} has ({listed(known)}), "
                    f"got {shown(value)}{hint}"
                )

    def shuffle(self, rng: np.random.Generator) -> "Pool":
        """Return the rows in random order."""
        order = rng.permutation(len(self.X))
        return Pool(self.X[order], self.labels[order])


def _decoded(labels: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """Return words that are stored as bytes."""
    try:
        return np.char.decode(labels, "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"expected y = words in UTF-8 as labels, got {error}") from None


def make_dataset(
    request: Request,
    *,
    name: str,
    source: str,
    train: Pool,
    test: Pool | None = None,
    shuffle: bool = True,
    table: bool = False,
    image_shape: tuple[int, ...] | None = None,
    images: Images | None = None,
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
    table
        Whether each column is standardised by itself; else all entries are by two scalars.
    image_shape
        Shape of the image that a row is, where the rows come without, and have as many entries.
    images
        What is done to the images of the chosen rows before they are standardised.

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
    pools = [train] if test is None else [train, test]
    classes = request.classes
    if test is not None and test.labels.shape[1:] != train.labels.shape[1:]:
        raise InputError(
            f"expected y = as many labels a row to test on as to train on in data set {name!r}, "
            f"got shapes {test.labels.shape} and {train.labels.shape}"
        )
    if classes is None and request.outputs == "index":
        classes = numbered(np.concatenate([pool.labels for pool in pools]), name)
    elif classes is not None:
        train.check(classes, name)
    pools = [pool.select(classes, name) for pool in pools]
    if rng is not None:
        pools = [pool.shuffle(rng) for pool in pools]
    if len(pools) == 1:
        _check_rows("n_train + n_test", n_train + n_test, pools[0], name)
        rows, held_out = pools[0], Pool(pools[0].X[n_train:], pools[0].labels[n_train:])
    else:
        rows, held_out = pools
        _check_rows("n_train", n_train, rows, name)
        _check_rows("n_test", n_test, held_out, name)
    shape, images = train.image_shape or image_shape, images or Images()
    images.check(shape, train.X.shape[1], name)
    if test is not None:
        images.check(test.image_shape or shape, test.X.shape[1], name)
    (X_train, new_shape), (X_test, _) = (
        images.apply(X, shape) for X in (rows.X[:n_train], held_out.X[:n_test])
    )
    X_train = check_inputs(X_train, "X_train")
    scale = column_scale(X_train, name, train.columns) if table else scalar_scale(X_train, name)
    mean, std, standardisation = scale
    X_test = check_inputs(X_test, "X_test", n_inputs=X_train.shape[1])
    attrs: dict[str, Any] = {
        "source": source,
        "classes": None if classes is None else list(classes),
        "standardisation": standardisation,
        "seed": request.seed,
        "sizes": {"n_train": n_train, "n_test": n_test, "n_inputs": X_train.shape[1]},
    }
    y_train, y_test, y_mean, y_scale = rows.labels[:n_train], held_out.labels[:n_test], 0.0, 1.0
    if classes is not None:
        _check_training(classes, y_train, name)
        attrs |= class_attrs(classes, request.outputs, y_train, y_test)
        y_train, y_test = (encode(y, len(classes), request.outputs) for y in (y_train, y_test))
    else:
        if request.standardise_y is not False:
            y_mean, y_scale = label_scale(y_train, name)
        y_train, y_test = (y_train - y_mean) / y_scale, (y_test - y_mean) / y_scale
        attrs["labels"] = {
            "mean": np.asarray(y_mean).tolist(),
            "scale": np.asarray(y_scale).tolist(),
        }
        attrs["constant_guess"] = {"error": float(np.mean((y_test - y_train.mean(axis=0)) ** 2))}
    if new_shape is not None and math.prod(new_shape) == X_train.shape[1]:
        attrs["image_shape"] = list(new_shape)
    if images.record():
        attrs["images"] = images.record()
    attrs["duplicates"] = duplicates(X_train, X_test, name)
    X_train, X_test = (X_train - mean) / std, (X_test - mean) / std
    if request.image:
        X_train, X_test = (folded(X, attrs.get("image_shape"), name) for X in (X_train, X_test))
    return Dataset(
        X_train,
        y_train,
        X_test,
        y_test,
        name=name,
        attrs=attrs,
        y_mean=y_mean,
        y_scale=y_scale,
    )


def _check_training(classes: Sequence[Any], numbers: Int[np.ndarray, " row"], name: str) -> None:
    """Raise InputError where one of several classes has no training pattern."""
    if len(classes) == 2:
        return
    if len(classes) > len(numbers):
        raise InputError(
            f"expected classes = at most {len(numbers)}, the number of training patterns, got "
            f"{len(classes)} classes"
        )
    counts = np.bincount(numbers, minlength=len(classes))
    if not counts.all():
        raise InputError(
            f"expected n_train = rows of every class of data set {name!r}, got none of "
            f"{classes[int(np.argmin(counts))]!r} among {len(numbers)}: a seed (--data-seed) puts "
            "the rows in random order"
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
