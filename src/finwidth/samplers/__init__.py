"""Samplers that `finwidth.sample` knows by name, one file each.

A module of this package that defines ``sampler``, a `Sampler` of the module's name, is one that
users name; adding one touches no other file. A plugin's sampler is such an instance, too.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from numpyro.infer.mcmc import MCMCKernel

from .._basics.arrays import shown
from .._basics.checks import check_count, check_flag
from .._basics.code_digest import code_digest
from .._basics.errors import InputError, PluginError
from .._plugins.shelf import Shelf

__all__ = ["SHELF", "Sampler"]

_PACKAGE = __name__.partition(".")[0]


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A way to sample a model.

    Parameters
    ----------
    name
        What users write.
    kernel
        ``(model, **options)`` -> a NumPyro kernel.
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

    @property
    def digest(self) -> str | None:
        """Digest of the code of a kernel that is not finwidth's own; None of those.

        A run is continued from its checkpoint by the same sampler only, and a name does not tell.
        """
        module = getattr(self.kernel, "__module__", None) or ""
        return None if module.partition(".")[0] == _PACKAGE else code_digest(self.kernel)

    def make(self, model: Callable[..., None], options: dict[str, Any]) -> MCMCKernel:
        """Return the kernel with these options, or raise InputError where it refuses them."""
        try:
            return self.kernel(model, **options)
        except TypeError as error:
            raise InputError(
                f"expected sampler_options = options of sampler {self.name!r}, got {error}"
            ) from None


def _check(sampler: Sampler) -> None:
    """Raise PluginError for a sampler whose fields are not what they should be."""
    what = f"expected sampler {sampler.name!r} with"
    if not callable(sampler.kernel):
        raise PluginError(f"{what} kernel = a function, got {shown(sampler.kernel)}")
    try:
        check_count("num_warmup", sampler.num_warmup, 0)
        check_count("num_samples", sampler.num_samples)
        check_flag("adaptive", sampler.adaptive)
        check_flag("gaussian", sampler.gaussian)
    except InputError as error:
        raise PluginError(f"{what} {str(error).removeprefix('expected ')}") from None


SHELF: Shelf[Sampler] = Shelf(
    "finwidth.samplers",
    "sampler",
    Sampler,
    "finwidth.samplers.Sampler",
    attribute="sampler",
    hook="finwidth_register_samplers",
    check=_check,
)
