"""Linear algebra, quadrature and statistics: arrays in, arrays out."""

__all__ = []
