"""The law that finite width gives a coordinate of an order parameter, before there are labels."""

from typing import NamedTuple

__all__ = ["Law"]


class Law(NamedTuple):
    """exp(θ) ~ Gamma(shape, rate), or θ ~ N(0, 1/rate) where there is no shape.

    Attributes
    ----------
    name
        What it is a law of.
    further
        Which layer after the one whose units are summed over it is of.
    shape, rate
        Numbers, or None.
    """

    name: str
    further: int
    shape: float | None
    rate: float

    def site(self, layer: int) -> str:
        """Return the name of its site in a model, where `layer` is summed over."""
        return f"{self.name}_{layer + self.further}"
