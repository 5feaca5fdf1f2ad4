"""What both paths answer."""

__all__ = []
