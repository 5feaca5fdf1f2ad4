"""The scale mixture of theory="nested" as a theory: order parameters that keep their law."""

from .._plugins.hooks import hookimpl
from .._problem.network import Network, check_network
from .._problem.problem import Problem
from ._mixture.approximate import solve_any
from ._mixture.law import check_mixture
from ._solution import Solution
from ._theory import Theory, checked

__all__ = ["Mixture"]


class Mixture(Theory):
    """What `finwidth.mixture` computes, with theory="nested" (theory.md, section 5)."""

    name = "mixture"
    several_outputs = True
    any_likelihood = True

    def check(self, network: Network) -> None:
        """Refuse layers whose law is not known, and deep networks whose activation is not odd."""
        check_network(network, "network")
        if not network.by_patches:
            check_mixture(network, "nested", several=True)

    @checked
    def solve(self, problem: Problem) -> Solution:
        """Integrate over the order parameters."""
        return solve_any(problem, "nested")


@hookimpl
def finwidth_register_theories() -> list[Theory]:
    """Register the theory."""
    return [Mixture()]
