"""Adaptation in warm-up: step size by dual averaging towards a target acceptance, and metric."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array, lax
from numpyro.infer.hmc_util import dual_averaging

from ._metric import SharedMetric, gather, is_due, learn, pool_metrics
from ._model import Values

__all__ = [
    "AdaptState",
    "gather_gradients",
    "init_adapt",
    "pool_adapt",
    "renew_metric",
    "update_adapt",
]

# Hoffman & Gelman (2014), sec. 3.2.1, but twice their γ: log h jumps half as far, and its short
# steps are what makes a warm-up expensive
_T0, _GAMMA = 10, 0.1
_INIT, _UPDATE = dual_averaging(t0=_T0, gamma=_GAMMA)


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
    metric
        What is shared by rows, of kernels that learn it; else ().
    """

    step_size: Array
    averaging: tuple[Array, ...]
    num_warmup: Array
    metric: SharedMetric | tuple[()] = ()


def init_adapt(
    step_size: float, num_warmup: int | Array, metric: SharedMetric | tuple[()] = ()
) -> AdaptState:
    """Return the adaptation state before the first transition."""
    size = jnp.asarray(step_size, jnp.result_type(float))
    count = jnp.asarray(num_warmup, jnp.result_type(int))
    # as in Hoffman & Gelman (2014): pull towards steps ten times the first, because steps that
    # turn out too large cost less than steps that are too small
    return AdaptState(size, _towards(10 * size), count, metric)


def _towards(size: Array) -> tuple[Array, ...]:
    *averaging, _ = _INIT()
    return (*averaging, jnp.log(size))


def renew_metric(adapt: AdaptState, i: Array) -> AdaptState:
    """Return the state before transition `i`: where it is time, with a metric learnt anew.

    The search for its step size starts again, from the one before.
    """
    metric = adapt.metric
    if not isinstance(metric, SharedMetric) or not metric.moment:
        return adapt

    def renewed(adapt: AdaptState) -> AdaptState:
        averaging = jax.tree.map(
            lambda new, old: jnp.asarray(new, old.dtype),
            _towards(adapt.step_size),
            adapt.averaging,
        )
        return adapt._replace(averaging=averaging, metric=learn(metric))

    return lax.cond(is_due(i, adapt.num_warmup), renewed, lambda adapt: adapt, adapt)


def _step_size(averaging: tuple[Array, ...], finished: Array) -> Array:
    log_size, mean_log_size, *_ = averaging
    return jnp.exp(jnp.where(finished, mean_log_size, log_size))


def _bounded(gradient: Array, averaging: tuple[Array, ...], longest: float) -> Array:
    """Return the gradient, raised to where it leads to log h = log `longest` if to more.

    A step that stays at the bound thus leaves nothing behind: it falls as soon as a transition is
    refused, however many were accepted before.
    """
    _, _, average, t, center = averaging
    count = t + 1
    lowest = (center - math.log(longest)) * _GAMMA / count**0.5  # log h = center − √t/γ · average
    return jnp.maximum(gradient, lowest * (count + _T0) - average * (count + _T0 - 1))


def gather_gradients(adapt: AdaptState, i: Array, whitened: Callable[[], Values]) -> AdaptState:
    """Return the state with the gradients after transition `i` of the warm-up in its metric."""
    metric = adapt.metric
    if not isinstance(metric, SharedMetric) or not metric.moment:
        return adapt
    metric = lax.cond(
        i < adapt.num_warmup, lambda old: gather(old, whitened()), lambda old: old, metric
    )
    return adapt._replace(metric=metric)


def update_adapt(
    adapt: AdaptState, i: Array, accept_prob: Array, target: float, longest: float
) -> AdaptState:
    """Return the state after transition `i`, which accepted with `accept_prob`.

    The last transition of the warm-up fixes the averaged step size; later ones change nothing.
    Steps stay at most `longest`.
    """
    gradient = target - accept_prob
    if math.isfinite(longest):
        gradient = _bounded(gradient, adapt.averaging, longest)
    averaging = _UPDATE(gradient, adapt.averaging)
    updated = adapt._replace(
        step_size=_step_size(averaging, i + 1 >= adapt.num_warmup), averaging=averaging
    )
    return jax.tree.map(lambda new, old: jnp.where(i < adapt.num_warmup, new, old), updated, adapt)


def pool_adapt(adapts: Sequence[AdaptState], i: Array) -> AdaptState:
    """Return one state with the mean of the statistics of several chains after `i` transitions."""
    averaging = jax.tree.map(
        lambda *leaves: jnp.mean(jnp.stack(leaves), axis=0).astype(leaves[0].dtype),
        *[adapt.averaging for adapt in adapts],
    )
    num_warmup, metric = adapts[0].num_warmup, adapts[0].metric
    if isinstance(metric, SharedMetric):
        metric = pool_metrics([cast(SharedMetric, adapt.metric) for adapt in adapts])
    return AdaptState(_step_size(averaging, i >= num_warmup), averaging, num_warmup, metric)
