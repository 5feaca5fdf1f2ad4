"""Likelihoods that are no Gaussian: f given labels is approximated, by Laplace or EP."""

import abc
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from .._basics.checks import check_choice
from .._basics.errors import ConvergenceError, InputError
from .._numerics.tilted import Factor1D, Strip, Terms, Tilted, tilted
from ._expectation_propagation import Sites, expectation_propagation
from ._laplace import laplace
from ._likelihood import Conditioned, Likelihood, Tile
from ._sites import SitesConditioned

__all__ = ["APPROXIMATIONS", "Factorised"]

APPROXIMATIONS = ("ep", "laplace")
# Prior variance of f, over T, beyond which the cavities of EP are too wide for their integrals
_LARGEST = 1e6


class Factorised(Likelihood):
    """A likelihood whose labels each depend on f at their own pattern, log-concave in it.

    Parameters
    ----------
    approximation
        "ep", expectation propagation, or "laplace", around the mode of f.
    """

    def __init__(self, approximation: str = "ep") -> None:
        self.approximation = check_choice("approximation", approximation, APPROXIMATIONS)

    @abc.abstractmethod
    def terms(self, f: np.ndarray, y: np.ndarray) -> Terms:
        """Return log p(y|f) and its derivatives in f; the arrays broadcast."""

    @abc.abstractmethod
    def strip(self, temperature: float) -> Strip:
        """Return where p(y|f)^(1/T) is analytic in f, for all labels."""

    def match(
        self,
        y: Float[np.ndarray, " pattern"],
        temperature: float,
        mean: Float[np.ndarray, " pattern"],
        variance: Float[np.ndarray, " pattern"],
    ) -> Tilted:
        """Return the moments of N(f; mean, variance) p(y|f)^(1/T), pattern by pattern."""
        return tilted(self._factor(y, temperature), mean, variance, self.strip(temperature))

    def _factor(self, y: np.ndarray, temperature: float) -> Factor1D:
        def factor(f: np.ndarray, rows: slice) -> Terms:
            terms = self.terms(f, y[rows, None])
            return terms if temperature == 1.0 else Terms(*(part / temperature for part in terms))

        return factor

    def condition(self, kernel: np.ndarray, y: np.ndarray, temperature: float) -> Conditioned:
        """Approximate f given the labels."""
        return self.conditioner(y, temperature)(kernel)

    def conditioner(
        self, y: np.ndarray, temperature: float
    ) -> Callable[[np.ndarray], SitesConditioned]:
        """Return kernel -> `condition`, each call starting from what the one before has found."""
        return _Conditioning(self, y, temperature)

    def gradient(self, kernel: np.ndarray, y: np.ndarray, temperature: float) -> Tile | None:
        """Return the tiles of ∂action/∂K, or None where f cannot be conditioned."""
        return self.gradients(y, temperature)(kernel)

    def gradients(self, y: np.ndarray, temperature: float) -> Callable[[np.ndarray], Tile | None]:
        """Return kernel -> `gradient`, likewise."""
        conditioning = self.conditioner(y, temperature)

        def gradient(kernel: np.ndarray) -> Tile | None:
            try:
                return conditioning(kernel).gradient()
            except (InputError, ConvergenceError):
                return None

        return gradient

    def approximated(self, approximation: Any) -> "Factorised":
        """Return the likelihood with this approximation."""
        return type(self)(approximation)

    def record(self) -> dict[str, Any] | None:
        """Return name and approximation; of a class outside finwidth nothing is known."""
        if type(self).__module__.rpartition(".")[0] != __package__:
            return None
        return {"name": self.name, "approximation": self.approximation}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), self.approximation))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(approximation={self.approximation!r})"


class _Conditioning:
    """kernel -> f given the labels; begins where the call before has ended."""

    def __init__(self, likelihood: Factorised, y: np.ndarray, temperature: float) -> None:
        self._likelihood, self._y, self._temperature = likelihood, y, temperature
        self._mode: np.ndarray | None = None
        self._sites: Sites | None = None

    def __call__(self, kernel: np.ndarray) -> SitesConditioned:
        _check_scale(kernel, self._temperature)
        likelihood, y, temperature = self._likelihood, self._y, self._temperature
        if likelihood.approximation == "laplace":
            found = laplace(likelihood._factor(y, temperature), kernel, self._mode)
            self._mode = found.mean
            return found

        def match(mean: np.ndarray, variance: np.ndarray) -> Tilted:
            return likelihood.match(y, temperature, mean, variance)

        found, self._sites = expectation_propagation(match, kernel, self._sites)
        return found


def _check_scale(kernel: np.ndarray, temperature: float) -> None:
    largest = float(np.max(np.diag(kernel)))
    if not largest <= _LARGEST * max(temperature, 1.0):
        raise InputError(
            f"expected weight precisions such that f has a prior variance of at most {_LARGEST:g} "
            f"(beyond it, labels that can be separated have no finite f), got {largest:.3g}"
        )
