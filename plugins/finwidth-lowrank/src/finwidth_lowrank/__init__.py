"""Dense layers of low rank as layers of finwidth, for theory and sampler alike."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp

import finwidth as fw
from finwidth.theories import Law, Layer, Link, OrderParameter, OrderParameters, Site

__all__ = ["LowRank", "finwidth_register_layers"]


class TwoScales(OrderParameter):
    """The scales q of N units and p of R others, with N[q − log q − 1] + R[p − log p − 1]."""

    size = 2
    names = ("log q of the units", "log q of the rank")

    def __init__(self, width: Any, rank: int) -> None:
        super().__init__(width)
        self.rank = rank

    def value(self, theta: Any) -> Any:
        """Return Q̄ = q p, which is all that the kernel of a dense layer takes."""
        q_bar = jnp.exp(theta[0] + theta[1])
        return OrderParameters.of([q_bar], [q_bar]).values[0]

    def entropy(self, theta: Any) -> Any:
        """Return the term of the action."""
        parts = jnp.expm1(jnp.asarray(theta)) - jnp.asarray(theta)
        return self.width * parts[0] + self.rank * parts[1]

    def laws(self) -> tuple[Law, ...]:
        """Return q ~ Gamma(N/2, rate N/2) and p ~ Gamma(R/2, rate R/2)."""
        widths = {"q_units": self.width / 2, "q_rank": self.rank / 2}
        return tuple(Law(name, 1, half, half) for name, half in widths.items())


@dataclasses.dataclass(frozen=True)
class LowRank(Layer):
    """A dense layer of low rank, h = U V σ(h')/√(N R) (+ b), V ~ N(0, 1), U ~ N(0, 1/λ).

    Parameters
    ----------
    width
        Number of units.
    rank
        R.

    Raises
    ------
    finwidth.InputError
        If an argument is not as described, or the layer is the first one.
    """

    rank: int = 1

    name: ClassVar[str] = "lowrank"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or self.rank < 1:
            raise fw.InputError(f"expected rank = an int of at least 1, got {self.rank!r}")

    def check(self, before: Layer | None) -> None:
        """Refuse to be the first layer: no order parameter scales the covariance of its h."""
        if before is None:
            raise fw.InputError("expected a layer before one of low rank, got it as the first")

    def link(self, before: Layer, mean: bool) -> Link:
        """Return the map of dense layers, with two scales."""
        if mean:
            raise fw.InputError(
                "expected an odd activation with a layer of low rank and a theory of finite width, "
                "got one that is not odd"
            )
        return (
            fw.Dense(self.width)
            .link(before, mean)
            ._replace(order=TwoScales(before.width, self.rank))
        )

    def readout(self, mean: bool) -> Link:
        """Return what follows a dense layer."""
        return fw.Dense(self.width).readout(mean)

    def sites(
        self, units: str, inputs: tuple[str, int], precision: Any, bias: Any
    ) -> dict[str, Site]:
        """Return U, V and b."""
        rank = units.replace("unit", "rank")
        sites = {
            "U": Site((units, rank), (self.width, self.rank), precision),
            "V": Site((rank, inputs[0]), (self.rank, inputs[1]), 1.0),
        }
        return sites if bias is None else sites | {"b": Site((units,), (self.width,), bias)}

    def forward(self, weights: Mapping[str, Any], x: Any, before: Any) -> Any:
        """Return U V x/√(N R) (+ b)."""
        inner = weights["V"] @ x / weights["V"].shape[1] ** 0.5
        h = weights["U"] @ inner / self.rank**0.5
        return h + weights["b"][:, None] if "b" in weights else h


@fw.hookimpl
def finwidth_register_layers() -> list[type[Layer]]:
    """Register the layer."""
    return [LowRank]
