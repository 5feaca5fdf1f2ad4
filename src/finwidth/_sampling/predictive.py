"""What ArviZ asks of a run besides its draws: densities of labels, replicated labels, the prior.

All follow from f on the training set in each draw and from the likelihood's NumPyro site y, so that
likelihoods need nothing for them.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random
from numpyro import handlers
from numpyro.infer import Predictive

from .._layers.layer import Site
from .._likelihoods import GAUSSIAN, Likelihood
from .._numerics.precision import float64
from ..models._posterior import Posterior
from .compiled import TRACING

__all__ = ["Groups", "observed_groups", "prior_groups"]

Groups = dict[str, dict[str, tuple[tuple[str, ...], np.ndarray]]]

_REPLICATED, _PRIOR = 1, 2  # streams of randomness beside the sampler's


def observed_groups(
    posterior: Posterior, f: np.ndarray, seed: int, log_likelihood: bool, posterior_predictive: bool
) -> Groups:
    """Return the groups log_likelihood and posterior_predictive, those that are asked for.

    Parameters
    ----------
    posterior
        What was sampled.
    f
        f on the training set in each draw, shape (chain, draw, pattern) or (…, output).
    seed
        Of replicated labels.
    log_likelihood, posterior_predictive
        Whether to make each.
    """
    groups: Groups = {}
    likelihood: Likelihood = getattr(posterior, "likelihood", GAUSSIAN)
    labels, temperature = jnp.asarray(posterior.y, float), jnp.asarray(posterior.temperature, float)
    site, lead = posterior.derived["f"], ("chain", "draw")
    with TRACING:
        if log_likelihood:
            values = np.asarray(_densities(likelihood, jnp.asarray(f), labels, temperature))
            groups["log_likelihood"] = {"y": ((*lead, *site.dims[: values.ndim - 2]), values)}
        if posterior_predictive:
            keys = random.split(_key(seed, _REPLICATED), f.shape[:2])
            values = np.asarray(_replicated(likelihood, keys, jnp.asarray(f), temperature))
            groups["posterior_predictive"] = {"y": ((*lead, *site.dims[: values.ndim - 2]), values)}
    return groups


def prior_groups(posterior: Posterior, keep: tuple[str, ...], draws: int, seed: int) -> Groups:
    """Return the groups prior and prior_predictive, of independent draws.

    Parameters
    ----------
    posterior
        What was sampled.
    keep
        Sites to store; f is stored with them where the model has it.
    draws
        Their number.
    seed
        Of the draws.
    """
    model, arguments, keywords = posterior.prior()
    with TRACING:
        drawn = Predictive(model, num_samples=draws)(_key(seed, _PRIOR), *arguments, **keywords)
    sites: Mapping[str, Site] = {**posterior.sites, **posterior.derived}
    names = [name for name in sites if name in drawn and name in (*keep, "f")]
    lead = ("chain", "draw")
    y = np.asarray(drawn["y"])[None]
    return {
        "prior": {
            name: ((*lead, *sites[name].dims), np.asarray(drawn[name])[None]) for name in names
        },
        "prior_predictive": {"y": ((*lead, *("pattern", "output")[: y.ndim - 2]), y)},
    }


def _key(seed: int, stream: int) -> Array:
    with float64():  # where ints have 32 bits, JAX drops the upper half of a seed
        return random.fold_in(random.key(seed), stream)


def _observed(likelihood: Likelihood, key: Array, f: Any, y: Any, temperature: Any) -> Any:
    """Return NumPyro's record of the site y."""
    seeded = handlers.seed(likelihood.observe, key)
    return handlers.trace(seeded).get_trace(f, y, temperature)["y"]


@functools.partial(jax.jit, static_argnums=0)
def _densities(likelihood: Likelihood, f: Array, y: Array, temperature: Array) -> Array:
    def density(f: Array) -> Array:
        site = _observed(likelihood, random.key(0), f, y, temperature)
        return site["fn"].log_prob(site["value"]) * (
            1.0 if site["scale"] is None else site["scale"]
        )

    return jax.vmap(jax.vmap(density))(f)


@functools.partial(jax.jit, static_argnums=0)
def _replicated(likelihood: Likelihood, keys: Array, f: Array, temperature: Array) -> Array:
    def draw(key: Array, f: Array) -> Array:
        return _observed(likelihood, key, f, None, temperature)["value"]

    return jax.vmap(jax.vmap(draw))(keys, f)
