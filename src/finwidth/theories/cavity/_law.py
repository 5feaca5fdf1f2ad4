"""The law of one neuron in the mean effect of the others, and a Markov chain that samples it.

With features φ(w) = σ(h)/√λ_1 the law is ρ(w) ∝ N(w; 0, 1) (1 + q)^{-1/2} exp[u²/(2(1 + q))],
u = a·φ/√N_1, q = φᵀCφ/N_1: the marginal, over the neuron's readout weight v ~ N(0, 1), of

    N(w; 0, 1) N(v; 0, 1) exp(v u − v² q/2).

ρ has modes that no local move connects: many neurons near the prior, few aligned with the labels.
Given v there is no such barrier (for Gaussian φ the law of w given v is Gaussian). So walkers
stand on a ladder of fixed values of v, exchange places with their neighbours, and carry
importance weights from the mixture over the ladder to ρ; the ratios of normalisers between
neighbours that the weights need are averages over the walkers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random
from jaxtyping import Float

from ...activations._activation import Activation

__all__ = [
    "LADDER",
    "Fields",
    "Law",
    "exchange",
    "fields",
    "importance",
    "log_density",
    "move",
    "node_log_weight",
    "ratios",
]

# Readout weights of the ladder, in units of their prior's standard deviation. Beyond its ends the
# law is reached by the importance weights.
LADDER = np.linspace(-6.0, 6.0, 31)
_STEPS = 4  # leapfrog steps of a move


class Law(NamedTuple):
    """What the other neurons do to one: a/√N_1 and C/N_1, one of each per replica."""

    dual: Float[Array, "replica pattern"]
    coupling: Float[Array, "replica pattern pattern"]


class Fields(NamedTuple):
    """φ, u and q of each walker."""

    phi: Float[Array, "replica ladder node pattern"]
    u: Float[Array, "replica ladder node"]
    q: Float[Array, "replica ladder node"]


def _forward(activation: Activation, features: Array, precision: Array, z: Array) -> Array:
    return activation.fn(z @ features.T) / jnp.sqrt(precision)


def _coupled(law: Law, phi: Array) -> Array:
    return jnp.einsum("rgjp,rpq->rgjq", phi, law.coupling)


def fields(
    activation: Activation,
    features: Float[Array, "pattern coordinate"],
    precision: Array,
    law: Law,
    z: Float[Array, "replica ladder node coordinate"],
) -> Fields:
    """Return φ, u and q of neurons with whitened weights `z`; `precision` is λ_1."""
    phi = _forward(activation, features, precision, z)
    return Fields(
        phi,
        jnp.einsum("rgjp,rp->rgj", phi, law.dual),
        jnp.sum(phi * _coupled(law, phi), axis=-1),
    )


def log_density(u: Array, q: Array) -> Array:
    """Return log of ρ relative to the prior, up to a constant."""
    return 0.5 * (u * u / (1 + q) - jnp.log1p(q))


def node_log_weight(v: Array, u: Array, q: Array) -> Array:
    """Return log of the law at readout weight v relative to the prior, up to a constant."""
    return v * u - 0.5 * v * v * q


def move(
    activation: Activation,
    features: Array,
    precision: Array,
    law: Law,
    key: Array,
    z: Array,
    step: Float[Array, " node"],
) -> tuple[Array, Array]:
    """Return the walkers after one Hamiltonian trajectory at fixed v, and acceptances by node.

    The prior part is rotated exactly, the rest kicks (the split integrator of
    `finwidth.infer.SplitHMC`), and a Metropolis test follows: the law at each node is left as it
    is, reversibly.
    """
    v = jnp.asarray(LADDER, z.dtype)

    def potential(z: Array) -> tuple[Array, Array]:
        h = z @ features.T
        sigma, slope = jax.jvp(activation.fn, (h,), (jnp.ones_like(h),))
        phi = sigma / jnp.sqrt(precision)
        coupled = _coupled(law, phi)
        u = jnp.einsum("rgjp,rp->rgj", phi, law.dual)
        q = jnp.sum(phi * coupled, axis=-1)
        pull = v[:, None] * law.dual[:, None, None, :] - (v * v)[:, None] * coupled
        return -node_log_weight(v, u, q), -(pull * slope) @ features / jnp.sqrt(precision)

    eps = step[:, None]
    cos, sin = jnp.cos(eps), jnp.sin(eps)

    def leap(_: Array, point: tuple) -> tuple:
        z, p, _, gradient = point
        p = p - 0.5 * eps * gradient
        z, p = cos * z + sin * p, cos * p - sin * z
        energy, gradient = potential(z)
        return z, p - 0.5 * eps * gradient, energy, gradient

    momentum_key, accept_key = random.split(key)
    p = random.normal(momentum_key, z.shape, z.dtype)
    energy, gradient = potential(z)
    end_z, end_p, end_energy, _ = lax.fori_loop(0, _STEPS, leap, (z, p, energy, gradient))
    old = energy + 0.5 * jnp.sum(z * z + p * p, axis=-1)
    new = end_energy + 0.5 * jnp.sum(end_z * end_z + end_p * end_p, axis=-1)
    accept = jnp.exp(jnp.minimum(0.0, old - new))
    taken = random.uniform(accept_key, accept.shape, z.dtype) < accept
    return jnp.where(taken[..., None], end_z, z), jnp.mean(accept, axis=(0, 1))


def _neighbour_ratios(u: Array, q: Array) -> tuple[Array, Array]:
    """Log ratio of the densities of neighbouring nodes: upwards at the lower one's walker, back."""
    v = jnp.asarray(LADDER, u.dtype)
    low, high = v[:-1], v[1:]
    up = node_log_weight(high, u[..., :-1], q[..., :-1])
    up = up - node_log_weight(low, u[..., :-1], q[..., :-1])
    down = node_log_weight(low, u[..., 1:], q[..., 1:])
    return up, down - node_log_weight(high, u[..., 1:], q[..., 1:])


def ratios(u: Array, q: Array) -> Float[Array, "2 replica pair"]:
    """Return log averages whose difference is log(Z_{j+1}/Z_j) between neighbouring nodes.

    Z_{j+1}/Z_j = E_j[(p_{j+1}/p_j)^½]/E_{j+1}[(p_j/p_{j+1})^½], exact at any distance
    (Bennett, J. Comput. Phys. 22, 245 (1976)).
    """
    up, down = _neighbour_ratios(u, q)
    count = jnp.log(jnp.asarray(u.shape[1], u.dtype))
    return jnp.stack(
        [
            jax.nn.logsumexp(0.5 * up, axis=1) - count,
            jax.nn.logsumexp(0.5 * down, axis=1) - count,
        ]
    )


def importance(
    log_ratios: Float[Array, "2 replica pair"], u: Array, q: Array
) -> Float[Array, "replica ladder node"]:
    """Return the weights that take the mixture over the ladder to ρ.

    The node v = 0 is the prior, whose normaliser is one, so the mean weight estimates that of ρ.
    """
    v = jnp.asarray(LADDER, u.dtype)
    steps = jnp.cumsum(log_ratios[0] - log_ratios[1], axis=-1)
    log_z = jnp.concatenate([jnp.zeros_like(steps[:, :1]), steps], axis=-1)
    middle = v.size // 2
    log_z = log_z - log_z[:, middle : middle + 1]
    nodes = node_log_weight(v, u[..., None], q[..., None]) - log_z[:, None, None, :]
    mixture = jax.nn.logsumexp(nodes, axis=-1) - jnp.log(jnp.asarray(v.size, u.dtype))
    return jnp.exp(log_density(u, q) - mixture)


def exchange(key: Array, u: Array, q: Array, parity: Array) -> Array:
    """Return, for each node, the node whose walker stands there after the exchange.

    Neighbours (j, j + 1) with j of the given parity swap by a Metropolis test. Alternating parities
    carry walkers along the ladder faster than random ones (Syed et al., J. R. Stat. Soc. B 84,
    321 (2022)).
    """
    up, down = _neighbour_ratios(u, q)
    draws = jnp.log(random.uniform(key, up.shape, u.dtype))
    swap = (draws < up + down) & (jnp.arange(up.shape[-1]) % 2 == parity)
    none = jnp.zeros((*up.shape[:2], 1), bool)
    right = jnp.concatenate([swap, none], axis=-1)
    left = jnp.concatenate([none, swap], axis=-1)
    return jnp.arange(LADDER.size) + right.astype(int) - left.astype(int)
