"""Moments of one neuron's features that theory="perturbative" needs, by quasi-Monte Carlo.

With ψ = σ(h)/√λ_1 for one neuron, u = aᵀψ, v = ψᵀA⁻¹ψ and ρ(x) = ψ(x) − k(x)A⁻¹ψ, fourth moments
of the features enter through the means of functions of u, v and ρ over the neuron's weights.
Independent scrambled Sobol sequences, doubled until they agree, give those means and their
standard errors. The weights are rotated so that the directions with most variance over the
training set come first, which is where a low-discrepancy sequence is best.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri

from ..._basics.errors import InputError
from ..._layers.dense import whiten_inputs
from ..._problem.network import Network

__all__ = ["Estimate", "Neuron"]

_REPLICATES = 8
_FIRST = 10  # 2^10 points in each replicate
_LAST = 16
_CHUNK = 1024  # points at once; divides the number of points
_SEED = 20240712
_MOST_INPUTS = 21201  # MAXDIM of scipy.stats.qmc.Sobol


class Estimate(NamedTuple):
    """A mean over replicates, its standard error, and the points in each replicate."""

    mean: np.ndarray
    error: np.ndarray
    points: int


class Neuron:
    """The features of one hidden neuron under its prior.

    Parameters
    ----------
    network
        One hidden layer.
    X
        Training patterns, which fix the rotation of the weights, shape (pattern, input).
    """

    def __init__(self, network: Network, X: np.ndarray) -> None:
        if X.shape[1] >= _MOST_INPUTS:
            raise InputError(
                f"expected X = fewer than {_MOST_INPUTS} inputs for theory='perturbative' (the "
                f"longest Sobol sequence), got {X.shape[1]}"
            )
        self._network = network
        self._activate = jax.jit(network.activation.fn)
        self._rotation = np.linalg.svd(whiten_inputs(network, X), full_matrices=True)[2].T

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the compiled function."""
        return {name: value for name, value in vars(self).items() if name != "_activate"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._activate = jax.jit(self._network.activation.fn)

    def average(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        X: np.ndarray,
        enough: Callable[[np.ndarray, np.ndarray], bool],
    ) -> Estimate:
        """Average a function of the features ψ over the neuron's prior.

        Parameters
        ----------
        function
            ψ on the patterns `X`, shape (point, pattern) -> sum over the points, shape (n,).
        X
            Patterns, shape (pattern, input).
        enough
            Mean and standard error, shapes (n,) -> whether to stop.

        Returns
        -------
        Estimate
            Not better than `enough` asks where the largest number of points was reached.
        """
        import scipy.stats.qmc  # a second, which the other theories need not spend

        rotated = whiten_inputs(self._network, X) @ self._rotation
        engines = [
            scipy.stats.qmc.Sobol(rotated.shape[1], scramble=True, rng=_SEED + replicate)
            for replicate in range(_REPLICATES)
        ]
        sums: Any = 0.0
        points = 0
        while True:
            more = max(points, 2**_FIRST)
            sums = sums + np.stack([self._sum(function, rotated, one, more) for one in engines])
            points += more
            means = sums / points
            mean = means.mean(axis=0)
            error = means.std(axis=0, ddof=1) / np.sqrt(_REPLICATES)
            if points >= 2**_LAST or enough(mean, error):
                return Estimate(mean, error, points)

    def _sum(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        rotated: np.ndarray,
        engine: Any,
        points: int,
    ) -> np.ndarray:
        total: Any = 0.0
        scale = self._network.weight_precision[1] ** -0.5
        for _ in range(points // _CHUNK):
            h = jnp.asarray(ndtri(engine.random(_CHUNK)) @ rotated.T, jnp.float64)
            total = total + function(scale * np.asarray(self._activate(h)))
        return total
