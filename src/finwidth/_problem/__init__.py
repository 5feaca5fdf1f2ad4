"""What theory and sampling are asked: a network, data, noise."""

__all__ = []
