"""Which theory to trust where: `advise`, by the error map that comes with the package."""

from .advise import advise
from .shipped import load_error_map

__all__ = ["advise", "load_error_map"]
