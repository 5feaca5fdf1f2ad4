"""What the kernels of this package share: chains side by side, and adaptation."""

import abc
import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
from jax import Array, random
from numpyro.infer.mcmc import MCMCKernel
from numpyro.util import is_prng_key

from .._basics.arrays import shown
from .._basics.checks import check_iterable, check_number
from .._basics.errors import InputError
from ._adapt import (
    AdaptState,
    gather_gradients,
    init_adapt,
    pool_adapt,
    renew_metric,
    update_adapt,
)
from ._arguments import check_call, check_keys, check_num_warmup, check_sites
from ._metric import FIRST, SharedMetric
from ._model import Model, Values, check_init_params, latent_sites, prior_draw, reported_values
from ._state import ChainState, Transition, check_finite, check_state

__all__ = ["ChainKernel"]


def _split(rng_key: Array, num: int) -> list[Array]:
    """Split one key, or each key of a batch, into `num` of the same shape."""
    if is_prng_key(rng_key):
        return list(random.split(rng_key, num))
    keys = jax.vmap(partial(random.split, num=num))(rng_key)
    return [keys[:, k] for k in range(num)]


def _check_model(model: Any) -> Model:
    if not callable(model):
        raise InputError(f"expected model = a NumPyro model (a callable), got {shown(model)}")
    return model


class ChainKernel(MCMCKernel, abc.ABC):
    """A kernel whose chains may run one by one or side by side.

    Side by side (``chain_method="vectorized"``) the chains share the step size, which adapts to
    their mean acceptance, and whatever `_plan` draws. `sample` is a pure function of the state,
    and the state of several chains is the stack of the states of each.
    """

    first_pool = FIRST  # transitions after which chains that run separately are best pooled first

    def __init__(
        self, model: Model, *, step_size: float, adapt_step_size: bool, target_accept_prob: float
    ) -> None:
        if not isinstance(adapt_step_size, bool):
            got = shown(adapt_step_size)
            raise InputError(f"expected adapt_step_size = True or False, got {got}")
        self._model = _check_model(model)
        self._step_size = check_number("step_size", step_size, 0.0)
        self._adapt_step_size = adapt_step_size
        self._target_accept_prob = check_number("target_accept_prob", target_accept_prob, 0.0, 1.0)

    @property
    def _longest_step(self) -> float:
        """Bound of the adapted step size; a longer step would change nothing."""
        return math.inf

    @abc.abstractmethod
    def _check(self, model_args: tuple, model_kwargs: dict) -> None:
        """Raise InputError if the kernel cannot sample this model."""

    @abc.abstractmethod
    def _target(self, model_args: tuple, model_kwargs: dict) -> Any:
        """Return what `_evaluate` and `_transition` need to know of the model."""

    @abc.abstractmethod
    def _shapes(
        self, target: Any, model_args: tuple, model_kwargs: dict
    ) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the unconstrained values of one chain, by latent site."""

    @abc.abstractmethod
    def _evaluate(self, target: Any, z: Values) -> tuple[Array, Values]:
        """Return the potential energy at `z` and its gradient."""

    def _metric(self, target: Any) -> SharedMetric | tuple[()]:
        """Return the metric before the first transition, of a kernel that learns one."""
        return ()

    def _whitened(self, target: Any, gradient: Values) -> Values:
        """Return the gradient in the coordinates of the metric, by site."""
        return gradient

    @abc.abstractmethod
    def _plan(self, rng_key: Array, adapt: AdaptState) -> Any:
        """Return what a transition decides without looking at the position."""

    @abc.abstractmethod
    def _transition(
        self,
        target: Any,
        plan: Any,
        rng_key: Array,
        z: Values,
        z_grad: Values,
        potential: Array,
    ) -> Transition:
        """Move one chain from `z`, where the potential energy and its gradient are given."""

    @property
    def model(self) -> Model:
        """The NumPyro model."""
        return self._model

    @property
    def sample_field(self) -> str:
        """Name of the state's field that holds the position."""
        return "z"

    @property
    def default_fields(self) -> tuple[str, ...]:
        """Fields that `numpyro.infer.MCMC` collects without being asked."""
        return ("z", "diverging")

    def get_diagnostics_str(self, state: ChainState) -> str:
        """Return the text at the end of the progress bar."""
        check_state(state)
        return (
            f"{state.num_steps} steps of size {state.adapt_state.step_size:.2e}. "
            f"acc. prob={state.mean_accept_prob:.2f}"
        )

    def postprocess_fn(
        self, model_args: tuple, model_kwargs: dict | None
    ) -> Callable[[Values], Values]:
        """Return the map from `z` to the values users see, deterministic sites included."""
        return reported_values(self._model, *check_call(self._model, model_args, model_kwargs))

    def init(
        self,
        rng_key: Array,
        num_warmup: int | Array,
        init_params: dict[str, Any] | None = None,
        model_args: tuple = (),
        model_kwargs: dict | None = None,
    ) -> ChainState:
        """Check the model and return the state of the chain(s) before the first transition.

        Parameters
        ----------
        rng_key
            One key, or an array of keys for chains side by side.
        num_warmup
            Number of transitions that adapt the step size; may be traced.
        init_params
            Unconstrained values by latent site, with a leading chain axis for an array of keys;
            None draws them from the prior.
        model_args, model_kwargs
            Arguments of the model.

        Returns
        -------
        ChainState

        Raises
        ------
        InputError
            If an argument is not as described, or not one of the model's; if the kernel cannot
            sample the model, `init_params` does not match its latent sites, or the log density or
            its gradient is not finite where a chain would start.
        """
        check_keys(rng_key)
        check_num_warmup(num_warmup)
        model_args, model_kwargs = check_call(self._model, model_args, model_kwargs)
        self._check(model_args, model_kwargs)
        n_chains = None if is_prng_key(rng_key) else len(rng_key)
        key, init_key = _split(rng_key, 2)
        if init_params is None:
            draw = partial(prior_draw, self._model, model_args, model_kwargs)
            z = draw(init_key) if n_chains is None else jax.vmap(draw)(init_key)
        else:
            sites = latent_sites(self._model, model_args, model_kwargs)
            z = check_init_params(init_params, sites, n_chains)
        target = self._target(model_args, model_kwargs)
        metric = self._metric(target)

        def start(z: Values, key: Array) -> ChainState:
            potential, gradient = self._evaluate(target, z)
            zero, none = jnp.zeros(()), jnp.asarray(0, jnp.result_type(int))
            return ChainState(
                i=none,
                z=z,
                z_grad=gradient,
                potential_energy=potential,
                energy=potential,
                num_steps=none,
                accept_prob=zero,
                mean_accept_prob=zero,
                diverging=jnp.asarray(False),
                adapt_state=init_adapt(self._step_size, num_warmup, metric),
                rng_key=key,
            )

        # a distribution with parameters that are not finite shows in the density, checked below
        with numpyro.validation_enabled(False):
            state = start(z, key) if n_chains is None else jax.vmap(start)(z, key)
        check_finite(state)
        return state

    def sample(
        self, state: ChainState, model_args: tuple = (), model_kwargs: dict | None = None
    ) -> ChainState:
        """Return the state of the chain(s) after one transition.

        A pure function of its arguments: equal states give equal draws.

        Raises
        ------
        InputError
            If `state` is not one of this kernel with the sites of the model, or the model does not
            take the arguments.
        """
        target = self._at(state, model_args, model_kwargs)
        next_key, plan_key, key = _split(state.rng_key, 3)
        single = is_prng_key(state.rng_key)
        # chains side by side hold equal copies of `i` and `adapt_state`, and share one plan
        shared = (state.i, state.adapt_state, plan_key)
        i, adapt, plan_key = shared if single else jax.tree.map(lambda leaf: leaf[0], shared)
        if self._adapt_step_size:
            adapt = renew_metric(adapt, i)
        move = partial(self._transition, target, self._plan(plan_key, adapt))
        moved = (move if single else jax.vmap(move))(
            key, state.z, state.z_grad, state.potential_energy
        )
        mean = jnp.mean(moved.accept_prob)
        if self._adapt_step_size:
            adapt = update_adapt(adapt, i, mean, self._target_accept_prob, self._longest_step)
            whitened = partial(self._whitened, target)
            whitened = whitened if single else jax.vmap(whitened)
            adapt = gather_gradients(adapt, i, lambda: whitened(moved.z_grad))
        if not single:
            adapt = jax.tree.map(
                lambda new, old: jnp.broadcast_to(new, old.shape), adapt, state.adapt_state
            )
        # the mean starts anew after the warm-up
        count = jnp.where(i < adapt.num_warmup, state.i + 1, state.i + 1 - adapt.num_warmup)
        mean_accept_prob = (
            state.mean_accept_prob + (moved.accept_prob - state.mean_accept_prob) / count
        )
        return ChainState(
            i=state.i + 1,
            mean_accept_prob=mean_accept_prob,
            adapt_state=adapt,
            rng_key=next_key,
            **moved._asdict(),
        )

    def _at(self, state: Any, model_args: Any, model_kwargs: Any) -> Any:
        """Return the target of the model with these arguments, where `state` is at one of its z."""
        check_state(state)
        model_args, model_kwargs = check_call(self._model, model_args, model_kwargs)
        target = self._target(model_args, model_kwargs)
        check_sites(state, self._shapes(target, model_args, model_kwargs))
        return target

    def pool(self, states: Sequence[ChainState]) -> list[ChainState]:
        """Give chains that run separately one common step size.

        For a driver that runs its chains in blocks, each in its own process: called on the states
        at the end of each block of the warm-up, it replaces what each chain has learnt about
        the step size by the mean over chains, so that the next block starts from it. Positions
        and keys stay. Deterministic, and independent of how the chains were spread.

        Parameters
        ----------
        states
            States of single chains after the same number of transitions, in chain order.

        Returns
        -------
        list of ChainState
            In the order of `states`.

        Raises
        ------
        InputError
            If there is no state, one is of several chains, or the chains are not equally far.
        """
        states = list(check_iterable("states", states, "states of single chains"))
        if not states:
            raise InputError("expected states = at least one state, got none")
        for state in states:
            check_state(state, "states")
            if not is_prng_key(state.rng_key):
                raise InputError(
                    "expected states = states of single chains, "
                    f"got one of {len(state.rng_key)} chains"
                )
        progress = [(int(state.i), int(state.adapt_state.num_warmup)) for state in states]
        if len(set(progress)) > 1:
            raise InputError(
                f"expected states = states with the same (i, num_warmup), got {progress}"
            )
        if not self._adapt_step_size or progress[0][1] == 0:
            return states
        adapt = pool_adapt([state.adapt_state for state in states], states[0].i)
        return [state._replace(adapt_state=adapt) for state in states]

    def end_warmup(self, state: ChainState) -> ChainState:
        """Return the state with its warm-up ended here, at the averaged step size."""
        check_state(state)
        adapt = state.adapt_state
        keep = self._adapt_step_size & (state.i < adapt.num_warmup)
        adapt = adapt._replace(
            step_size=jnp.where(keep, jnp.exp(adapt.averaging[1]), adapt.step_size),
            num_warmup=jnp.where(keep, state.i, adapt.num_warmup),
        )
        return state._replace(adapt_state=adapt)

    def refresh(
        self, state: ChainState, model_args: tuple, model_kwargs: dict | None
    ) -> ChainState:
        """Recompute the potential energy and its gradient for other model arguments."""
        evaluate = partial(self._evaluate, self._at(state, model_args, model_kwargs))
        single = is_prng_key(state.rng_key)
        potential, gradient = (evaluate if single else jax.vmap(evaluate))(state.z)
        return state._replace(potential_energy=potential, z_grad=gradient)

    def wrap_model(self, wrapper: Callable[[Model], Model]) -> "ChainKernel":
        """Return a copy of this kernel for the model ``wrapper(model)``."""
        if not callable(wrapper):
            raise InputError(f"expected wrapper = a function of a model, got {shown(wrapper)}")
        kernel = copy.copy(self)
        try:
            model = wrapper(self._model)
        except Exception as error:
            raise InputError(
                f"expected wrapper = a function of a model, got {shown(wrapper)} "
                f"({type(error).__name__}: {error})"
            ) from error
        kernel._model = _check_model(model)
        return kernel
