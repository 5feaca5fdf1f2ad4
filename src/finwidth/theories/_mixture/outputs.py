"""The posterior of the scale mixture with several outputs, where Q̄ is a Wishart matrix.

For one layer and two outputs it is a lattice over the three entries of Bartlett's factor; beyond,
scrambled Sobol points around the mode, weighted by importance, with a standard error.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..._basics.errors import ConvergenceError, InputError, warn
from ..._layers.dense import input_covariance
from ..._layers.stack import layer_rules
from ..._numerics.factor import Factor
from ..._numerics.importance import Sample, find_mode, lattice, quasi_random
from ..._observables import Observable
from ..._observables._prediction import Prediction
from ..._observables.squared_error import SquaredError, expected_error
from ..._problem.problem import Problem
from .._saddle.outputs import order_dataset
from .._saddle.theory import SaddleTheory
from .._solution import Solution
from .law import MixtureLaw
from .wishart_law import WishartLaw

__all__ = ["WishartMixtureSolution", "solve_wishart_mixture"]

_LATTICE = 1e-9  # relative error of a lattice at which it is fine enough
_WANTED = 1e-3  # standard error of log p(y) at which Sobol points are enough
_LARGEST = 0.05  # beyond which nothing is returned
_MOST_NODES = 3 * 10**6
_REPLICATES, _FIRST, _LAST = 8, 2**11, 2**15  # Sobol points in each
_NEGLIGIBLE = 1e-13  # weight, of the largest, that predictions leave out
_ENTRIES = 10**6  # of arrays over nodes


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class WishartMixtureSolution(Solution):
    """The posterior of the scale mixture with several outputs.

    Made by `finwidth.mixture`. Where the nodes are Sobol points, `generalization_error` has
    `error_se`, `bias2_se` and `variance_se`, from independent scramblings.

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

    @functools.cached_property
    def _sums(self) -> tuple[float, np.ndarray]:
        """The largest logarithm, and the sum of weights relative to it in each replicate."""
        largest = float(np.max(self._sample.logs))
        return largest, np.sum(np.exp(self._sample.logs - largest), axis=1)

    @property
    def log_evidence(self) -> float:
        """log p(y)."""
        largest, sums = self._sums
        return largest + math.log(float(np.mean(sums)))

    @property
    def action(self) -> float:
        """−2 log p(y) − PD log 2π."""
        return -2.0 * self.log_evidence - self.problem.y.size * math.log(2.0 * math.pi)

    @property
    def residual(self) -> float:
        """Relative error of the evidence and of Q̄'s moments: standard, or of the last lattice."""
        sums = self._sums[1]
        evidence = _spread(sums) / float(np.mean(sums))
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
            for part in _parts(logs > -np.inf, self._law.widths, self._law.outputs):
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
        return result.assign(q_bar_se=(result.q_bar.dims, self._jackknife(self._moments[0])))

    def _jackknife(self, values: np.ndarray) -> np.ndarray:
        """Return the standard error of the pooled mean of values in each replicate."""
        sums, count = self._sums[1], len(values)
        weighted = values * sums.reshape(-1, *[1] * (values.ndim - 1))
        left = (np.sum(weighted, axis=0) - weighted) / (np.sum(sums) - sums).reshape(
            -1, *[1] * (values.ndim - 1)
        )
        return np.sqrt((count - 1) / count * np.sum((left - left.mean(axis=0)) ** 2, axis=0))

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

    def _scores(
        self, X_test: np.ndarray, y_test: np.ndarray, chosen: Sequence[Observable]
    ) -> xr.Dataset:
        """Return error, bias2 and variance, and their standard errors where there are some.

        Other scores need the law of f, of which only the moments are summed over the nodes.
        """
        moments = [one for one in chosen if isinstance(one, SquaredError)]
        result = super()._scores(X_test, y_test, moments)
        if self._exact:
            return result
        blocks = [self._predict_all(block, False) for block in self._blocks(X_test)]
        means = np.concatenate([block[0] + block[2] for block in blocks], axis=1)
        squares = np.concatenate(
            [
                np.einsum("rndd->rnd", block[1]) + 2 * block[2] * block[0] + block[2] ** 2
                for block in blocks
            ],
            axis=1,
        )
        sums, count = self._sums[1][:, None, None], len(means)
        rows = []
        for left in range(count):
            keep = np.arange(count) != left
            mean, square = (
                np.sum((sums * one)[keep], axis=0) / np.sum(sums[keep]) for one in (means, squares)
            )
            row = expected_error(Prediction(mean, square - mean**2), y_test)
            rows.append([float(row[name]) for name in result])
        spread = np.sqrt((count - 1) / count * np.sum((rows - np.mean(rows, axis=0)) ** 2, axis=0))
        return result.assign(
            {f"{name}_se": float(se) for name, se in zip(result, spread, strict=True)}
        )

    def _predict_all(
        self, X_test: np.ndarray, full: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return mean and second moment of f − shift in each replicate, and the shift.

        Shapes (replicate, n, D), (replicate, n, D, D) or (replicate, n, D, n, D), and (n, D).
        """
        law, largest = self._law, self._sums[0]
        network = self.problem.network
        covariance = input_covariance(network, X_test, self.problem.X)
        rules = layer_rules(network, np.concatenate([*map(np.asarray, covariance[1:])]))
        kernels = self._mixture.kernels(covariance, np.zeros(0), rules)
        prior = kernels.diagonal
        if full:
            between = input_covariance(network, X_test)
            prior = self._mixture.kernels(between, np.zeros(0), rules).cross
        kappa = kernels.cross @ law.spectrum[1]
        shift: np.ndarray | None = None
        means, seconds = [], []
        for nodes, logs in zip(*self._sample, strict=True):
            mean, second = 0.0, 0.0
            shares = np.zeros((kappa.shape[1], law.outputs, law.outputs))
            scales = np.zeros((law.outputs, law.outputs))
            keep = logs > np.max(self._sample.logs) + math.log(_NEGLIGIBLE)
            for part in _parts(keep, law.widths, max(kappa.shape) * law.outputs):
                weights, batch = np.exp(logs[part] - largest), law.at(nodes[part])
                q, basis = batch.scale, self._rotation @ batch.basis
                duals = law.duals(batch)
                given = (q[:, :, None] * duals) @ kappa.T
                given += law.bias * (duals @ law.ones)[:, :, None]
                if kernels.mean is not None:
                    given += batch.slopes[:, :, None] * kernels.mean
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
                second = second + _outer(weights[:, None], given[:, None], full)
                if law.bias > 0:
                    rest = 1.0 - (q[:, :, None] * batch.inverse * law.ones) @ kappa.T
                    sides = rest[:, :, :, None] * np.swapaxes(basis, 1, 2)[:, :, None, :]
                    second = second + _outer(weights[:, None] * batch.bias, sides, full)
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


def _outer(weights: np.ndarray, sides: np.ndarray, full: bool) -> np.ndarray:
    """Return Σ w s sᵀ over nodes and k, of outputs or of (point, output) pairs."""
    if not full:
        return np.einsum("mk,mknd,mkne->nde", weights, sides, sides, optimize=True)
    n, d = sides.shape[2:]
    flat = sides.reshape(-1, n * d)
    return ((flat.T * weights.reshape(-1)) @ flat).reshape(n, d, n, d)


def _spread(values: np.ndarray) -> float:
    """Return the standard error of the mean."""
    return float(np.std(values, ddof=1) / math.sqrt(values.size))


def _parts(keep: np.ndarray, widths: tuple[int, ...], size: int) -> Iterator[np.ndarray]:
    """Return the indices of the nodes to keep, in parts."""
    indices = np.flatnonzero(keep)
    step = max(1, _ENTRIES // (size * len(widths)))
    for start in range(0, indices.size, step):
        yield indices[start : start + step]


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
        parts = _parts(np.ones(len(x), dtype=bool), law.widths, problem.y.size)
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
