"""One step of the stochastic approximation of the cavity equations."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg
from jax import Array, random
from jaxtyping import Float

from ...activations._activation import Activation
from ._law import Law, exchange, fields, importance, log_density, move, ratios

__all__ = ["Moments", "Given", "Report", "State", "iterate", "moments_of", "solve_duals"]


class Given(NamedTuple):
    """What the equations need to know of the network and the training set.

    Attributes
    ----------
    features
        Patterns as coefficients of whitened weights, h = z·features.
    precision
        λ_1.
    noise
        T·1 + 1/λ^b_1 on the training set.
    y
        Labels.
    width
        N_1.
    """

    features: Float[Any, "pattern coordinate"]  # arrays of JAX, of NumPy in a solution
    precision: Any
    noise: Float[Any, "pattern pattern"]
    y: Float[Any, " pattern"]
    width: Any


class Moments(NamedTuple):
    """K1 and S = K2 − mmᵀ/N_1."""

    k1: Float[Any, "replica pattern pattern"]
    s: Float[Any, "replica pattern pattern"]


class State(NamedTuple):
    """Walkers, running moments, running ratios and normaliser, weights before the last update."""

    z: Float[Array, "replica ladder node coordinate"]
    moments: Moments
    log_ratios: Float[Array, "2 replica pair"]
    normalizer: Float[Array, " replica"]
    weight: Float[Array, "replica ladder node"]
    density: Float[Array, "replica ladder node"]


class Report(NamedTuple):
    """Of one iteration.

    Acceptance by node, the smallest overlap of the laws before and after the last update, K1 of
    the walkers times their mean weight over its running mean, and 1/(1 + q) and u/(1 + q).
    """

    accept: Array
    overlap: Array
    kernel: Array
    shrink: Array
    pull: Array


def solve_duals(given: Given, moments: Moments) -> tuple[Array, Array]:
    """Return a = (T + K1)⁻¹y and C = (T + S)⁻¹, one of each per replica."""

    def one(k1: Array, s: Array) -> tuple[Array, Array]:
        first = jnp.linalg.cholesky(given.noise + k1)
        second = jnp.linalg.cholesky(given.noise + s)
        eye = jnp.eye(s.shape[0], dtype=s.dtype)
        return (
            jax.scipy.linalg.cho_solve((first, True), given.y),
            jax.scipy.linalg.cho_solve((second, True), eye),
        )

    return jax.vmap(one)(*moments)


def _law(given: Given, moments: Moments, inverse_width: Array) -> Law:
    dual, coupling = solve_duals(given, moments)
    return Law(dual * jnp.sqrt(inverse_width), coupling * inverse_width)


def moments_of(phi: Array, u: Array, q: Array, weight: Array) -> tuple[Moments, Array]:
    """Return weighted moments (normalised) of walkers, and their mean weight.

    Parameters
    ----------
    phi
        Features, shape (replica, walker, pattern).
    u, q, weight
        Shape (replica, walker).
    """
    total = jnp.mean(weight, axis=1)
    weight = weight / (weight.shape[1] * total[:, None])
    shrink = 1 / (1 + q)
    t = u * shrink
    mean = jnp.einsum("rnp,rn->rp", phi, weight * t)
    deviation = phi * t[..., None] - mean[:, None, :]
    k1 = jnp.einsum("rnp,rnq->rpq", phi * (weight * shrink)[..., None], phi)
    spread = jnp.einsum("rnp,rnq->rpq", deviation * weight[..., None], deviation)
    return Moments(k1, k1 + spread), total


@functools.partial(jax.jit, static_argnames="activation")
def iterate(
    activation: Activation,
    given: Given,
    state: State,
    key: Array,
    inverse_width: Array,
    gain: Array,
    step: Array,
    parity: Array,
) -> tuple[State, Report]:
    """Move the walkers, then the moments by `gain`, then exchange walkers."""
    law = _law(given, state.moments, inverse_width)
    before = fields(activation, given.features, given.precision, law, state.z)
    overlap = _overlap(state, log_density(before.u, before.q))
    move_key, exchange_key = random.split(key)
    z, accept = move(activation, given.features, given.precision, law, move_key, state.z, step)
    phi, u, q = fields(activation, given.features, given.precision, law, z)
    log_ratios = jnp.logaddexp(state.log_ratios + jnp.log1p(-gain), ratios(u, q) + jnp.log(gain))
    weight = importance(log_ratios, u, q)
    replicas = z.shape[0]
    flat = (replicas, -1)
    found, total = moments_of(
        phi.reshape(replicas, -1, phi.shape[-1]),
        u.reshape(flat),
        q.reshape(flat),
        weight.reshape(flat),
    )
    # the root of E[weight (moments − K)] = 0: no bias from the ratio of two averages
    normalizer = state.normalizer + gain * (total - state.normalizer)
    rate = jnp.minimum(gain * total / normalizer, 1.0)[:, None, None]
    moments = Moments(
        *(old + rate * (new - old) for old, new in zip(state.moments, found, strict=True))
    )
    index = exchange(exchange_key, u, q, parity)
    z = jnp.take_along_axis(z, index[..., None], axis=2)
    rows = (weight, log_density(u, q), 1 / (1 + q), u / (1 + q))
    weight, density, shrink, pull = (jnp.take_along_axis(x, index, axis=2) for x in rows)
    kernel = found.k1[0] * total[0] / normalizer[0]
    report = Report(accept, overlap, kernel, shrink, pull)
    return State(z, moments, log_ratios, normalizer, weight, density), report


def _overlap(state: State, density: Array) -> Array:
    """Smallest effective share of the walkers' weight under the new law, over replicas."""
    change = density - state.density
    change = jnp.exp(change - jnp.max(change, axis=(1, 2), keepdims=True))
    weight = state.weight
    first = jnp.sum(weight * change, axis=(1, 2)) ** 2
    second = jnp.sum(weight, axis=(1, 2)) * jnp.sum(weight * change**2, axis=(1, 2))
    return jnp.min(first / second)
