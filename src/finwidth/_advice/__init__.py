"""Which theory to trust where: `advise`, by the error map that comes with the package."""

__all__ = []
