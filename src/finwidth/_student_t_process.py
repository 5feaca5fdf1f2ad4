"""`student_t_process`: Student-t process regression with the kernel of infinite width.

A comparator: the inverse-Gamma scale mixture of Gaussian processes. The network's own scale
mixture, of which `finwidth.mixture` gives the posterior, is a Gamma mixture.
"""

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import betaln, gammaln

from ._inputs import check_number
from ._network import Network
from ._precision import in_float64
from ._solution import Prediction, Solution
from ._solve import make_problem, solve_problem
from .theories import SaddleSolution, available

__all__ = ["StudentTProcessSolution", "student_t_process"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class StudentTProcessSolution(Solution):
    """The posterior of a Student-t process.

    Made by `finwidth.student_t_process`.

    Attributes
    ----------
    problem
        Network, training set and temperature.
    degrees_of_freedom
        ν of the prior.
    """

    degrees_of_freedom: float
    _gaussian: SaddleSolution  # the Gaussian process of the same kernel

    @property
    def theory(self) -> str:
        """Name of the theory: "student-t-process"."""
        return "student-t-process"

    @functools.cached_property
    def _quadratic(self) -> float:
        """yᵀA⁻¹y."""
        return float(self.problem.y @ self._gaussian.weights)

    @property
    def scale(self) -> float:
        """E[s|y] = (ν + yᵀA⁻¹y − 2)/(ν + P − 2), by which the Gaussian covariance is multiplied."""
        nu = self.degrees_of_freedom
        return (nu - 2.0 + self._quadratic) / (nu - 2.0 + self.problem.n_patterns)

    @property
    def order_parameters(self) -> xr.Dataset:
        """`scale` = E[s|y], and `degrees_of_freedom` ν + P of the posterior."""
        posterior = self.degrees_of_freedom + self.problem.n_patterns
        return xr.Dataset({"scale": self.scale, "degrees_of_freedom": posterior})

    @functools.cached_property
    def log_evidence(self) -> float:
        """log p(y), a multivariate t of covariance A = K + T·1 with ν degrees of freedom."""
        nu, n = self.degrees_of_freedom, self.problem.n_patterns
        # log Γ((ν + P)/2) − log Γ(ν/2), without cancellation at large ν
        gammas = gammaln(0.5 * n) - betaln(0.5 * nu, 0.5 * n)
        exponent = 0.5 * (nu + n) * math.log1p(self._quadratic / (nu - 2.0))
        norm = 0.5 * (n * math.log((nu - 2.0) * math.pi) + self._gaussian.factor.logdet)
        return float(gammas - norm - exponent)

    @property
    def action(self) -> float:
        """−2 log p(y) − P log 2π, which is 𝒮 of infinite width where ν → ∞."""
        return -2.0 * self.log_evidence - self.problem.n_patterns * math.log(2 * math.pi)

    @property
    def residual(self) -> float:
        """0: nothing is solved for."""
        return 0.0

    @property
    def converged(self) -> bool:
        """True: nothing is solved for."""
        return True

    def _predict_block(self, X_test: np.ndarray, full_covariance: bool) -> Prediction:
        given = self._gaussian._predict_block(X_test, full_covariance)
        covariance = given.covariance
        return Prediction(
            given.mean,
            self.scale * given.variance,
            None if covariance is None else self.scale * covariance,
        )


@in_float64
def student_t_process(
    net: Network, X: Any, y: Any, *, temperature: float, degrees_of_freedom: float
) -> StudentTProcessSolution:
    """Condition a Student-t process whose covariance is the infinite-width kernel.

    A comparator, never the network's law. It is the mixture of Gaussian processes over an
    inverse-Gamma scale, s ~ InvGamma(ν/2, (ν − 2)/2), y | s ~ N(0, s (K + T·1)). A finite network
    with an odd activation is close to a *Gamma* mixture (`mixture`, `models.student_t`): the
    Student-t of the theory is the characteristic function of its outputs, not their density.
    This class answers what heavy tails alone would do.

    Parameters
    ----------
    net
        The network; its widths play no role.
    X
        Training patterns, shape (pattern, input).
    y
        Labels, shape (pattern,).
    temperature
        T ≥ 0. The noise is inside the scale: A = K + T·1 is the covariance of y, s multiplies
        both terms, and so f and noise are uncorrelated but not independent. T = 0 needs a
        positive definite kernel.
    degrees_of_freedom
        ν > 2. ν → ∞ is the Gaussian process, solve(..., theory="infinite").

    Returns
    -------
    StudentTProcessSolution
        Evidence and `predict`: the mean is the Gaussian process's, the covariance its covariance
        times (ν + yᵀA⁻¹y − 2)/(ν + P − 2). Usable wherever a `finwidth.Solution` is.

    Raises
    ------
    InputError
        If an argument is not as described, or the kernel is singular to working precision.

    References
    ----------
    Shah, Wilson and Ghahramani, AISTATS 2014, eqs. 5 and 6 (noise inside the kernel: sec. 5).
    Tracey and Wolpert, AIAA SciTech 2018.
    """
    # a variance exists for ν > 2 only
    degrees_of_freedom = check_number("degrees_of_freedom", degrees_of_freedom, 2.0)
    problem = make_problem(net, X, y, temperature)
    gaussian = solve_problem(problem, available()["infinite"])
    assert isinstance(gaussian, SaddleSolution)
    return StudentTProcessSolution(problem, degrees_of_freedom, gaussian)
