"""Running chains of a model."""

__all__ = []
