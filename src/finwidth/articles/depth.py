"""Depth: where finite width wins, for erf and ReLU, and the depth at which ReLU stops winning."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from .._problem.network import Network
from .._solve import solve
from ..datasets import Dataset
from ..diagnostics import depth_profile
from ._figure import Figure, Table
from ._picture import LIGHT, grid, log_axis, shades, write_legend
from ._study import Study

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["critical_depth", "figure"]

# ReLU's prior shrinks by a factor λ/2 a layer... so both the unit precision and the one that keeps it
_NETWORKS = (("erf", 1.0), ("relu", 1.0), ("relu", 0.5))


@dataclasses.dataclass(frozen=True)
class _Size:
    n_train: int
    n_test: int
    depths: tuple[int, ...]
    widths: tuple[int, ...]


_SIZES = {
    "quick": _Size(40, 100, (1, 2, 3, 4, 5, 6), (20, 100)),
    "default": _Size(100, 200, tuple(range(1, 9)), (20, 50, 200)),
    "paper": _Size(500, 1000, tuple(range(1, 9)), (100, 500, 2000)),
}
