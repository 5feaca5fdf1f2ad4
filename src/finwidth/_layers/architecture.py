"""What layers ask of a network; `finwidth.Network`, which stands above them, is one."""

from typing import Any, Protocol, runtime_checkable

__all__ = ["Architecture", "Layered"]


class Layered:
    """What follows from a network's layers and activations alone."""

    layers: tuple[Any, ...]
    activation: Any
    readout_activation: Any

    @property
    def activations(self) -> tuple[Any, ...]:
        """σ of the h of each layer, first to last; that of the last is the readout's."""
        return (*(self.activation,) * (self.depth - 1), self.readout_activation)

    @property
    def widths(self) -> tuple[int, ...]:
        """N_1 … N_L."""
        return tuple(layer.width for layer in self.layers)

    @property
    def depth(self) -> int:
        """Number of hidden layers L."""
        return len(self.layers)


@runtime_checkable
class Architecture(Protocol):
    """Widths, activation and precisions of the priors; see `finwidth.Network`."""

    @property
    def layers(self) -> tuple[Any, ...]:
        """The hidden layers, first to last."""
        ...

    @property
    def widths(self) -> tuple[int, ...]:
        """N_1 … N_L."""
        ...

    @property
    def depth(self) -> int:
        """L."""
        ...

    @property
    def activation(self) -> Any:
        """σ."""
        ...

    @property
    def activations(self) -> tuple[Any, ...]:
        """σ of the h of each layer; that of the last is the readout's."""
        ...

    @property
    def weight_precision(self) -> tuple[float, ...]:
        """λ_0 … λ_L."""
        ...

    @property
    def bias_precision(self) -> tuple[float, ...] | None:
        """λ^b_0 … λ^b_L, or None."""
        ...

    @property
    def outputs(self) -> int:
        """D."""
        ...
