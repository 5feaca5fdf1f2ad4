"""What ArviZ asks of a run besides its draws: densities of labels, replicated labels, the prior.

All follow from f on the training set in each draw and from the likelihood's NumPyro site y, so that
likelihoods need nothing for them.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random
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
_BLOCK = 256  # draws per compiled call, which runs of any length share


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

    draws = f.reshape(-1, *f.shape[2:])

    def add(group: str, compute: Callable[..., Array], *more: np.ndarray) -> None:
        values = _in_blocks(compute, draws, *more)
        values = values.reshape(*f.shape[:2], *values.shape[1:])
        groups[group] = {"y": ((*lead, *site.dims[: values.ndim - 2]), values)}

    with TRACING:
        if log_likelihood:
            add("log_likelihood", lambda f: _densities(likelihood, f, labels, temperature))
        if posterior_predictive:
            # a power of two, as each number of keys is a program of its own
            number = max(1024, 1 << (len(draws) - 1).bit_length())
            keys = random.key_data(random.split(_key(seed, _REPLICATED), number))
            add(
                "posterior_predictive",
                lambda f, keys: _replicated(likelihood, keys, f, temperature),
                np.asarray(keys),
            )
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


def _in_blocks(compute: Callable[..., Array], *draws: np.ndarray) -> np.ndarray:
    """Return what `compute` makes of rows of all arrays, `_BLOCK` of them at a time.

    The last block is filled up with the first row; what the first array lacks, is left out.
    """
    found = []
    for start in range(0, len(draws[0]), _BLOCK):
        rows = np.arange(start, start + _BLOCK)
        known = rows < len(draws[0])
        block = (jnp.asarray(array[np.where(known, rows, 0)]) for array in draws)
        found.append(np.asarray(compute(*block))[known])
    return np.concatenate(found)


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

    return jax.vmap(density)(f)


@functools.partial(jax.jit, static_argnums=0)
def _replicated(likelihood: Likelihood, keys: Array, f: Array, temperature: Array) -> Array:
    def draw(drawn: tuple[Array, Array]) -> Array:
        key, f = drawn
        return _observed(likelihood, random.wrap_key_data(key), f, None, temperature)["value"]

    # one after the other: side by side, random numbers take three times as long to compile
    return lax.map(draw, (keys, f))
