"""What a hidden layer is, to theory and sampler alike.

The theory's half are links: how the layer's h follow from σ of the h before, and how f follows
from its own. The sampler's half are its weights and the way forward through them.
"""

import abc
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._basics.arrays import check_inputs_shape, check_patterns, shown
from .._basics.checks import check_count
from .._basics.code_digest import code_digest
from .._basics.errors import InputError
from .architecture import Architecture
from .inputs import flat_covariance, flat_variances
from .order import OrderParameter, Scale, WithMean

__all__ = ["Layer", "Link", "Site", "check_layer", "check_link", "check_order", "scale"]


class Link(NamedTuple):
    """What takes the covariance of one layer's h to that of the next, or to the kernel of f.

    Attributes
    ----------
    map
        Called as ``map(activation, covariance, value, precision, bias, rule, *numbers)`` with the
        `Covariance` of the h before, the `value` of the order parameter, λ and 1/λ^b of the
        weights between and the quadrature rule of σ (None: a closed form); returns a `Covariance`
        of the same type. A JAX function, hashable, and equal for layers that differ in numbers
        only: programs are compiled for it.
    order
        The order parameter of the link, whose width is that of the layer before.
    numbers
        What else `map` takes, data to compiled programs.
    quadrature
        Whether `map` needs a rule even where E[σσ'] and E[σ] have closed forms.
    """

    map: Callable[..., Any]
    order: OrderParameter
    numbers: tuple[float, ...] = ()
    quadrature: bool = False


class Site(NamedTuple):
    """One site of a model, an array.

    Attributes
    ----------
    dims, shape
        Names and sizes of its axes.
    precision
        λ, where the entries are independent N(0, 1/λ) under the prior; None: of another law.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    precision: Any = None


def scale(width: int, mean: bool) -> OrderParameter:
    """Return the order parameter of independent units: Q̄, and with a mean term Q."""
    return WithMean(width) if mean else Scale(width)


@dataclasses.dataclass(frozen=True)
class Layer(abc.ABC):
    """A hidden layer; a frozen dataclass.

    Parameters
    ----------
    width
        N, number of units.
    """

    width: int

    name: ClassVar[str] = ""  # what users write for it, "dense"; a class without one has none
    single: ClassVar[bool] = True  # whether each unit hands on one number
    rotates: ClassVar[bool] = False  # whether patterns enter a first layer through W x alone
    images: ClassVar[bool] = False  # whether the inputs of a first layer are images

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", check_count("width", self.width))

    def check(self, before: "Layer | None") -> None:  # noqa: B027 (most layers follow any other)
        """Raise InputError where the layer cannot follow `before`; None: it is the first one.

        Called when a network is made, for theory and sampler alike.
        """

    def record(self) -> dict[str, Any]:
        """Return the layer as plain JSON types: its name, the arguments that make it.

        Of a layer that is not finwidth's own also a digest of its code, by which results of the
        same name are told apart.
        """
        found: dict[str, Any] = {"layer": type(self).__dict__.get("name", type(self).__qualname__)}
        for name in inspect.signature(type(self)).parameters:
            value = getattr(self, name)
            found[name] = value if isinstance(value, (bool, int, float, str)) else repr(value)
        if type(self).__module__.partition(".")[0] == __name__.partition(".")[0]:
            return found
        return found | {"digest": code_digest(type(self))}

    @abc.abstractmethod
    def link(self, before: "Layer", mean: bool) -> Link:
        """Return how this layer's h follow from those of `before`.

        Parameters
        ----------
        before
            The layer before.
        mean
            Whether the theory has mean terms, E[σ] ≠ 0.
        """

    @abc.abstractmethod
    def readout(self, mean: bool) -> Link:
        """Return how f follows from this layer's h, where it is the last one."""

    def sites(
        self, units: str, inputs: tuple[str, int], precision: Any, bias: Any
    ) -> dict[str, Site]:
        """Return the layer's weights: by default W, and b where there are biases.

        Parameters
        ----------
        units
            Name of the dimension over its units.
        inputs
            Name and size of that over the units before, or over the inputs.
        precision, bias
            λ and λ^b of the layer; bias None: there are no biases.
        """
        sites = {"W": Site((units, inputs[0]), (self.width, inputs[1]), precision)}
        return sites if bias is None else sites | {"b": Site((units,), (self.width,), bias)}

    def first_sites(
        self, units: str, shape: tuple[int, ...], precision: Any, bias: Any
    ) -> dict[str, Site]:
        """Return the `sites` of a first layer, for patterns of a shape."""
        return self.sites(units, self.inputs(shape), precision, bias)

    # --- as a first layer: what patterns are to it. By default they are flat, shape (input,) -----

    def check_shape(
        self, shape: tuple[int, ...], name: str = "X", like: tuple[int, ...] | None = None
    ) -> None:
        """Raise InputError unless an array of this shape holds patterns that the layer takes.

        `like` is the shape that each pattern must have, where there are others already.
        """
        check_inputs_shape(shape, name, None if like is None else like[0])

    @property
    def patterns(self) -> str:
        """What patterns are, for messages: the shape of an array of them."""
        return "(pattern, input)"

    def check_inputs(
        self, X: Any, name: str = "X", like: tuple[int, ...] | None = None
    ) -> np.ndarray:
        """Return `X` as a checked float64 array of patterns, or raise InputError."""
        wanted = self.patterns if like is None else str(("pattern", *like)).replace("'", "")
        return check_patterns(X, lambda shape: self.check_shape(shape, name, like), name, wanted)

    def inputs(self, shape: tuple[int, ...]) -> tuple[str, int]:
        """Return name and size of what each unit's weights multiply, for patterns of a shape."""
        return "input", shape[0]

    def covariance(self, network: Architecture, X: Any, X2: Any = None) -> Any:
        """Return the second moments of h on two sets of patterns (None: the first one twice).

        A `Covariance`, or a `Local` where a unit has several h a pattern.
        """
        return flat_covariance(network, X, X2)

    def variances(self, network: Architecture, X: Any, name: str = "X") -> np.ndarray:
        """Return the variances of h, a row for each pattern; InputError if float64 lacks them."""
        return flat_variances(network, X, name)

    # --- what a layer hands on: by default σ(h), one number a unit --------------------------------

    def features(self, units: str, shape: tuple[int, ...]) -> tuple[tuple[str, int], ...]:
        """Return names and sizes of the axes of what is handed on, for patterns of a shape."""
        return ((units, self.width),)

    def size(self, shape: tuple[int, ...]) -> int:
        """Return the number of h that a pattern of this shape has."""
        return self.width

    def pool(self, x: Any) -> Any:
        """Return what is handed on of σ(h), shape (unit, point), a JAX function."""
        return x

    @abc.abstractmethod
    def forward(self, weights: Mapping[str, Any], x: Any, before: Any) -> Any:
        """Return the layer's h, shape (unit, point), a JAX function.

        Units come first: the products with the weights and their gradients then need no
        transposed copy.

        Parameters
        ----------
        weights
            Values of the `sites`.
        x
            What the weights multiply: what the layer before hands on, shape (previous, point),
            or the inputs, points last.
        before
            h of the layer before, of the same shape, or None.
        """

    def resize(self, width: int) -> "Layer":
        """Return the layer with another number of units."""
        return dataclasses.replace(self, width=width)


def check_layer(layer: Any) -> Layer:
    """Return `layer` if it is a `Layer`, or raise InputError."""
    if not isinstance(layer, Layer):
        raise InputError(
            f"expected layers = finwidth layers, for example finwidth.Dense(30), got {shown(layer)}"
        )
    return layer


def check_link(link: Any, layer: int) -> None:
    """Raise InputError unless what follows a layer is a `Link` with a map to compile for."""
    what = f"expected what follows layer {layer}"
    if not isinstance(link, Link):
        raise InputError(f"{what} = a Link, got {shown(link)}")
    try:
        hash(link.map)
    except TypeError:
        raise InputError(
            f"expected the map after layer {layer} to be hashable, got {shown(link.map)}"
        ) from None
    if not callable(link.map):
        raise InputError(
            f"expected the map after layer {layer} = a function, got {shown(link.map)}"
        )


def check_order(order: Any, layer: Any) -> OrderParameter:
    """Return a layer's order parameter, or raise InputError where it breaks its protocol."""
    what = f"expected the order parameter of {layer!r}"
    if not isinstance(order, OrderParameter):
        raise InputError(f"{what} = an OrderParameter, got {type(order).__name__}")
    zero = jnp.zeros(order.size)
    try:
        order.value(zero)
        entropy = jnp.asarray(order.entropy(zero))
        slope = jax.grad(order.entropy)(zero) if order.size else zero
    except Exception as error:  # whatever a user's code raises
        raise InputError(
            f"{what} to be JAX functions of θ, shape ({order.size},), got "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ) from error
    if entropy.shape != ():
        raise InputError(f"{what} with a scalar entropy, got shape {entropy.shape}")
    if not np.allclose([float(entropy), *np.asarray(slope)], 0.0, atol=1e-6 * float(order.width)):
        raise InputError(
            f"{what} with an entropy that is 0 and stationary at θ = 0, infinite width, got "
            f"{float(entropy):.3g} with gradient {np.asarray(slope)}"
        )
    return order
