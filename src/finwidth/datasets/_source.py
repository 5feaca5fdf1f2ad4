"""A data set that a plugin adds: its name, the function that loads it, and what that may use."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from .._basics.arrays import shown
from .._basics.checks import check_flag, check_name
from .._basics.errors import InputError
from ._base import Dataset, Pool, Request, make_dataset

__all__ = ["Source", "split_rows"]


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set that users name, for a plugin to return from `finwidth_register_datasets`.

    Parameters
    ----------
    name
        What users write in ``load_dataset(name)``.
    load
        ``load(request, **options) -> Dataset``, with a `Request`; its keyword-only parameters are
        the data set's own options. `split_rows` makes the `Dataset` of rows and labels.
    """

    name: str
    load: Callable[..., Dataset]


def split_rows(
    request: Request,
    name: str,
    X: Any,
    y: Any,
    *,
    source: str = "",
    shuffle: bool = True,
    table: bool = False,
) -> Dataset:
    """Choose classes, order and rows as the user has asked, split, and standardise.

    Parameters
    ----------
    request
        What the caller of `finwidth.load_dataset` asked for.
    name
        Name of the data set.
    X
        All rows, shape (row, input), or images, shape (row, row of pixels, column) and, with
        colours, (row, row of pixels, column, channel).
    y
        A label for each row: a number or a word, shape (row,); of a regression with several
        outputs numbers of shape (row, output).
    source
        Where the rows come from, in a few words; kept in `Dataset.attrs`.
    shuffle
        Whether the user's seed puts the rows in random order: False where it has generated them.
    table
        Whether each column is standardised by itself, else all entries by two scalars.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If an argument is not as described, classes are absent, or rows are too few.
    """
    if not isinstance(request, Request):
        raise InputError(f"expected request = a finwidth.datasets.Request, got {shown(request)}")
    if not isinstance(source, str):
        raise InputError(f"expected source = a string, got {shown(source)}")
    return make_dataset(
        request,
        name=check_name("name", name),
        source=source or name,
        train=Pool(_array("X", X), _array("y", y)),
        shuffle=check_flag("shuffle", shuffle),
        table=check_flag("table", table),
    )


def _array(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except Exception as error:  # whatever an object of the user's own raises
        raise InputError(
            f"expected {name} = an array, got {shown(value)} ({type(error).__name__})"
        ) from None
