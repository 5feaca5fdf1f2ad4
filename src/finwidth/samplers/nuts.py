"""NumPyro's NUTS, started from the prior."""

from collections.abc import Callable
from typing import Any

from numpyro.infer import NUTS
from numpyro.infer.initialization import init_to_sample

from . import Sampler

__all__ = ["sampler"]


class _NUTS(NUTS):
    """NUTS that tells how many steps a trajectory takes at most."""

    max_num_steps = 0


def _kernel(model: Callable[..., None], **options: Any) -> _NUTS:
    options.setdefault("init_strategy", init_to_sample)
    kernel = _NUTS(model, **options)
    depth = options.get("max_tree_depth", 10)  # NumPyro's default
    kernel.max_num_steps = 2 ** (depth[1] if isinstance(depth, tuple) else depth) - 1
    return kernel


sampler = Sampler("nuts", _kernel, num_warmup=500, num_samples=1000)
