"""Memory: what an argument asks for, and what this machine has."""

import os
import re
from pathlib import Path
from typing import Any

from .arrays import shown
from .checks import check_number
from .errors import InputError

__all__ = ["available_memory", "check_memory", "shown_memory"]

_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY = {"K": 2.0**10, "M": 2.0**20, "G": 2.0**30, "T": 2.0**40}
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def check_memory(name: str, value: Any) -> float:
    """Return a number of bytes, of a number or a string such as "8GB", or raise InputError."""
    if not isinstance(value, str):
        return check_number(name, value, 0.0)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B\s*", value.upper())
    if match is None or (match[3] and not match[2]) or not float(match[1]) > 0:
        raise InputError(
            f"expected {name} = bytes, or a string such as '8GB' or '500MB', got {shown(value)}"
        )
    return float(match[1]) * (_BINARY[match[2]] if match[3] else _UNITS[match[2]])


def shown_memory(size: float) -> str:
    """Return a number of bytes as people write it."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size / 1e3:.3g} kB"


def available_memory() -> float:
    """Return the bytes of memory that this process may take at most; infinite if unknown."""
    try:
        found = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return float("inf")
    try:
        limit = _CGROUP.read_text().strip()
    except OSError:
        return found
    return min(found, float(limit)) if limit.isdigit() else found
