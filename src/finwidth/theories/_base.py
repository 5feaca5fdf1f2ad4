"""The interface of a theory: anything that takes a `Problem` to a `Solution`."""

import abc
from typing import Any

from .._errors import InputError
from .._network import Network
from .._problem import Problem
from .._provenance import plain
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

    def record(self) -> dict[str, Any] | None:
        """Return, as plain JSON types, what the theory's numbers depend on besides the problem.

        Results are stored under it and found again (`finwidth.error_map`). None where that cannot
        be told, and nothing is stored: the default for theories that are not finwidth's own, whose
        code may have changed under the same name. Such a theory may return, say, its version and
        its settings.
        """
        if not _built_in(self):
            return None
        try:
            settings = plain("settings", {k: v for k, v in vars(self).items() if k != "progress"})
        except InputError:
            return None
        return {"class": type(self).__qualname__, "settings": settings}

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle finwidth's own theories as their names: copies share what JAX has compiled."""
        if _built_in(self):
            from . import available

            same = available().get(self.name)
            if type(same) is type(self) and vars(same) == vars(self):
                return _registered, (self.name,)
        return super().__reduce_ex__(protocol)

    def check(self, network: Network) -> None:  # noqa: B027 - by default it always is
        """Raise InputError, before any work, where the theory is not defined for `network`."""

    @abc.abstractmethod
    def solve(self, problem: Problem) -> Solution:
        """Return the solution for `problem`; with ``converged=False`` if it was not reached.

        Called with JAX in float64. `finwidth.solve` raises ConvergenceError for a solution that
        has not converged.
        """


def _built_in(theory: Theory) -> bool:
    return type(theory).__module__.startswith(f"{__package__}.")


def _registered(name: str) -> Theory:
    """Return the theory that a pickle names."""
    from . import available

    return available()[name]
