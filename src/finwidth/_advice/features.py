"""What makes two problems alike: features of a problem and of a map's points, and a distance."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from .._basics.errors import FinwidthError
from .._likelihoods import Likelihood
from .._problem.network import Network
from ..activations._activation import get_activation

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FEATURES", "Features", "differences", "of_map", "of_problem", "said"]

_LEVELS = (0.25, 0.75)  # of the error outside of the training set, in units of the labels' variance
_NEVER = 10.0  # steps, between T = 0 and any other T
_WORDS = ("explained", "partly explained", "not explained")


class Features(NamedTuple):
    """What a problem is, as far as the theories' errors are known to depend on it.

    Attributes
    ----------
    load, n_patterns, temperature, depth
        P/N_1, P, T in units of the labels' mean square, L.
    activation
        Its name.
    network
        "dense", or the kind of layer that is not: "residual", "convolution".
    outputs, likelihood
        D, and the likelihood's name.
    plain
        Whether all weight precisions are 1 and there are no biases.
    error
        That of infinite width outside of the training set, in units of the labels' variance; NaN
        where it is not known.
    """

    load: float
    n_patterns: int
    temperature: float
    depth: int
    activation: Any
    network: str
    outputs: int
    likelihood: str
    plain: bool
    error: float

    @property
    def labels(self) -> int:
        """How far the inputs explain the labels: 0 (error below 0.25), 1, or 2 (above 0.75)."""
        return int(np.searchsorted(_LEVELS, self.error)) if math.isfinite(self.error) else 1

    @property
    def deep_means(self) -> bool:
        """Whether there are three dense layers or more, of an activation that is not odd.

        There no theory is right (theory.md, section 8): a pair of numbers stands for a matrix.
        """
        dense = self.network == "dense"
        return dense and self.depth >= 3 and _parity(self.activation) != "odd"


FEATURES = (
    "load",
    "n_patterns",
    "temperature",
    "depth",
    "activation",
    "network",
    "outputs",
    "likelihood",
    "prior",
    "labels",
)


def said(features: Features) -> str:
    """Return how far the inputs explain the labels, in words."""
    return _WORDS[features.labels]


def of_problem(
    network: Network,
    n_patterns: int,
    temperature: float,
    likelihood: Likelihood,
    error: float,
) -> Features:
    """Return the features of a problem; T in units of the labels' mean square."""
    special = [layer.name for layer in network.layers if layer.name != "dense"]
    return Features(
        load=n_patterns / network.widths[0],
        n_patterns=n_patterns,
        temperature=temperature,
        depth=network.depth,
        activation=network.activation,
        network=special[0] if special else "dense",
        outputs=network.outputs,
        likelihood=likelihood.name,
        plain=set(network.weight_precision) == {1.0} and network.bias_precision is None,
        error=error,
    )


def of_map(dataset: "xr.Dataset") -> list[Features]:
    """Return the features of each point of an error map, whose labels are −1 and +1."""
    infinite = np.full(dataset.sizes["point"], np.nan)
    if "infinite" in dataset["theory"].values and "error" in dataset:
        infinite = dataset["error"].sel(theory="infinite").values
    kinds = np.full(dataset.sizes["point"], "dense")
    if "network" in dataset.coords:
        kinds = [str(text).split()[0] for text in dataset["network"].values]
    columns = (
        dataset[name].values
        for name in ("load", "n_patterns", "temperature", "depth", "activation")
    )
    return [
        Features(
            load=float(load),
            n_patterns=int(patterns),
            temperature=float(temperature),
            depth=int(depth),
            activation=str(activation),
            network=str(kind),
            outputs=1,
            likelihood="gaussian",
            plain=True,
            error=float(error),
        )
        for load, patterns, temperature, depth, activation, kind, error in zip(
            *columns, kinds, infinite, strict=True
        )
    ]


def differences(one: Features, other: Features) -> Float[np.ndarray, " feature"]:
    """Return by how many steps two problems differ in each of the `FEATURES`.

    A step is a factor of two in P/N_1, of four in P, of √10 in T, or a layer; one for another
    activation of the same parity, several outputs, other precisions; one and a half from explained
    to partly explained labels and from those to unexplained; two for another parity or another kind
    of layer; four, which is too far, for another likelihood, whose T means something else.
    """
    return np.array(
        [
            abs(math.log2(one.load / other.load)),
            abs(math.log(one.n_patterns / other.n_patterns, 4)),
            _of_temperatures(one.temperature, other.temperature),
            abs(one.depth - other.depth),
            _of_activations(one.activation, other.activation),
            2.0 * (one.network != other.network),
            1.0 * ((one.outputs > 1) != (other.outputs > 1)),
            4.0 * (one.likelihood != other.likelihood),
            1.0 * (one.plain != other.plain),
            1.5 * abs(one.labels - other.labels),
        ]
    )


def _of_temperatures(one: float, other: float) -> float:
    if one == other:
        return 0.0
    if min(one, other) <= 0:
        return _NEVER
    return min(2.0 * abs(math.log10(one / other)), _NEVER)


def _of_activations(one: Any, other: Any) -> float:
    names = [getattr(activation, "name", activation) for activation in (one, other)]
    if names[0] == names[1]:
        return 0.0
    parities = [_parity(activation) for activation in (one, other)]
    return 1.0 if parities[0] == parities[1] else 2.0


def _parity(activation: Any) -> str:
    if not isinstance(activation, str):
        return activation.parity
    try:
        return get_activation(activation).parity
    except FinwidthError:  # of a plugin that is not here
        return "unknown"
