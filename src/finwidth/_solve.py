"""`solve`: from a network and a training set to a theory's solution."""

from typing import Any

import numpy as np

from ._errors import ConvergenceError
from ._inputs import check_choice, check_temperature, check_training
from ._network import Network, check_network
from ._precision import in_float64
from ._solution import Factor, Solution
from .theories import OrderParameters, Problem, Theory, available

__all__ = ["make_problem", "solve", "solve_problem"]


def make_problem(net: Any, X: Any, y: Any, temperature: Any) -> Problem:
    """Check all arguments and return the `Problem`; raises before any long work."""
    from .testing import validate_kernel

    network = check_network(net)
    X, y = check_training(X, y)
    temperature = check_temperature(temperature)
    validate_kernel(network.activation)
    return Problem(network, X, y, temperature)


def _factor(problem: Problem, theory: Theory, order: OrderParameters) -> Factor:
    kernel = theory.kernel(
        problem.network.activation, problem.constants, problem.covariance, order, problem.rules
    )
    return Factor(np.asarray(kernel.cross), problem.temperature)


def solve_problem(problem: Problem, theory: Theory) -> Solution:
    """Return the solution of `theory`, or raise ConvergenceError with the best point attached."""
    if problem.temperature == 0:
        # a singular kernel is refused before the order parameters are looked for
        ones = np.ones(problem.network.depth)
        _factor(problem, theory, OrderParameters(ones, ones))
    point = theory.order_parameters(problem)
    solution = Solution(problem, theory, point, _factor(problem, theory, point.order))
    if not point.converged:
        raise ConvergenceError(
            f"expected a saddle point of theory={theory.name!r} with residual ≤ 1e-9, got "
            f"residual {point.residual:.1e} ({point.message}); the best point is in .best",
            solution,
        )
    solution.factor.warn()
    return solution


@in_float64
def solve(net: Network, X: Any, y: Any, *, temperature: float, theory: str = "nested") -> Solution:
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
        "nested", the effective action with one Q̄ (and Q) per layer; "wishart", the infinite-width
        kernel times the product of the Q̄, without mean terms; or "infinite", the Gaussian process
        of infinite width.

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
    theories = available()
    check_choice("theory", theory, theories)
    return solve_problem(make_problem(net, X, y, temperature), theories[theory])
