"""What a theory solves: network, training set, temperature, and the kernels they share."""

import dataclasses
from collections.abc import Callable
from typing import Any, Concatenate

import numpy as np
from jaxtyping import Float

from .._basics.arrays import (
    check_labels,
    check_labels_shape,
    shown,
)
from .._basics.checks import check_count, check_temperature
from .._basics.errors import InputError
from .._basics.memory import check_memory
from .._layers.covariance import Covariance, Local, known
from .._layers.dense import input_covariance, input_variances
from .._layers.stack import Stack, layer_rules
from .._likelihoods import GAUSSIAN, Likelihood, choose_likelihood
from .._numerics.tiles import assemble
from ..activations._contract import validate_kernel
from .label_kinds import check_label_kind
from .label_scale import check_label_scale
from .network import Network, check_network
from .nngp import nngp_block

__all__ = ["Problem", "make_problem"]


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """What a theory solves: a network, its training set, the temperature.

    Parameters
    ----------
    network
        The network.
    X, y
        Training set, shapes (pattern, input), or those of images where the first layer takes them,
        and (pattern,), or (pattern, output) with several outputs; float64.
    temperature
        T ≥ 0.
    likelihood
        How labels follow from f.
    memory_limit
        Bytes for kernels of pairs of patches; None: 4 GiB.

    Raises
    ------
    InputError
        If an argument is of another type or shape. Their numbers are looked at by `make_problem`,
        which `finwidth.solve` uses, and are the caller's to check where a problem is made by hand.
    """

    network: Network
    X: Float[np.ndarray, "pattern ..."]
    y: Float[np.ndarray, " pattern"] | Float[np.ndarray, "pattern output"]
    temperature: float
    likelihood: Likelihood = GAUSSIAN
    memory_limit: int | None = None
    # what `shared` made, by the functions that made it
    _shared: dict[tuple[Any, ...], Any] = dataclasses.field(default_factory=dict, repr=False)
    # of a problem that `subset` makes: the rules of all patterns
    _rules: tuple | None = dataclasses.field(default=None, repr=False)
    # of a problem that `along` makes: the labels of all outputs, and the direction
    _whole: np.ndarray | None = dataclasses.field(default=None, repr=False)
    direction: np.ndarray | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_network(self.network, "network")
        if not isinstance(self.likelihood, Likelihood):
            raise InputError(f"expected likelihood = a Likelihood, got {shown(self.likelihood)}")
        for name, value in (("X", self.X), ("y", self.y)):
            if not (isinstance(value, np.ndarray) and value.dtype == np.float64):
                raise InputError(
                    f"expected {name} = a NumPy array of float64 in a Problem, got {shown(value)}"
                )
        self.network.layers[0].check_shape(self.X.shape)
        outputs = 1 if self.likelihood.one_label else self.network.outputs
        check_labels_shape(self.y.shape, self.X.shape[0], outputs=outputs)
        check_temperature(self.temperature)
        if self.memory_limit is not None:
            check_count("memory_limit", self.memory_limit)
            if not self.network.by_patches:
                raise InputError(
                    "expected memory_limit = None but for a convolution without pooling, got "
                    f"{self.memory_limit} with layers = {self.network.layers}"
                )

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave out what is shared: it is made again, bit for bit, where it is needed."""
        fields = self.network, self.X, self.y, self.temperature, self.likelihood, self.memory_limit
        return type(self), fields

    @property
    def n_patterns(self) -> int:
        """P."""
        return self.X.shape[0]

    @property
    def covariance(self) -> Covariance | Local:
        """C on the training set; of a `Local` its moments."""
        return self.shared(_covariance)

    @property
    def rules(self) -> tuple:
        """Quadrature rules of the layers (None where closed forms exist)."""
        return self.shared(_layer_rules) if self._rules is None else self._rules

    @property
    def input_variances(self) -> Float[np.ndarray, "pattern ..."]:
        """The variances of the first h on the training set, a row for each pattern."""
        return input_variances(self.network, self.X)

    def test_inputs(self, X_test: Any) -> Float[np.ndarray, "point ..."]:
        """Return `X_test` as a checked array of patterns like those of X, or raise InputError."""
        X_test = self.network.layers[0].check_inputs(X_test, "X_test", self.X.shape[1:])
        input_variances(self.network, X_test, "X_test")
        return X_test

    @property
    def nngp(self) -> Float[np.ndarray, "pattern pattern"]:
        """The infinite-width kernel of the output on the training set."""
        return assemble(
            self.n_patterns,
            lambda rows, columns: np.asarray(
                nngp_block(self.network, self.X[rows], self.X[columns], self.rules).cross
            ),
        )

    def shared[**A, S](
        self, make: Callable[Concatenate["Problem", A], S], *args: A.args, **kwargs: A.kwargs
    ) -> S:
        """Return ``make(problem, *args)``, made once for all that `vary` makes of this problem.

        `make` may depend on what they have in common and on its arguments, which are hashable:
        not on widths, T and λ_L. It is found again by itself, so that it is a function of a module
        or a method, not one made on the way.
        """
        key = (make, args, tuple(sorted(kwargs.items())))
        if key not in self._shared:
            self._shared[key] = make(self, *args, **kwargs)
        return self._shared[key]

    def subset(self, rows: np.ndarray) -> "Problem":
        """Return the problem with some of the patterns, and the rules of all."""
        return dataclasses.replace(
            self,
            X=self.X[rows],
            y=self.y[rows],
            likelihood=self.likelihood.subset(rows),
            _shared={},
            _rules=self.rules,
            _whole=None,
            direction=None,
        )

    def along(self, direction: Float[np.ndarray, " output"]) -> "Problem":
        """Return the one-output problem of the labels Y o, which shares what this one shares."""
        return dataclasses.replace(
            self,
            network=self.network.replace(outputs=1),
            y=self.y @ direction,
            _whole=self.y,
            direction=direction,
        )

    @property
    def labels(self) -> np.ndarray:
        """The labels of all outputs, of which `along` may have left one direction."""
        return self.y if self._whole is None else self._whole

    @property
    def stack(self) -> Stack:
        """The layers as kernels see them, with the rules for the training set."""
        return Stack.of(self.network, self.rules)

    @property
    def output_bias(self) -> float:
        """1/λ^b_L, the variance of the readout's bias, or 0."""
        bias = self.network.bias_precision
        return 0.0 if bias is None else 1.0 / bias[-1]

    def vary(
        self,
        widths: tuple[int, ...],
        temperature: float,
        readout_precision: float | None = None,
    ) -> "Problem":
        """Return the problem at other widths, T and λ_L; what is shared stays shared."""
        precisions = self.network.weight_precision
        if readout_precision is not None:
            precisions = (*precisions[:-1], readout_precision)
        network = self.network.replace(widths=widths, weight_precision=precisions)
        if network.depth != self.network.depth:
            raise InputError(
                f"expected widths = {self.network.depth} hidden layers, got {network.depth}"
            )
        return dataclasses.replace(self, network=network, temperature=temperature)


def _covariance(problem: Problem) -> Covariance | Local:
    found = input_covariance(problem.network, problem.X)
    if isinstance(found, Local):
        return known(found, problem.network.activations[0], problem.rules[0])
    return found


def _layer_rules(problem: Problem) -> tuple:
    return layer_rules(problem.network, problem.input_variances)


def make_problem(
    net: Any,
    X: Any,
    y: Any,
    temperature: Any,
    likelihood: Any = GAUSSIAN,
    memory_limit: Any = None,
) -> Problem:
    """Check all arguments and return the `Problem`; raises before any long work."""
    network = check_network(net)
    if memory_limit is not None:
        memory_limit = int(check_memory("memory_limit", memory_limit))
    likelihood = choose_likelihood(likelihood)
    X = network.layers[0].check_inputs(X)
    labels = y
    y = check_labels(y, X.shape[0], outputs=1 if likelihood.one_label else network.outputs)
    check_label_kind(labels, regression=likelihood.homogeneous)
    temperature = likelihood.temperature(temperature)
    y = likelihood.check(y)
    likelihood.check_classes(y, network.outputs)
    for activation in dict.fromkeys(network.activations):
        validate_kernel(activation)
    input_variances(network, X)
    if likelihood.homogeneous:
        check_label_scale(network, X, y, temperature)
    return Problem(network, X, y, temperature, likelihood, memory_limit)
