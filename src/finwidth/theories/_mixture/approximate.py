"""The scale mixture where f given labels is no Gaussian: an approximation of it at every node.

One scale is integrated (theory.md, section 15): what the order parameters of one hidden layer,
of "wishart" and of the identity come to.
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from ..._basics.checks import check_choice
from ..._basics.errors import ConvergenceError, InputError, warn
from ..._layers.dense import input_covariance
from ..._likelihoods._factorised import Factorised
from ..._likelihoods._sites import SiteFactor
from ..._numerics.integrate import TOLERANCE, integrate
from ..._numerics.scale_laws import log_product_density
from ..._observables._prediction import Components, Prediction
from ..._problem.problem import Problem
from .._saddle.theory import SaddleTheory
from .._solution import Solution
from .._theory import SHELF, check_covered
from .law import NEGLIGIBLE, MixtureLaw, Nodes, check_mixture
from .patches import solve_patch_mixture
from .solution import MixtureSolution, solve_mixture

__all__ = ["ApproximateMixtureSolution", "solve_any"]

_LARGEST_ERROR = 1e-6  # of the quadrature, beyond which nothing is returned


def solve_any(problem: Problem, theory: str) -> Solution:
    """Return the posterior of the scale mixture, for any likelihood that it covers."""
    chosen = SHELF.get(check_choice("theory", theory, ("nested", "wishart")))
    assert isinstance(chosen, SaddleTheory)
    if problem.network.by_patches:
        check_covered(problem, chosen)
        if not problem.likelihood.homogeneous:
            raise InputError(
                "expected likelihood = 'gaussian' for the scale mixture over patches, got "
                f"{problem.likelihood.name!r}"
            )
        return solve_patch_mixture(problem, chosen)
    if problem.likelihood.homogeneous:
        return solve_mixture(problem, theory)
    has_mean = check_mixture(problem.network, theory)
    law = MixtureLaw(problem, chosen, has_mean, problem.rules)
    likelihood = problem.likelihood
    if has_mean or law.n_outer or not isinstance(likelihood, Factorised):
        raise InputError(
            "expected one hidden layer with an odd activation, theory='wishart' or "
            f"likelihood='gaussian' for the scale mixture, got likelihood={likelihood.name!r}, "
            f"activation {problem.network.activation.name!r} and {problem.network.depth} hidden "
            "layer(s)"
        )
    kernel = law.kernels(problem.covariance, np.ones(0), law.rules).cross
    conditioned = likelihood.conditioner(problem.y, problem.temperature)
    widths, n = problem.network.widths, problem.n_patterns

    def integrand(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        log_prior, first, second = log_product_density(widths, x)
        values, sites = np.empty(x.size), np.empty((x.size, 2 * n))
        for i in np.argsort(x):  # neighbours start from each other
            given = conditioned(_scaled(kernel, math.exp(x[i]), problem.output_bias))
            values[i] = log_prior[i] - 0.5 * (given.action + n * math.log(2 * math.pi))
            sites[i] = np.concatenate([given.weights, given.factor.precision])
        return values, np.concatenate([sites, first, second], axis=1)

    centre = float(np.sum(np.log(chosen.order_parameters(problem).order.q_bar)))
    integral = integrate(integrand, centre + np.arange(-2.0, 2.1, 0.5))
    keep = integral.weights > NEGLIGIBLE
    scale, weights, extras = np.exp(integral.nodes)[keep], integral.weights[keep], integral.extras
    sites, first, second = np.split(extras[keep], [2 * n, 2 * n + len(widths)], axis=1)
    nodes = Nodes(np.zeros(0), scale, weights, np.zeros((scale.size, 2)), first, second)
    result = ApproximateMixtureSolution(
        problem, law, [nodes], integral.log_value, integral.error, sites
    )
    message = f"expected a quadrature error ≤ {TOLERANCE:g}, got {integral.error:.1e}"
    if integral.error > _LARGEST_ERROR:
        raise ConvergenceError(f"{message}; the result is in .best", result)
    if integral.error > TOLERANCE:
        warn(message)
    return result


def _scaled(kernel: np.ndarray, scale: float, bias: float) -> np.ndarray:
    return np.asfortranarray(scale * kernel + bias)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ApproximateMixtureSolution(MixtureSolution):
    """The posterior of the scale mixture, f given labels approximated at every scale."""

    _sites: np.ndarray  # weights of f and precisions of the sites, shape (node, 2·pattern)

    def _predict_block(
        self,
        X_test: np.ndarray,
        full_covariance: bool,
        found: list[Components] | None = None,
    ) -> Prediction:
        given = [np.array(part) for part in zip(*self._given(X_test, full_covariance), strict=True)]
        mean, variance, spread = given
        weights = self._groups[0].weights / self._groups[0].weights.sum()
        if found is not None:
            found.append(Components(weights, mean, variance))
        probabilities = self._average(weights, mean, variance)
        centre = weights @ mean
        if not full_covariance:
            total = weights @ (variance + (mean - centre) ** 2)
            return Prediction(centre, total, probabilities=probabilities)
        covariance = np.tensordot(weights, spread, axes=1)
        covariance += ((mean - centre).T * weights) @ (mean - centre)
        total = np.diag(covariance).copy()
        return Prediction(centre, total, covariance, probabilities=probabilities)

    def _average(
        self, weights: np.ndarray, mean: np.ndarray, variance: np.ndarray
    ) -> np.ndarray | None:
        """Return the probabilities of the classes, averaged over the nodes."""
        known = self.problem.likelihood.probabilities(mean.ravel(), variance.ravel())
        if known is None:
            return None
        return np.tensordot(weights, known.reshape(*mean.shape, known.shape[-1]), axes=1)

    def _given(
        self, X_test: np.ndarray, full_covariance: bool
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return mean, variance and, if asked for, covariance of f at the scale of each node."""
        problem, law, (group,) = self.problem, self._law, self._groups
        n, bias, nothing = problem.n_patterns, problem.output_bias, np.ones(0)
        covariance = input_covariance(self.network, X_test, problem.X)
        ends = np.asarray(covariance.diag_a), np.asarray(covariance.diag_b)
        rules = self._rules(np.concatenate(ends))
        across = law.kernels(covariance, nothing, rules)
        train = law.kernels(problem.covariance, nothing, law.rules).cross
        between = np.zeros(())
        if full_covariance:
            between = law.kernels(input_covariance(self.network, X_test), nothing, rules).cross
        for scale, sites in zip(group.scale, self._sites, strict=True):
            factor = SiteFactor(_scaled(train, scale, bias), sites[n:])
            kappa = _scaled(across.cross, scale, bias)
            half = factor.whiten(kappa.T)
            variance = scale * across.diagonal + bias - np.einsum("ij,ij->j", half, half)
            spread = _scaled(between, scale, bias) - half.T @ half if full_covariance else between
            yield kappa @ sites[:n], variance, spread
