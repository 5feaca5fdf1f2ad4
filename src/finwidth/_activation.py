"""Activations: an elementwise function with, where known, its Gaussian moments."""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Literal

from jax import Array

from ._errors import InputError
from ._inputs import shown

__all__ = ["Activation", "get_activation", "list_activations"]


@dataclasses.dataclass(frozen=True)
class Activation:
    """An activation function and the layer map that follows from it.

    Parameters
    ----------
    name
        The name users write, lower case.
    fn
        Elementwise JAX function σ(h).
    parity
        "odd" if σ(-h) = -σ(h), so that the mean vector m vanishes; else "none".
    kernel
        ``kernel(c_xx, c_xy, c_yy)`` -> E[σ(h)σ(h')], (h, h') ~ N(0, [[c_xx, c_xy], [c_xy, c_yy]]);
        a broadcasting JAX function with finite gradients everywhere. None: quadrature.
    mean
        ``mean(c_xx)`` -> E[σ(h)], h ~ N(0, c_xx). None: zero if odd, else quadrature.
    reference
        Where the closed form comes from.

    Raises
    ------
    InputError
        If a field has the wrong type.
    """

    name: str
    fn: Callable[[Array], Array]
    parity: Literal["odd", "none"] = "none"
    kernel: Callable[[Array, Array, Array], Array] | None = None
    mean: Callable[[Array], Array] | None = None
    reference: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InputError(f"expected name = a non-empty string, got {shown(self.name)}")
        if not callable(self.fn):
            raise InputError(
                f"expected fn = a callable for activation {self.name!r}, got {shown(self.fn)}"
            )
        if not isinstance(self.parity, str) or self.parity not in ("odd", "none"):
            raise InputError(
                f"expected parity = 'odd' or 'none' for activation {self.name!r}, "
                f"got {shown(self.parity)}"
            )
        if not isinstance(self.reference, str):
            raise InputError(
                f"expected reference = a string for activation {self.name!r}, got "
                f"{shown(self.reference)}"
            )
        for field in ("kernel", "mean"):
            value = getattr(self, field)
            if value is not None and not callable(value):
                raise InputError(
                    f"expected {field} = a callable or None for activation {self.name!r}, "
                    f"got {shown(value)}"
                )


def list_activations() -> list[str]:
    """Return the sorted names of all registered activations, built-in and from plugins."""
    from ._plugins import activations

    return sorted(activations())


def get_activation(name: str) -> Activation:
    """Return the registered activation of that name.

    Parameters
    ----------
    name
        A name out of `list_activations`.

    Raises
    ------
    InputError
        If no activation has that name; the message suggests the closest one, and names the
        plugins that are installed but could not be used.
    """
    from ._plugins import activations, failed_plugins

    known = activations()
    if not isinstance(name, str):
        raise InputError(f"expected activation = one of {sorted(known)}, got {shown(name)}")
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        failed = "; ".join(str(record.error) for record in failed_plugins())
        if failed:
            hint += f"; left out: {failed}"
        raise InputError(f"expected activation = one of {sorted(known)}, got {shown(name)}{hint}")
    return known[name]
