"""What the saddle-point theories share: equations, their solution, predictions.

A saddle-point theory only says how the order parameters enter the kernel; the prior term, the
equations and their solution are common to all (theory.md, sections 2 to 4).
"""

import abc
import dataclasses
import functools
from typing import Any, ClassVar

import jax
import numpy as np
import xarray as xr

from ..._basics.errors import InputError
from ..._layers.covariance import Covariance, Local
from ..._layers.dense import input_covariance
from ..._layers.layer import check_order
from ..._layers.order import Chart, OrderParameters
from ..._layers.stack import Stack, chart, infinite_width, layer_rules
from ..._likelihoods import Conditioned
from ..._likelihoods._likelihood import check_conditioned
from ..._likelihoods.gaussian import GaussianConditioned
from ..._numerics.continuation import track
from ..._numerics.factor import Factorization
from ..._numerics.newton import StationarityEquations, TrackResult, polish
from ..._numerics.precision import float64
from ..._numerics.tridiagonal import TridiagonalFactor
from ..._problem.network import Network
from ..._problem.problem import Problem
from ...activations._activation import get_activation
from .._gaussian_process import GaussianProcessSolution
from .._solution import Solution
from .._theory import Test, Theory, checked
from .action import ScaledForm, ScaledParts, training_kernel
from .classes import solve_classes
from .column import saddle_column
from .equations import DataPart, PriorPart, check_start
from .outputs import order_arrays, solve_rotated
from .point import SaddlePoint
from .subsets import LARGEST_TRACKED, coarse_point

__all__ = ["SaddleSolution", "SaddleTheory"]


class SaddleTheory(Theory):
    """A theory whose order parameters solve ∂𝒮 = 0 with 𝒮 of theory.md, section 4.

    A concrete theory defines `name` and `kernel`, and may define `scaled_form` and
    `eliminates_q`.
    """

    any_likelihood = True
    several_outputs = True
    fixed: ClassVar[bool] = False  # whether order parameters keep their values of infinite width

    @abc.abstractmethod
    def kernel(
        self, stack: Stack, covariance: Covariance | Local, order: OrderParameters
    ) -> Covariance:
        """Return K_R between two sets of patterns, from their input covariance.

        Parameters
        ----------
        stack
            The layers: σ, their maps, λ_ℓ and 1/λ^b_ℓ, quadrature rules.
        covariance
            C on the two sets.
        order
            Order parameters.
        """

    def variance_scales(self, order: OrderParameters) -> np.ndarray:
        """Return what each hidden layer's map scales its variances by, at most; shape (layer,).

        Quadrature rules are chosen for the variances that follow.
        """
        return np.array([getattr(value, "growth", 2.0) for value in order.values])

    def eliminates_q(self, network: Network) -> bool:
        """Whether K_R has no mean term, so that Q_ℓ = 1/Q̄_ℓ − 1 leaves Q̄_ℓ the only unknowns."""
        return network.odd

    def chart(self, network: Network) -> Chart:
        """Return the order parameters of the network's layers and of its readout."""
        return chart(network, not self.eliminates_q(network))

    def check(self, network: Network) -> None:
        """Raise InputError where a layer's order parameter breaks its protocol."""
        super().check(network)
        if not network.dense:
            for order in self.chart(network).orders:
                check_order(order, network.layers)

    def only_scales(self, network: Network) -> bool:
        """Whether the Q̄_ℓ only scale one fixed kernel, by their product (but for f's bias)."""
        linear = all(one == get_activation("identity") for one in network.activations)
        deep = network.depth > 1
        return network.dense and (not deep or (linear and network.bias_precision is None))

    def scaled_form(self, problem: Problem) -> ScaledForm | None:
        """Return the fixed kernel whose scale is all that varies, or None.

        Of use, and asked for, where the likelihood is `homogeneous`.
        """
        return None

    def scaled_parts(self, problem: Problem) -> ScaledParts | None:
        """Return what `scaled_form` consists of besides the matrix, at T > 0, or None."""
        return None

    def form(self, problem: Problem) -> ScaledForm | None:
        """Return `scaled_form` where the likelihood has use for it."""
        form = self.scaled_form(problem) if problem.likelihood.homogeneous else None
        if form is None or problem.direction is None:
            return form
        return form._replace(kernel=form.kernel.along(problem.y, problem.direction))

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
        elif problem.n_patterns > LARGEST_TRACKED and self.form(problem) is None:
            result, jacobian = self.coarse(problem, problem.n_patterns)
            if result.converged:
                result, _ = polish(equations, result.theta, jacobian)
        if result is None or not result.converged:
            result = track(equations)
        return self.point(problem, equations, result.theta, result)

    def coarse(self, problem: Problem, largest: int) -> tuple[TrackResult, np.ndarray]:
        """Return that of subsets of less than `largest` patterns, and the data's Jacobian there."""
        return coarse_point(self, problem, largest)

    def point(
        self,
        problem: Problem,
        equations: StationarityEquations | None,
        theta: np.ndarray,
        result: Any,
    ) -> SaddlePoint:
        """Return the `SaddlePoint` at θ."""
        chart = self.chart(problem.network)
        return SaddlePoint(
            order=jax.tree.map(np.asarray, chart.value(theta)),
            prior_term=float(chart.entropy(theta)),
            residual=result.residual,
            converged=result.converged,
            message=result.message,
            equations=equations,
            theta=theta,
            chart=chart,
        )

    def equations(self, problem: Problem) -> StationarityEquations:
        """Return the stationarity equations, each divided by N_ℓ + P."""
        chart = self.chart(problem.network)
        rows = chart.widths() + problem.n_patterns
        return StationarityEquations(
            PriorPart(chart, rows), DataPart(self, problem, rows), chart.size
        )

    def condition(self, problem: Problem, order: OrderParameters) -> Conditioned:
        """Return f on the training set, with kernel K_R, given the labels."""
        form = self.form(problem)
        if form is not None:
            factor = TridiagonalFactor(
                form.kernel, form.scale(order), form.weights(order), problem.temperature
            )
            return GaussianConditioned(factor, problem.y)
        kernel = training_kernel(problem, self.kernel, problem.stack, order)
        conditioned = problem.likelihood.condition(kernel, problem.y, problem.temperature)
        return check_conditioned(conditioned, problem.likelihood, problem.n_patterns)

    def solve_outputs(self, problem: Problem, start: Any = None) -> Solution:
        """Return the solution with several outputs (theory.md, section 14).

        By default with one rotation for the order parameters of all layers. `start` is the
        solution of a nearby problem.
        """
        return solve_rotated(self, problem, start)

    def solve_by_patches(self, problem: Problem, start: Any = None) -> Solution:
        """Return the solution where the order parameter is a matrix over patches."""
        raise InputError(
            f"expected pooling = 'average' with theory={self.name!r}, got {problem.network.layers}"
        )

    def solve_column(self, problems: list[Problem], test: Test) -> list[dict[str, Any]]:
        """Solve problems that differ in width, each from the one before (see `Theory`)."""
        return saddle_column(self, problems, test)

    @checked
    def solve(self, problem: Problem, start: Any = None) -> Any:
        """Return the solution, a `SaddleSolution` but for several outputs or a matrix over patches.

        `start` is as for `order_parameters`.
        """
        if problem.network.by_patches:
            return self.solve_by_patches(problem, start)
        return self.solve_at_point(problem, start)

    def solve_at_point(self, problem: Problem, start: Any = None) -> Any:
        """Return the solution where θ of the chart is all that is unknown."""
        if problem.likelihood.one_label:
            return solve_classes(self, problem)
        if problem.network.outputs > 1:
            return self.solve_outputs(problem, start)
        if start is not None:
            start = check_start(start, self.equations(problem).size)
        if problem.temperature == 0 or not problem.likelihood.homogeneous:
            # what cannot be conditioned is refused before the order parameters are looked for
            self.condition(problem, infinite_width(problem.network))
        point = self.order_parameters(problem, start)
        conditioned = self.condition(problem, point.order)
        if point.converged:
            conditioned.warn()
        return SaddleSolution(problem, self, point, conditioned)


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
    conditioned
        f on the training set given the labels.
    """

    rule: SaddleTheory
    point: SaddlePoint
    conditioned: Conditioned

    @property
    def factor(self) -> Factorization:
        """Factorisation of A = T·1 + K_R, where the likelihood is Gaussian."""
        if not isinstance(self.conditioned, GaussianConditioned):
            raise InputError(
                f"expected likelihood = 'gaussian', got {self.problem.likelihood.name!r}"
            )
        return self.conditioned.factor

    @property
    def weights(self) -> np.ndarray:
        """a with E f(x) = k(x)·a, shape (pattern,); A⁻¹y for the Gaussian likelihood."""
        return self.conditioned.weights

    def _whiten(self, b: np.ndarray) -> np.ndarray:
        return self.conditioned.whiten(b)

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
        """Order parameters `q_bar` and `q` with dimension layer (1 … L).

        Of a residual block `s` and `r` with dimension block, the number of its layer, and no
        `q_bar` of the layer before. `theta` (unknown) for layers whose order parameters have no
        names.
        """
        shown, point = self.point.order.shown(), self.point
        if shown is None:
            theta = {"theta": ("unknown", point.theta)}
            return xr.Dataset(theta, coords={"unknown": point.chart.names})
        return order_arrays(shown)

    @functools.cached_property
    def action(self) -> float:
        """The effective action 𝒮 = Σ_ℓ N_ℓ[−Q_ℓ Q̄_ℓ + log(1 + Q_ℓ)] + logdet A + yᵀA⁻¹y.

        For another likelihood than the Gaussian its data term takes the place of the last two.
        """
        return self.point.prior_term + self.conditioned.action

    def kernel_between(self, A: np.ndarray, B: np.ndarray, output_bias: bool = True) -> Covariance:
        """Return K_R between two sets of patterns, with or without 1/λ^b_L of the output bias."""
        covariance = input_covariance(self.network, A, B)
        variances = np.concatenate([np.asarray(covariance.diag_a), np.asarray(covariance.diag_b)])
        order = self.point.order
        rules = layer_rules(self.network, variances, self.rule.variance_scales(order))
        stack = Stack.of(self.network, rules)
        return self.rule.kernel(stack if output_bias else stack.unbiased(), covariance, order)
