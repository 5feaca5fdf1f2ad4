"""What layers ask of a network; `finwidth.Network`, which stands above them, is one."""

from typing import Any, Protocol, runtime_checkable

__all__ = ["Architecture"]


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
    def weight_precision(self) -> tuple[float, ...]:
        """λ_0 … λ_L."""
        ...

    @property
    def bias_precision(self) -> tuple[float, ...] | None:
        """λ^b_0 … λ^b_L, or None."""
        ...
