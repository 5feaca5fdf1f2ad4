"""The interface of a theory: anything that takes a `Problem` to a `Solution`."""

import abc
from typing import Any

from .._basics.errors import ConvergenceError, InputError
from .._plugins.shelf import Shelf
from .._problem.network import Network
from .._problem.problem import Problem
from .._results.provenance import plain
from ._solution import Solution

__all__ = [
    "SHELF",
    "Theory",
    "available",
    "check_converged",
    "choose_theory",
    "list_theories",
    "solve_problem",
]


class Theory(abc.ABC):
    """A theory of the posterior.

    Attributes
    ----------
    name
        What users write in ``finwidth.solve(..., theory=name)``.
    slow
        Whether it takes minutes; `finwidth.error_map` then solves it only if it is named.
    """

    name: str
    slow: bool = False

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
            same = SHELF.get(self.name) if self.name in SHELF.names() else None
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
    return SHELF.get(name)


SHELF: Shelf[Theory] = Shelf(
    "finwidth.theories",
    "theory",
    Theory,
    "finwidth.theories.Theory",
    hook="finwidth_register_theories",
)


def available() -> dict[str, Theory]:
    """Return the theories by name, those of plugins included; imports all of them.

    Raises
    ------
    PluginError
        If two plugins register the same name, or a plugin misspells a hook.
    """
    return SHELF.items()


def list_theories() -> list[str]:
    """Return the sorted names of the theories, those of plugins included."""
    return SHELF.names()


def choose_theory(theory: Any) -> Theory:
    """Return the theory of this name, or `theory` itself if it is one."""
    return theory if isinstance(theory, Theory) else SHELF.get(theory)


def solve_problem(problem: Problem, theory: Theory) -> Solution:
    """Return the solution of `theory`, or raise ConvergenceError with the best point attached."""
    theory.check(problem.network)
    solution = theory.solve(problem)
    check_converged(solution)
    return solution


def check_converged(solution: Solution) -> None:
    """Raise ConvergenceError with the solution attached if it has not converged."""
    if not solution.converged:
        raise ConvergenceError(
            f"expected theory={solution.theory!r} to converge at widths "
            f"{solution.network.widths} and temperature = {solution.temperature:g}, got residual "
            f"{solution.residual:.1e} ({solution.message}); the best point is in .best",
            solution,
        )
