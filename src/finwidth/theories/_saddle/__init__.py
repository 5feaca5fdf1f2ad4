"""Theories whose solution is a saddle point of an effective action."""

__all__ = []
