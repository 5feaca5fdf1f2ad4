"""A table as plain text, and how values are written there."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["Table", "beside", "plain"]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table: a caption, the heads of its columns, rows of text; a note below it.

    The first `heads` columns are heads of their rows.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    heads: int = 1


def plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        inside = [f"{k} {plain(v)}" for k, v in value.items() if v is not None]
        return ", ".join(inside) or "none"
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(plain(one) for one in list(value)) or "none"
    return str(value)


def beside(value: float, mcse: float) -> str:
    """Return a number with as many decimals as its error has in two digits."""
    if not math.isfinite(value):
        return "not known" if math.isnan(value) else str(value)
    if not math.isfinite(mcse) or mcse <= 0:
        return f"{value:.4g}"
    return f"{value:.{min(max(1 - math.floor(math.log10(mcse)), 0), 8)}f}"
