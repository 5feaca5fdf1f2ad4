"""Checks of what the methods of a kernel are called with: by NumPyro, or by a user's own loop.

They look at types and shapes alone, so that they hold while JAX traces.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.util import is_prng_key, not_jax_tracer

from .._basics.arrays import shown
from .._basics.checks import LARGEST_COUNT, check_count
from .._basics.errors import InputError
from ._model import Model
from ._state import ChainState

__all__ = ["check_call", "check_keys", "check_num_warmup", "check_sites"]


def check_call(model: Model, model_args: Any, model_kwargs: Any) -> tuple[tuple, dict]:
    """Return the arguments of the model, or raise InputError where it does not take them."""
    if not isinstance(model_args, tuple):
        raise InputError(
            f"expected model_args = a tuple of arguments of the model, got {shown(model_args)}"
        )
    keywords = {} if model_kwargs is None else model_kwargs
    if not isinstance(keywords, Mapping) or not all(isinstance(name, str) for name in keywords):
        raise InputError(
            "expected model_kwargs = a mapping from names of arguments of the model to values, "
            f"got {shown(model_kwargs)}"
        )
    keywords = dict(keywords)
    try:  # a decorated model takes what its decorator takes
        signature = inspect.signature(model, follow_wrapped=False)
    except (TypeError, ValueError):  # some callables have none
        return model_args, keywords
    try:
        signature.bind(*model_args, **keywords)
    except TypeError as error:
        raise InputError(
            f"expected model_args and model_kwargs = arguments that the model takes, got {error}"
        ) from None
    return model_args, keywords


def check_keys(rng_key: Any, name: str = "rng_key") -> None:
    """Raise InputError unless this is a key, or an array of keys, one for each chain."""
    if is_prng_key(rng_key):
        return
    if isinstance(rng_key, (Array, np.ndarray)):
        typed = jnp.issubdtype(rng_key.dtype, jax.dtypes.prng_key)
        chains, *rest = rng_key.shape or (0,)
        if chains and (rest == [] if typed else rest == [2] and rng_key.dtype == np.uint32):
            return
    raise InputError(
        f"expected {name} = a key of jax.random, or an array of keys of shape (chain,), got "
        f"{shown(rng_key)}"
    )


def check_num_warmup(num_warmup: Any) -> None:
    """Raise InputError unless this counts transitions; a traced one is taken at its word."""
    if isinstance(num_warmup, Array) and jnp.issubdtype(num_warmup.dtype, jnp.integer):
        if not not_jax_tracer(num_warmup):
            return
        num_warmup = np.asarray(num_warmup)[()]
    check_count("num_warmup", num_warmup, 0, LARGEST_COUNT)


def check_sites(state: ChainState, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise InputError unless the state is at a position of a model with sites of these shapes."""
    check_keys(state.rng_key, "state.rng_key")
    lead = () if is_prng_key(state.rng_key) else jnp.shape(state.rng_key)[:1]
    wanted = {name: (*lead, *shape) for name, shape in sorted(shapes.items())}
    for values in (state.z, state.z_grad):
        got = {name: jnp.shape(values[name]) for name in sorted(values, key=str)}
        if got != wanted:
            raise InputError(
                f"expected state = one of this model, whose sites have shapes {wanted}, got {got}"
            )
    for name, value in state._asdict().items():
        if name not in ("z", "z_grad", "adapt_state", "rng_key") and jnp.shape(value) != lead:
            raise InputError(
                f"expected state = one with {name} of shape {lead}, got shape {jnp.shape(value)}"
            )
