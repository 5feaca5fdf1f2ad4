"""Discrete Langevin dynamics: noisy gradient descent, with or without a Metropolis test."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax, random
from jax.flatten_util import ravel_pytree

from .._basics.arrays import shown
from .._basics.checks import LARGEST_COUNT, check_count
from .._basics.errors import InputError
from ._adapt import AdaptState
from ._kernel import ChainKernel
from ._model import Model, Values, latent_sites, negative_log_joint, unconstrained_shape
from ._state import ChainState, Transition, choose, metropolis

__all__ = ["Langevin"]

FIRST_STEP_SIZE = 0.001


class _Walk(NamedTuple):
    """Position, its potential and gradient, and what the steps so far have shown."""

    z: Array
    potential: Array
    gradient: Array
    energy: Array
    accept_prob: Array
    diverging: Array


class Langevin(ChainKernel):
    """Discrete Langevin dynamics on any NumPyro model with continuous latent sites.

    In the unconstrained coordinates θ of the model, with V = −log posterior, one step is

        θ' = θ − h ∇V(θ) + √(2h) ξ,   ξ ~ N(0, I).

    This is the noisy gradient descent θ' = θ − η ∇(T V) + √(2Tη) ξ of the theory, whose loss
    carries the prior scaled by T, at learning rate η = h/T. The step alone leaves a
    distribution invariant that is off by O(h). By default a Metropolis test removes that error
    (MALA); with ``adjusted=False`` it stays, and the kernel says so (`biased`).

    Parameters
    ----------
    model
        NumPyro model with continuous latent sites of any support.
    step_size
        h > 0. With ``adjusted=True`` the first value, which the warm-up adapts, 0.001 if None.
        With ``adjusted=False`` it must be given, because it sets the error, and stays.
    num_steps
        Steps, and so gradients, per draw; only the last position is kept.
    adjusted
        Whether each step undergoes a Metropolis test.
    target_accept_prob
        Acceptance probability that the warm-up adapts the step size to.
    adapt_step_size
        Whether the warm-up adapts the step size; None: if `adjusted`.

    Raises
    ------
    InputError
        If an argument has the wrong type or range, or an unadjusted kernel has no step size or
        is asked to adapt it; from `init`, if a latent site is discrete.

    Notes
    -----
    ``accept_prob`` is the mean over the steps of a draw; for an unadjusted chain, of the
    probability with which a Metropolis test would have accepted, whose distance from 1
    measures the bias. An unadjusted chain that leaves the domain of finite numbers is not
    brought back: its draws are not finite, and ``diverging`` is set.

    Where the log density falls off faster than a Gaussian's (a Gamma site in its logarithm), the
    adjusted chain is exact but can stay put in the tail for long, and short runs miss that tail.

    References
    ----------
    Roberts & Tweedie, Bernoulli 2, 341 (1996) (both dynamics); Roberts & Rosenthal, J. R. Stat.
    Soc. B 60, 255 (1998) (acceptance 0.574).
    """

    def __init__(
        self,
        model: Model,
        *,
        step_size: float | None = None,
        num_steps: int = 1,
        adjusted: bool = True,
        target_accept_prob: float = 0.574,
        adapt_step_size: bool | None = None,
    ) -> None:
        if not isinstance(adjusted, bool):
            raise InputError(f"expected adjusted = True or False, got {shown(adjusted)}")
        if adapt_step_size is None:
            adapt_step_size = adjusted
        if not adjusted:
            if step_size is None:
                raise InputError(
                    "expected step_size = a finite float > 0 for adjusted=False, where it sets "
                    "the bias, got None"
                )
            if adapt_step_size:
                raise InputError(
                    "expected adapt_step_size = False for adjusted=False, where no step is "
                    f"rejected, got {shown(adapt_step_size)}"
                )
        super().__init__(
            model,
            step_size=FIRST_STEP_SIZE if step_size is None else step_size,
            adapt_step_size=adapt_step_size,
            target_accept_prob=target_accept_prob,
        )
        self._num_steps = check_count("num_steps", num_steps, 1, LARGEST_COUNT)
        self._adjusted = adjusted

    @property
    def biased(self) -> bool:
        """Whether the draws follow the posterior only up to an error of order `step_size`."""
        return not self._adjusted

    def get_diagnostics_str(self, state: ChainState) -> str:
        """Return the text at the end of the progress bar."""
        text = super().get_diagnostics_str(state)
        return f"{text} unadjusted (biased)" if self.biased else text

    def _check(self, model_args: tuple, model_kwargs: dict) -> None:
        latent_sites(self._model, model_args, model_kwargs)

    def _target(self, model_args: tuple, model_kwargs: dict) -> Any:
        def potential(z: Values) -> Array:
            return negative_log_joint(self._model, model_args, model_kwargs, z)

        return jax.value_and_grad(potential)

    def _shapes(
        self, target: Any, model_args: tuple, model_kwargs: dict
    ) -> dict[str, tuple[int, ...]]:
        sites = latent_sites(self._model, model_args, model_kwargs)
        return {name: unconstrained_shape(site) for name, site in sites.items()}

    def _evaluate(self, target: Any, z: Values) -> tuple[Array, Values]:
        return target(z)

    def _plan(self, rng_key: Array, adapt: AdaptState) -> Array:
        return adapt.step_size

    def _transition(
        self,
        target: Any,
        plan: Array,
        rng_key: Array,
        z: Values,
        z_grad: Values,
        potential: Array,
    ) -> Transition:
        flat, unflatten = ravel_pytree(z)
        # a Langevin step is one leapfrog step of length √(2h) with a fresh momentum, and the
        # Metropolis ratio is that of the leapfrog's energies
        step = jnp.sqrt(2 * plan)

        def walk(k: Array, at: _Walk) -> _Walk:
            momentum_key, accept_key = random.split(random.fold_in(rng_key, k))
            momentum = random.normal(momentum_key, flat.shape, flat.dtype)
            middle = momentum - 0.5 * step * at.gradient
            position = at.z + step * middle
            potential, gradient = target(unflatten(position))
            gradient = ravel_pytree(gradient)[0]
            momentum_end = middle - 0.5 * step * gradient
            old_energy = at.potential + 0.5 * momentum @ momentum
            new_energy = potential + 0.5 * momentum_end @ momentum_end
            accepted, accept_prob, diverging = metropolis(accept_key, new_energy - old_energy)
            new = (position, potential, gradient, new_energy)
            if self._adjusted:
                new = choose(accepted, new, (at.z, at.potential, at.gradient, old_energy))
            return _Walk(
                *new,
                accept_prob=at.accept_prob + accept_prob / self._num_steps,
                diverging=at.diverging | diverging,
            )

        gradient, zero = ravel_pytree(z_grad)[0], jnp.zeros(())
        start = _Walk(flat, potential, gradient, potential, zero, jnp.asarray(False))
        end = lax.fori_loop(0, self._num_steps, walk, start)
        return Transition(
            z=unflatten(end.z),
            z_grad=unflatten(end.gradient),
            potential_energy=end.potential,
            energy=end.energy,
            num_steps=jnp.asarray(self._num_steps, jnp.result_type(int)),
            accept_prob=end.accept_prob,
            diverging=end.diverging,
        )
