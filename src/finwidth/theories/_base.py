"""The interface of a theory: anything that takes a `Problem` to a `Solution`."""

import abc

from .._network import Network
from .._problem import Problem
from .._solution import Solution

__all__ = ["Theory"]


class Theory(abc.ABC):
    """A theory of the posterior.

    Attributes
    ----------
    name
        What users write in ``finwidth.solve(..., theory=name)``.
    """

    name: str

    def check(self, network: Network) -> None:  # noqa: B027 - by default it always is
        """Raise InputError, before any work, where the theory is not defined for `network`."""

    @abc.abstractmethod
    def solve(self, problem: Problem) -> Solution:
        """Return the solution for `problem`; with ``converged=False`` if it was not reached.

        Called with JAX in float64. `finwidth.solve` raises ConvergenceError for a solution that
        has not converged.
        """
