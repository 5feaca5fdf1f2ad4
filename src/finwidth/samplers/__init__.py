"""Samplers that `finwidth.sample` knows by name, one file each.

A module of this package that defines ``sampler``, a `Sampler`, is one that users name; adding one
touches no other file.
"""

import dataclasses
import functools
from collections.abc import Callable

from numpyro.infer.mcmc import MCMCKernel

from .._plugins import shelf as _shelf

__all__ = ["Sampler", "available"]


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A way to sample a model.

    Parameters
    ----------
    name
        What users write.
    kernel
        (model, **options) -> a NumPyro kernel.
    num_warmup, num_samples
        Defaults of `finwidth.sample`. Where the kernel can end its warm-up early, `num_warmup`
        is the most that the warm-up may take.
    adaptive
        Whether the kernel can (it has a method ``end_warmup``). Such a kernel is compiled once for
        all lengths of the warm-up: its ``init`` takes `num_warmup` as an array.
    gaussian
        Whether all sites of the model must be Gaussian under the prior.
    """

    name: str
    kernel: Callable[..., MCMCKernel]
    num_warmup: int
    num_samples: int
    adaptive: bool = False
    gaussian: bool = False


@functools.cache
def available() -> dict[str, Sampler]:
    """Return the samplers by name."""
    return {module.sampler.name: module.sampler for module in _shelf.modules(__name__)}
