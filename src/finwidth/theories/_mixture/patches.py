"""The scale mixture of a convolution: N_c Q̄ ~ Wishart_A(N_c, 1), f | Q̄ ~ GP(0, Σ_ab Q̄_ab B_ab).

With a mean term the first of the N_c columns of Bartlett's factor is g = √λ_1 a, and f has the mean
M g (theory.md, sections 14 and 16). Where patches share no weights only the diagonal of Q̄ matters,
whose entries are independent.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..._basics.errors import ConvergenceError, InputError, warn
from ..._layers.convolution import Convolution
from ..._numerics.importance import Sample, find_mode, lattice, quasi_random
from ..._numerics.precision import in_float64
from ..._observables import Observable
from ..._observables._prediction import Components, Prediction
from ..._problem.problem import Problem
from .._saddle.patch_kernels import PatchBlocks, patch_blocks
from .._saddle.patches import patch_dataset, solve_patches
from .replicates import Replicated, in_parts, jackknife, spread, with_errors
from .wishart_law import DiagonalLaw, WishartLaw

__all__ = ["PatchMixtureSolution", "solve_patch_mixture"]

_LATTICE, _WANTED = 1e-6, 1e-3  # errors of the evidence that are small enough
_LARGEST = 0.05  # beyond which nothing is returned
_MOST_NODES = 10**6
_REPLICATES, _FIRST, _LAST = 8, 2**9, 2**13  # Sobol points in each
_MOST = 45  # numbers in Q̄
_NEGLIGIBLE = 1e-13  # weight, of the largest, that predictions leave out


@dataclasses.dataclass(frozen=True, eq=False)
class PatchLaw:
    """Q̄ in Bartlett's coordinates, and the likelihood.

    Parameters
    ----------
    problem
        Network, training set and temperature.
    blocks
        B_ab and M on the training set.
    rotation
        A basis of patches in which Q̄ is about diagonal.
    """

    problem: Problem
    blocks: PatchBlocks
    rotation: Float[np.ndarray, "patch patch"]

    @functools.cached_property
    def prior(self) -> WishartLaw:
        """The law of Bartlett's factor; of its kernel nothing is asked."""
        patches = len(self.rotation)
        mean = None if self.blocks.mean_a is None else np.zeros(1)
        widths = (self.problem.network.widths[0],)
        law = WishartLaw if self.blocks.shared else DiagonalLaw
        return law(widths, np.zeros((1, 1)), np.zeros((1, patches)), 1.0, 0.0, mean)

    def matrices(
        self, x: Float[np.ndarray, "node coordinate"]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return Q̄ and, with a mean term, g; shapes (node, patch, patch) and (node, patch)."""
        factors = self.rotation @ self.prior.matrices(x)[:, 0]
        q_bar = factors @ np.swapaxes(factors, 1, 2)
        if self.blocks.mean_a is None:
            return q_bar, None
        return q_bar, math.sqrt(self.problem.network.widths[0]) * factors[:, :, 0]

    def given(
        self, x: Float[np.ndarray, "node coordinate"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return log p(y | Q̄), L with L Lᵀ = A, and L⁻¹(y − M g) at nodes."""
        problem, n = self.problem, self.problem.n_patterns
        q_bar, slopes = self.matrices(x)
        residual = np.broadcast_to(problem.y, (len(x), n))
        if slopes is not None and self.blocks.mean_a is not None:
            residual = residual - slopes @ self.blocks.mean_a.T
        # the last row of the factor of A with a row more, the residual, is L⁻¹ of it
        total = np.empty((len(x), n + 1, n + 1))
        total[:, :n, :n] = self.blocks.kernel(q_bar) + problem.output_bias
        total[:, np.arange(n), np.arange(n)] += problem.temperature
        total[:, n, :n] = total[:, :n, n] = residual
        least = max(problem.temperature, 1e-12)
        total[:, n, n] = 1.0 + np.sum(residual**2, axis=1) / least
        lower = _cholesky(total)
        half, lower = lower[:, n, :n], lower[:, :n, :n]
        logdet = 2.0 * np.sum(np.log(np.einsum("mii->mi", lower)), axis=1)
        logs = -0.5 * (logdet + np.sum(half**2, axis=1) + n * math.log(2 * math.pi))
        return logs, lower, half

    def log_posterior(self, x: Float[np.ndarray, "node coordinate"]) -> Float[np.ndarray, " node"]:
        """Return log p(y, x)."""
        found = np.empty(len(x))
        for part in self.parts(len(x)):
            with np.errstate(over="ignore", invalid="ignore"):
                found[part] = self.prior.log_prior(x[part]) + self.given(x[part])[0]
        return np.where(np.isfinite(found), found, -np.inf)

    def parts(self, count: int) -> Iterator[np.ndarray]:
        """Return indices of nodes, in parts that fit into memory."""
        return in_parts(np.ones(count, bool), self.problem.n_patterns**2)


def _cholesky(matrices: np.ndarray) -> np.ndarray:
    """Return the factors of several matrices, NaN of those that are not positive definite."""
    try:
        return np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        if len(matrices) == 1:
            return np.full_like(matrices, np.nan)
        halves = np.array_split(matrices, 2)
        return np.concatenate([_cholesky(half) for half in halves])


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PatchMixtureSolution(Replicated):
    """The posterior of the scale mixture of a convolution.

    Made by `finwidth.mixture`. Where the nodes are Sobol points, scores have standard errors too,
    ``error_se`` and so on, from independent scramblings.

    Attributes
    ----------
    problem
        Network, training set and temperature.
    """

    block = 128

    _law: PatchLaw
    _sample: Sample
    _exact: bool

    @property
    def theory(self) -> str:
        """Name of the theory: "mixture-nested"."""
        return "mixture-nested"

    @property
    def residual(self) -> float:
        """Relative error of the evidence: standard, or of the last lattice."""
        sums = self._sums[1]
        return spread(sums) / float(np.mean(sums))

    @property
    def converged(self) -> bool:
        """Whether the residual is at most 1e-6 by lattice, 1e-3 by Sobol points."""
        return self.residual <= (_LATTICE if self._exact else _WANTED)

    @functools.cached_property
    def order_parameters(self) -> xr.Dataset:
        """Posterior mean and standard deviation of Q̄, `q_bar` and `q_bar_sd`.

        Dimensions (layer, patch, ``patch_``), as has the error `q_bar_se` where there is one;
        (layer, patch) where patches share no weights.
        """
        moments = []
        for nodes, logs in zip(*self._sample, strict=True):
            weights = np.exp(logs - self._sums[0])
            total: Any = 0.0
            for part in self._law.parts(len(nodes)):
                q_bar = self._law.matrices(nodes[part])[0]
                total = total + np.tensordot(weights[part], np.stack([q_bar, q_bar**2], 1), 1)
            moments.append(total)
        sums = self._sums[1]
        averages = np.array(moments) / sums[:, None, None, None]
        mean, square = np.tensordot(sums / np.sum(sums), averages, 1)
        values = {"q_bar": mean, "q_bar_sd": np.sqrt(np.maximum(square - mean**2, 0.0))}
        if not self._exact:
            values["q_bar_se"] = jackknife(averages[:, 0], sums)
        layer = self.network.layers[0]
        assert isinstance(layer, Convolution)
        return patch_dataset(layer, self.problem.X.shape[1:], **values)

    def _gaussians(
        self, X_test: np.ndarray, full: bool = False
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return weights, means and variances (or covariances) of f at the nodes of replicates."""
        law, problem = self._law, self.problem
        across = patch_blocks(problem, X_test, problem.X)
        between = patch_blocks(problem, X_test) if full else None
        bound, found = np.max(self._sample.logs) + math.log(_NEGLIGIBLE), []
        for nodes, logs in zip(*self._sample, strict=True):
            keep = np.flatnonzero(logs > bound)
            means, spreads = [], []
            for part in self._law.parts(keep.size):
                x = nodes[keep[part]]
                _, lower, half = law.given(x)
                q_bar, slopes = law.matrices(x)
                kappa = across.kernel(q_bar) + problem.output_bias
                explained = np.swapaxes(np.linalg.solve(lower, np.swapaxes(kappa, 1, 2)), 1, 2)
                mean = np.einsum("mnp,mp->mn", explained, half)
                if slopes is not None and across.mean_a is not None:
                    mean += slopes @ across.mean_a.T
                means.append(mean)
                if between is None:
                    prior = across.diagonal(q_bar) + problem.output_bias
                    spreads.append(prior - np.sum(explained**2, axis=2))
                else:
                    prior = between.kernel(q_bar) + problem.output_bias
                    spreads.append(prior - explained @ np.swapaxes(explained, 1, 2))
            weights = np.exp(logs[keep] - self._sums[0])
            found.append((weights, np.concatenate(means), np.concatenate(spreads)))
        return found

    def _predict_block(self, X_test: np.ndarray, full_covariance: bool) -> Prediction:
        parts = self._gaussians(X_test, full_covariance)
        weights, means, spreads = (np.concatenate(one) for one in zip(*parts, strict=True))
        weights = weights / weights.sum()
        mean = weights @ means
        centred = means - mean
        if full_covariance:
            covariance = np.tensordot(weights, spreads, 1) + (centred.T * weights) @ centred
            return Prediction(mean, np.diag(covariance).copy(), covariance)
        return Prediction(mean, weights @ (spreads + centred**2))

    @in_float64
    def predictive_law(self, X_test: Any) -> Prediction:
        """Return `predict` with the Gaussians, one for each node, that f is a mixture of."""
        X_test = self.problem.test_inputs(X_test)
        blocks = [self._gaussians(block) for block in self._blocks(X_test)]
        return _law_of(blocks)

    def _scores(
        self, X_test: np.ndarray, y_test: np.ndarray, chosen: Sequence[Observable]
    ) -> xr.Dataset:
        if self._exact:
            return super()._scores(X_test, y_test, chosen)
        blocks = [self._gaussians(block) for block in self._blocks(X_test)]

        def replicate(r: int) -> Prediction:
            return _law_of([block[r : r + 1] for block in blocks])

        shares = self._sums[1] / np.sum(self._sums[1])
        return xr.Dataset(with_errors(chosen, _law_of(blocks), replicate, shares, y_test))


def _law_of(blocks: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]]) -> Prediction:
    """Return the law of f from the Gaussians of some replicates at blocks of test points."""
    weights = np.concatenate([weights for weights, _, _ in blocks[0]])
    weights = weights / weights.sum()
    means, variances = (
        np.concatenate([np.concatenate([part[k] for part in block]) for block in blocks], axis=1)
        for k in (1, 2)
    )
    mean = weights @ means
    variance = weights @ (variances + (means - mean) ** 2)
    return Prediction(mean, variance, components=Components(weights, means, variances))


def solve_patch_mixture(problem: Problem, theory: Any) -> PatchMixtureSolution:
    """Return the posterior of the scale mixture of a convolution without pooling."""
    saddle = solve_patches(theory, problem)
    q_bar = saddle.found.q_bar
    patches, width, shared = len(q_bar), problem.network.widths[0], saddle.layer.shared
    most = math.isqrt(2 * _MOST) if shared else _MOST
    if patches > most:
        raise InputError(
            f"expected at most {most} patches for the scale mixture (sample(model='student_t') "
            f"takes any number), got {patches}"
        )
    if problem.temperature == 0 and width < patches and shared:
        raise InputError(
            "expected temperature > 0 for the scale mixture where channels are fewer than patches, "
            f"got {width} and {patches}"
        )
    values, rotation = np.linalg.eigh(q_bar) if shared else (np.diag(q_bar), np.eye(patches))
    law = PatchLaw(problem, patch_blocks(problem, problem.X), rotation)
    start = law.prior.start(values[None])
    mode = find_mode(law.log_posterior, start)
    exact = start.size <= 3
    if exact:
        spacing = 0.7
        while True:
            sample = lattice(law.log_posterior, mode, spacing)
            solution = PatchMixtureSolution(problem, law, sample, True)
            if solution.residual <= _LATTICE or sample.logs.size * 1.4**3 > _MOST_NODES:
                break
            spacing /= 1.4
    else:
        tails = np.where(law.prior.degrees > 0, law.prior.degrees, np.inf)
        points = _FIRST
        while True:
            sample = quasi_random(law.log_posterior, mode, tails, points, _REPLICATES, 0)
            solution = PatchMixtureSolution(problem, law, sample, False)
            if solution.residual <= _WANTED or points >= _LAST:
                break
            points *= 2
    bound = _LATTICE if exact else _WANTED
    message = f"expected an error of the evidence ≤ {bound:g}, got {solution.residual:.1e}"
    if not solution.residual <= (1e3 * _LATTICE if exact else _LARGEST):
        raise ConvergenceError(f"{message}; the result is in .best", solution)
    if not solution.converged:
        warn(message)
    return solution
