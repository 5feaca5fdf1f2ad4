"""What the saddle-point theories share: equations, their solution, predictions.

A saddle-point theory only says how the order parameters enter the kernel; the prior term, the
equations and their solution are common to all (theory.md, sections 2 to 4).
"""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from ..._layers.covariance import Covariance
from ..._layers.dense import input_covariance
from ..._layers.order import OrderParameters, prior_derivatives, prior_term, unpack
from ..._layers.stack import LayerConstants, layer_rules
from ..._numerics.continuation import (
    StationarityEquations,
    TrackResult,
    polish,
    track,
)
from ..._numerics.factor import Factor, Factorization
from ..._numerics.precision import float64
from ..._numerics.tridiagonal import TridiagonalFactor
from ..._problem.network import Network
from ..._problem.problem import Problem
from .._gaussian_process import GaussianProcessSolution
from .._theory import Theory
from .action import ScaledForm, dense_gradient, scaled_gradient, training_kernel
from .point import SaddlePoint

__all__ = ["SaddleSolution", "SaddleTheory"]

_LARGEST_TRACKED = 200  # patterns with which a branch is followed


@dataclasses.dataclass(frozen=True, eq=False)
class _PriorPart:
    """θ -> (gradient, Hessian) of the prior term, each row divided by `rows`."""

    widths: np.ndarray
    eliminated: bool
    rows: np.ndarray

    def __call__(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gradient, hessian = prior_derivatives(theta, self.widths, self.eliminated)
        return gradient / self.rows, hessian / self.rows[:, None]


@dataclasses.dataclass(frozen=True, eq=False)
class _DataPart:
    """θ -> gradient of the data term, each row divided by `rows`.

    A pickle holds what the function is made of; the function is made when it is first called.
    """

    theory: "SaddleTheory"
    problem: Problem
    rows: np.ndarray

    @functools.cached_property
    def _gradient(self) -> Callable[[np.ndarray], np.ndarray]:
        form = self.theory.scaled_form(self.problem)
        if form is not None:
            return scaled_gradient(self.problem, form)
        return dense_gradient(self.problem, self.theory.kernel)

    def __reduce__(self) -> tuple[Any, ...]:
        return _DataPart, (self.theory, self.problem, self.rows)

    def __call__(self, theta: np.ndarray) -> np.ndarray:
        return self._gradient(theta) / self.rows


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
            Quadrature rules of the layers.
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

    def order_parameters(self, problem: Problem, start: np.ndarray | None = None) -> SaddlePoint:
        """Follow the saddle point from infinite width, or from `start`, to the network's widths.

        Parameters
        ----------
        problem
            Network, training set and temperature.
        start
            θ of a nearby problem, on the branch to follow.

        Notes
        -----
        Where each step along the branch would cost factorisations of a large matrix, the branch
        is followed with the equations of a subset of the patterns, and the point where it
        arrives is then polished with larger subsets and all patterns.
        """
        equations = self.equations(problem)
        result = None
        if start is not None:
            jacobian = equations.data_jacobian(start)
            result, _ = polish(equations, start, jacobian, tolerance=1e-11)
        elif problem.n_patterns > _LARGEST_TRACKED and self.scaled_form(problem) is None:
            result = self._from_subsets(problem, equations)
        if result is None or not result.converged:
            result = track(equations)
        return self.point(problem, equations, result.theta, result)

    def _from_subsets(self, problem: Problem, equations: StationarityEquations) -> TrackResult:
        n = problem.n_patterns
        sizes = [n]
        while sizes[0] > _LARGEST_TRACKED:
            sizes.insert(0, -(-sizes[0] // 4))
        coarse = self._thinned(problem, sizes[0])
        result = track(coarse)
        jacobian = coarse.data_jacobian(result.theta)
        for size in sizes[1:-1]:
            if result.converged:
                finer = self._thinned(problem, size)
                jacobian = finer.data_jacobian(result.theta)
                result, _ = polish(finer, result.theta, jacobian, tolerance=1e-5)
                jacobian = finer.data_jacobian(result.theta)
        if not result.converged:
            return result
        return polish(equations, result.theta, jacobian)[0]

    def _thinned(self, problem: Problem, size: int) -> StationarityEquations:
        """The equations with the data term of `size` patterns, scaled up to all of them."""
        n = problem.n_patterns
        chosen = np.random.default_rng(0).permutation(n)[:size]
        subset = dataclasses.replace(
            problem, X=problem.X[chosen], y=problem.y[chosen], _shared={"rules": problem.rules}
        )
        data = dense_gradient(subset, self.kernel)
        whole = self.equations(problem)
        rows = np.resize(np.asarray(problem.network.widths, dtype=np.float64) + n, whole.size)
        return StationarityEquations(
            whole.prior, lambda theta: (n / size) * data(theta) / rows, whole.size
        )

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
        prior = _PriorPart(widths, eliminated, rows)
        return StationarityEquations(prior, _DataPart(self, problem, rows), size)

    def factor(self, problem: Problem, order: OrderParameters) -> Factorization:
        """Return the factorisation of A = T·1 + K_R."""
        form = self.scaled_form(problem)
        if form is not None:
            return TridiagonalFactor(
                form.kernel, form.scale(order), form.weights(order), problem.temperature
            )
        kernel = training_kernel(problem, self.kernel, problem.constants, order)
        return Factor(kernel, problem.temperature, overwrite=True)

    def solve(self, problem: Problem, start: np.ndarray | None = None) -> "SaddleSolution":
        """Return the saddle point and what it predicts; `start` as for `order_parameters`."""
        if problem.temperature == 0:
            # a singular kernel is refused before the order parameters are looked for
            ones = np.ones(problem.network.depth)
            self.factor(problem, OrderParameters(ones, ones))
        point = self.order_parameters(problem, start)
        factor = self.factor(problem, point.order)
        if point.converged:
            factor.warn()
        return SaddleSolution(problem, self, point, factor)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SaddleSolution(GaussianProcessSolution):
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
        Factorisation of A = T·1 + K_R.
    """

    rule: SaddleTheory
    point: SaddlePoint
    factor: Factorization

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
            return len(self.point.roots()[0])

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
    def action(self) -> float:
        """The effective action 𝒮 = Σ_ℓ N_ℓ[−Q_ℓ Q̄_ℓ + log(1 + Q_ℓ)] + logdet A + yᵀA⁻¹y."""
        return self.point.prior_term + self.factor.logdet + self.factor.quadratic(self.problem.y)

    def kernel_between(self, A: np.ndarray, B: np.ndarray, output_bias: bool = True) -> Covariance:
        """Return K_R between two sets of patterns, with or without 1/λ^b_L of the output bias."""
        constants = self.problem.constants if output_bias else self.problem.constants.unbiased()
        covariance = input_covariance(self.network, A, B)
        variances = np.concatenate([np.asarray(covariance.diag_a), np.asarray(covariance.diag_b)])
        order = self.point.order
        return self.rule.kernel(
            self.network.activation,
            constants,
            covariance,
            order,
            layer_rules(self.network, variances, self.rule.variance_scales(order)),
        )
