"""Activations: an elementwise function with, where known, its Gaussian moments."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from jax import Array

from .._basics.arrays import shown
from .._basics.checks import check_name
from .._basics.errors import InputError, PluginError
from .._plugins.loader import PluginRecord
from .._plugins.shelf import Shelf

__all__ = [
    "SHELF",
    "Activation",
    "activation_sources",
    "get_activation",
    "list_activations",
]


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

    @property
    def digest(self) -> str | None:
        """Digest of the values of `fn`, `kernel` and `mean`: tells functions of one name apart.

        The same on every machine. None where `fn` cannot be evaluated on a float64 array.
        """
        from ._fingerprint import fingerprint

        try:
            return fingerprint(self)
        except TypeError:  # functions that cannot be hashed
            return None

    def __copy__(self) -> "Activation":
        return self  # nothing in it can change

    def __deepcopy__(self, memo: dict[int, Any]) -> "Activation":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle a registered activation as its name, another one as its functions."""
        from ._fingerprint import carry

        try:
            registered = get_activation(self.name) == self
        except (InputError, PluginError):  # not known, or somebody else's plugins clash
            registered = False
        digest = self.digest
        if registered and digest is not None:
            return _registered, (self.name, digest)
        functions = carry(self.fn), carry(self.kernel), carry(self.mean)
        rest = {k: v for k, v in vars(self).items() if k not in Activation.__dataclass_fields__}
        made = type(self), self.name, functions, self.parity, self.reference, digest
        return _made, made, rest or None


def _registered(name: str, digest: str) -> Activation:
    """Return the activation that a pickle names."""
    expected = f"expected activation {name!r}, which a pickled object uses, to be registered here"
    try:
        found = get_activation(name)
    except InputError as error:
        raise PluginError(f"{expected} as it was there (by a plugin?), got none: {error}") from None
    if found.digest != digest:
        raise PluginError(f"{expected} with the same functions, got other ones of that name")
    return found


def _made(
    kind: type[Activation], name: str, functions: Any, parity: Any, ref: str, digest: str | None
) -> Activation:
    """Return the activation that a pickle describes.

    A function that is found by its place, or one that it calls, may have been edited since.
    """
    from ._fingerprint import restore

    fn, kernel, mean = map(restore, functions)
    made = kind(name, fn, parity, kernel, mean, ref)
    # one that cannot be evaluated here raises where it is used
    if digest is not None and made.digest not in (digest, None):
        place = f"{getattr(fn, '__module__', '?')}.{getattr(fn, '__qualname__', repr(fn))}"
        raise PluginError(
            f"expected activation {name!r}, which a pickled object uses, with the functions that "
            f"it had there, got other ones ({place} has changed?)"
        )
    return made


SHELF: Shelf[Activation] = Shelf(
    "finwidth.activations",
    "activation",
    Activation,
    "finwidth.Activation",
    hook="finwidth_register_activations",
)


def list_activations() -> list[str]:
    """Return the sorted names of all registered activations, built-in and from plugins.

    Raises
    ------
    PluginError
        If two plugins register the same name, or a plugin misspells a hook.
    InputError
        If ``FINWIDTH_LOAD_PLUGINS`` names a distribution without finwidth plugins.
    """
    return SHELF.names()


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
    return SHELF.get(check_name("name", name))


def activation_sources() -> dict[str, PluginRecord]:
    """Return, for every registered activation, the record of the plugin it comes from."""
    return SHELF.sources()
