"""Two classes by the cavity theory: Gaussian sites in place of the likelihood, by EP.

With sites exp(νf − τf²/2) the equations are those of labels ν/τ and noise 1/τ, pattern by pattern.
At fixed S the mean of f answers a as S does, so the sites that match are those of a Gaussian
process with kernel S and the prior mean m − Sa; both are found in turn.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from ..._basics.errors import ConvergenceError, InputError
from ..._likelihoods._expectation_propagation import Sites, expectation_propagation
from ..._likelihoods._factorised import Factorised
from ..._likelihoods._likelihood import Likelihood
from ..._numerics.tilted import Tilted
from ..._problem.problem import Problem
from ._points import Given
from ._replicates import Fit

__all__ = ["check_classes", "solve_classes"]

_MOST = 30  # turns
_CHANGE = 1e-3  # of the sites, in standard deviations of f


def check_classes(likelihood: Likelihood, theory: str) -> None:
    """Raise InputError but for the Gaussian likelihood and those of two classes by EP."""
    if likelihood.homogeneous:
        return
    if not isinstance(likelihood, Factorised):
        raise InputError(
            f"expected likelihood = 'gaussian', 'logit' or 'probit' with theory={theory!r}, got "
            f"{likelihood.name!r}"
        )
    if likelihood.approximation != "ep":
        raise InputError(
            f"expected approximation = 'ep' with theory={theory!r}, got "
            f"{likelihood.approximation!r}"
        )


@dataclasses.dataclass(frozen=True)
class _Matching:
    """Sites that match, for a kernel and a prior mean of f."""

    problem: Problem
    likelihood: Factorised

    def __call__(self, kernel: np.ndarray, mean: np.ndarray, start: Sites | None) -> Sites:
        def match(cavity: np.ndarray, variance: np.ndarray) -> Tilted:
            y, temperature = self.problem.y, self.problem.temperature
            return self.likelihood.match(y, temperature, cavity + mean, variance)

        sites = expectation_propagation(match, kernel, start)[1]
        if not np.all(sites.precision > 0):
            raise ConvergenceError(
                "expected labels that each tell something of f for theory='cavity', got sites of "
                f"precision {np.min(sites.precision):.1e}"
            )
        return sites


def solve_classes(
    problem: Problem, given: Given, solve: Callable[[Given], Fit]
) -> tuple[Given, Fit]:
    """Solve the equations with sites, and the sites with what they give, in turn.

    Parameters
    ----------
    problem
        The problem, of two classes.
    given
        What the equations need to know of it; noise and labels are replaced by those of sites.
    solve
        Solves the equations at fixed sites.

    Returns
    -------
    tuple
        What was solved at last, and its solution.
    """
    likelihood = problem.likelihood
    assert isinstance(likelihood, Factorised)
    matching = _Matching(problem, likelihood)
    bias = np.full_like(given.kernel, problem.output_bias)
    mean = np.zeros(given.y.size)
    sites = matching(given.kernel + bias, mean, None)
    change = np.inf
    for _ in range(_MOST):
        nu, tau = sites
        noise = np.diag(1 / tau)
        given = given._replace(noise=noise + bias, y=nu / tau + mean)
        found = solve(given)
        laws = [replicate.law for replicate in found.replicates]
        kernel = np.mean([law.moments for law in laws], axis=0) + bias
        dual = np.mean([law.dual for law in laws], axis=0)
        before, mean = mean, given.y - dual / tau - kernel @ dual
        sites = matching(kernel, mean, sites)
        # of the sites as functions of f, not of its difference from the mean
        moved = sites.linear + sites.precision * mean - nu - tau * before
        spread = np.sqrt(np.diag(kernel) / (1 + tau * np.diag(kernel)))
        change = max(
            float(np.max(np.abs(moved) * spread)),
            float(np.max(np.abs(sites.precision - tau) * spread**2)),
        )
        if change < _CHANGE:
            return given, found
    raise ConvergenceError(
        f"expected sites of theory='cavity' that come to rest, got changes of {change:.1e}"
    )
