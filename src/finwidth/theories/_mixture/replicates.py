"""Mixtures over nodes in independent replicates: evidence, scores, and the errors of both."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..._numerics.importance import Sample
from ..._numerics.spectrum import Kernels
from ..._observables import Observable
from ..._observables._observable import predictions
from ..._observables._prediction import Components, Prediction
from ..._observables.squared_error import expected_error
from .._solution import Solution
from .wishart_law import WishartLaw

__all__ = [
    "Replicated",
    "chosen_nodes",
    "components",
    "gaussians",
    "in_parts",
    "jackknife",
    "outer_sum",
    "spread",
    "squared_errors",
    "with_errors",
]

_PART = 10**6  # numbers in an array over nodes
_ENTRIES = 2**25  # of the covariances of all nodes
_FEWEST, _MOST = 5, 9  # base-two logarithms of the nodes in each replicate


class Replicated(Solution):
    """A mixture whose nodes have the weights exp(`Sample.logs`): its evidence."""

    _sample: Sample

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


def spread(values: np.ndarray) -> float:
    """Return the standard error of the mean."""
    return float(np.std(values, ddof=1) / math.sqrt(values.size))


def jackknife(values: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Return the standard error of the pooled mean of values in each replicate."""
    count, ones = len(values), [1] * (values.ndim - 1)
    weighted = values * sums.reshape(-1, *ones)
    left = (np.sum(weighted, axis=0) - weighted) / (np.sum(sums) - sums).reshape(-1, *ones)
    return np.sqrt((count - 1) / count * np.sum((left - left.mean(axis=0)) ** 2, axis=0))


def in_parts(keep: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Return the indices of the nodes to keep, in parts; `size` numbers at each of them."""
    indices = np.flatnonzero(keep)
    step = max(1, _PART // size)
    for start in range(0, indices.size, step):
        yield indices[start : start + step]


def outer_sum(weights: np.ndarray, sides: np.ndarray, full: bool) -> np.ndarray:
    """Return Σ w s sᵀ over nodes and k, of outputs or of (point, output) pairs."""
    if not full:
        return np.einsum("mk,mknd,mkne->nde", weights, sides, sides, optimize=True)
    n, d = sides.shape[2:]
    flat = sides.reshape(-1, n * d)
    return ((flat.T * weights.reshape(-1)) @ flat).reshape(n, d, n, d)


def chosen_nodes(sample: Sample, exact: bool, size: int, negligible: float) -> list[np.ndarray]:
    """Return the indices of the nodes, by replicate, that stand for the law of f.

    Of Sobol points the first ones of each replicate, a power of two of them, so many that `size`
    numbers at each of them fit into memory; of two lattices, each of which is the integral, the
    first one.
    """
    bound = np.max(sample.logs) + math.log(negligible)
    if exact:
        return [np.flatnonzero(sample.logs[0] > bound)]
    replicates, points = sample.logs.shape
    affordable = math.floor(math.log2(max(_ENTRIES // (replicates * size), 1)))
    kept = min(points, 2 ** min(max(affordable, _FEWEST), _MOST))
    return [np.flatnonzero(logs[:kept] > bound) for logs in sample.logs]


def gaussians(
    law: WishartLaw, rotation: np.ndarray, nodes: np.ndarray, kernels: Kernels, kappa: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of f, shapes (node, n, D) and (node, n, D, D).

    `kappa` is K_0 between test and training points in its eigenbasis.
    """
    batch = law.at(nodes)
    q, basis = batch.scale, rotation @ batch.basis
    given = law.conditional_mean(batch, kappa, kernels.mean)
    variance = q[:, :, None] * kernels.diagonal
    variance -= ((q**2)[:, :, None] * batch.inverse) @ (kappa**2).T
    if law.bias > 0:
        rest = 1.0 - (q[:, :, None] * batch.inverse * law.ones) @ kappa.T
        variance += batch.bias[:, :, None] * rest**2
    mean = np.einsum("mdk,mkn->mnd", basis, given)
    covariance = np.einsum("mdk,mkn,mek->mnde", basis, variance, basis, optimize=True)
    return mean, covariance


def squared_errors(
    means: np.ndarray, squares: np.ndarray, sums: np.ndarray, y_test: np.ndarray
) -> dict[str, float]:
    """Return the standard errors of error, bias2 and variance, by leaving each replicate out.

    `means` and `squares` are the first two moments of f in each, and `sums` their total weights.
    """
    count = len(means)
    sums = sums[:, None, None]
    rows = []
    for left in range(count):
        keep = np.arange(count) != left
        mean, square = (
            np.sum((sums * one)[keep], axis=0) / np.sum(sums[keep]) for one in (means, squares)
        )
        rows.append(expected_error(Prediction(mean, square - mean**2), y_test).to_array().values)
    spread = np.sqrt((count - 1) / count * np.sum((rows - np.mean(rows, axis=0)) ** 2, axis=0))
    names = expected_error(Prediction(means[0], squares[0]), y_test)
    return {f"{name}_se": float(se) for name, se in zip(names, spread, strict=True)}


def with_errors(
    chosen: Sequence[Observable],
    whole: Prediction,
    replicate: Callable[[int], Prediction],
    shares: np.ndarray,
    y_test: np.ndarray,
) -> dict[str, float]:
    """Return quantities of the law of f, with their standard errors from the replicates."""
    values = predictions(chosen, whole, y_test)
    rows = [predictions(chosen, replicate(r), y_test) for r in range(len(shares))]
    for name, value in list(values.items()):
        square = sum(
            share**2 * (row[name] - value) ** 2 for share, row in zip(shares, rows, strict=True)
        )
        values[f"{name}_se"] = math.sqrt(square * len(shares) / (len(shares) - 1))
    return values


def components(
    weights: Sequence[np.ndarray], means: Sequence[np.ndarray], covariances: Sequence[np.ndarray]
) -> Components:
    """Return the components of some replicates together."""
    mean, covariance = np.concatenate(means), np.concatenate(covariances)
    total = np.concatenate(weights)
    variance = np.maximum(np.einsum("mndd->mnd", covariance), 0.0)
    return Components(total / total.sum(), mean, variance, covariance)
