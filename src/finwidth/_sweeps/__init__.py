"""One question over many problems."""

__all__ = []
