"""The convolution: one set of weights for all patches of an image.

Each channel c has one h for every patch a, h_ca(x) = w_c·x_a/√s, and hands on σ(h_ca), or with
pooling the average over patches. A readout that is free over channels and patches has an order
parameter of its own for each pair of them: a matrix Q̄_ab, for which `nested` has its own solver.
Weights that are not shared, w_ca, leave its diagonal alone.

Source: theory.md section 16.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from .._basics.checks import check_choice, check_count, check_flag
from .._basics.errors import InputError, warn
from .._plugins.hooks import hookimpl
from .architecture import Architecture
from .covariance import Covariance
from .dense import layer_map, moments
from .inputs import flat_variances, whiten_inputs
from .layer import Layer, Link, Site, scale
from .order import OrderParameter, Scales
from .patches import Patches

__all__ = ["Convolution", "Patchwise", "patch_grid"]

_POOLING = ("none", "average")
_SECOND = "channels come second, {name}.transpose(0, 3, 1, 2)"


class Patchwise(OrderParameter):
    """The Q̄_ab of pairs of patches, where nothing is left free: infinite width, Q̄ = 1.

    How many there are depends on the images, which `nested` knows when it solves for them.
    """

    size = 0

    def value(self, theta: Any) -> Scales:
        """Return 1 and 1."""
        return Scales(np.ones(()), np.ones(()))

    def entropy(self, theta: Any) -> Any:
        """Return 0."""
        return 0.0


def _each_patch(
    activation: Any, covariance: Any, value: Scales, precision: Any, bias: Any, rule: Any
) -> Covariance:
    """Return Q̄ K/λ (+ 1/λ^b): at infinite width means are no term of their own."""
    second, _, _ = moments(activation, covariance, rule)
    return type(second)(*(value.q_bar * block / precision + bias for block in second))


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class Convolution(Layer):
    """A convolution as first layer: h_ca(x) = w_c·x_a/√s (+ b_c) for channels c and patches a.

    Patches are the square windows of an image, without padding, row by row; x_a has the s = C·k²
    entries of one. The images are X, shape (pattern, row, column), or (pattern, channel, row,
    column) for C channels.

    Parameters
    ----------
    channels
        N_c, number of channels: the width.
    patch
        k, pixels a side of a patch.
    stride
        Pixels from one patch to the next, along rows and columns.
    pooling
        "none": the readout has weights for every channel and patch, f = Σ_ca v_ca σ(h_ca)/√(N_c A).
        "average": it sees the average over patches, f = Σ_c v_c Σ_a σ(h_ca)/(A √N_c), and dense
        layers may follow.
    shared
        Whether all patches share the weights. False: each has its own, h_ca(x) = w_ca·x_a/√s
        (+ b_ca), a locally connected layer; a comparator, which has A times as many.

    Raises
    ------
    InputError
        If an argument is not as described.

    References
    ----------
    theory.md, section 16.
    """

    patch: int
    stride: int
    pooling: str
    shared: bool

    name: ClassVar[str] = "convolution"
    images: ClassVar[bool] = True

    def __init__(
        self,
        channels: int,
        patch: int,
        stride: int = 1,
        pooling: str = "none",
        shared: bool = True,
    ) -> None:
        fields = {
            "width": check_count("channels", channels),
            "patch": check_count("patch", patch),
            "stride": check_count("stride", stride),
            "pooling": check_choice("pooling", pooling, _POOLING),
            "shared": check_flag("shared", shared),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def channels(self) -> int:
        """N_c."""
        return self.width

    @property
    def single(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether a channel hands on its average alone."""
        return self.pooling == "average"

    def resize(self, width: int) -> "Convolution":
        """Return the layer with another number of channels.

        Parameters
        ----------
        width
            N_c.
        """
        return Convolution(width, self.patch, self.stride, self.pooling, self.shared)

    def record(self) -> dict[str, Any]:
        """Return the layer as plain JSON types; `shared` where it is not."""
        found = super().record()
        if self.shared:
            del found["shared"]
        return found

    def __repr__(self) -> str:
        return (
            f"Convolution(channels={self.channels}, patch={self.patch}, stride={self.stride}, "
            f"pooling={self.pooling!r}{'' if self.shared else ', shared=False'})"
        )

    def check(self, before: Layer | None) -> None:
        """Refuse any place but the first."""
        if before is not None:
            raise InputError(f"expected {self!r} as first layer, got it above {before!r}")

    @property
    def patterns(self) -> str:
        """Shapes of arrays of images."""
        return "(pattern, row, column) or (pattern, channel, row, column)"

    def check_shape(
        self, shape: tuple[int, ...], name: str = "X", like: tuple[int, ...] | None = None
    ) -> None:
        """Raise InputError unless an array of this shape holds images that have a patch."""
        what = f"expected {name} = images of shape {self.patterns} for {self!r}, got shape {shape}"
        if len(shape) == 2:
            side = math.isqrt(shape[1])
            sides = f"{side}, {side}" if side * side == shape[1] else "rows, columns"
            raise InputError(f"{what}: {name}.reshape(-1, {sides}) makes images of flat patterns")
        if len(shape) not in (3, 4) or 0 in shape:
            raise InputError(what)
        if min(shape[-2:]) < self.patch:
            hint = f": {_SECOND.format(name=name)}" if _channels_last(shape) else ""
            raise InputError(
                f"expected {name} = images of at least {self.patch} × {self.patch} pixels for "
                f"{self!r}, got shape {shape}{hint}"
            )
        if like is not None and shape[1:] != like:
            wanted = str(("pattern", *like)).replace("'", "")
            raise InputError(f"expected {name} = an array of shape {wanted}, got shape {shape}")

    def check_inputs(
        self, X: Any, name: str = "X", like: tuple[int, ...] | None = None
    ) -> np.ndarray:
        """Return checked images, with a warning where channels seem to come last."""
        images = super().check_inputs(X, name, like)
        if _channels_last(images.shape):
            warn(
                f"expected {name} = images of shape (pattern, channel, row, column), got shape "
                f"{images.shape}: {_SECOND.format(name=name)}",
                about="channels last",
            )
        return images

    def _places(self, shape: tuple[int, ...]) -> Int[np.ndarray, "tap patch"]:
        """Return where in a flat image the entries of each patch are."""
        pixels = np.arange(math.prod(shape)).reshape(-1, *shape[-2:])
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (self.patch,) * 2, axis=(1, 2))
        windows = windows[:, :: self.stride, :: self.stride]  # channel, row, column, two of a patch
        return windows.transpose(0, 3, 4, 1, 2).reshape(-1, windows.shape[1] * windows.shape[2])

    def _windows(
        self, X: Float[np.ndarray, "pattern ..."]
    ) -> Float[np.ndarray, "pattern patch tap"]:
        """Return the patches of images."""
        return X.reshape(len(X), -1)[:, self._places(X.shape[1:]).T]

    def inputs(self, shape: tuple[int, ...]) -> tuple[str, int]:
        """Return s."""
        return "patch_input", (1 if len(shape) == 2 else shape[0]) * self.patch**2

    # --- theory -----------------------------------------------------------------------------------

    def variances(self, network: Architecture, X: Any, name: str = "X") -> np.ndarray:
        """Return the variances of h, shape (pattern, patch)."""
        found = [flat_variances(network, one, name) for one in np.swapaxes(self._windows(X), 0, 1)]
        return np.stack(found, axis=1)

    def covariance(self, network: Architecture, X: Any, X2: Any = None) -> "Patches":
        """Return the second moments of h on all patches of two sets of images."""

        def whitened(X: np.ndarray) -> Array:
            windows = self._windows(X)
            flat = whiten_inputs(network, windows.reshape(-1, windows.shape[-1]))
            return jnp.asarray(flat.reshape(*windows.shape[:2], -1), jnp.float64)

        a = whitened(X)
        square = X2 is None
        b = a if square else whitened(X2)
        return Patches(a, b, square, self.pooling == "average", self.shared)

    def link(self, before: Layer, mean: bool) -> Link:
        """Refuse: `Network` lets no layer stand before."""
        raise InputError(f"expected {self!r} as first layer, got it above {before!r}")

    def readout(self, mean: bool) -> Link:
        """Return the map of dense layers, of the averages over patches or at infinite width."""
        if self.pooling == "average":
            return Link(layer_map, scale(self.width, mean))
        return Link(_each_patch, Patchwise(self.width))

    # --- sampler ----------------------------------------------------------------------------------

    def first_sites(
        self, units: str, shape: tuple[int, ...], precision: Any, bias: Any
    ) -> dict[str, Site]:
        """Return W and b of every channel, or of every channel and patch."""
        sites = super().first_sites(units, shape, precision, bias)
        if self.shared:
            return sites
        count = math.prod(patch_grid(self, shape))
        return {
            name: Site((dims[0], "patch", *dims[1:]), (sizes[0], count, *sizes[1:]), law)
            for name, (dims, sizes, law) in sites.items()
        }

    def size(self, shape: tuple[int, ...]) -> int:
        """Return N_c A."""
        return self.width * math.prod(patch_grid(self, shape))

    def features(self, units: str, shape: tuple[int, ...]) -> tuple[tuple[str, int], ...]:
        """Return channels, and without pooling patches."""
        if self.pooling == "average":
            return ((units, self.width),)
        return (units, self.width), ("patch", math.prod(patch_grid(self, shape)))

    def forward(self, weights: Mapping[str, Any], x: Any, before: Any) -> Any:
        """Return h, shape (channel·patch, point), of images, points last.

        One product, or one for each patch where these have weights of their own.
        """
        places = self._places(x.shape[:-1])
        taps, patches = places.shape
        points = x.shape[-1]
        columns = x.reshape(-1, points)[places.ravel()]
        if self.shared:
            h = weights["W"] @ columns.reshape(taps, patches * points) / taps**0.5
        else:
            h = jnp.einsum("cas,sap->cap", weights["W"], columns.reshape(taps, patches, points))
            h = h / taps**0.5
        if "b" in weights:
            h = h + weights["b"][..., None]
        return h.reshape(self.width * patches, points)

    def pool(self, x: Any) -> Any:
        """Return the averages over patches, or σ(h) of each."""
        if self.pooling == "none":
            return x
        return jnp.mean(x.reshape(self.width, -1, x.shape[-1]), axis=1)


def _channels_last(shape: tuple[int, ...]) -> bool:
    """Return whether the last axis is likely one of colours, the others rows and columns."""
    return len(shape) == 4 and shape[3] in (1, 3, 4) and min(shape[1:3]) > shape[3]


def patch_grid(layer: Convolution, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the numbers of patches along rows and along columns of an image of this shape."""
    rows, columns = ((side - layer.patch) // layer.stride + 1 for side in shape[-2:])
    return rows, columns


@hookimpl
def finwidth_register_layers() -> list[type[Layer]]:
    """Register the layer."""
    return [Convolution]
