"""NumPyro's HMC, started from the prior; a trajectory takes at most so many steps."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from numpyro.infer import HMC

from .._basics.checks import LARGEST_COUNT, check_count, check_number
from .._basics.errors import InputError
from . import Sampler
from ._numpyro import CheckedStart, checked_options

__all__ = ["sampler"]


class _HMC(CheckedStart):
    """HMC whose trajectories end after `max_num_steps`, so that a tiny step cannot hang it."""

    max_num_steps: int | None = 1000

    def sample(self, state: Any, model_args: Any, model_kwargs: Any) -> Any:
        length = state.trajectory_length
        if length is None or self.max_num_steps is None:  # a number of steps was asked for
            return super().sample(state, model_args, model_kwargs)
        longest = self.max_num_steps * state.adapt_state.step_size
        cut = state._replace(trajectory_length=jnp.minimum(length, longest))
        return super().sample(cut, model_args, model_kwargs)._replace(trajectory_length=length)


def _steps(name: str, value: Any) -> int | None:
    return None if value is None else check_count(name, value, 1, LARGEST_COUNT)


def _length(name: str, value: Any) -> float | None:
    return None if value is None else check_number(name, value, 0.0)


_OWN = {"num_steps": _steps, "trajectory_length": _length, "max_num_steps": _steps}


def _kernel(model: Callable[..., None], **options: Any) -> HMC:
    """Return the kernel; `num_steps` takes the place of a `trajectory_length`."""
    checked = checked_options("hmc", options, _OWN)
    most = checked.pop("max_num_steps", None) or _HMC.max_num_steps
    if checked.get("num_steps") is not None:
        if checked.setdefault("trajectory_length", None) is not None:
            raise InputError(
                "expected either num_steps or trajectory_length, got num_steps="
                f"{checked['num_steps']} and trajectory_length={checked['trajectory_length']}"
            )
        most = None  # the steps are as many as were asked for
    elif checked.get("trajectory_length", 1.0) is None:
        raise InputError("expected num_steps or trajectory_length, got None for both")
    kernel = _HMC(model, **checked)
    kernel.max_num_steps = most
    return kernel


sampler = Sampler("hmc", _kernel, num_warmup=500, num_samples=1000)
