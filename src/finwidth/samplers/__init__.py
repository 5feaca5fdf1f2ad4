"""Samplers that `finwidth.sample` knows by name, one file each.

A module of this package that defines ``sampler``, a `Sampler` of the module's name, is one that
users name; adding one touches no other file.
"""

import dataclasses
from collections.abc import Callable

from numpyro.infer.mcmc import MCMCKernel

from .._plugins.shelf import Shelf

__all__ = ["SHELF", "Sampler"]


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
    """

    name: str
    kernel: Callable[..., MCMCKernel]
    num_warmup: int
    num_samples: int
    adaptive: bool = False


SHELF: Shelf[Sampler] = Shelf(
    "finwidth.samplers", "sampler", Sampler, "finwidth.samplers.Sampler", attribute="sampler"
)
