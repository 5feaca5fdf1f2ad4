"""Data sets: one module per data set, found by name; adding one touches no other file.

A data set is a module of this package whose name has no leading underscore. It has one
function, ``load(request, **options) -> Dataset``, whose keyword-only parameters are the
data set's own options; its docstring is what users read. The helpers that turn rows and
labels into a `Dataset` (choice of classes, order, split, standardisation) are in `_base`.
"""

import difflib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from .._basics.errors import InputError
from .._plugins.shelf import Shelf
from ._base import Dataset, Request

__all__ = ["SHELF", "Dataset", "list_datasets", "load_dataset"]

SHELF: Shelf[Callable[..., Dataset]] = Shelf(
    "finwidth.datasets", "data set", Callable, "a function", attribute="load"
)


def list_datasets() -> list[str]:
    """Return the sorted names that `load_dataset` takes."""
    return SHELF.names()


def load_dataset(
    name: str,
    *,
    classes: Sequence[Any] | None = (0, 1),
    n_train: int = 100,
    n_test: int = 100,
    seed: int | None = None,
    **options: Any,
) -> Dataset:
    """Load a data set as a training and a test split for one output.

    Rows of the two classes are kept, put in random order if there is a seed, and split:
    the first `n_train` rows train and the next `n_test` rows test, or, where the source
    has a test set of its own, the first `n_test` rows of that. X is then standardised by
    the scalar mean and standard deviation of all entries of `X_train`.

    Parameters
    ----------
    name
        One of `list_datasets`: "digits" (ships with scikit-learn), "random", "teacher",
        "mnist", "cifar10", or the user's own file: "npz", "csv".
    classes
        The two labels to keep: y = -1 for the first and +1 for the second. None keeps all
        rows and takes the labels as the numbers they are.
    n_train, n_test
        Number of patterns in each split, at least 1.
    seed
        Seed of the random order, or of the generated data ("random" and "teacher", where
        None means 0). None keeps the order of the file.
    **options
        Options of this data set, such as ``path``; see `finwidth.datasets` and the
        docstring of its module.

    Returns
    -------
    Dataset
        ``X_train`` (n_train, N_0), ``y_train`` (n_train,), ``X_test`` (n_test, N_0) and
        ``y_test`` (n_test,), with `attrs` that say how they were made.

    Raises
    ------
    InputError
        If a name, option, class, size or file is not there, or the data are not finite.
    """
    load = SHELF.get(name)
    _check_options(name, load, options)
    request = Request(classes=classes, n_train=n_train, n_test=n_test, seed=seed)
    return load(request, **options)


def _check_options(name: str, load: Callable[..., Dataset], options: dict[str, Any]) -> None:
    parameters = inspect.signature(load).parameters.values()
    known = sorted(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)
    for option in options:
        if option not in known:
            close = difflib.get_close_matches(option, known, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            takes = f"one of {known}" if known else "none"
            raise InputError(
                f"expected options of data set {name!r} = {takes}, got {option!r}{hint}"
            )
