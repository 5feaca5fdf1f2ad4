"""Check of a data set: splits that `load_dataset` promises, the same every time."""

from typing import Any

import numpy as np

from .._basics.arrays import shown
from .._basics.errors import InputError, PluginError
from ._pickling import check_pickling

__all__ = ["check_dataset"]

_SIZES = {"n_train": 20, "n_test": 10}


def check_dataset(source: Any, **options: Any) -> dict[str, float]:
    """Load a data set with 20 training and 10 test patterns and check what comes.

    Parameters
    ----------
    source
        A `finwidth.datasets.Source`, or the name of a data set.
    **options
        Arguments of `finwidth.load_dataset`, such as ``classes=None`` for a regression or the
        ``path`` of a file.

    Returns
    -------
    dict
        Check -> worst deviation found: "standardised", the mean of the training inputs, and by how
        much their standard deviation is more than 1; "repeated", between two loads with the same
        seed; "pickling".

    Raises
    ------
    PluginError
        At the first check that fails.
    InputError
        If `source` is no data set, or it does not take the options.
    """
    from ..datasets import SHELF, Source, load_dataset

    if isinstance(source, Source):
        SHELF.accept([source])
    elif isinstance(source, str):
        SHELF.get(source)
    else:
        raise InputError(
            f"expected source = a finwidth.datasets.Source, or a name, got {shown(source)}"
        )
    name = source if isinstance(source, str) else source.name
    what = f"data set {name!r}: expected"
    arguments: dict[str, Any] = _SIZES | {"seed": 1} | options
    one, other = (load_dataset(source, **arguments) for _ in range(2))
    fields = ("X_train", "y_train", "X_test", "y_test")
    gaps = []
    for field in fields:
        first, second = getattr(one, field), getattr(other, field)
        wanted = arguments["n_train" if field.endswith("train") else "n_test"]
        if len(first) != wanted:
            raise PluginError(f"{what} {wanted} rows of {field}, got {len(first)}")
        if first.shape != second.shape:
            raise PluginError(f"{what} the same {field} for the same seed, got another shape")
        gaps.append(float(np.abs(first - second).max()))
    if max(gaps) > 0:
        field = fields[int(np.argmax(gaps))]
        raise PluginError(
            f"{what} the same {field} for the same seed, got a deviation of {max(gaps):.1e}"
        )
    if one.name != name:
        raise PluginError(f"{what} its name in Dataset.name, got {one.name!r}")
    centred, above = abs(float(one.X_train.mean())), float(one.X_train.std()) - 1
    if not (centred <= 1e-6 and -1 < above <= 1e-6):  # constant columns of a table stay 0
        raise PluginError(
            f"{what} training inputs of mean 0 and standard deviation 1, got "
            f"{one.X_train.mean():.3g} and {one.X_train.std():.3g}"
        )
    return {
        "standardised": max(centred, above),
        "repeated": max(gaps),
        **check_pickling(source),
    }
