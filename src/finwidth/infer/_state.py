"""The state of a chain, and what a transition decides."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random
from numpyro.util import not_jax_tracer

from .._basics.arrays import shown
from .._basics.errors import InputError
from ._adapt import AdaptState
from ._model import Values

__all__ = [
    "ChainState",
    "MAX_ENERGY_ERROR",
    "Transition",
    "check_finite",
    "check_state",
    "choose",
    "metropolis",
]

# NumPyro's threshold for a divergence
MAX_ENERGY_ERROR = 1000.0


class ChainState(NamedTuple):
    """State of one chain; with a leading chain axis on every leaf, of several.

    The fields have the names and the meaning they have in `numpyro.infer.hmc.HMCState`.

    Attributes
    ----------
    i
        Number of transitions so far.
    z
        Position: unconstrained values by latent site.
    z_grad
        Gradient of the potential energy at `z`.
    potential_energy
        Minus the log joint density at `z`.
    energy
        Potential plus kinetic energy after the transition.
    num_steps
        Gradients that the transition cost.
    accept_prob
        Its acceptance probability.
    mean_accept_prob
        Mean of `accept_prob` since the start of the warm-up, or of the sampling after it.
    diverging
        Whether the energy error exceeded 1000 or was not finite.
    adapt_state
        Step size and what the warm-up has learnt about it.
    rng_key
        Key of the next transition.
    """

    i: Array
    z: Values
    z_grad: Values
    potential_energy: Array
    energy: Array
    num_steps: Array
    accept_prob: Array
    mean_accept_prob: Array
    diverging: Array
    adapt_state: AdaptState
    rng_key: Array


class Transition(NamedTuple):
    """Outcome of one transition: the fields of `ChainState` that it decides."""

    z: Values
    z_grad: Values
    potential_energy: Array
    energy: Array
    num_steps: Array
    accept_prob: Array
    diverging: Array


def metropolis(rng_key: Array, energy_error: Array) -> tuple[Array, Array, Array]:
    """Return (accepted, acceptance probability, diverging) for a proposal with `energy_error`.

    An error that is not finite counts as infinite: rejected and diverging.
    """
    error = jnp.where(jnp.isfinite(energy_error), energy_error, jnp.inf)
    accept_prob = jnp.exp(-jnp.maximum(error, 0))
    accepted = random.uniform(rng_key, dtype=error.dtype) < accept_prob
    return accepted, accept_prob, error > MAX_ENERGY_ERROR


def choose(accepted: Array, new: Any, old: Any) -> Any:
    """Return the pytree `new` if `accepted`, else `old`."""
    return jax.tree.map(lambda new, old: jnp.where(accepted, new, old), new, old)


def check_state(state: Any, name: str = "state") -> None:
    """Raise InputError unless this is a state with arrays in all its fields."""
    if not isinstance(state, ChainState):
        raise InputError(f"expected {name} = a state of this kernel, got {shown(state)}")
    kinds = {"z": dict, "z_grad": dict, "adapt_state": AdaptState}
    for field, value in state._asdict().items():
        leaves = jax.tree.leaves(value, is_leaf=lambda leaf: leaf is None)
        arrays = all(isinstance(leaf, (Array, np.ndarray, np.generic)) for leaf in leaves)
        if not arrays or not isinstance(value, kinds.get(field, object)):
            raise InputError(
                f"expected {name} = a state as this kernel returns it, got one with {field} = "
                f"{shown(value)}"
            )


def check_finite(state: ChainState) -> None:
    """Raise InputError where a chain cannot start; says nothing while JAX traces."""
    if not not_jax_tracer(state.potential_energy):
        return
    if not np.all(np.isfinite(state.potential_energy)):
        raise InputError(
            "expected a finite log density where the chains start, got "
            f"{(-np.asarray(state.potential_energy)).tolist()}"
        )
    for name, gradient in state.z_grad.items():
        if not np.all(np.isfinite(gradient)):
            raise InputError(
                "expected a finite gradient of the log density where the chains start, got NaN "
                f"or infinite entries for site {name!r}"
            )
