"""The scale mixture: the saddle point's order parameters, integrated over their law."""

__all__ = []
