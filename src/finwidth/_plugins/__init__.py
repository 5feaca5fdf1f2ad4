"""Plugins: the hooks, the registry that loads who implements them, and shelves of modules."""

__all__ = []
