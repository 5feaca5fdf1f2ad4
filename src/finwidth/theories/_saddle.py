"""What the saddle-point theories share: equations, their solution, predictions.

A saddle-point theory only says how the order parameters enter the kernel; the prior term, the
equations and their solution are common to all (theory.md, sections 2 to 4).
"""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Float

from .._factor import Factor
from .._kernels import Covariance, input_covariance, layer_rules
from .._network import Network
from .._precision import float64
from .._problem import LayerConstants, Problem
from .._saddle import StationarityEquations, distinct_roots, track
from .._solution import Prediction, Solution
from ._action import (
    OrderParameters,
    ScaledForm,
    dense_gradient,
    prior_derivatives,
    prior_term,
    scaled_gradient,
    unpack,
)
from ._base import Theory

__all__ = ["SaddlePoint", "SaddleSolution", "SaddleTheory"]


@dataclasses.dataclass(frozen=True)
class SaddlePoint:
    """Order parameters with what is known of them.

    Attributes
    ----------
    order
        Q̄_ℓ and 1/(1 + Q_ℓ).
    prior_term
        Σ_ℓ N_ℓ[−Q_ℓ Q̄_ℓ + log(1 + Q_ℓ)].
    residual
        max |∂𝒮/∂ log(order parameter)|/(N_ℓ + P).
    converged, message
        Whether the saddle was reached, and if not, why.
    equations
        The stationarity equations; None where there are none to solve.
    theta
        Solution in logarithmic variables.
    """

    order: OrderParameters
    prior_term: float
    residual: float
    converged: bool
    message: str
    equations: StationarityEquations | None
    theta: np.ndarray

    def count_roots(self) -> int:
        """Count the distinct saddle points found from starts in all directions."""
        if self.equations is None:
            return 1
        n = self.equations.size
        starts: list[np.ndarray] = []
        for magnitude in (0.5, 1.5, 3.0, 6.0):
            starts += [np.full(n, sign * magnitude) for sign in (1.0, -1.0)]
            if n > 1:
                rng = np.random.default_rng(n)
                starts += [magnitude * row for row in rng.choice([-1.0, 1.0], size=(3, n))]
        return len(distinct_roots(self.equations, starts, self.theta))


class SaddleTheory(Theory):
    """A theory whose order parameters solve ∂𝒮 = 0 with 𝒮 of theory.md, section 4.

    A concrete theory defines `name` and `kernel`, and may define `scaled_form` and
    `eliminates_q`.
    """

    @abc.abstractmethod
    def kernel(
        self,
        activation: Any,
        constants: LayerConstants,
        covariance: Covariance,
        order: OrderParameters,
        rules: tuple,
    ) -> Covariance:
        """Return K_R between two sets of patterns, from their input covariance.

        Parameters
        ----------
        activation
            σ (static under jit).
        constants
            λ_ℓ and 1/λ^b_ℓ.
        covariance
            C on the two sets.
        order
            Order parameters.
        rules
            Quadrature rules of the layers (static under jit).
        """

    def variance_scales(self, order: OrderParameters) -> np.ndarray:
        """Return what each hidden layer's map scales its variances by, at most; shape (layer,).

        Quadrature rules are chosen for the variances that follow.
        """
        return np.maximum(order.q_bar, order.shrinkage)

    def eliminates_q(self, network: Network) -> bool:
        """Whether K_R has no mean term, so that Q_ℓ = 1/Q̄_ℓ − 1 leaves Q̄_ℓ the only unknowns."""
        return network.activation.parity == "odd"

    def scaled_form(self, problem: Problem) -> ScaledForm | None:
        """Return the fixed kernel whose scale is all that varies, or None."""
        return None

    def order_parameters(self, problem: Problem) -> SaddlePoint:
        """Follow the saddle point from infinite width to the network's widths."""
        equations = self.equations(problem)
        result = track(equations)
        return self.point(problem, equations, result.theta, result)

    def point(
        self, problem: Problem, equations: StationarityEquations, theta: np.ndarray, result: Any
    ) -> SaddlePoint:
        """Return the `SaddlePoint` at θ."""
        order = unpack(theta, problem.network.depth)
        return SaddlePoint(
            order=order,
            prior_term=prior_term(problem.network, order),
            residual=result.residual,
            converged=result.converged,
            message=result.message,
            equations=equations,
            theta=theta,
        )

    def equations(self, problem: Problem) -> StationarityEquations:
        """Return the stationarity equations, each divided by N_ℓ + P."""
        network, depth = problem.network, problem.network.depth
        eliminated = self.eliminates_q(network)
        widths = np.asarray(network.widths, dtype=np.float64)
        size = depth if eliminated else 2 * depth
        scale = widths + problem.n_patterns
        rows = scale if eliminated else np.concatenate([scale, scale])

        def prior(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            gradient, hessian = prior_derivatives(theta, widths, eliminated)
            return gradient / rows, hessian / rows[:, None]

        form = self.scaled_form(problem)
        if form is not None:
            gradient = scaled_gradient(problem, form, self.name)
        else:
            gradient = self._dense_gradient(problem)
        return StationarityEquations(prior, lambda theta: gradient(theta) / rows, size)

    def _dense_gradient(self, problem: Problem) -> Callable[[np.ndarray], np.ndarray]:
        arguments = (
            self.kernel,
            problem.network.activation,
            problem.rules,
            problem.constants,
            problem.covariance,
            jnp.asarray(problem.y, jnp.float64),
            problem.temperature,
        )
        return lambda theta: np.asarray(dense_gradient(jnp.asarray(theta, jnp.float64), *arguments))

    def factor(self, problem: Problem, order: OrderParameters) -> Factor:
        """Return the Cholesky factor of A = T·1 + K_R."""
        kernel = self.kernel(
            problem.network.activation, problem.constants, problem.covariance, order, problem.rules
        )
        return Factor(np.asarray(kernel.cross), problem.temperature)

    def solve(self, problem: Problem) -> "SaddleSolution":
        """Return the saddle point and what it predicts."""
        if problem.temperature == 0:
            # a singular kernel is refused before the order parameters are looked for
            ones = np.ones(problem.network.depth)
            self.factor(problem, OrderParameters(ones, ones))
        point = self.order_parameters(problem)
        factor = self.factor(problem, point.order)
        if point.converged:
            factor.warn()
        return SaddleSolution(problem, self, point, factor)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SaddleSolution(Solution):
    """The saddle point of an effective action, and the Gaussian process that it makes of f.

    Attributes
    ----------
    problem
        Network, training set and temperature.
    rule
        The `SaddleTheory`.
    point
        The saddle point.
    factor
        Cholesky factor of A = T·1 + K_R.
    """

    rule: SaddleTheory
    point: SaddlePoint
    factor: Factor

    @property
    def theory(self) -> str:
        """Name of the theory."""
        return self.rule.name

    @property
    def converged(self) -> bool:
        """Whether the saddle point was reached."""
        return self.point.converged

    @property
    def message(self) -> str:
        """Why the saddle point was not reached, if it was not."""
        return self.point.message

    @property
    def residual(self) -> float:
        """Largest |∂𝒮/∂ log(order parameter)|, relative to N_ℓ + P, the terms that cancel in it."""
        return self.point.residual

    @functools.cached_property
    def n_roots(self) -> int:
        """Number of distinct saddle points found from many starts (this one included)."""
        with float64():
            return self.point.count_roots()

    @property
    def order_parameters(self) -> xr.Dataset:
        """Order parameters `q_bar` and `q` with dimension layer (1 … L)."""
        order = self.point.order
        return xr.Dataset(
            {
                "q_bar": ("layer", np.array(order.q_bar)),
                "q": ("layer", np.array(order.q)),
            },
            coords={"layer": np.arange(1, self.network.depth + 1)},
        )

    @functools.cached_property
    def weights(self) -> Float[np.ndarray, " pattern"]:
        """A⁻¹y, shape (pattern,)."""
        return self.factor.solve(self.problem.y)

    @functools.cached_property
    def action(self) -> float:
        """The effective action 𝒮 = Σ_ℓ N_ℓ[−Q_ℓ Q̄_ℓ + log(1 + Q_ℓ)] + logdet A + yᵀA⁻¹y."""
        return self.point.prior_term + self.factor.logdet + float(self.problem.y @ self.weights)

    def _kernel(self, A: np.ndarray, B: np.ndarray) -> Covariance:
        covariance = input_covariance(self.network, A, B)
        variances = np.concatenate([np.asarray(covariance.diag_a), np.asarray(covariance.diag_b)])
        order = self.point.order
        return self.rule.kernel(
            self.network.activation,
            self.problem.constants,
            covariance,
            order,
            layer_rules(self.network, variances, self.rule.variance_scales(order)),
        )

    @functools.cached_property
    def renormalized_kernel(self) -> Float[np.ndarray, "pattern pattern"]:
        """K_R on the training set."""
        with float64():
            return np.asarray(self._kernel(self.problem.X, self.problem.X).cross)

    def _predict_block(self, X_test: np.ndarray, full_covariance: bool) -> Prediction:
        """Mean κA⁻¹y, variance κ_0 − diag(κA⁻¹κᵀ)."""
        block = self._kernel(X_test, self.problem.X)
        kappa = np.asarray(block.cross)
        half = self.factor.whiten(kappa.T)
        variance = np.asarray(block.diag_a) - np.einsum("ij,ij->j", half, half)
        covariance = None
        if full_covariance:
            covariance = np.asarray(self._kernel(X_test, X_test).cross) - half.T @ half
        return Prediction(kappa @ self.weights, variance, covariance)
