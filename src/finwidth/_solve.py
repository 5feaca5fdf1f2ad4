"""`solve`: from a network and a training set to a theory's solution."""

from typing import Any

from ._arrays import check_training
from ._errors import ConvergenceError
from ._inputs import check_choice, check_temperature
from ._kernels import input_variances
from ._network import Network, check_network
from ._precision import in_float64
from ._problem import Problem
from ._solution import Solution
from .theories import Theory, available

__all__ = [
    "check_converged",
    "choose_theory",
    "list_theories",
    "make_problem",
    "solve",
    "solve_problem",
]


def make_problem(net: Any, X: Any, y: Any, temperature: Any) -> Problem:
    """Check all arguments and return the `Problem`; raises before any long work."""
    from ._contract import validate_kernel

    network = check_network(net)
    X, y = check_training(X, y)
    temperature = check_temperature(temperature)
    validate_kernel(network.activation)
    input_variances(network, X)
    return Problem(network, X, y, temperature)


def list_theories() -> list[str]:
    """Return the sorted names of the theories, those of plugins included."""
    return sorted(available())


def choose_theory(theory: Any) -> Theory:
    """Return the theory of this name, or `theory` itself if it is one."""
    if isinstance(theory, Theory):
        return theory
    theories = available()
    return theories[check_choice("theory", theory, theories)]


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


@in_float64
def solve(
    net: Network, X: Any, y: Any, *, temperature: float, theory: str | Theory = "nested"
) -> Solution:
    """Solve a theory of the posterior for one network, training set and temperature.

    Parameters
    ----------
    net
        The network.
    X
        Training patterns, shape (pattern, input).
    y
        Labels, shape (pattern,).
    temperature
        T ≥ 0, the variance of the Gaussian likelihood. T = 0 needs a positive definite kernel.
    theory
        A name out of `finwidth.list_theories`, or a `finwidth.theories.Theory`: "nested", the
        effective action with one Q̄ (and Q) per layer; "wishart", the infinite-width kernel times
        the product of the Q̄, without mean terms; "infinite", the Gaussian process of infinite
        width. For one hidden layer also "adaptive", hidden weights with a covariance that the
        data choose; "corrected", the kernel turned towards the labels (odd activations);
        "perturbative", first order in 1/N_1; "cavity", the law of one neuron among the others.

    Returns
    -------
    Solution
        Order parameters, evidence, and `predict`.

    Raises
    ------
    InputError
        If an argument is not as described, or the kernel is singular to working precision.
    ConvergenceError
        If the saddle point was not reached; the best point is attached as ``.best``.
    PluginError
        If the activation's kernel breaks its contract.

    References
    ----------
    Pacelli et al., Nat. Mach. Intell. 5, 1497 (2023), eqs. 5-13; theory.md, sections 2 to 4.
    """
    chosen = choose_theory(theory)
    return solve_problem(make_problem(net, X, y, temperature), chosen)
