"""Data sets: one module per data set, found by name; adding one touches no other file.

A data set is a module of this package whose name has no leading underscore. It has one
function, ``load(request, **options) -> Dataset``, whose keyword-only parameters are the
data set's own options; its docstring is what users read. The helpers that turn rows and
labels into a `Dataset` (choice of classes, order, split, standardisation) are in `_base`.
A plugin's data set is a `Source`: a name and such a function, which calls `split_rows`.
"""

import difflib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from .._basics.arrays import shown
from .._basics.errors import InputError, PluginError
from .._plugins.shelf import Shelf
from ._base import Dataset, Request
from ._source import Source, split_rows

__all__ = [
    "SHELF",
    "Dataset",
    "Request",
    "Source",
    "list_datasets",
    "load_dataset",
    "split_rows",
]


def _check(source: Source) -> None:
    """Raise PluginError for a plugin's data set without a function of a request."""
    try:
        parameters = list(inspect.signature(source.load).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if [one.kind in positional for one in parameters].count(True) != 1:
        raise PluginError(
            f"expected data set {source.name!r} with load = a function (request, *, options …), "
            f"got {shown(source.load)}"
        )


# a module's function, or what a plugin returns
SHELF: Shelf[Any] = Shelf(
    "finwidth.datasets",
    "data set",
    Source,
    "finwidth.datasets.Source",
    attribute="load",
    hook="finwidth_register_datasets",
    check=_check,
)


def list_datasets() -> list[str]:
    """Return the sorted names that `load_dataset` takes."""
    return SHELF.names()


def load_dataset(
    name: str | Source,
    *,
    classes: Sequence[Any] | None = (0, 1),
    n_train: int = 100,
    n_test: int = 100,
    seed: int | None = None,
    outputs: str | None = None,
    standardise_y: bool | None = None,
    image: bool = False,
    **options: Any,
) -> Dataset:
    """Load a data set as a training and a test split.

    Rows of the classes are kept, put in random order if there is a seed, and split: the first
    `n_train` rows train and the next `n_test` rows test, or, where the source has a test set of its
    own, the first `n_test` rows of that. X is then standardised by the scalar mean and standard
    deviation of all entries of `X_train`; in tables ("csv", and "npz" of two axes) each column by
    its own.

    Parameters
    ----------
    name
        One of `list_datasets`: "digits" (ships with scikit-learn), "random", "teacher",
        "mnist", "cifar10", or the user's own file: "npz", "csv"; or a `datasets.Source` itself.
    classes
        The labels to keep, two or more. Of two, y = -1 for the first and +1 for the second; of
        D > 2, y has the shape (n, D) and 1 in the column of the class, 0 in the others. None, as
        for a regression, keeps all rows and takes the labels as numbers.
    n_train, n_test
        Number of patterns in each split, at least 1.
    seed
        Seed of the random order, or of the generated data ("random" and "teacher", where
        None means 0). None keeps the order of the file.
    outputs
        "onehot": 0 and 1 in one column for each class, for two of them, too. "index": y is the
        number of the class, 0 … D - 1 as a float; with ``classes=None`` of labels that are these
        numbers already.
    standardise_y
        Whether the labels of a regression (``classes=None``) are centred and scaled by the mean
        and standard deviation of the training labels, which `Dataset.y_mean` and
        `Dataset.y_scale` keep. Default: yes, but for "teacher" and "random", whose labels are
        generated. Labels of classes never are.
    image
        Whether images stay images, as a `finwidth.Convolution` takes them: X of shape (n, row,
        column), or with colours (n, channel, row, column); else X is flat.
    **options
        Options of this data set, such as ``path``; see `finwidth.datasets` and the
        docstring of its module.

    Returns
    -------
    Dataset
        ``X_train`` (n_train, N_0), or images, ``y_train`` (n_train,) or (n_train, D), ``X_test``
        and ``y_test`` of n_test, with `attrs` that say how they were made: source,
        classes, outputs, standardisation (with the names or numbers of constant columns), seed,
        sizes; of classes their balance and what guessing the larger one always gets on the test
        rows; of a regression mean and scale of the labels; of images the shape of a flat row,
        (row, column) or (row, column, channel), as image_shape; duplicates, how
        many training rows repeat an earlier one ("train") and how many test rows are training rows
        too ("test_in_train").

    Raises
    ------
    InputError
        If a name, option, class, size or file is not there, or the data are not finite; of three
        classes or more, if one has no training row.

    Warns
    -----
    UserWarning
        If more than one test row in twenty is a training row too.
    """
    found = name if isinstance(name, Source) else SHELF.get(name)
    name = found.name if isinstance(found, Source) else str(name)
    load = found.load if isinstance(found, Source) else found
    _check_options(name, load, options)
    request = Request(classes, n_train, n_test, seed, outputs, standardise_y, image)
    data = load(request, **options)
    if not isinstance(data, Dataset):
        raise PluginError(
            f"expected load of data set {name!r} to return a finwidth.Dataset, got {shown(data)}"
        )
    return data


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
