"""Whether something comes out of a pickle as it went in, as it does in the processes of a sweep."""

import pickle
from typing import Any

from .._basics.arrays import shown
from .._basics.errors import PluginError

__all__ = ["check_pickling"]


def check_pickling(item: Any) -> dict[str, float]:
    """Check that an item survives cloudpickle, which carries it to the workers of a sweep.

    Parameters
    ----------
    item
        An activation, theory, sampler, layer, data set, or anything else.

    Returns
    -------
    dict
        "pickling": 0.0.

    Raises
    ------
    PluginError
        If it cannot be pickled or read back, is of another type, or is told apart from what it was:
        by its digest or record, or, where it is compared by value, by ``==``.
    """
    import cloudpickle

    what = f"expected {shown(item)} to be what it was after pickling"
    try:
        copy = pickle.loads(cloudpickle.dumps(item))
    except Exception as error:  # whatever its own methods raise
        message = str(error).splitlines()[0] if str(error) else ""
        raise PluginError(f"{what}, got {type(error).__name__}: {message}") from error
    if type(copy) is not type(item):
        raise PluginError(f"{what}, got an object of type {type(copy).__name__}")
    if _traits(copy) != _traits(item):
        raise PluginError(f"{what}, got another one: {shown(copy)}")
    return {"pickling": 0.0}


def _traits(item: Any) -> tuple[Any, ...]:
    """Return what finwidth tells items apart by, as far as an item has it."""
    if isinstance(item, type):
        return (item.__module__, item.__qualname__)
    record = getattr(item, "record", None)
    return (
        getattr(item, "name", None),
        getattr(item, "digest", None),
        record() if callable(record) else None,
    )
