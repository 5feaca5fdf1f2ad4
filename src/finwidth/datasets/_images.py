"""What may be done to images before they are inputs: grayscale, another size."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from .._basics.arrays import shown
from .._basics.checks import check_count, check_flag
from .._basics.errors import InputError

__all__ = ["Images", "folded"]

_LUMA = np.array([0.299, 0.587, 0.114])  # of red, green, blue: ITU-R BT.601
_LARGEST = 1024  # pixels a side


@dataclasses.dataclass(frozen=True, init=False)
class Images:
    """Grayscale and size of the images that are wanted, checked.

    Parameters
    ----------
    grayscale
        Whether red, green and blue become 0.299 R + 0.587 G + 0.114 B.
    size
        Pixels a side of the square that images are resized to, None for their own: each new pixel
        is an average of the old ones around its place, with weights that fall linearly to zero
        over the wider of both pixels (bilinear, without aliasing).
    """

    grayscale: bool
    size: int | None

    def __init__(self, grayscale: Any = False, size: Any = None) -> None:
        object.__setattr__(self, "grayscale", check_flag("grayscale", grayscale))
        object.__setattr__(self, "size", None if size is None else check_count("size", size))
        if self.size is not None and self.size > _LARGEST:
            raise InputError(f"expected size = at most {_LARGEST} pixels a side, got {shown(size)}")

    def check(self, shape: tuple[int, ...] | None, n_inputs: int, name: str) -> None:
        """Raise InputError unless rows of `n_inputs` entries are images that this can be done to.

        `shape` is what a row folds back to, if that is known: (height, width) or
        (height, width, channel).
        """
        if not self.grayscale and self.size is None:
            return
        wanted = "(height, width, 3)" if self.grayscale else "(height, width) and channels"
        asked = "grayscale" if self.grayscale else "size"
        fits = shape is not None and math.prod(shape) == n_inputs and len(shape) in (2, 3)
        if shape is None or not fits or (self.grayscale and shape[2:] != (3,)):
            got = f"rows of {n_inputs}" if shape is None else f"shape {shape}"
            raise InputError(
                f"expected images of shape {wanted} in data set {name!r} for {asked}=…, got {got}"
            )

    def apply(
        self, X: Shaped[np.ndarray, "row input"], shape: tuple[int, ...] | None
    ) -> tuple[Shaped[np.ndarray, "row pixel"], tuple[int, ...] | None]:
        """Return rows of images that `check` has passed as they are wanted, and their shape."""
        if shape is None or (not self.grayscale and self.size is None):
            return X, shape
        images = np.asarray(X, dtype=np.float64).reshape(len(X), *shape)
        if self.grayscale:
            images = images @ _LUMA
        if self.size is not None:
            down, across = (_averages(old, self.size) for old in images.shape[1:3])
            images = np.einsum("ih,rhw...,jw->rij...", down, images, across, optimize=True)
        return images.reshape(len(X), -1), images.shape[1:]

    def record(self) -> dict[str, Any]:
        """Return what is done, for `attrs`."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value}


def folded(
    X: Float[np.ndarray, "row pixel"], shape: Sequence[int] | None, name: str
) -> Float[np.ndarray, "row ..."]:
    """Return rows as images, channels (the last axis of `shape`) first; InputError without one."""
    if shape is None or len(shape) not in (2, 3):
        raise InputError(
            f"expected image = False of data set {name!r}, whose rows are no images of a known "
            "shape, got True"
        )
    images = X.reshape(len(X), *shape)
    return images if len(shape) == 2 else np.moveaxis(images, -1, 1)


def _averages(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Return the weights of the old pixels in each of the new ones along one side."""
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale
    distance = np.abs(np.arange(old) + 0.5 - centres[:, None])
    weights = np.maximum(1.0 - distance / max(scale, 1.0), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)
