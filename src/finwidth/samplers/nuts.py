"""NumPyro's NUTS, started from the prior."""

from collections.abc import Callable
from typing import Any

from numpyro.infer import NUTS
from numpyro.infer.initialization import init_to_sample

from . import Sampler

__all__ = ["sampler"]


def _kernel(model: Callable[..., None], **options: Any) -> NUTS:
    options.setdefault("init_strategy", init_to_sample)
    return NUTS(model, **options)


sampler = Sampler("nuts", _kernel, num_warmup=500, num_samples=1000)
