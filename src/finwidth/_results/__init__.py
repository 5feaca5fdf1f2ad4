"""Results: their tree, files, provenance, comparison and verdict."""

__all__ = []
