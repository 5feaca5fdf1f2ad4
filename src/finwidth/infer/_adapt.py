"""Step-size adaptation in warm-up: dual averaging towards a target acceptance."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.infer.hmc_util import dual_averaging

__all__ = ["AdaptState", "init_adapt", "pool_adapt", "update_adapt"]

_INIT, _UPDATE = dual_averaging()


class AdaptState(NamedTuple):
    """What the warm-up has learnt.

    Attributes
    ----------
    step_size
        Step size of the next transition.
    averaging
        State of `numpyro.infer.hmc_util.dual_averaging` for the logarithm of the step size.
    num_warmup
        Number of transitions that adapt; afterwards `step_size` stays.
    """

    step_size: Array
    averaging: tuple[Array, ...]
    num_warmup: Array


def init_adapt(step_size: float, num_warmup: int) -> AdaptState:
    """Return the adaptation state before the first transition."""
    size = jnp.asarray(step_size, jnp.result_type(float))
    # as in Hoffman & Gelman (2014): pull towards steps ten times the first, because steps that
    # turn out too large cost less than steps that are too small
    *averaging, _ = _INIT()
    return AdaptState(
        size, (*averaging, jnp.log(10 * size)), jnp.asarray(num_warmup, jnp.result_type(int))
    )


def _step_size(averaging: tuple[Array, ...], finished: Array) -> Array:
    log_size, mean_log_size, *_ = averaging
    return jnp.exp(jnp.where(finished, mean_log_size, log_size))


def update_adapt(adapt: AdaptState, i: Array, accept_prob: Array, target: float) -> AdaptState:
    """Return the state after transition `i`, which accepted with `accept_prob`.

    The last transition of the warm-up fixes the averaged step size; later ones change nothing.
    """
    averaging = _UPDATE(target - accept_prob, adapt.averaging)
    updated = AdaptState(
        _step_size(averaging, i + 1 >= adapt.num_warmup), averaging, adapt.num_warmup
    )
    return jax.tree.map(lambda new, old: jnp.where(i < adapt.num_warmup, new, old), updated, adapt)


def pool_adapt(adapts: Sequence[AdaptState], i: Array) -> AdaptState:
    """Return one state with the mean of the statistics of several chains after `i` transitions."""
    averaging = jax.tree.map(
        lambda *leaves: jnp.mean(jnp.stack(leaves), axis=0).astype(leaves[0].dtype),
        *[adapt.averaging for adapt in adapts],
    )
    num_warmup = adapts[0].num_warmup
    return AdaptState(_step_size(averaging, i >= num_warmup), averaging, num_warmup)
