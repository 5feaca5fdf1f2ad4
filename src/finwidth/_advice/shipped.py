"""The error map that comes with the package."""

import functools
import importlib.resources
from typing import TYPE_CHECKING

from .._results.files import load
from .._results.map_summary import check_map

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["load_error_map"]


def load_error_map() -> "xr.Dataset":
    """Return the error map that comes with finwidth, of which the documentation shows every point.

    Returns
    -------
    xarray.Dataset
        As `finwidth.error_map` returns it: all theories against exact sampling, over data sets,
        widths, depths, activations and temperatures. Its attribute ``command`` made it.
    """
    return _loaded().copy(deep=True)


@functools.cache
def _loaded() -> "xr.Dataset":
    packed = importlib.resources.files(__package__) / "map.nc"
    with importlib.resources.as_file(packed) as path:
        return check_map(load(path).to_dataset())
