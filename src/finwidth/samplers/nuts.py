"""NumPyro's NUTS, started from the prior."""

from collections.abc import Callable
from typing import Any

from numpyro.infer import NUTS

from .._basics.arrays import shown
from .._basics.checks import check_count
from .._basics.errors import InputError
from . import Sampler
from ._numpyro import CheckedStart, checked_options

__all__ = ["sampler"]

_DEEPEST = 30  # 2^30 steps: what an int32 counts


class _NUTS(CheckedStart, NUTS):
    """NUTS that tells how many steps a trajectory takes at most."""

    max_num_steps = 0


def _depth(name: str, value: Any) -> int | tuple[int, int]:
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise InputError(
                f"expected {name} = an int, or two: in the warm-up and after it, got {shown(value)}"
            )
        return _one_depth(name, value[0]), _one_depth(name, value[1])
    return _one_depth(name, value)


def _one_depth(name: str, value: Any) -> int:
    return check_count(name, value, 1, _DEEPEST)


def _kernel(model: Callable[..., None], **options: Any) -> _NUTS:
    checked = checked_options("nuts", options, {"max_tree_depth": _depth})
    kernel = _NUTS(model, **checked)
    depth = checked.get("max_tree_depth", 10)  # NumPyro's default
    kernel.max_num_steps = 2 ** (depth[1] if isinstance(depth, tuple) else depth) - 1
    return kernel


sampler = Sampler("nuts", _kernel, num_warmup=500, num_samples=1000)
