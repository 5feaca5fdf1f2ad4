"""The posterior of the scale mixture, by quadrature over the order parameters.

The saddle point replaces the order parameters by one value; here they keep their law. The
integrals run over log Q̄_ℓ, one inside the other, each placed where the posterior is.
"""

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import xarray as xr

from ..._basics.errors import ConvergenceError, InputError, warn
from ..._layers.dense import input_covariance
from ..._layers.stack import layer_rules
from ..._numerics.factor import Factor
from ..._numerics.integrate import TOLERANCE
from ..._numerics.precision import in_float64
from ..._numerics.spectrum import Conditional, Spectrum
from ..._observables._prediction import Components, Prediction
from ..._problem.problem import Problem
from .._saddle.theory import SaddleTheory
from .._solution import Solution
from .._theory import SHELF
from .blocks import BlockLaw
from .law import MixtureLaw, Nodes, check_mixture, largest_error, largest_scales
from .outputs import WishartMixtureSolution, solve_wishart_mixture

__all__ = ["MixtureSolution", "solve_mixture"]

_LARGEST_ERROR = 1e-6  # of the quadrature, beyond which nothing is returned
_NO_WEIGHT = 1e-13  # of a component that is left out


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class MixtureSolution(Solution):
    """The posterior of the scale mixture, fluctuations of the order parameters included.

    Made by `finwidth.mixture`. Attributes and methods are the public interface; the constructor
    is not.

    Attributes
    ----------
    problem
        Network, training set and temperature.
    """

    block = 1024

    _law: MixtureLaw
    _groups: list[Nodes]
    _log_evidence: float
    _residual: float

    @property
    def theory(self) -> str:
        """Name of the theory: "mixture-nested" or "mixture-wishart"."""
        return f"mixture-{self._law.theory.name}"

    @property
    def action(self) -> float:
        """−2 log p(y) − P log 2π."""
        return -2.0 * self._log_evidence - self.problem.n_patterns * math.log(2.0 * math.pi)

    @property
    def log_evidence(self) -> float:
        """log p(y)."""
        return self._log_evidence

    @property
    def residual(self) -> float:
        """Relative change of the evidence and of the moments of Q̄ at the last halving of spacing.

        Nodes are added until it is small.
        """
        return self._residual

    @property
    def converged(self) -> bool:
        """Whether the residual is at most 1e-9."""
        return self.residual <= TOLERANCE

    @functools.cached_property
    def order_parameters(self) -> xr.Dataset:
        """Posterior mean and standard deviation of Q̄_ℓ, `q_bar` and `q_bar_sd` (layer: 1 … L).

        With a mean term also `a` and `a_sd`, of the projection a = Σ_i v_i/√N_1 of the readout
        on it; of residual blocks `s`, `s_sd`, `r` and `r_sd` (block).
        """
        weights = np.concatenate([group.weights for group in self._groups])
        weights = weights / weights.sum()
        first = weights @ np.concatenate([group.q_bar for group in self._groups])
        second = weights @ np.concatenate([group.q_bar_squared for group in self._groups])
        if isinstance(self._law, BlockLaw):
            return self._law.dataset(first, second)
        values = {"q_bar": first, "q_bar_sd": np.sqrt(np.maximum(second - first**2, 0.0))}
        if self._law.has_mean:
            z = np.concatenate([group.z for group in self._groups])
            mean = weights @ z[:, 0]
            variance = weights @ (z[:, 1] + (z[:, 0] - mean) ** 2)
            precision = self.problem.stack.precisions
            values |= {"a": mean / np.sqrt(precision), "a_sd": np.sqrt(variance / precision)}
        return xr.Dataset(
            {name: ("layer", value) for name, value in values.items()},
            coords={"layer": np.arange(1, self.network.depth + 1)},
        )

    @functools.cached_property
    def _single(self) -> Spectrum:
        return self._law.spectrum(self._groups[0].outer)

    def _rules(self, variances: np.ndarray) -> tuple:
        if isinstance(self._law, BlockLaw):
            return self._law.test_rules(variances)
        scales = np.ones(self.network.depth)
        scales[: self._law.n_outer] = np.max([group.outer for group in self._groups], axis=0)
        return layer_rules(self.network, variances, scales)

    @in_float64
    def predictive_law(self, X_test: Any) -> Prediction:
        """Return `predict` with the Gaussians, one for each node, that f is a mixture of."""
        X_test = self.problem.test_inputs(X_test)
        blocks = []
        for block in self._blocks(X_test):
            found: list[Components] = []
            prediction = self._predict_block(block, False, found)
            weights, mean, variance, _ = zip(*found, strict=True)
            components = Components(*map(np.concatenate, (weights, mean, variance)))
            components = components._replace(weights=components.weights / components.weights.sum())
            blocks.append(dataclasses.replace(prediction, components=components))
        return Prediction.join(blocks)

    def _predict_block(
        self,
        X_test: np.ndarray,
        full_covariance: bool,
        found: list[Components] | None = None,
    ) -> Prediction:
        """Predict; what f is a mixture of is put into `found`."""
        n = X_test.shape[0]
        covariance = input_covariance(self.network, X_test, self.problem.X)
        ends = np.asarray(covariance.diag_a), np.asarray(covariance.diag_b)
        rules = self._rules(np.concatenate(ends))
        between = input_covariance(self.network, X_test) if full_covariance else None
        mean, second = np.zeros(n), np.zeros((n, n) if full_covariance else n)
        # moments about a point close to the mean, so that no digits cancel
        shift: np.ndarray | None = None
        for group in sorted(self._groups, key=lambda one: -one.weights.sum()):
            kernels = self._law.kernels(covariance, group.outer, rules)
            spectrum = self._single if len(self._groups) == 1 else self._law.spectrum(group.outer)
            weights, z = group.weights, group.z
            given: Conditional = spectrum.conditional(kernels, group.scale, z[:, 0])
            if found is not None:
                found.append(_components(group, given, spectrum.projections(group.scale)))
            if shift is None:
                shift = weights @ given.mean / weights.sum()
            centred = given.mean - shift
            mean += weights @ centred
            if between is None:
                second += weights @ (given.variance + z[:, 1:] * given.slope**2 + centred**2)
                continue
            k0 = self._law.kernels(between, group.outer, rules).cross
            second += spectrum.mean_covariance(kernels, k0, group.scale, weights)
            second += (given.slope.T * (weights * z[:, 1])) @ given.slope
            second += (centred.T * weights) @ centred
        assert shift is not None
        if between is None:
            return Prediction(shift + mean, second - mean**2)
        second -= np.outer(mean, mean)
        return Prediction(shift + mean, np.diag(second).copy(), second)


def _components(
    group: Nodes, given: Conditional, projections: tuple[np.ndarray, np.ndarray]
) -> Components:
    """Return the Gaussians of the nodes that share a kernel, without those of no weight."""
    z, shares = projections
    weights = group.weights[:, None] * shares
    node, point = np.nonzero(weights > _NO_WEIGHT)
    shift = (z - group.z[:, :1])[node, point]
    mean = given.mean[node] + shift[:, None] * given.slope[node]
    return Components(weights[node, point], mean, given.variance[node])


def solve_mixture(problem: Problem, theory: str) -> MixtureSolution | WishartMixtureSolution:
    """Return the posterior of the scale mixture, as `finwidth.mixture` describes it."""
    has_mean = check_mixture(problem.network, theory, several=True)
    depth = problem.network.depth
    chosen = SHELF.get(theory)
    assert isinstance(chosen, SaddleTheory)
    law = MixtureLaw(problem, chosen, has_mean, problem.rules)
    if not problem.network.by_scales:
        return _solve_blocks(BlockLaw(problem, chosen, False, problem.rules, np.zeros(0)))
    if problem.network.outputs > 1:
        return solve_wishart_mixture(law, problem, chosen)
    if law.n_outer > 2:
        raise InputError(
            "expected at most 3 hidden layers for theory='nested' (theory='wishart' takes any "
            f"number; finwidth.models.student_t can be sampled), got {depth}"
        )
    centre = np.zeros(depth)
    kernels = law.kernels(problem.covariance, np.ones(law.n_outer), law.rules)
    Factor(kernels.cross, problem.temperature).warn()
    if law.n_outer:
        centre = np.log(chosen.order_parameters(problem).order.q_bar)
        variances = np.asarray(problem.covariance.diag_a)
        rules = layer_rules(problem.network, variances, largest_scales(law, centre))
        law = dataclasses.replace(law, rules=rules)
    integral = law.integrate(np.zeros(0), centre)
    groups = law.flatten(integral, np.zeros(0), 1.0)
    error = largest_error(integral)
    return _checked(MixtureSolution(problem, law, groups, integral.log_value, error))


def _solve_blocks(law: BlockLaw) -> MixtureSolution:
    law.check()
    problem = law.problem
    law = dataclasses.replace(law, centre=law.theory.order_parameters(problem).theta)
    law = dataclasses.replace(law, rules=law.test_rules(np.asarray(problem.covariance.diag_a)))
    kernels = law.kernels(problem.covariance, law.centre[:-1], law.rules)
    Factor(kernels.cross, problem.temperature).warn()
    log_value, residual, groups = law.lattice()
    return _checked(MixtureSolution(problem, law, groups, log_value, residual))


def _checked(result: MixtureSolution) -> MixtureSolution:
    residual = result.residual
    message = f"expected a quadrature error ≤ {TOLERANCE:g}, got {residual:.1e}"
    if residual > _LARGEST_ERROR:
        raise ConvergenceError(f"{message}; the result is in .best", result)
    if residual > TOLERANCE:
        warn(message)
    return result
