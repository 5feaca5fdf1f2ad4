"""Points moved by Hamiltonian trajectories that leave the law of a neuron as it is.

Where many weak directions make the law at each readout weight a little less than Gaussian, as with
random labels, few of the points that Gaussians give carry it. Drawn again by their weights at one
a and C and then moved, they all do: half by ρ, half by ρt²/E[t²], so that neither the bulk nor the
few neurons that learn are left to few points. For other a and C, and under the prior, they are
weighted as any others. The moves are made in single precision, which changes none of that: it is
the law at the points, wherever they are, that is computed in double.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import Array
from jaxtyping import Float
from scipy.special import logsumexp

from ...activations._activation import Activation
from ._law import weights
from ._points import Cloud, Given, square
from ._values import activate

__all__ = ["LEAPS", "Sample"]

LEAPS = 3  # leapfrog steps of a trajectory
_TRAJECTORIES = 4
_BLOCK = 1024  # points at once
_ACCEPTED = (0.65, 0.9)  # share of the trajectories; beyond, the next are longer or shorter


@functools.partial(jax.jit, static_argnames="activation")
def _trajectories(
    activation: Activation,
    start: Array,
    momenta: Array,
    exponentials: Array,
    problem: tuple[Array, Array, Array, Array, Array],
    step: Array,
) -> tuple[Array, Array]:
    features, scale, field, coupling, tilt = problem

    def density(z: Array) -> tuple[Array, Array]:
        """Return log N(z)(1+q)^{-1/2}e^{ut/2}(1 + tilt·t²) and its gradient."""
        h = z @ features.T
        phi, slope = jax.jvp(activation.fn, (h,), (jnp.ones_like(h),))
        phi, slope = scale * phi, scale * slope
        coupled = phi @ coupling
        q = jnp.sum(phi * coupled, axis=1)
        shrink = 1 / (1 + q)
        u = phi @ field
        t = u * shrink
        value = 0.5 * (jnp.log(shrink) + u * t - jnp.sum(z**2, axis=1)) + jnp.log1p(tilt * t**2)
        force = t[:, None] * field - (shrink + t**2)[:, None] * coupled
        rise = 2 * tilt * t / (1 + tilt * t**2) * shrink
        force = force + rise[:, None] * (field - 2 * t[:, None] * coupled)
        gradient = (force * slope) @ features - z
        return value.astype(z.dtype), gradient.astype(z.dtype)

    def leap(_: Array, state: tuple[Array, Array, Array, Array]):
        z, p, _, gradient = state
        p = p + 0.5 * step * gradient
        z = z + step * p
        value, gradient = density(z)
        return z, p + 0.5 * step * gradient, value, gradient

    def trajectory(state: tuple[Array, Array, Array], given: tuple[Array, Array]):
        z, value, gradient = state
        momentum, exponential = given
        end = jax.lax.fori_loop(0, LEAPS, leap, (z, momentum, value, gradient))
        change = end[2] - value - 0.5 * (jnp.sum(end[1] ** 2, 1) - jnp.sum(momentum**2, 1))
        taken = change > -exponential
        new = (
            jnp.where(taken[:, None], end[0], z),
            jnp.where(taken, end[2], value),
            jnp.where(taken[:, None], end[3], gradient),
        )
        return new, jnp.mean(taken)

    final, taken = jax.lax.scan(trajectory, (start, *density(start)), (momenta, exponentials))
    return final[0], taken


def _moved(
    activation: Activation,
    start: np.ndarray,
    problem: tuple[np.ndarray, float, np.ndarray, np.ndarray, float],
    step: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, float]:
    """Return the points after the trajectories, and the share of these that was accepted."""
    single = np.float32
    given = tuple(jnp.asarray(np.asarray(x), single) for x in problem)
    count, coordinates = start.shape
    result, accepted = np.empty((count, coordinates), single), 0.0
    for at in range(0, count, _BLOCK):
        block = start[at : at + _BLOCK]
        size = block.shape[0]
        end, taken = _trajectories(
            activation,
            jnp.asarray(np.resize(block, (_BLOCK, coordinates)), single),
            jnp.asarray(rng.standard_normal((_TRAJECTORIES, _BLOCK, coordinates), single)),
            jnp.asarray(rng.standard_exponential((_TRAJECTORIES, _BLOCK), single)),
            given,
            jnp.asarray(step, single),
        )
        result[at : at + size] = np.asarray(end)[:size]
        accepted += float(np.mean(np.asarray(taken))) * size / count
    return result.astype(float), accepted


def _drawn(weight: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the indices of `count` points drawn systematically by their weights."""
    places = (rng.random() + np.arange(count)) / count
    chosen = np.searchsorted(np.cumsum(weight) / np.sum(weight), places)
    return np.minimum(chosen, weight.size - 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """Points of the law in independent groups of equal size, one for each replicate in the end.

    Attributes
    ----------
    points
        Hidden weights, shape (point, coordinate), group by group.
    cloud
        Their features and weights.
    groups
        Number of groups; one where the points are still those of Gaussians.
    step
        Leapfrog step of the next trajectories.
    """

    points: Float[np.ndarray, "point coordinate"]
    cloud: Cloud
    groups: int = 1
    step: float = np.inf

    def group(self, index: int) -> "Sample":
        """Return one group by itself."""
        size = self.points.shape[0] // self.groups
        at = slice(index * size, (index + 1) * size)
        cloud = dataclasses.replace(
            self.cloud, phi=self.cloud.phi[at], log_prior=self.cloud.log_prior[at]
        )
        return Sample(self.points[at], cloud, 1, self.step)

    def carried(
        self,
        given: Given,
        activation: Activation,
        at: tuple[float, np.ndarray, np.ndarray],
        share: float,
        *,
        groups: int,
        count: int,
        seed: tuple[int, ...],
    ) -> "Sample":
        """Return points of the law at another width, S and a.

        Parameters
        ----------
        given, activation
            The problem, σ.
        at
            Width, S and a.
        share
            That of the new `Cloud`.
        groups, count
            Groups, and points of each. The same number of groups stay apart; a single one gives
            points to all.
        seed
            Of the draw and the moves.
        """
        width, moments, dual = at
        lower = np.linalg.cholesky(given.noise + moments)
        weight, pull = weights(given, self.cloud, width, lower, dual)
        mean = float(weight @ pull**2)
        tilt = 1 / mean if mean > 0 else 0.0
        weight = (weight * (1 + tilt * pull**2)).reshape(self.groups, -1)
        rng = np.random.default_rng(seed)
        size = weight.shape[1] if self.groups > 1 else 0
        chosen = [
            index * size + _drawn(weight[index % self.groups], count, rng)
            for index in range(groups)
        ]
        start = self.points[np.concatenate(chosen)]
        longest = np.pi / 2 / LEAPS  # no farther than a quarter of the prior's period
        step = min(self.step, start.shape[1] ** -0.25, longest)
        coupling = scipy.linalg.cho_solve((lower, True), np.eye(dual.size)) / width
        problem = given.features, given.scale, dual / np.sqrt(width), coupling, tilt
        points, accepted = _moved(activation, start, problem, step, rng)
        step *= 0.8 if accepted < _ACCEPTED[0] else 1.25 if accepted > _ACCEPTED[1] else 1.0
        phi = given.scale * activate(activation, points @ given.features.T)
        even = Cloud(phi, np.zeros(phi.shape[0]), np.zeros_like(given.kernel), share)
        weight, pull = weights(given, even, width, lower, dual)
        log_prior = -np.log(weight * (1 + tilt * pull**2))
        log_prior -= logsumexp(log_prior)
        missed = share * (square(phi, np.exp(log_prior)) - given.kernel)
        return Sample(points, Cloud(phi, log_prior, missed, share), groups, step)
