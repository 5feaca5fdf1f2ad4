"""Hidden weights in the directions that meet the data."""

import dataclasses

import numpy as np
from jaxtyping import Float

from ..._layers.dense import whiten_inputs
from ..._numerics.span import Span
from ..._problem.network import Network
from ..._problem.problem import Problem

__all__ = ["Coordinates"]


@dataclasses.dataclass(frozen=True, eq=False)
class Coordinates:
    """Hidden weights and bias, whitened by their prior, in the span of the training patterns.

    Attributes
    ----------
    network
        Supplies the prior.
    basis
        Orthonormal columns V that span the whitened training patterns; all other directions keep
        their prior. Shape (input, rank), with biases (input + 1, rank).
    """

    network: Network
    basis: Float[np.ndarray, "extended rank"]

    @classmethod
    def of(cls, problem: Problem) -> "Coordinates":
        """Return the coordinates that suit the training set of `problem`."""
        network = problem.network
        return cls(network, Span.of(whiten_inputs(network, problem.X)).basis())

    def inside(self, X: Float[np.ndarray, "n input"]) -> Float[np.ndarray, "n rank"]:
        """Return the patterns' coordinates Z."""
        return whiten_inputs(self.network, X) @ self.basis
