"""The residual block: what it hands on of the layer before, and what it adds.

Of a block h' = c h + ρ W σ(h)/√N the outputs see N pairs of weights, those on h and those on
σ(h). Their squared lengths and their overlap are what finite width leaves free, so that a block
has the pair (s, r), and the kernel E[h σ(h')] between skip and branch enters with r.

Source: theory.md, section 17.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from .._basics.arrays import shown
from .._basics.checks import check_flag, check_number
from .._basics.errors import InputError
from .._plugins.hooks import hookimpl
from ..activations import _moments
from ..activations._activation import Activation
from .covariance import Covariance, Square
from .dense import layer_map, moments
from .law import Law
from .layer import Layer, Link, scale
from .order import OrderParameter

__all__ = ["BranchAlone", "Overlap", "Pair", "Residual", "block_map"]


class Pair(NamedTuple):
    """s and r, what the kernel of a block takes."""

    s: Any
    r: Any

    @property
    def growth(self) -> Any:
        """By what the variances of infinite width are multiplied, at most."""
        return 1.0 + self.s  # (x + √s y)² ≤ (1 + s)(x² + y²), whatever the overlap

    @property
    def shown(self) -> dict[str, tuple[str, int, Any]]:
        """What users see (see `Scales`): of the block, which is the next layer."""
        return {"s": ("block", 1, self.s), "r": ("block", 1, self.r)}


class Overlap(OrderParameter):
    """s = e^w + r² and r, with N[s − log(s − r²) − 1]: a block whose skip and branch overlap."""

    size = 2
    names = ("log(s - r²)", "r")

    def value(self, theta: Any) -> Pair:
        """Return s and r."""
        return Pair(_exp(theta[0]) + theta[1] ** 2, theta[1])

    def entropy(self, theta: Any) -> Any:
        """Return N[e^w − w − 1 + r²]."""
        return self.width * (_exp(theta[0]) - theta[0] - 1.0 + theta[1] ** 2)

    def integral(self, theta: np.ndarray) -> tuple[int, float]:
        """Return that of r ~ N(0, 1/N), e^w ~ Gamma((N − 1)/2, N/2), to leading order in 1/N."""
        return 0, math.log(self.width) - 0.5 * math.log(2.0) - 0.5 * float(theta[0])

    def laws(self) -> tuple[Law, ...] | None:
        """Return those of t = s − r² and r: z ~ N(0, 1_N) has r = z·v/(√N|v|), s = |z|²/N."""
        if self.width < 2:  # nothing is left beside r
            return None
        n = float(self.width)
        return Law("t", 1, (n - 1.0) / 2.0, n / 2.0), Law("r", 1, None, n)

    def log_volume(self) -> np.ndarray:
        """Return that of J = e^(−w/2)."""
        return np.array([-0.5, 0.0])

    def derivatives(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return them in closed form."""
        gradient = self.width * np.array([np.expm1(theta[0]), 2.0 * theta[1]])
        return gradient, self.width * np.diag([np.exp(theta[0]), 2.0])


class BranchAlone(OrderParameter):
    """s = e^w with N[s − log s − 1], and r = 0: what is left where the overlap is dropped."""

    size = 1
    names = ("log s",)

    def value(self, theta: Any) -> Pair:
        """Return s and 0."""
        s = _exp(theta[0])
        return Pair(s, 0.0 * s)

    def entropy(self, theta: Any) -> Any:
        """Return N[e^w − w − 1]."""
        return self.width * (_exp(theta[0]) - theta[0] - 1.0)


def _exp(value: Any) -> Any:
    return jnp.exp(value) if isinstance(value, Array) else np.exp(value)


@functools.partial(jax.jit, static_argnames=("activation",))
def block_map(
    activation: Activation,
    covariance: Covariance,
    value: Pair,
    precision: Any,
    bias: Any,
    rule: Any,
    skip: Any,
    branch: Any,
) -> Covariance:
    """Return the covariance of a block's h from that of the h before.

    K' = c² K + cρ r (Γ + Γᵀ)/√λ + ρ² s (K∘K)/λ (+ 1/λ^b), Γ(x, x') = K(x, x') E[σ'(h(x'))];
    s = 1 and r = 0 give the block of infinite width, for any σ.

    Parameters
    ----------
    activation
        σ, odd unless r = 0.
    covariance
        K.
    value
        s and r, scalars.
    precision, bias
        λ and 1/λ^b, scalars.
    rule
        Quadrature rule from `layer_rules`.
    skip, branch
        c and ρ, scalars.

    References
    ----------
    theory.md, section 17; with more blocks than one, and with a readout that is not linear, this
    package's extension of it, exact for the identity.
    """
    second = moments(activation, covariance, rule)[0]
    both = skip * branch * value.r / jnp.sqrt(precision)
    rest = branch**2 * value.s / precision
    slope_a = slope_b = _moments.slope(activation, covariance.diag_a, rule)
    if not isinstance(covariance, Square):
        slope_b = _moments.slope(activation, covariance.diag_b, rule)

    def put(k: Array, slopes: Any, squares: Array) -> Array:
        return k * (skip**2 + both * slopes) + rest * squares + bias

    return type(second)(
        put(covariance.cross, slope_a[:, None] + slope_b[None, :], second.cross),
        put(covariance.diag_a, 2.0 * slope_a, second.diag_a),
        put(covariance.diag_b, 2.0 * slope_b, second.diag_b),
    )


@dataclasses.dataclass(frozen=True)
class Residual(Layer):
    """A residual block, h' = c h + ρ W σ(h)/√N (+ b), after a layer of the same width.

    Parameters
    ----------
    width
        N, number of units, of this layer and the one before.
    skip
        c, the strength of the skip connection.
    branch
        ρ, that of the branch. The precision of W is the layer's `weight_precision`.
    overlap
        Whether the theory has the overlap r of skip and branch. Without it, as in published
        recursions, it is wrong at order 1/N. The network is the same: no part of what is sampled.

    Raises
    ------
    InputError
        If an argument is not as described, or skip and branch are both 0. `Network` refuses a
        block that is the first layer or follows one of another width.

    References
    ----------
    theory.md, section 17.
    """

    skip: float = 1.0
    branch: float = 1.0
    overlap: bool = True

    name: ClassVar[str] = "residual"

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("skip", "branch"):
            number = check_number(field, getattr(self, field), -math.inf, math.inf)
            object.__setattr__(self, field, number)
        object.__setattr__(self, "overlap", check_flag("overlap", self.overlap))
        if self.skip == 0.0 and self.branch == 0.0:
            raise InputError("expected skip ≠ 0 or branch ≠ 0 of a residual block, got 0 and 0")

    def check(self, before: Layer | None) -> None:
        """Raise InputError where the layer before has another width, or there is none."""
        if before is None:
            raise InputError(
                "expected a layer before a residual block, of the same width, got the block as "
                "the first layer: it has no h to hand on"
            )
        if not isinstance(before, Layer):
            raise InputError(f"expected before = a finwidth layer, got {shown(before)}")
        if before.width != self.width:
            raise InputError(
                f"expected width = {before.width} of a residual block, that of the layer before, "
                f"whose h it adds to its own, got {self.width}"
            )

    def link(self, before: Layer, mean: bool) -> Link:
        """Return the block's map, for odd activations."""
        self.check(before)
        if mean:
            raise InputError(
                "expected an odd activation with a residual block and a theory of finite width "
                "(the mean term of a block is not derived; theory='infinite' and finwidth.sample "
                "take any), got one that is not odd"
            )
        order = Overlap if self.overlap else BranchAlone
        return Link(block_map, order(before.width), (self.skip, self.branch), quadrature=True)

    def readout(self, mean: bool) -> Link:
        """Return the map of dense layers, for one output."""
        return Link(layer_map, scale(self.width, mean))

    def forward(self, weights: Mapping[str, Any], x: Any, before: Any) -> Any:
        """Return c h + ρ W x/√N (+ b)."""
        h = self.skip * before + self.branch / math.sqrt(self.width) * (weights["W"] @ x)
        return h + weights["b"][:, None] if "b" in weights else h


@hookimpl
def finwidth_register_layers() -> list[type[Layer]]:
    """Register the layer."""
    return [Residual]
