"""What the cavity theory gives back: predictions from weighted neurons, with error bars."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.special import factorial

from ..._basics.errors import ConvergenceError
from ..._layers.dense import input_variances, whiten_inputs
from ..._layers.stack import layer_rules
from ..._numerics.factor import Factor
from ..._numerics.precision import float64
from ..._observables._observable import Observable, predictions
from ..._observables._prediction import Prediction
from ..._problem.nngp import nngp_block
from .._solution import Solution
from ._law import Law
from ._points import Given, normals
from ._replicates import Fit, Replicate
from ._roots import distinct
from ._values import activate

__all__ = ["CHUNK", "CavityPrediction", "CavitySolution", "Patterns", "jackknife", "pooled"]

CHUNK = 2048  # points at once
_RESIDUAL = 1e-4
# nodes for the part of a test pattern that the training set does not span, by its deviation
_RULES = ((0.0, 1), (0.05, 3), (0.3, 5), (0.8, 9), (1.5, 21), (math.inf, 65))


@dataclasses.dataclass(frozen=True, eq=False)
class CavityPrediction(Prediction):
    """Moments of the latent f with the standard errors of their estimation.

    Attributes
    ----------
    standard_error, variance_error
        Standard errors of `mean` and `variance`, of their shape; None only before they are
        computed.
    """

    standard_error: (
        Float[np.ndarray, " test_pattern"] | Float[np.ndarray, "test_pattern output"] | None
    ) = None
    variance_error: (
        Float[np.ndarray, " test_pattern"] | Float[np.ndarray, "test_pattern output"] | None
    ) = None


def jackknife(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an estimate and its standard error from values on all replicates and without each.

    Parameters
    ----------
    values
        Functions of means: of all replicates first, then of all but each in turn.

    Returns
    -------
    tuple
        The estimate without its bias of first order in the inverse number of replicates, and its
        standard error (Quenouille, Biometrika 43, 353 (1956)).
    """
    whole, parts = values[0], values[1:]
    n = parts.shape[0]
    centre = np.mean(parts, axis=0)
    error = np.sqrt((n - 1) / n * np.sum((parts - centre) ** 2, axis=0))
    return np.asarray(n * whole - (n - 1) * centre), np.asarray(error)


def pooled(values: np.ndarray) -> np.ndarray:
    """Return the mean over replicates, then over all but each in turn."""
    n = values.shape[0]
    whole = np.mean(values, axis=0)
    return np.concatenate([whole[None], (n * whole - values) / (n - 1)])


class Patterns:
    """Test patterns in the coordinates of the points, and their prior kernels."""

    def __init__(self, solution: "CavitySolution", X: np.ndarray, full: bool) -> None:
        problem, network = solution.problem, solution.network
        patterns = whiten_inputs(network, X)
        self.inside = patterns @ solution.basis
        outside = patterns - self.inside @ solution.basis.T
        variance = np.einsum("ij,ij->i", outside, outside)
        size = np.einsum("ij,ij->i", patterns, patterns)
        # where the training set spans all, nothing is outside but rounding
        self.spread = np.sqrt(np.where(variance > 1e-24 * size, variance, 0.0))
        largest = np.array([bound for bound, _ in _RULES])
        self.rule = np.searchsorted(largest, self.spread)
        scale = np.where(self.spread > 0, self.spread, 1.0)
        self.correlation = (outside / scale[:, None]) @ (outside / scale[:, None]).T
        variances = [input_variances(network, X), problem.input_variances]
        rules = layer_rules(network, np.concatenate(variances))
        block = nngp_block(network, X, problem.X, rules)
        bias = problem.output_bias
        self.cross = np.asarray(block.cross) - bias
        own = nngp_block(network, X, X, rules).cross if full else block.diag_a
        self.own = np.asarray(own) - bias

    def own_moment(self, squares: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return Σ weight E[φφ'|z], between all patterns if `squares` are Mehler's terms."""
        if squares.ndim == 2:
            return weight @ squares
        terms = (
            self.correlation**k * (term.T @ (term * weight[:, None]))
            for k, term in enumerate(squares)
        )
        return np.sum(list(terms), axis=0)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CavitySolution(Solution):
    """A fixed point of the cavity equations, on several scramblings of the points.

    Each scrambling is solved and predicts by itself; what is given back is their mean, and for
    functions of it the jackknife (Quenouille, Biometrika 43, 353 (1956)). Standard errors are
    those that the finite number of points makes, which has nothing to do with that of the theory.
    `predict` returns a `CavityPrediction`; `generalization_error` has `error_se`, `bias2_se` and
    `variance_se` besides the three that every theory has, and `scores` likewise a standard error
    of each.

    Attributes
    ----------
    given
        The problem in the coordinates of the points.
    fit
        The nodes and the fixed points.
    basis
        Orthonormal basis of the span of the training patterns.
    """

    given: Given
    fit: Fit
    basis: Float[np.ndarray, "input coordinate"]
    block = 512

    @property
    def theory(self) -> str:
        """Name of the theory."""
        return "cavity"

    @property
    def residual(self) -> float:
        """Largest ‖(T+S)^{−1/2}(G(S) − S)(T+S)^{−1/2}‖ of the scramblings."""
        return max(replicate.residual for replicate in self.fit.replicates)

    @property
    def converged(self) -> bool:
        """Whether each scrambling has its fixed point, and they agree as well as wanted."""
        return not self.message

    @property
    def message(self) -> str:
        """Why the solution has not converged, if it has not."""
        if not self.residual <= _RESIDUAL:
            return f"no fixed point after {self._most_iterations} iterations"
        if not self.fit.spread <= self.fit.wanted:
            return (
                f"relative standard error {self.fit.spread:.1e} of the error left out with "
                f"{self.fit.points} points a node, tolerance {self.fit.wanted:g}"
            )
        return ""

    @property
    def _most_iterations(self) -> int:
        return max(replicate.iterations for replicate in self.fit.replicates)

    @functools.cached_property
    def n_roots(self) -> int:
        """Number of distinct fixed points found from several starts (this one included).

        Starts are the kernel of the prior, scaled down and up, that with neurons aligned with the
        labels, and the fixed point of a layer half as wide. Takes about as long as the solution.
        """
        with float64():
            return len(
                distinct(
                    self.given,
                    self.network.activation,
                    self.fit,
                    float(self.network.widths[0]),
                    self.fit.replicates[0].seed[0],
                )
            )

    @property
    def action(self) -> float:
        """Not computed: NaN."""
        return math.nan

    @property
    def order_parameters(self) -> xr.Dataset:
        """`q_bar` and its standard error `q_bar_se`, with dimension layer.

        q_bar = tr(K2 − mmᵀ/N_1)/tr K, with K the infinite-width kernel, both without output bias.
        Attributes: `points` of a node, `nodes`, `effective_points` (of E[t²], t the mean readout
        weight of a neuron given its hidden ones; the smallest of the scramblings), `iterations`.
        """
        centre, error = jackknife(pooled(self._q_bars()))
        effective = min(one.law.effective for one in self.fit.replicates)
        return xr.Dataset(
            {"q_bar": ("layer", [float(centre)]), "q_bar_se": ("layer", [float(error)])},
            coords={"layer": [1]},
            attrs={
                "points": self.fit.points,
                "nodes": self.fit.nodes.v.size,
                "effective_points": effective,
                "iterations": self._most_iterations,
            },
        )

    def _factor(self, law: Law) -> Factor:
        if not self.problem.likelihood.homogeneous:  # sites, each of its own noise
            return Factor(law.moments + self.given.noise, 0.0)
        return Factor(law.moments + self.problem.output_bias, self.temperature)

    def _law(self, mean: np.ndarray, variance: np.ndarray) -> Prediction:
        probabilities = self.problem.likelihood.probabilities(mean, variance)
        return Prediction(mean, variance, probabilities=probabilities)

    def _q_bars(self) -> np.ndarray:
        prior = np.trace(self.given.kernel)
        return np.array([np.trace(one.law.moments) / prior for one in self.fit.replicates])

    def _features(
        self, z: np.ndarray, patterns: Patterns, full: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return E[φ|z] and E[φ²|z] at test patterns, of shape (point, pattern).

        With `full` the second is instead the c_k of Mehler's expansion, E[φφ'|z] = Σ_k ρ^k c_k c_k'
        with ρ the correlation of what is outside, of shape (term, point, pattern).
        """
        shape = z.shape[0], patterns.inside.shape[0]
        order = _RULES[int(np.max(patterns.rule))][1]
        mean, second = np.empty(shape), np.zeros((order, *shape) if full else shape)
        for rule in np.unique(patterns.rule):
            count, chosen = _RULES[rule][1], patterns.rule == rule
            nodes, weights = np.polynomial.hermite_e.hermegauss(count)
            weights = weights / np.sum(weights)
            h = z @ patterns.inside[chosen].T
            h = h + patterns.spread[chosen] * nodes[:, None, None]
            values = self.given.scale * activate(self.network.activation, h)
            mean[:, chosen] = np.tensordot(weights, values, axes=1)
            if full:
                basis = np.polynomial.hermite_e.hermeval(nodes, np.eye(count))
                basis = basis / np.sqrt(factorial(np.arange(count)))[:, None]
                second[:count, :, chosen] = np.tensordot(basis * weights, values, axes=1)
            else:
                second[:, chosen] = np.tensordot(weights, values**2, axes=1)
        return mean, second

    def _moments(
        self, replicate: Replicate, patterns: Patterns, full: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return m, k(x, X) and k(x, x) or k(x, x') at test patterns."""
        law, given, nodes = replicate.law, self.given, self.fit.nodes
        pull, second = law.weight * law.pull, law.weight * (law.shrink + law.pull**2)
        points = replicate.points
        if points is None:
            points = nodes.points(normals(nodes.mean.shape, self.fit.points, replicate.seed))
        # of what is taken off, the same share of the points' error at test patterns
        less = second - replicate.share * replicate.prior
        sums: Any = (0.0,) * 5
        for start in range(0, points.shape[0], CHUNK):
            at = slice(start, start + CHUNK)
            z, prior = points[at], replicate.prior[at]
            phi = given.scale * activate(self.network.activation, z @ given.features.T)
            mean, squares = self._features(z, patterns, full)
            parts = (
                mean.T @ pull[at],
                phi.T @ pull[at],
                mean.T @ (phi * less[at, None]),
                mean.T @ (prior * (phi @ law.dual)),
                patterns.own_moment(squares, less[at]),
            )
            sums = tuple(a + b for a, b in zip(sums, parts, strict=True))
        linear, training, cross, prior_mean, own = sums
        cross = cross - np.outer(linear, training) + replicate.share * patterns.cross
        outer = np.outer(linear, linear) if full else np.square(linear)
        own = own - outer + replicate.share * patterns.own
        missed = replicate.share * (prior_mean - patterns.cross @ law.dual)
        return np.sqrt(self.network.widths[0]) * linear - missed, cross, own

    def _estimates(self, X: np.ndarray, full: bool) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (or covariance) at `X` by all scramblings, then without each."""
        bias, means, spreads = self.problem.output_bias, [], []
        patterns = Patterns(self, X, full)
        for replicate in self.fit.replicates:
            mean, cross, own = self._moments(replicate, patterns, full)
            factor = self._factor(replicate.law)
            half = factor.whiten((cross + bias).T)
            means.append(mean + bias * np.sum(replicate.law.dual))
            less = half.T @ half if full else np.einsum("ij,ij->j", half, half)
            spreads.append(own + bias - less)
        spread = pooled(np.asarray(spreads))
        self._check_variances(np.diag(spread[0]) if full else spread[0])
        return pooled(np.asarray(means)), spread

    def _check_variances(self, variances: np.ndarray) -> None:
        least = np.min(variances)
        if not least >= 0:
            raise ConvergenceError(
                "expected variances of theory='cavity' that are positive, got "
                f"{least:.1e} with {self.fit.points} points a node: more of them",
                self,
            )

    def _predict_block(self, X_test: np.ndarray, full_covariance: bool) -> CavityPrediction:
        means, spreads = self._estimates(X_test, full_covariance)
        mean, mean_error = jackknife(means)
        spread, spread_error = jackknife(spreads)
        covariance = None
        if full_covariance:
            covariance = np.asarray(spread)
            spread, spread_error = np.diag(covariance).copy(), np.diag(spread_error).copy()
        return CavityPrediction(
            mean, spread, covariance, standard_error=mean_error, variance_error=spread_error
        )

    def _scores(
        self, X_test: np.ndarray, y_test: np.ndarray, chosen: Sequence[Observable]
    ) -> xr.Dataset:
        """Return the quantities, and their standard errors `error_se` and so on."""
        blocks = [self._estimates(block, False) for block in self._blocks(X_test)]
        means = np.concatenate([block[0] for block in blocks], axis=1)
        variances = np.concatenate([block[1] for block in blocks], axis=1)
        whole = self._law(jackknife(means)[0], jackknife(variances)[0])
        result = xr.Dataset(predictions(chosen, whole, y_test))
        parts = [
            predictions(chosen, self._law(mean, variance), y_test)
            for mean, variance in zip(means, variances, strict=True)
        ]
        for name in list(result.data_vars):
            values = np.array([part[str(name)] for part in parts])
            result[f"{name}_se"] = float(jackknife(values)[1])
        return result
