"""NumPyro's HMC, started from the prior; a trajectory takes at most so many steps."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from numpyro.infer import HMC
from numpyro.infer.initialization import init_to_sample

from .._basics.checks import check_count
from . import Sampler

__all__ = ["sampler"]


class _HMC(HMC):
    """HMC whose trajectories end after `max_num_steps`, so that a tiny step cannot hang it."""

    max_num_steps = 1000

    def sample(self, state: Any, model_args: Any, model_kwargs: Any) -> Any:
        length = state.trajectory_length
        if length is None:  # a number of steps was asked for
            return super().sample(state, model_args, model_kwargs)
        longest = self.max_num_steps * state.adapt_state.step_size
        cut = state._replace(trajectory_length=jnp.minimum(length, longest))
        return super().sample(cut, model_args, model_kwargs)._replace(trajectory_length=length)


def _kernel(model: Callable[..., None], *, max_num_steps: int = 1000, **options: Any) -> HMC:
    options.setdefault("init_strategy", init_to_sample)
    kernel = _HMC(model, **options)
    kernel.max_num_steps = check_count("max_num_steps", max_num_steps)
    return kernel


sampler = Sampler("hmc", _kernel, num_warmup=500, num_samples=1000)
