"""The convolution: one set of weights for all patches of an image.

Each channel c has one h for every patch a, h_ca(x) = w_c·x_a/√s, and hands on σ(h_ca), or with
pooling the average over patches. Between two sets of images h has the covariances
C_ab(x, x') = x_a·x'_b/(λ_0 s) (+ 1/λ^b_0) of all pairs of patches, which `Patches` never holds all
at once. A readout that is free over channels and patches has an order parameter of its own for each
pair of them: a matrix Q̄_ab, for which `nested` has its own solver.

Source: theory.md section 16.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Int

from .._basics.checks import check_choice, check_count
from .._basics.errors import InputError
from .._plugins.hooks import hookimpl
from ..activations import _moments
from .architecture import Architecture
from .covariance import Covariance, Local, Square
from .dense import layer_map, moments
from .inputs import flat_variances, whiten_inputs
from .layer import Layer, Link, scale
from .order import OrderParameter, Scales

__all__ = ["Convolution", "Patches", "Patchwise", "patch_grid"]

_POOLING = ("none", "average")


class Patchwise(OrderParameter):
    """The Q̄_ab of all pairs of patches, where nothing is left free: infinite width, Q̄ = 1.

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

    name: ClassVar[str] = "convolution"
    images: ClassVar[bool] = True

    def __init__(self, channels: int, patch: int, stride: int = 1, pooling: str = "none") -> None:
        fields = {
            "width": check_count("channels", channels),
            "patch": check_count("patch", patch),
            "stride": check_count("stride", stride),
            "pooling": check_choice("pooling", pooling, _POOLING),
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
        return Convolution(width, self.patch, self.stride, self.pooling)

    def __repr__(self) -> str:
        return (
            f"Convolution(channels={self.channels}, patch={self.patch}, stride={self.stride}, "
            f"pooling={self.pooling!r})"
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
            raise InputError(
                f"expected {name} = images of at least {self.patch} × {self.patch} pixels for "
                f"{self!r}, got shape {shape}"
            )
        if like is not None and shape[1:] != like:
            wanted = str(("pattern", *like)).replace("'", "")
            raise InputError(f"expected {name} = an array of shape {wanted}, got shape {shape}")

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
        return Patches(a, a if square else whitened(X2), square, self.pooling == "average")

    def link(self, before: Layer, mean: bool) -> Link:
        """Refuse: `Network` lets no layer stand before."""
        raise InputError(f"expected {self!r} as first layer, got it above {before!r}")

    def readout(self, mean: bool) -> Link:
        """Return the map of dense layers, of the averages over patches or at infinite width."""
        if self.pooling == "average":
            return Link(layer_map, scale(self.width, mean))
        return Link(_each_patch, Patchwise(self.width))

    # --- sampler ----------------------------------------------------------------------------------

    def size(self, shape: tuple[int, ...]) -> int:
        """Return N_c A."""
        return self.width * math.prod(patch_grid(self, shape))

    def features(self, units: str, shape: tuple[int, ...]) -> tuple[tuple[str, int], ...]:
        """Return channels, and without pooling patches."""
        if self.pooling == "average":
            return ((units, self.width),)
        return (units, self.width), ("patch", math.prod(patch_grid(self, shape)))

    def forward(self, weights: Mapping[str, Any], x: Any, before: Any) -> Any:
        """Return h, shape (channel·patch, point), of images, points last: one product."""
        places = self._places(x.shape[:-1])
        taps, patches = places.shape
        points = x.shape[-1]
        columns = x.reshape(-1, points)[places.ravel()].reshape(taps, patches * points)
        h = weights["W"] @ columns / taps**0.5
        if "b" in weights:
            h = h + weights["b"][:, None]
        return h.reshape(self.width * patches, points)

    def pool(self, x: Any) -> Any:
        """Return the averages over patches, or σ(h) of each."""
        if self.pooling == "none":
            return x
        return jnp.mean(x.reshape(self.width, -1, x.shape[-1]), axis=1)


def patch_grid(layer: Convolution, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the numbers of patches along rows and along columns of an image of this shape."""
    rows, columns = ((side - layer.patch) // layer.stride + 1 for side in shape[-2:])
    return rows, columns


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Patches(Local):
    """C_ab(x, x') = z_a(x)·z_b(x') of all patches of two sets of images.

    Attributes
    ----------
    a, b
        z, shapes (a, patch, tap) and (b, patch, tap).
    square
        Whether both sets are the same.
    pooled
        Whether a unit hands on the average over patches; else σ(h) of every patch.
    """

    a: Any  # arrays; JAX puts other things in their place when it compiles
    b: Any
    square: bool = dataclasses.field(metadata={"static": True})
    pooled: bool = dataclasses.field(metadata={"static": True})

    @property
    def diag_a(self) -> Float[Array, "a patch"]:
        """Variances of h on the first set."""
        return jnp.sum(jnp.asarray(self.a) ** 2, axis=-1)

    @property
    def diag_b(self) -> Float[Array, "b patch"]:
        """Variances of h on the second set."""
        return jnp.sum(jnp.asarray(self.b) ** 2, axis=-1)

    def moments(
        self, activation: Any, rule: Any
    ) -> tuple[Covariance, Float[Array, " a"], Float[Array, " b"]]:
        """Return those of the average over patches; unpooled, of patches that go each by itself.

        That is Σ_ab K_ab/A² with the means Σ_a m_a/A, and at infinite width Σ_a K_aa/A. The means
        of the latter are no vector: they are NaN for an activation that has some.
        """
        patches = self.a.shape[1]
        if self.pooled:
            weights = jnp.full((patches, patches), 1.0 / patches**2)
            second = self.weighted(activation, rule, weights)
            means = [jnp.mean(one, axis=1) for one in self.means(activation, rule)]
            return second, means[0], means[1]
        second = self.weighted(activation, rule, jnp.full(patches, 1.0 / patches))
        none = jnp.zeros(()) if activation.parity == "odd" else jnp.full((), jnp.nan)
        return second, jnp.full(self.a.shape[:1], none), jnp.full(self.b.shape[:1], none)

    def means(self, activation: Any, rule: Any) -> tuple[Any, Any]:
        """Return m_a of both sets, shapes (a, patch) and (b, patch)."""
        first = _moments.mean(activation, self.diag_a, rule=rule)
        return first, first if self.square else _moments.mean(activation, self.diag_b, rule=rule)

    def weighted(self, activation: Any, rule: Any, weights: Any) -> Covariance:
        """Return Σ_ab w_ab K_ab for symmetric w, shape (patch, patch), or (patch,): its diagonal.

        Pair of patches by pair, so that no more is held than a few blocks of one of them.
        """
        patches = self.a.shape[1]
        diagonal = weights.ndim == 1
        first, second = (np.arange(patches),) * 2
        if not diagonal:
            first, second = np.triu_indices(patches) if self.square else np.indices((patches,) * 2)
            first, second = first.ravel(), second.ravel()
        share = weights if diagonal else weights[first, second]
        if self.square and not diagonal:  # K_ba is K_abᵀ
            share = share * np.where(first == second, 1.0, 2.0)
        a, b = (jnp.swapaxes(jnp.asarray(one), 0, 1) for one in (self.a, self.b))
        kernel = functools.partial(_moments.kernel, activation, rule=rule)

        def add(total: Array, pair: tuple) -> tuple[Array, None]:
            i, j, weight = pair
            x, y = a[i], b[j]
            block = kernel(jnp.sum(x**2, axis=1)[:, None], x @ y.T, jnp.sum(y**2, axis=1)[None, :])
            return total + weight * block, None

        start = jnp.zeros((self.a.shape[0], self.b.shape[0]), a.dtype)
        cross, _ = lax.scan(add, start, (jnp.asarray(first), jnp.asarray(second), share))
        if self.square:
            cross = 0.5 * (cross + cross.T)
            ends = jnp.diagonal(cross)
            return Square(cross, ends, ends)
        matrix = jnp.diag(weights) if diagonal else weights
        return Covariance(cross, *(_variances(kernel, one, matrix) for one in (self.a, self.b)))


def _variances(kernel: Any, z: Float[Array, "n patch tap"], weights: Array) -> Float[Array, " n"]:
    """Return Σ_ab w_ab K_ab(x, x) for every image, a few at a time."""

    def variance(z: Array) -> Array:
        ends = jnp.sum(z**2, axis=-1)
        return jnp.sum(weights * kernel(ends[:, None], z @ z.T, ends[None, :]))

    return lax.map(variance, jnp.asarray(z))


@hookimpl
def finwidth_register_layers() -> list[type[Layer]]:
    """Register the layer."""
    return [Convolution]
