"""What a layer is to theory and sampling alike; knows no network as a whole."""

__all__ = []
