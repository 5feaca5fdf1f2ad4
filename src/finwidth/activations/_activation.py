"""Activations, elementwise functions with, where known, their Gaussian moments, and families."""

import dataclasses
import inspect
import math
import threading
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
    "ActivationFamily",
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


@dataclasses.dataclass(frozen=True)
class ActivationFamily:
    """Activations with numbers in their names, such as ``leaky_relu:0.1``.

    Users write ``NAME:VALUE,VALUE…``, ``NAME:PARAMETER=VALUE,…`` or a mixture, in the order of the
    parameters; those not given have their defaults, and NAME alone has all defaults.

    Parameters
    ----------
    name
        The name before the colon.
    make
        ``make(**parameters)`` -> `Activation`, whose name is replaced by the full one. Each of its
        parameters has a float as default; what it cannot take it refuses with `InputError`.

    Raises
    ------
    InputError
        If a field has the wrong type, or a parameter of `make` has no float as default.
    """

    name: str
    make: Callable[..., Activation]

    def __post_init__(self) -> None:
        check_name("name", self.name)
        expected = (
            "expected make = a function whose parameters have floats as defaults for the family "
            f"{self.name!r}"
        )
        try:
            defaults = self.defaults if callable(self.make) else {}
        except (TypeError, ValueError):
            defaults = {}
        if not defaults:
            raise InputError(f"{expected}, got {shown(self.make)}")
        for parameter, default in defaults.items():
            if type(default) not in (int, float) or not math.isfinite(default):
                raise InputError(f"{expected}, got one for {parameter!r} that is none")

    @property
    def defaults(self) -> dict[str, Any]:
        """The parameters, in order, and their defaults."""
        return {p.name: p.default for p in inspect.signature(self.make).parameters.values()}

    @property
    def form(self) -> str:
        """What users write, with the parameters' names in capitals."""
        return f"{self.name}:{','.join(self.defaults).upper()}"

    def member(self, text: str) -> Activation:
        """Return the activation of the parameters in `text`; the same object for the same ones.

        Raises
        ------
        InputError
            If they are not numbers, are too many, or `make` refuses them.
        """
        if not isinstance(text, str):
            raise InputError(f"expected text = a string, got {shown(text)}")
        values = self._values(text)
        with _lock:  # so that two threads get one object, for which programs are compiled once
            key = (self, tuple(values.values()))
            if key not in _members:
                _members[key] = self._made(values)
            return _members[key]

    def _values(self, text: str) -> dict[str, float]:
        expected = f"expected activation = {self.form}, its parameters finite floats"
        got = f"got {shown(f'{self.name}:{text}')}"
        defaults = self.defaults
        names = list(defaults)
        given: dict[str, float] = {}
        for place, part in enumerate(text.split(",") if text else ()):
            name, equals, number = part.rpartition("=")
            if not equals:
                name = names[place] if place < len(names) else ""
            try:
                value = float(number)
            except ValueError:
                value = math.nan
            if name.strip() not in defaults or name.strip() in given or not math.isfinite(value):
                raise InputError(f"{expected}, {got}")
            given[name.strip()] = value + 0.0  # -0.0 is 0.0
        return {name: given.get(name, float(value)) for name, value in defaults.items()}

    def _made(self, values: dict[str, float]) -> Activation:
        name = f"{self.name}:{','.join(map(_short, values.values()))}"
        try:
            made = self.make(**values)
        except (ValueError, ArithmeticError) as error:
            reason = error if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            raise InputError(
                f"expected activation = {self.form} with parameters that it takes, got {name!r} "
                f"({reason})"
            ) from None
        if not isinstance(made, Activation):
            raise PluginError(
                f"expected the family {self.name!r} to make a finwidth.Activation, got "
                f"{shown(made)}"
            )
        return dataclasses.replace(made, name=name)


_lock = threading.RLock()
_members: dict[tuple[ActivationFamily, tuple[float, ...]], Activation] = {}


def _short(value: float) -> str:
    """Return the shortest text that is this number: 0.1, 1, 1e-05."""
    return text if float(text := f"{value:g}") == value else repr(value)


def _check(item: Activation | ActivationFamily) -> None:
    if ":" in item.name:
        raise PluginError(
            f"expected a name without a colon, behind which parameters stand, got {item.name!r}"
        )


SHELF: Shelf[Activation | ActivationFamily] = Shelf(
    "finwidth.activations",
    "activation",
    (Activation, ActivationFamily),
    "finwidth.Activation",
    hook="finwidth_register_activations",
    check=_check,
)


def list_activations() -> list[str]:
    """Return the sorted names of all registered activations, built-in and from plugins.

    The name of a family stands for its member with the default parameters.

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
        A name out of `list_activations`; for a family with its parameters, ``"leaky_relu:0.1"``.

    Raises
    ------
    InputError
        If no activation has that name; the message suggests the closest one, and names the
        plugins that are installed but could not be used. If the parameters are not such as the
        family takes.
    """
    base, colon, parameters = check_name("name", name).partition(":")
    found = SHELF.get(base)
    if isinstance(found, ActivationFamily):
        return found.member(parameters)
    if colon:
        raise InputError(
            f"expected activation = {base!r}, which takes no parameters, got {shown(name)}"
        )
    return found


def activation_sources() -> dict[str, PluginRecord]:
    """Return, for every registered activation, the record of the plugin it comes from."""
    return SHELF.sources()
