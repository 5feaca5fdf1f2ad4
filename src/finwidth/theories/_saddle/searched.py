"""What solutions have whose unknowns came from a search of their own kind."""

from typing import Any

from .._solution import Solution

__all__ = ["Searched"]


class Searched(Solution):
    """A solution with `rule`, its theory, and `found`, where the search ended and why."""

    rule: Any
    found: Any

    @property
    def theory(self) -> str:
        """Name of the theory."""
        return self.rule.name

    @property
    def residual(self) -> float:
        """Largest |∂𝒮/∂θ|, relative to N + P; θ are logarithms, and turns of the outputs."""
        return self.found.residual

    @property
    def converged(self) -> bool:
        """Whether the saddle point was reached."""
        return self.found.converged

    @property
    def message(self) -> str:
        """Why the saddle point was not reached, if it was not."""
        return self.found.message
