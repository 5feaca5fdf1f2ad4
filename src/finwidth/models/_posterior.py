"""What `sample` needs of a model: a posterior, with its sites and what compiled code makes of it.

A posterior holds the checked data of a run. What is compiled is its *program*, a function of its
*inputs*, one pytree of all numbers: programs that are equal, with inputs of the same shapes, share
compiled code, so that a second run starts at once.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import numpy as np
from jax import Array

from .._basics.arrays import as_number, check_labels, shown
from .._basics.checks import check_temperature
from .._basics.errors import InputError, PluginError
from .._layers.layer import Site
from .._problem.label_kinds import check_label_kind
from .._problem.label_scale import check_label_scale
from .._problem.network import Network, check_network
from ..activations._contract import validate_kernel

__all__ = [
    "Posterior",
    "Program",
    "check_program",
    "check_stored",
    "extras",
    "fitted",
    "make_posterior",
    "model_of",
    "stored_shapes",
]


@runtime_checkable
class Program(Protocol):
    """What compiled code depends on besides arrays; hashable, with equality by content."""

    def density(self, inputs: Any) -> tuple[Callable[..., None], tuple, dict]:
        """Return the NumPyro model and its arguments."""
        ...

    def reduce(self, inputs: Any, rng_key: Array, sites: dict[str, Array]) -> dict[str, Array]:
        """Return what is stored of a draw of the latent sites, given unconstrained.

        That is "site:NAME" of every site (or derived value) to keep and, where there are test
        points, all that the posterior's `predicted` names, of the shapes given there.
        """
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Posterior(abc.ABC):
    """The posterior of a network, given data; `make_posterior` checks them.

    A dataclass that derives from it may have further fields, with defaults: the arguments of
    `finwidth.sample` that it alone takes, of JSON types. They are recorded.

    Parameters
    ----------
    network
        The network.
    X, y
        Training set, shapes (pattern, input), or those of images where the first layer takes them,
        and (pattern,), or (pattern, output) with several outputs.
    temperature
        T > 0.
    X_test, y_test
        Test points, of such shapes, or None.

    Attributes
    ----------
    name
        What users write, ``sample(model=NAME)``.
    kind
        What comparisons call its draws: "exact" where it is the network's own posterior.
    default_sampler
        Name of the sampler if none is named.
    default_options
        Options of samplers, by name, where the sampler's own are not the best.
    predictions
        What is stored of f at the test points: "f", a draw; "f_mean" and "f_variance", its exact
        moments given the latent sites.
    essential
        Sites that are stored even where all would take too much memory.
    several_outputs
        Whether networks of more than one output are sampled.
    """

    network: Network
    X: np.ndarray
    y: np.ndarray
    temperature: float
    X_test: np.ndarray | None
    y_test: np.ndarray | None

    name: ClassVar[str]
    kind: ClassVar[str]
    default_sampler: ClassVar[str] = "split_hmc"
    default_options: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    predictions: ClassVar[tuple[str, ...]] = ("f", "f_mean", "f_variance")
    essential: ClassVar[tuple[str, ...]] = ()
    several_outputs: ClassVar[bool] = False

    @classmethod
    def for_network(cls, net: Network) -> "type[Posterior]":
        """Return the class that samples this network, by default itself."""
        return cls

    def check(self) -> None:  # noqa: B027 - most have nothing more to check
        """Raise InputError where the posterior is not defined for its fields."""

    @property
    @abc.abstractmethod
    def sites(self) -> Mapping[str, Site]:
        """The sites that can be stored."""

    @property
    def derived(self) -> Mapping[str, Site]:
        """What can be stored besides the sites, where a program gives it.

        That is f on the training set, and log_prior, the log density of all that f follows from.
        """
        return {}

    def prior(self) -> tuple[Callable[..., None], tuple, dict]:
        """Return a NumPyro model of the sites and of labels that are not observed."""
        raise InputError(f"expected prior = 0 with model={self.name!r}, which has no prior draws")

    @property
    def predicted(self) -> Mapping[str, Site]:
        """Dimensions and shape of each of the `predictions`; none without test points."""
        if self.X_test is None:
            return {}
        site = Site(("test_pattern",), self.X_test.shape[:1])
        if self.network.outputs > 1:
            site = Site((*site.dims, "output"), (*site.shape, self.network.outputs))
        return dict.fromkeys(self.predictions, site)

    @property
    def gaussian(self) -> bool:
        """Whether all latent sites are Gaussian under the prior."""
        return all(site.precision is not None for site in self.sites.values())

    @property
    def settings(self) -> dict[str, Any]:
        """What a record of the run tells besides the data and the model's name."""
        return {name: getattr(self, name) for name in extras(type(self))}

    def identity(self) -> dict[str, Any]:
        """Return what tells this run from others besides its settings, for a checkpoint."""
        return {}

    @abc.abstractmethod
    def inputs(self) -> Any:
        """Return all arrays that compiled code takes, a pytree, in JAX's default precision."""

    @abc.abstractmethod
    def program(self, keep: tuple[str, ...]) -> Program:
        """Return the program that stores the sites `keep`."""


def fitted(net: Network, n_patterns: int) -> dict[str, Site]:
    """Return the description of f on the training set."""
    if net.outputs == 1:
        return {"f": Site(("pattern",), (n_patterns,))}
    return {"f": Site(("pattern", "output"), (n_patterns, net.outputs))}


def extras(kind: type[Posterior]) -> tuple[str, ...]:
    """Return the names of the fields that this kind of posterior has and others have not."""
    common = {field.name for field in dataclasses.fields(Posterior)}
    return tuple(field.name for field in dataclasses.fields(kind) if field.name not in common)


def make_posterior(
    kind: type[Posterior],
    net: Any,
    X: Any,
    y: Any,
    temperature: Any,
    X_test: Any,
    y_test: Any,
    **given: Any,
) -> Posterior:
    """Return the posterior of checked data.

    Parameters
    ----------
    kind
        Class of the posterior.
    net, X, y, temperature, X_test, y_test
        Its fields, as they come.
    **given
        Further fields; None where nobody gave them.

    Raises
    ------
    InputError
        If an argument is not as described, or one of `given` not for this posterior.
    PluginError
        If the class lacks a part of a posterior, or its sites have no shapes.
    """
    check_network(net)
    labels = 1 if getattr(given.get("likelihood"), "one_label", False) else net.outputs
    first = net.layers[0]
    X = first.check_inputs(X)
    raw = y
    y = check_labels(y, X.shape[0], outputs=labels)
    check_label_kind(raw, regression=given.get("likelihood") is None)
    try:
        temperature = check_temperature(temperature, zero=False)
    except InputError as error:
        if as_number(temperature) == 0:
            raise InputError(
                f"{error}: for T → 0 the smallest T that changes nothing more (the how-to page on "
                "low temperature)"
            ) from None
        raise
    for activation in dict.fromkeys(net.activations):
        validate_kernel(activation)
    if X_test is not None:
        X_test = first.check_inputs(X_test, "X_test", X.shape[1:])
    if y_test is not None:
        if X_test is None:
            raise InputError("expected X_test together with y_test, got X_test=None")
        y_test = check_labels(y_test, X_test.shape[0], "y_test", "X_test", labels)
    kind = kind.for_network(net)
    _check_kind(kind)
    if net.outputs > 1 and not kind.several_outputs:
        raise InputError(f"expected outputs = 1 with model={kind.name!r}, got {net.outputs}")
    own = {name: value for name, value in given.items() if value is not None}
    for name, value in own.items():
        if name not in extras(kind):
            raise InputError(f"expected {name} = None with model={kind.name!r}, got {shown(value)}")
    posterior = kind(net, X, y, temperature, X_test, y_test, **own)
    posterior.check()
    _check_sites(posterior)
    if own.get("likelihood") is None:
        check_label_scale(net, X, y, temperature)
    return posterior


def _check_kind(kind: type[Posterior]) -> None:
    for attribute in ("name", "kind", "default_sampler"):
        text = getattr(kind, attribute, None)
        if not isinstance(text, str) or not text:
            raise PluginError(
                f"expected {attribute} of the posterior {kind.__name__} = a non-empty string, got "
                f"{shown(text)}"
            )
    missing = sorted(getattr(kind, "__abstractmethods__", ()))
    if missing:
        raise PluginError(f"expected model {kind.name!r} with {', '.join(missing)}, got none")


def _check_sites(posterior: Posterior) -> None:
    sites, name = posterior.sites, posterior.name
    if not isinstance(sites, Mapping) or not sites:
        raise PluginError(
            f"expected sites of model {name!r} = a dict of Site, at least one, got {shown(sites)}"
        )
    for key, site in sites.items():
        described = isinstance(site, Site) and isinstance(site.shape, tuple)
        if not (
            described
            and len(site.dims) == len(site.shape)
            and all(isinstance(size, int) for size in site.shape)
            and all(isinstance(dim, str) for dim in site.dims)
        ):
            raise PluginError(
                f"expected site {key!r} of model {name!r} = a Site with the name and size of each "
                f"axis, got {shown(site)}"
            )


def stored_shapes(posterior: Posterior, keep: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what must be stored of a draw; `keep` may name what is derived."""
    storable = {**posterior.sites, **posterior.derived}
    shapes = {f"site:{name}": storable[name].shape for name in keep}
    return shapes | {name: site.shape for name, site in posterior.predicted.items()}


def check_stored(name: str, shapes: Mapping[str, tuple[int, ...]], stored: Any) -> None:
    """Raise PluginError unless what a program stores of a draw has the promised shapes.

    Parameters
    ----------
    name
        Of the model.
    shapes
        What is promised, see `stored_shapes`.
    stored
        What `Program.reduce` returned; arrays may be traced.
    """
    if not isinstance(stored, dict):
        raise PluginError(
            f"expected a dict of what model {name!r} stores of a draw, got {type(stored).__name__}"
        )
    got = {key: getattr(value, "shape", None) for key, value in stored.items()}
    for key in [*shapes, *got]:
        if key not in shapes:
            raise PluginError(
                f"expected {sorted(shapes)} of a draw of model {name!r}, got {key!r}, too"
            )
        if got.get(key) != shapes[key]:
            found = f"shape {got[key]}" if key in got else "none"
            raise PluginError(
                f"expected {key!r} of shape {shapes[key]} of a draw of model {name!r}, got {found}"
            )


def check_program(name: str, program: Any, inputs: Any) -> None:
    """Raise PluginError unless a program has its parts and a hash, and its inputs are arrays."""
    if not isinstance(program, Program):
        raise PluginError(
            f"expected a program of model {name!r} with density and reduce, got {shown(program)}"
        )
    try:
        hash(program)
    except TypeError as error:
        raise PluginError(
            f"expected a program of model {name!r} that has a hash, got {error}"
        ) from None
    for leaf in jax.tree.leaves(inputs):
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            raise PluginError(
                f"expected inputs of model {name!r} = a pytree of arrays, got {shown(leaf)}"
            )


def model_of(name: str, program: Program, inputs: Any) -> Callable[..., None]:
    """Return the NumPyro model of a program, or raise PluginError where it gives none."""
    density = program.density(inputs)
    if not (
        isinstance(density, tuple)
        and len(density) == 3
        and callable(density[0])
        and isinstance(density[1], tuple)
        and isinstance(density[2], dict)
    ):
        raise PluginError(
            f"expected density of model {name!r} = (NumPyro model, arguments, keywords), got "
            f"{shown(density)}"
        )
    return density[0]
