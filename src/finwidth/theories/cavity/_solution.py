"""What the cavity theory gives back: predictions from a sample of neurons, with error bars."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array, random
from jaxtyping import Float

from ..._layers.dense import whiten_inputs
from ..._numerics.factor import Factor
from ..._numerics.precision import float64, in_float64
from ..._observables._observable import Observable, predictions
from ..._observables._prediction import Prediction
from .._solution import Solution
from ._fit import Fit, jackknife, subsets
from ._step import Given

__all__ = ["CavityPrediction", "CavitySolution"]

_CHUNK = 512  # walkers of each batch at a time


@dataclasses.dataclass(frozen=True, eq=False)
class CavityPrediction(Prediction):
    """Moments of the latent f with the standard errors of their estimation.

    Attributes
    ----------
    standard_error, variance_error
        Standard errors of `mean` and `variance`, shape (test_pattern,); None only before they
        are computed.
    """

    standard_error: Float[np.ndarray, " test_pattern"] | None = None
    variance_error: Float[np.ndarray, " test_pattern"] | None = None


@functools.partial(jax.jit, static_argnames=("activation", "full"))
def _block_moments(
    activation: Any,
    given: Given,
    z: Array,
    weights: tuple[Array, Array, Array],
    inside: Array,
    outside: Array,
    noise: Array,
    full: bool,
) -> tuple[Array, Array, Array, Array]:
    """Sums over walkers of weighted products of their features at test and training patterns."""
    root = jnp.sqrt(given.precision)
    phi = activation.fn(z @ given.features.T) / root
    at = activation.fn(z @ inside.T + noise @ outside.T) / root
    first, linear, second = weights
    weighted = at * second[..., None]
    own = "rnb,rnc->rbc" if full else "rnb,rnb->rb"
    return (
        jnp.einsum("rnb,rnp->rbp", at * first[..., None], phi),
        jnp.einsum("rnb,rnp->rbp", weighted, phi),
        jnp.einsum("rnb,rn->rb", at, linear),
        jnp.einsum(own, weighted, at),
    )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CavitySolution(Solution):
    """A fixed point of the cavity equations with a sample of the neurons' law.

    Predictions are made of moments of the sample, over all batches; standard errors and the
    correction of the bias that nonlinear functions of averages have are those of the jackknife
    over batches (Quenouille, Biometrika 43, 353 (1956)). They include the errors of the fixed
    point and of the sample. `predict` returns a `CavityPrediction`; `generalization_error` has
    `error_se`, `bias2_se` and `variance_se` besides the three that every theory has, and `scores`
    likewise a standard error of each.

    Attributes
    ----------
    seed, tolerance
        Settings of the theory.
    given
        The problem in the coordinates of the sample.
    fit
        Moments of the fixed point, and the sample.
    basis
        Orthonormal basis of the span of the training patterns.
    """

    seed: int
    tolerance: float
    given: Given
    fit: Fit
    basis: Float[np.ndarray, "input coordinate"]

    @property
    def theory(self) -> str:
        """Name of the theory."""
        return "cavity"

    @functools.cached_property
    def _share(self) -> np.ndarray:
        """Sum of the weights of each batch, relative to their mean."""
        total = np.sum(np.asarray(self.fit.weights), axis=1)
        return total / np.mean(total)

    def _pool(self, values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Weighted mean over the chosen batches of moments from `_moments`."""
        return np.mean(values[chosen], axis=0) / np.mean(self._share[chosen])

    @functools.cached_property
    def _training(self) -> tuple[np.ndarray, ...]:
        return self._moments(self.problem.X, False)

    @functools.cached_property
    def _misfit(self) -> tuple[float, float, float]:
        """yᵀ(T + K1)⁻¹y with the running averages; what the sample's differs by; its error."""
        y = self.problem.y

        def value(kernel: np.ndarray) -> float:
            return float(y @ Factor(kernel + self.problem.output_bias, self.temperature).solve(y))

        held = value(np.asarray(self.fit.moments.k1)[0])
        sampled = [value(self._pool(self._training[0], chosen)) for chosen in subsets()]
        centre, error = jackknife(np.asarray(sampled))
        return held, float(centre) - held, float(error)

    @property
    def residual(self) -> float:
        """Relative change of yᵀ(T + K1)⁻¹y when K1 is replaced by the sample's; it has noise."""
        held, difference, _ = self._misfit
        return abs(difference) / held

    @property
    def converged(self) -> bool:
        """Whether the error bar is as small as wanted and the residual no larger than its noise."""
        return not self.message

    @property
    def message(self) -> str:
        """Why the solution has not converged, if it has not."""
        if self.fit.annealed < 1:
            return (
                f"{self.fit.iterations} iterations reached width "
                f"{self.network.widths[0] / max(self.fit.annealed, 1e-300):.3g}"
            )
        if not self.fit.spread <= self.tolerance:
            return (
                f"relative standard error {self.fit.spread:.1e} after {self.fit.iterations} "
                f"iterations, tolerance {self.tolerance:g}"
            )
        held, difference, error = self._misfit
        if abs(difference) > 4 * error + self.tolerance * held:
            return "the law that was found does not reproduce the moments it was found with"
        return ""

    @property
    def action(self) -> float:
        """Not computed: NaN."""
        return math.nan

    @property
    def order_parameters(self) -> xr.Dataset:
        """`q_bar` and its standard error `q_bar_se`, with dimension layer.

        q_bar = tr(K2 − mmᵀ/N_1)/tr K, with K the infinite-width kernel, both without output bias.
        Attributes: `particles`, `effective_particles` (of the sample), `iterations`.
        """
        nodes, weights = np.polynomial.hermite_e.hermegauss(128)
        weights = weights / np.sum(weights)
        scale = np.linalg.norm(np.asarray(self.given.features), axis=1)
        with float64():
            at = jnp.asarray(scale[:, None] * nodes, jnp.float64)
            values = np.asarray(self.network.activation.fn(at))
        prior = float(np.sum(values**2 @ weights)) / self.network.weight_precision[1]
        _, k2, mean, _ = self._training

        def q_bar(chosen: np.ndarray) -> float:
            m = self._pool(mean, chosen)
            return (float(np.trace(self._pool(k2, chosen))) - float(m @ m)) / prior

        centre, error = jackknife(np.asarray([q_bar(chosen) for chosen in subsets()]))
        w = np.asarray(self.fit.weights)
        walkers = w.size
        effective = float(np.sum(np.sum(w, axis=1) ** 2 / np.sum(w**2, axis=1)))
        return xr.Dataset(
            {"q_bar": ("layer", [float(centre)]), "q_bar_se": ("layer", [float(error)])},
            coords={"layer": [1]},
            attrs={
                "particles": walkers,
                "effective_particles": effective,
                "iterations": self.fit.iterations,
            },
        )

    @in_float64
    def _moments(self, X: np.ndarray, full: bool) -> tuple[np.ndarray, ...]:
        """Return moments k1, k2, m and k0 at `X`, one of each per batch, for `_pool`."""
        patterns = whiten_inputs(self.network, X)
        inside = patterns @ self.basis
        outside = patterns - inside @ self.basis.T
        # nothing is outside where the training set spans all inputs, but for rounding
        if self.basis.shape[0] == self.basis.shape[1]:
            outside = outside[:, :0]
        walkers, shrink, pull = self.fit.walkers, self.fit.shrink, self.fit.pull
        weight = self.fit.weights / jnp.mean(jnp.sum(self.fit.weights, axis=1))
        weights = (weight * shrink, weight * pull, weight * (shrink + pull**2))
        key = random.key((self.seed + 1) % 2**63)
        total: Any = None
        for start in range(0, walkers.shape[1], _CHUNK):
            z = walkers[:, start : start + _CHUNK]
            # directions that the training set does not span keep their prior; the same draws
            # for all test patterns and calls
            noise = random.normal(
                random.fold_in(key, start), (*z.shape[:2], outside.shape[1]), jnp.float64
            )
            part = _block_moments(
                self.network.activation,
                self.given,
                z,
                tuple(w[:, start : start + _CHUNK] for w in weights),
                jnp.asarray(inside, jnp.float64),
                jnp.asarray(outside, jnp.float64),
                noise,
                full,
            )
            total = part if total is None else [a + b for a, b in zip(total, part, strict=True)]
        return tuple(np.asarray(x) for x in total)

    def _estimates(self, X: np.ndarray, full: bool) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance (or covariance) at `X` by all batches, then without each in turn."""
        k1, k2, m, _ = self._training
        x1, x2, xm, x0 = self._moments(X, full)
        bias, means, spreads = self.problem.output_bias, [], []
        for chosen in subsets():
            first = Factor(self._pool(k1, chosen) + bias, self.temperature)
            mean, at = self._pool(m, chosen), self._pool(xm, chosen)
            kernel = self._pool(k2, chosen) - np.outer(mean, mean) + bias
            cross = self._pool(x2, chosen) - np.outer(at, mean) + bias
            half = Factor(kernel, self.temperature).whiten(cross.T)
            means.append((self._pool(x1, chosen) + bias) @ first.solve(self.problem.y))
            own = self._pool(x0, chosen) + bias
            if full:
                spreads.append(own - np.outer(at, at) - half.T @ half)
            else:
                spreads.append(own - at**2 - np.einsum("ij,ij->j", half, half))
        return np.asarray(means), np.asarray(spreads)

    def _predict_block(self, X_test: np.ndarray, full_covariance: bool) -> CavityPrediction:
        means, spreads = self._estimates(X_test, full_covariance)
        mean, mean_error = jackknife(means)
        spread, spread_error = jackknife(spreads)
        if full_covariance:
            covariance = np.asarray(spread)
            spread, spread_error = np.diag(covariance).copy(), np.diag(spread_error)
        else:
            covariance = None
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
        whole = Prediction(jackknife(means)[0], jackknife(variances)[0])
        result = xr.Dataset(predictions(chosen, whole, y_test))
        parts = [
            predictions(chosen, Prediction(mean, variance), y_test)
            for mean, variance in zip(means, variances, strict=True)
        ]
        for name in list(result.data_vars):
            values = np.array([part[str(name)] for part in parts])
            result[f"{name}_se"] = float(jackknife(values)[1])
        return result
