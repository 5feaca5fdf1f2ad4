"""The interface of a theory: anything that takes a `Problem` to a `Solution`."""

import abc
import functools
from collections.abc import Callable
from typing import Any, Concatenate

import numpy as np

from .._basics.arrays import shown
from .._basics.errors import ConvergenceError, InputError
from .._basics.plain import plain
from .._likelihoods import Likelihood
from .._numerics.precision import float64
from .._plugins.shelf import Shelf
from .._problem.network import Network, check_network
from .._problem.problem import Problem
from ._solution import Solution

__all__ = [
    "SHELF",
    "Test",
    "Theory",
    "available",
    "check_converged",
    "check_covered",
    "check_dense",
    "checked",
    "choose_theory",
    "list_theories",
    "solution_row",
    "solve_problem",
]

Test = tuple[np.ndarray, np.ndarray] | None


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
    any_likelihood: bool = False  # whether `solve` takes other likelihoods than the Gaussian
    several_outputs: bool = False  # whether `solve` takes networks of more than one output
    outputs_alike: bool = True  # whether its error and cost with several are much those with one

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

    def check(self, network: Network) -> None:
        """Raise InputError, before any work, where the theory is not defined for `network`."""
        check_network(network, "network")

    def check_likelihood(self, likelihood: Likelihood) -> None:
        """Raise InputError, before any work, where the theory is not defined for `likelihood`."""
        if not likelihood.homogeneous and not self.any_likelihood:
            raise InputError(
                f"expected likelihood = 'gaussian' with theory={self.name!r}, got "
                f"{likelihood.name!r}"
            )

    @abc.abstractmethod
    def solve(self, problem: Problem) -> Solution:
        """Return the solution for `problem`; with ``converged=False`` if it was not reached.

        Called with JAX in float64. `finwidth.solve` raises ConvergenceError for a solution that
        has not converged.
        """

    def solve_column(self, problems: list[Problem], test: Test) -> list[dict[str, Any]]:
        """Solve problems that differ in width alone, from the widest to the narrowest.

        What `finwidth.solve_many` asks of a theory; one that can start from a neighbour, or has
        what all of them share, does better than to solve each by itself.

        Parameters
        ----------
        problems
            The problems.
        test
            Test patterns and their labels, or None.

        Returns
        -------
        list of dict
            `solution_row` of each.

        Raises
        ------
        ConvergenceError
            If one was not reached.
        """
        return [solution_row(solve_problem(problem, self), test) for problem in problems]


def checked[T: Theory, **P, S](
    solve: Callable[Concatenate[T, Problem, P], S],
) -> Callable[Concatenate[T, Problem, P], S]:
    """Decorate the `solve` of a theory, which may be called directly.

    Anything but a problem that the theory is defined for is refused, and JAX runs in float64.
    """

    @functools.wraps(solve)
    def wrapped(self: T, problem: Problem, *args: P.args, **kwargs: P.kwargs) -> S:
        if not isinstance(problem, Problem):
            raise InputError(
                f"expected problem = a finwidth.theories.Problem, got {shown(problem)}"
            )
        check_covered(problem, self)
        with float64():
            return solve(self, problem, *args, **kwargs)

    return wrapped


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
    aka={"nngp": "infinite", "gp": "infinite"},
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


def check_dense(network: Network, theory: str, any_readout: bool = False) -> None:
    """Raise InputError where a theory of dense layers is asked about others.

    `any_readout`: whether it takes a readout activation that is not that of the layers.
    """
    check_network(network, "network")
    if not network.dense:
        raise InputError(
            f"expected dense layers with theory={theory!r}, got layers = {network.layers}"
        )
    last = network.readout_activation
    if last != network.activation and not any_readout:
        raise InputError(
            f"expected readout_activation = activation with theory={theory!r}, got "
            f"{last.name!r} and {network.activation.name!r}"
        )


def choose_theory(theory: Any) -> Theory:
    """Return the theory of this name, or `theory` itself if it is one."""
    return theory if isinstance(theory, Theory) else SHELF.get(theory)


def solve_problem(problem: Problem, theory: Theory) -> Solution:
    """Return the solution of `theory`, or raise ConvergenceError with the best point attached."""
    check_covered(problem, theory)
    solution = theory.solve(problem)
    check_converged(solution)
    return solution


def solution_row(solution: Solution, test: Test) -> dict[str, Any]:
    """Return what a table holds of a solution: order parameters, action, scores on a test set."""
    values: dict[str, Any] = {str(name): array for name, array in solution.order_parameters.items()}
    values |= {name: getattr(solution, name) for name in ("action", "log_evidence", "residual")}
    if test is None:
        return values
    scores = solution.scores(*test)
    return values | {str(name): float(value) for name, value in scores.items()}


def check_covered(problem: Problem, theory: Theory) -> None:
    """Raise InputError where the theory is not defined for the problem."""
    theory.check(problem.network)
    several = theory.several_outputs or (theory.any_likelihood and problem.likelihood.one_label)
    check_outputs(problem.network, f"theory={theory.name!r}", several)
    theory.check_likelihood(problem.likelihood)


def check_outputs(network: Network, where: str, several: bool = False) -> None:
    """Raise InputError where a network has several outputs and what is asked covers one."""
    if network.outputs > 1 and not several:
        raise InputError(f"expected outputs = 1 with {where}, got {network.outputs}")


def check_converged(solution: Solution) -> None:
    """Raise ConvergenceError with the solution attached if it has not converged."""
    if not solution.converged:
        raise ConvergenceError(
            f"expected theory={solution.theory!r} to converge at widths "
            f"{solution.network.widths} and temperature = {solution.temperature:g}, got residual "
            f"{solution.residual:.1e} ({solution.message}); the best point is in .best",
            solution,
        )
