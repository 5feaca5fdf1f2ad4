"""Student-t process regression with the kernel of infinite width.

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

from .._numerics.scale_laws import inverse_gamma_nodes
from .._observables._prediction import Components, Prediction
from .._problem.problem import Problem
from ._saddle.theory import SaddleSolution
from ._solution import Solution
from ._theory import SHELF, check_outputs, solve_problem

__all__ = ["StudentTProcessSolution", "solve_student_t_process"]


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
        given = self._gaussian.predict(X_test, full_covariance)
        covariance = given.covariance
        return Prediction(
            given.mean,
            self.scale * given.variance,
            None if covariance is None else self.scale * covariance,
        )

    def predictive_law(self, X_test: Any) -> Prediction:
        """Return `predict` with the Gaussians, one for each scale s, that f is a mixture of."""
        prediction = self.predict(X_test)
        half = 0.5 * (self.degrees_of_freedom + self.problem.n_patterns)
        relative, weights = inverse_gamma_nodes(half)
        relative *= (half - 1.0) / half  # to their mean
        mean = np.broadcast_to(prediction.mean, (weights.size, *prediction.mean.shape))
        variance = np.multiply.outer(relative, prediction.variance)
        return dataclasses.replace(prediction, components=Components(weights, mean, variance))


def solve_student_t_process(problem: Problem, degrees_of_freedom: float) -> StudentTProcessSolution:
    """Return the posterior of the process, as `finwidth.student_t_process` describes it."""
    check_outputs(problem.network, "the Student-t process")
    gaussian = solve_problem(problem, SHELF.get("infinite"))
    assert isinstance(gaussian, SaddleSolution)
    return StudentTProcessSolution(problem, degrees_of_freedom, gaussian)
