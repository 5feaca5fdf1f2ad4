"""Integrals over a few coordinates around a mode: a lattice, or scrambled Sobol points.

The integrand's mode and curvature give coordinates z in which it is about a standard Gaussian.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.stats
from jaxtyping import Float

__all__ = ["Mode", "Sample", "find_mode", "lattice", "quasi_random"]

Function = Callable[[np.ndarray], np.ndarray]
_DROP = 32.0  # of the logarithm, beyond which nothing counts
_LOGISTIC = 0.62  # scale of the logistic law that is closest to the standard Gaussian


class Mode(NamedTuple):
    """A maximum and coordinates around it, x = at + root z.

    Attributes
    ----------
    at
        Shape (coordinate,).
    root
        Lower triangular; root rootᵀ is the inverse of minus the Hessian there.
    value
        The function's value.
    """

    at: np.ndarray
    root: np.ndarray
    value: float


class Sample(NamedTuple):
    """Nodes and the logarithms of their weights, in replicates that estimate the same integral.

    Attributes
    ----------
    nodes
        Shape (replicate, node, coordinate).
    logs
        Shape (replicate, node): the integral is the sum of their exponentials, in each replicate.
    """

    nodes: Float[np.ndarray, "replicate node coordinate"]
    logs: Float[np.ndarray, "replicate node"]


def find_mode(function: Function, start: Float[np.ndarray, " n"], steps: int = 60) -> Mode:
    """Return the maximum of a smooth function of many points, by Newton's method from `start`."""
    x = start
    value = float(function(x[None])[0])
    hessian = -np.eye(x.size)
    for _ in range(steps):
        gradient, hessian = _derivatives(function, x)
        values, vectors = np.linalg.eigh(hessian)
        curvature = np.maximum(np.abs(values), 1e-3)
        step = vectors @ ((vectors.T @ gradient) / curvature)
        step *= min(1.0, 1.0 / float(np.max(np.abs(step))) if np.any(step) else 1.0)
        sizes = 0.5 ** np.arange(12)
        trials = function(x + sizes[:, None] * step)
        best = int(np.argmax(trials))
        if not trials[best] > value or float(np.max(np.abs(step))) < 1e-6:
            break
        x, value = x + sizes[best] * step, float(trials[best])
    values, vectors = np.linalg.eigh(_derivatives(function, x)[1])
    precision = (vectors * np.maximum(-values, 1e-3)) @ vectors.T
    # root rootᵀ = precision⁻¹ with a lower triangular root
    upper = scipy.linalg.cholesky(precision[::-1, ::-1], lower=True)[::-1, ::-1]
    root = scipy.linalg.solve_triangular(upper.T, np.eye(x.size), lower=True)
    return Mode(x, root, value)


def _derivatives(function: Function, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and Hessian by differences, all points in one call."""
    n, h = x.size, 1e-3
    units = h * np.eye(n)
    pairs = list(itertools.combinations(range(n), 2))
    crossed = [units[i] + units[j] for i, j in pairs]
    points = np.vstack([np.zeros((1, n)), units, -units, *([crossed] if pairs else [])])
    values = function(x + points)
    here, up, down, both = np.split(values, [1, n + 1, 2 * n + 1])
    gradient = (up - down) / (2 * h)
    hessian = np.diag((up - 2 * here + down) / h**2)
    for (i, j), value in zip(pairs, both, strict=True):
        # f(x + a + b) − f(x + a) − f(x + b) + f(x), less its third-order terms' largest part
        hessian[i, j] = hessian[j, i] = (value - up[i] - up[j] + here[0]) / h**2
    return gradient, hessian


def lattice(function: Function, mode: Mode, spacing: float) -> Sample:
    """Return the points of two interleaved lattices in z as two replicates.

    Each is the trapezoidal rule, which converges exponentially for smooth functions that vanish
    at infinity.
    """
    n = mode.at.size
    axes = []
    for i in range(n):
        ends = []
        for sign in (-1.0, 1.0):
            reach = np.arange(1.0, 400.0)
            line = mode.at + sign * reach[:, None] * mode.root[:, i]
            low = np.flatnonzero(function(line) < mode.value - _DROP)
            ends.append(sign * (1.2 * reach[low[0]] if low.size else reach[-1]))
        axes.append(np.arange(ends[0], ends[1] + spacing, spacing))
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, n)
    z = np.stack([grid, grid + 0.5 * spacing])
    nodes = mode.at + z @ mode.root.T
    volume = n * np.log(spacing) + float(np.sum(np.log(np.diag(mode.root))))
    return Sample(nodes, np.array([function(part) for part in nodes]) + volume)


def quasi_random(
    function: Function,
    mode: Mode,
    tails: Float[np.ndarray, " n"],
    points: int,
    replicates: int,
    seed: int,
) -> Sample:
    """Return scrambled Sobol points of a product of logistic laws in z, weighted by importance.

    Parameters
    ----------
    function
        The logarithm of the integrand.
    mode
        Its mode.
    tails
        Exponential rates at which it falls in x at its slowest, inf where it falls faster.
    points, replicates
        A power of two, and the number of independent scramblings.
    seed
        Of the scramblings.
    """
    n = mode.at.size
    scales = np.maximum(_LOGISTIC, 1.0 / (tails * np.diag(mode.root)))
    nodes, logs = [], []
    for generator in np.random.default_rng(seed).spawn(replicates):
        u = scipy.stats.qmc.Sobol(n, scramble=True, rng=generator).random(points)
        u = np.clip(u, 1e-15, 1 - 1e-15)
        z = scales * (np.log(u) - np.log1p(-u))
        density = np.sum(np.log(u) + np.log1p(-u) - np.log(scales), axis=1)
        x = mode.at + z @ mode.root.T
        nodes.append(x)
        volume = float(np.sum(np.log(np.diag(mode.root)))) - np.log(points)
        logs.append(function(x) - density + volume)
    return Sample(np.array(nodes), np.array(logs))
