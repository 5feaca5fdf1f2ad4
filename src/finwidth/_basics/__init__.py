"""What everything else stands on: errors, checks, progress, files. No JAX, nothing of finwidth."""

__all__ = []
