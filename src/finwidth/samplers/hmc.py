"""NumPyro's HMC, started from the prior."""

from collections.abc import Callable
from typing import Any

from numpyro.infer import HMC
from numpyro.infer.initialization import init_to_sample

from . import Sampler

__all__ = ["sampler"]


def _kernel(model: Callable[..., None], **options: Any) -> HMC:
    options.setdefault("init_strategy", init_to_sample)
    return HMC(model, **options)


sampler = Sampler("hmc", _kernel, num_warmup=500, num_samples=1000)
