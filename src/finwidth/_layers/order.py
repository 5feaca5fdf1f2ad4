"""Order parameters: what finite width leaves free in a layer, and its term of the action.

Each layer has an `OrderParameter`, a chart: θ = 0 is infinite width, `value` is what the layer's
kernel takes and `entropy` is its term of the action. A `Chart` is those of all layers. The solver,
the fluctuations and the diagnostics know θ and the chart, never what is behind them.
"""

import abc
import functools
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from .law import Law

__all__ = [
    "Chart",
    "OrderParameter",
    "OrderParameters",
    "Scale",
    "Scales",
    "WithMean",
]


class Scales(NamedTuple):
    """Q̄ and 1/(1 + Q), what the kernel of a dense layer takes."""

    q_bar: Any
    shrinkage: Any

    @property
    def growth(self) -> Any:
        """By what the variances of infinite width are multiplied, at most."""
        return max(self.q_bar, self.shrinkage)

    @property
    def shown(self) -> dict[str, tuple[str, int, Any]]:
        """What users see, by name: dimension, which layer after this one it is of, value."""
        return {
            "q_bar": ("layer", 0, self.q_bar),
            "q": ("layer", 0, 1.0 / self.shrinkage - 1.0),
        }


class OrderParameters(NamedTuple):
    """What the kernel of each layer takes, first layer first.

    `OrderParameters.of` makes those of layers whose kernels take Q̄ and 1/(1 + Q), and
    `q_bar`, `shrinkage` and `q` are theirs.
    """

    values: tuple[Any, ...]

    @classmethod
    def of(cls, q_bar: Any, shrinkage: Any) -> "OrderParameters":
        """Return those with these Q̄_ℓ and 1/(1 + Q_ℓ), shape (layer,) each."""
        return cls(tuple(Scales(*pair) for pair in zip(q_bar, shrinkage, strict=True)))

    @property
    def q_bar(self) -> Float[Any, " layer"]:
        """Q̄_ℓ, shape (layer,)."""
        return self._stacked([value.q_bar for value in self.values])

    @property
    def shrinkage(self) -> Float[Any, " layer"]:
        """1/(1 + Q_ℓ), shape (layer,)."""
        return self._stacked([value.shrinkage for value in self.values])

    @property
    def q(self) -> Float[Any, " layer"]:
        """Q_ℓ, shape (layer,)."""
        return 1.0 / self.shrinkage - 1.0

    def shown(self) -> dict[str, tuple[str, list[int], Any]] | None:
        """Return what users see, by name: dimension, numbers of the layers, values (layer,).

        None where the value of a layer does not say (see `OrderParameter.value`).
        """
        found: dict[str, tuple[str, list[int], list[Any]]] = {}
        for layer, value in enumerate(self.values, start=1):
            parts = getattr(value, "shown", None)
            if parts is None:
                return None
            for name, (dim, further, one) in parts.items():
                _, layers, numbers = found.setdefault(name, (dim, [], []))
                layers.append(layer + further)
                numbers.append(one)
        return {name: (dim, at, self._stacked(one)) for name, (dim, at, one) in found.items()}

    @staticmethod
    def _stacked(parts: list[Any]) -> Any:
        traced = any(isinstance(part, Array) for part in parts)
        return jnp.stack(parts) if traced else np.array(parts)


class OrderParameter(abc.ABC):
    """The order parameter of one layer: a chart of it, and its term of the action.

    A subclass sets `size` and defines `value` and `entropy`, JAX functions of θ. It is a JAX type
    whose data are the width alone, so that programs serve any width.

    Parameters
    ----------
    width
        N.
    """

    size: ClassVar[int]
    names: ClassVar[tuple[str, ...]] = ()  # of the coordinates, for tables

    def __init__(self, width: Any) -> None:
        self.width = width

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        jax.tree_util.register_pytree_node(
            cls,
            lambda order: ((order.width,), _rest(order)),
            functools.partial(_rebuild, cls),
        )

    @abc.abstractmethod
    def value(self, theta: Float[Any, " size"]) -> Any:
        """Return what the layer's kernel takes; independent of the width.

        It may have `growth` and `shown`, as `Scales` has: without them rules of quadrature have
        room for twice the variance of infinite width, and users see θ.
        """

    @abc.abstractmethod
    def entropy(self, theta: Float[Any, " size"]) -> Any:
        """Return the layer's term of the action, 0 at θ = 0, where its gradient vanishes."""

    def integral(self, theta: np.ndarray) -> tuple[int, float] | None:
        """Return what the integral ∫dθ J exp(−entropy/2) needs that the saddle point leaves out.

        The number of negative eigenvalues of the Hessian, and the logarithm of J and of the
        normalisation, per √(2π)^size. None where no such integral is known.
        """
        return None

    def laws(self) -> tuple[Law, ...] | None:
        """Return the prior law of each coordinate of θ, independent of the others.

        None where they are not known: the scale mixture then has none for the layer.
        """
        return None

    def log_volume(self) -> np.ndarray:
        """Return ∇log J, a constant, shape (size,)."""
        return np.zeros(self.size)

    def derivatives(self, theta: Float[np.ndarray, " size"]) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient and Hessian of `entropy`."""
        gradient, hessian = _derivatives(self, theta)
        return np.asarray(gradient), np.asarray(hessian)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(width={self.width})"


def _rest(order: OrderParameter) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((key, value) for key, value in vars(order).items() if key != "width"))


def _rebuild(cls: type, rest: tuple[tuple[str, Any], ...], data: tuple[Any]) -> Any:
    order = object.__new__(cls)
    vars(order).update(rest, width=data[0])
    return order


@jax.jit
def _derivatives(order: OrderParameter, theta: Array) -> tuple[Array, Array]:
    return jax.grad(order.entropy)(theta), jax.hessian(order.entropy)(theta)


class Scale(OrderParameter):
    """Q̄ = 1/(1 + Q) = e^u, with N(e^u − 1 − u): a layer without a mean term."""

    size = 1
    names = ("log q_bar",)

    def value(self, theta: Any) -> Scales:
        """Return Q̄ twice."""
        q_bar = _exp(theta[0])
        return Scales(q_bar, q_bar)

    def entropy(self, theta: Any) -> Any:
        """Return N(e^u − 1 − u)."""
        return self.width * (_exp(theta[0]) - 1.0 - theta[0])

    def integral(self, theta: np.ndarray) -> tuple[int, float]:
        """Return that of Q̄ ~ Gamma(N/2, rate N/2), to leading order in 1/N."""
        return 0, 0.5 * math.log(self.width / 2)

    def laws(self) -> tuple[Law, ...]:
        """Return Q̄ ~ Gamma(N/2, rate N/2)."""
        return (Law("q_bar", 0, self.width / 2, self.width / 2),)

    def derivatives(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return them in closed form: the equations of one layer cost less than a call of JAX."""
        return self.width * np.expm1(theta), self.width * np.exp(theta)[:, None]


class WithMean(OrderParameter):
    """Q̄ = e^u and 1/(1 + Q) = e^w, with N(e^u − e^(u − w) − w)."""

    size = 2
    names = ("log q_bar", "-log(1 + q)")

    def value(self, theta: Any) -> Scales:
        """Return Q̄ and 1/(1 + Q)."""
        return Scales(_exp(theta[0]), _exp(theta[1]))

    def entropy(self, theta: Any) -> Any:
        """Return N[−Q Q̄ + log(1 + Q)]."""
        u, w = theta
        return self.width * (_exp(u) - _exp(u - w) - w)

    def integral(self, theta: np.ndarray) -> tuple[int, float]:
        """Return that of ∫(N/4πi) dQ dQ̄, in logarithmic variables."""
        u, w = theta
        return 1, math.log(self.width / 2) + float(u - w)

    def log_volume(self) -> np.ndarray:
        """Return that of J = Q̄(1 + Q), Q̄ and Q being integrated."""
        return np.array([1.0, -1.0])

    def derivatives(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return them in closed form (see `Scale.derivatives`)."""
        u, w = theta
        q_bar, ratio = self.width * np.exp(u), self.width * np.exp(u - w)
        gradient = np.array([q_bar - ratio, self.width * np.expm1(u - w)])
        return gradient, np.array([[q_bar - ratio, ratio], [ratio, -ratio]])


def _exp(value: Any) -> Any:
    return jnp.exp(value) if isinstance(value, Array) else np.exp(value)


def _row(values: Any, index: int) -> Any:
    return jax.tree.map(lambda part: part[index], values)


class Chart(NamedTuple):
    """The order parameters of all layers as one vector θ, layer after layer."""

    orders: tuple[OrderParameter, ...]

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return sum(order.size for order in self.orders)

    @property
    def names(self) -> list[str]:
        """Names of the coordinates."""
        return [
            f"{name} {layer}"
            for layer, order in enumerate(self.orders, start=1)
            for name in (order.names or [f"theta_{i}" for i in range(1, order.size + 1)])
        ]

    def widths(self) -> np.ndarray:
        """Return each coordinate's width, shape (size,)."""
        return np.repeat(
            np.array([order.width for order in self.orders], dtype=np.float64),
            [order.size for order in self.orders],
        )

    def scaled(self, factor: float) -> "Chart":
        """Return the chart of layers whose widths are multiplied by `factor`."""
        return jax.tree.map(lambda width: width * factor, self)

    def value(self, theta: Float[Any, " size"]) -> OrderParameters:
        """Return what the kernels take."""
        kinds = {jax.tree.structure(order) for order in self.orders}
        if isinstance(theta, Array) and len(kinds) == 1:
            # one call for all, as the compiler's time goes by the number of operations
            first, depth = self.orders[0], len(self.orders)
            rows = jax.vmap(first.value)(theta.reshape(depth, first.size))
            return OrderParameters(tuple(_row(rows, layer) for layer in range(depth)))
        return OrderParameters(tuple(order.value(part) for order, part in self._parts(theta)))

    def entropy(self, theta: Float[Any, " size"]) -> Any:
        """Return the prior's part of the action."""
        return sum(order.entropy(part) for order, part in self._parts(theta))

    def derivatives(self, theta: Float[np.ndarray, " size"]) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient and Hessian of the entropy, shapes (size,) and (size, size)."""
        gradient, hessian = np.zeros(theta.size), np.zeros((theta.size, theta.size))
        start = 0
        for order, part in self._parts(theta):
            span = slice(start, start + order.size)
            gradient[span], hessian[span, span] = order.derivatives(part)
            start = span.stop
        return gradient, hessian

    def integral(self, theta: np.ndarray) -> tuple[int, float] | None:
        """Return the sums of the layers' `OrderParameter.integral`, None if one has none."""
        parts = [order.integral(part) for order, part in self._parts(theta)]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return sum(negative for negative, _ in known), math.fsum(value for _, value in known)

    def log_volume(self) -> np.ndarray:
        """Return ∇log J of all layers, shape (size,)."""
        return np.concatenate([order.log_volume() for order in self.orders])

    def cubic(self, theta: np.ndarray, signs: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Return D_j Σ_k sign_k D_k² of the entropy along the rows of `directions`."""
        return np.asarray(_cubic(self, theta, signs, directions))

    def _parts(self, theta: Any) -> list[tuple[OrderParameter, Any]]:
        ends = np.cumsum([order.size for order in self.orders])
        return [
            (order, theta[end - order.size : end])
            for order, end in zip(self.orders, ends, strict=True)
        ]


@jax.jit
def _cubic(chart: Chart, theta: Array, signs: Array, directions: Array) -> Array:
    hessian = jax.hessian(chart.entropy)

    def bend(theta: Array) -> Array:
        return jnp.einsum("k,ki,kj,ij", signs, directions, directions, hessian(theta))

    return directions @ jax.grad(bend)(theta)
