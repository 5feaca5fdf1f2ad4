"""The posterior of the scale mixture with several outputs, where Q̄ is a Wishart matrix.

For one layer and two outputs it is a lattice over the three entries of Bartlett's factor; beyond,
scrambled Sobol points around the mode, weighted by importance, with a standard error.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..._basics.errors import ConvergenceError, InputError, warn
from ..._layers.dense import input_covariance
from ..._layers.stack import layer_rules
from ..._numerics.factor import Factor
from ..._numerics.importance import Sample, find_mode, lattice, quasi_random
from ..._numerics.precision import in_float64
from ..._numerics.spectrum import Kernels
from ..._observables import Observable
from ..._observables._observable import predictions
from ..._observables._prediction import Prediction
from ..._observables.squared_error import SquaredError
from ..._problem.problem import Problem
from .._saddle.outputs import order_dataset
from .._saddle.theory import SaddleTheory
from .law import MixtureLaw
from .replicates import (
    Replicated,
    chosen_nodes,
    components,
    gaussians,
    in_parts,
    jackknife,
    outer_sum,
    spread,
    squared_errors,
    with_errors,
)
from .wishart_law import WishartLaw

__all__ = ["WishartMixtureSolution", "solve_wishart_mixture"]

_LATTICE = 1e-9  # relative error of a lattice at which it is fine enough
_WANTED = 1e-3  # standard error of log p(y) at which Sobol points are enough
_LARGEST = 0.05  # beyond which nothing is returned
_MOST_NODES = 3 * 10**6
_REPLICATES, _FIRST, _LAST = 8, 2**11, 2**15  # Sobol points in each
_NEGLIGIBLE = 1e-13  # weight, of the largest, that predictions leave out


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class WishartMixtureSolution(Replicated):
    """The posterior of the scale mixture with several outputs.

    Made by `finwidth.mixture`. Where the nodes are Sobol points, `scores` and
    `generalization_error` have standard errors too, `error_se`, `accuracy_se` and so on, from
    independent scramblings.

    Attributes
    ----------
    problem
        Network, training set and temperature.
    """

    block = 512

    _mixture: MixtureLaw
    _law: WishartLaw
    _rotation: Float[np.ndarray, "output output"]
    _sample: Sample
    _exact: bool

    @property
    def theory(self) -> str:
        """Name of the theory: "mixture-nested" or "mixture-wishart"."""
        return f"mixture-{self._mixture.theory.name}"

    @property
    def residual(self) -> float:
        """Relative error of the evidence and of Q̄'s moments: standard, or of the last lattice."""
        sums = self._sums[1]
        evidence = spread(sums) / float(np.mean(sums))
        if not self._exact:
            return evidence
        first = self._moments[0]
        return max(evidence, float(np.max(np.abs(np.ptp(first, axis=0)) / np.max(np.abs(first)))))

    @property
    def converged(self) -> bool:
        """Whether the residual is at most 1e-9 by lattice, 1e-3 by Sobol points."""
        return self.residual <= (_LATTICE if self._exact else _WANTED)

    @functools.cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean of Q̄_ℓ and of its squared entries in each replicate, rotated back."""
        largest = self._sums[0]
        firsts, seconds = [], []
        for nodes, logs in zip(*self._sample, strict=True):
            first, second = 0.0, 0.0
            for part in in_parts(logs > -np.inf, self._law.outputs * len(self._law.widths)):
                weights = np.exp(logs[part] - largest)
                factors = self._rotation @ self._law.matrices(nodes[part])
                q_bar = factors @ np.swapaxes(factors, 2, 3)
                first = first + np.einsum("m,mlde->lde", weights, q_bar)
                second = second + np.einsum("m,mlde->lde", weights, q_bar**2)
            firsts.append(first)
            seconds.append(second)
        total = self._sums[1][:, None, None, None]
        return np.array(firsts) / total, np.array(seconds) / total

    @functools.cached_property
    def order_parameters(self) -> xr.Dataset:
        """Posterior mean and standard deviation of Q̄_ℓ, `q_bar` and `q_bar_sd`.

        Dimensions (layer, output, ``output_``), as has the error `q_bar_se` where there is one.
        """
        shares = self._sums[1] / np.sum(self._sums[1])
        mean, square = (np.einsum("r,rlde->lde", shares, one) for one in self._moments)
        result = order_dataset(mean, np.sqrt(np.maximum(square - mean**2, 0.0)))
        result = result.rename({"q": "q_bar_sd"})
        if self._exact:
            return result
        error = jackknife(self._moments[0], self._sums[1])
        return result.assign(q_bar_se=(result.q_bar.dims, error))

    def _predict_block(self, X_test: np.ndarray, full_covariance: bool) -> Prediction:
        shares = self._sums[1] / np.sum(self._sums[1])
        means, seconds, shift = self._predict_all(X_test, full_covariance)
        mean = np.einsum("r,rnd->nd", shares, means)
        second = np.einsum("r,r...->...", shares, seconds)
        if full_covariance:
            covariance = second - np.einsum("nd,me->ndme", mean, mean)
            outputs = np.einsum("ndne->nde", covariance).copy()
        else:
            covariance = None
            outputs = second - np.einsum("nd,ne->nde", mean, mean)
        variance = np.einsum("ndd->nd", outputs).copy()
        return Prediction(mean + shift, variance, covariance, outputs)

    @in_float64
    def predictive_law(self, X_test: Any) -> Prediction:
        """Return `predict` with the Gaussians, one for each node, that f is a mixture of.

        Of Sobol points the first ones, as many as fit into memory.
        """
        X_test = self.problem.test_inputs(X_test)
        parts = self._gaussians(X_test)
        together = components(*zip(*parts, strict=True))
        return dataclasses.replace(self.predict(X_test), components=together)

    def _gaussians(self, X_test: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return weights, means and covariances of f at some nodes, for each replicate."""
        law, size = self._law, len(X_test) * self._law.outputs**2
        _, kernels, kappa = self._kernels(X_test)
        chosen = chosen_nodes(self._sample, self._exact, size, _NEGLIGIBLE)
        found, size = [], max(size, max(kappa.shape) * law.outputs)
        for nodes, logs, keep in zip(*self._sample, chosen, strict=False):
            parts = [
                gaussians(law, self._rotation, nodes[keep[part]], kernels, kappa)
                for part in in_parts(np.ones(len(keep), bool), size)
            ]
            means, covariances = (np.concatenate(part) for part in zip(*parts, strict=True))
            found.append((np.exp(logs[keep] - self._sums[0]), means, covariances))
        return found

    def _scores(
        self, X_test: np.ndarray, y_test: np.ndarray, chosen: Sequence[Observable]
    ) -> xr.Dataset:
        """Return all quantities, and their standard errors where nodes are random."""
        moments = [one for one in chosen if isinstance(one, SquaredError)]
        others = [one for one in chosen if one not in moments]
        if self._exact:
            law = self.predictive_law(X_test) if others else self.predict(X_test)
            return xr.Dataset(predictions(chosen, law, y_test))
        blocks = [self._predict_all(block, False) for block in self._blocks(X_test)]
        shift = np.concatenate([block[2] for block in blocks])
        centred = np.concatenate([block[0] for block in blocks], axis=1)
        seconds = np.concatenate([np.einsum("rndd->rnd", one[1]) for one in blocks], axis=1)
        means, squares = centred + shift, seconds + 2 * shift * centred + shift**2
        sums = self._sums[1]
        shares = sums / np.sum(sums)
        mean, second = np.tensordot(shares, centred, 1), np.tensordot(shares, seconds, 1)
        pooled = Prediction(mean + shift, second - mean**2)
        found = predictions(moments, pooled, y_test)
        found |= squared_errors(means, squares, sums, y_test)
        if others:
            parts = self._gaussians(X_test)

            def replicate(r: int) -> Prediction:
                law = components(*zip(*parts[r : r + 1], strict=True))
                return Prediction(means[r], seconds[r] - centred[r] ** 2, components=law)

            law = components(*zip(*parts, strict=True))
            whole = dataclasses.replace(pooled, components=law)
            found |= with_errors(others, whole, replicate, shares, y_test)
        return xr.Dataset(found)

    def _kernels(self, X_test: np.ndarray) -> tuple[tuple, Kernels, np.ndarray]:
        """Return the rules, K_0 of test and training points, and that in its eigenbasis."""
        network = self.problem.network
        covariance = input_covariance(network, X_test, self.problem.X)
        ends = np.asarray(covariance.diag_a), np.asarray(covariance.diag_b)
        rules = layer_rules(network, np.concatenate(ends))
        kernels = self._mixture.kernels(covariance, np.zeros(0), rules)
        return rules, kernels, kernels.cross @ self._law.spectrum[1]

    def _predict_all(
        self, X_test: np.ndarray, full: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return mean and second moment of f − shift in each replicate, and the shift.

        Shapes (replicate, n, D), (replicate, n, D, D) or (replicate, n, D, n, D), and (n, D).
        """
        law, largest = self._law, self._sums[0]
        rules, kernels, kappa = self._kernels(X_test)
        prior = kernels.diagonal
        if full:
            between = input_covariance(self.problem.network, X_test)
            prior = self._mixture.kernels(between, np.zeros(0), rules).cross
        shift: np.ndarray | None = None
        means, seconds = [], []
        for nodes, logs in zip(*self._sample, strict=True):
            mean, second = 0.0, 0.0
            shares = np.zeros((kappa.shape[1], law.outputs, law.outputs))
            scales = np.zeros((law.outputs, law.outputs))
            keep = logs > np.max(self._sample.logs) + math.log(_NEGLIGIBLE)
            for part in in_parts(keep, max(kappa.shape) * law.outputs * len(law.widths)):
                weights, batch = np.exp(logs[part] - largest), law.at(nodes[part])
                q, basis = batch.scale, self._rotation @ batch.basis
                given = law.conditional_mean(batch, kappa, kernels.mean)
                given = np.einsum("mdk,mkn->mnd", basis, given)
                if shift is None:
                    shift = np.einsum("m,mnd->nd", weights, given) / np.sum(weights)
                given = given - shift
                mean = mean + np.einsum("m,mnd->nd", weights, given)
                # what is explained of the prior variance, averaged before it meets test points
                pairs = np.einsum("m,mdk,mek->mkde", weights, basis, basis)
                scales += np.einsum("mk,mkde->de", q, pairs)
                explained = (q**2)[:, :, None] * batch.inverse
                shares += np.tensordot(explained, pairs, axes=((0, 1), (0, 1)))
                second = second + outer_sum(weights[:, None], given[:, None], full)
                if law.bias > 0:
                    rest = 1.0 - (q[:, :, None] * batch.inverse * law.ones) @ kappa.T
                    sides = rest[:, :, :, None] * np.swapaxes(basis, 1, 2)[:, :, None, :]
                    second = second + outer_sum(weights[:, None] * batch.bias, sides, full)
            if full:
                second = second + np.einsum("nm,de->ndme", prior, scales)
                second -= np.einsum("np,pde,mp->ndme", kappa, shares, kappa, optimize=True)
            else:
                second = second + prior[:, None, None] * scales
                second -= np.tensordot(kappa**2, shares, axes=1)
            means.append(mean)
            seconds.append(second)
        assert shift is not None
        total = self._sums[1]
        means, seconds = np.array(means), np.array(seconds)
        return (
            means / total[:, None, None],
            seconds / total.reshape(-1, *[1] * (seconds.ndim - 1)),
            shift,
        )


def solve_wishart_mixture(
    mixture: MixtureLaw, problem: Problem, theory: SaddleTheory
) -> WishartMixtureSolution:
    """Return the posterior of the scale mixture with several outputs."""
    if mixture.n_outer:
        raise InputError(
            "expected one hidden layer, the identity without biases, or theory='wishart' for the "
            f"scale mixture of several outputs, got {problem.network.depth} hidden layers and "
            f"activation {problem.network.activation.name!r}"
        )
    least = min(problem.network.widths)
    if problem.temperature == 0 and least < problem.network.outputs:
        raise InputError(
            "expected temperature > 0 for the scale mixture where a width is less than the number "
            f"of outputs, {problem.network.outputs} (f then has no density), got width {least}"
        )
    kernels = mixture.kernels(problem.covariance, np.zeros(0), mixture.rules)
    Factor(kernels.cross, problem.temperature).warn()
    q_bar = theory.solve(problem).order_parameters.q_bar.values
    # all of them are diagonal there, but for mean terms
    rotation = np.linalg.eigh(q_bar[-1])[1]
    law = WishartLaw(
        problem.network.widths,
        kernels.cross,
        problem.y @ rotation,
        problem.temperature,
        problem.output_bias,
        kernels.mean,
    )

    def function(x: np.ndarray) -> np.ndarray:
        parts = in_parts(np.ones(len(x), dtype=bool), problem.y.size * len(law.widths))
        return np.concatenate([law.log_posterior(x[part]) for part in parts])

    diagonals = np.einsum("ok,lop,pk->lk", rotation, q_bar, rotation)
    mode = find_mode(function, law.start(diagonals))
    exact = problem.network.depth == 1 and problem.network.outputs == 2 and not mixture.has_mean
    solution: WishartMixtureSolution | None = None
    if exact:
        spacing = 0.7
        while True:
            sample = lattice(function, mode, spacing)
            solution = WishartMixtureSolution(problem, mixture, law, rotation, sample, True)
            size = sample.logs.size * 1.4**3
            if solution.residual <= _LATTICE or size > _MOST_NODES:
                break
            spacing /= 1.4
    else:
        tails = np.where(law.degrees > 0, law.degrees, np.inf)
        points = _FIRST
        while True:
            sample = quasi_random(function, mode, tails, points, _REPLICATES, 0)
            solution = WishartMixtureSolution(problem, mixture, law, rotation, sample, False)
            if solution.residual <= _WANTED or points >= _LAST:
                break
            points *= 2
    bound = _LATTICE if exact else _WANTED
    message = f"expected an error of the evidence ≤ {bound:g}, got {solution.residual:.1e}"
    if not solution.residual <= (1e-6 if exact else _LARGEST):
        raise ConvergenceError(f"{message}; the result is in .best", solution)
    if not solution.converged:
        warn(message)
    return solution
