"""The posterior of the weights, as NumPyro models, and what is kept of a draw of them.

`network` is the posterior in weight space, `marginal` the same posterior with the readout
integrated exactly. Sites are W_1 … W_L (shape (unit, input) or (unit, previous unit)), v (shape
(unit,), or (unit, output) with several outputs), and with biases b_1 … b_L and b_out. A model
follows the precision that JAX is set to; `finwidth.sample` sets float64.

Source: theory.md, sections 1 and 9.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array, random

from .._basics.arrays import check_labels, check_labels_shape
from .._basics.errors import InputError
from .._layers.layer import Site
from .._likelihoods import GAUSSIAN, Likelihood, choose_likelihood
from .._problem.network import Network
from .._problem.traceable import TraceableNetwork, traceable
from ._features import check_likelihood, hidden_features, readout_features
from ._posterior import Posterior, Program, fitted
from ._readout import Readout, ReadoutMarginal, condition
from ._rotation import rotate_inputs
from ._sites import all_sites, check_net, hidden_sites, log_density, readout_sites, sample_site
from ._together import observe_together

__all__ = ["Marginal", "WeightInputs", "Weights", "marginal", "network"]


def _checked(
    net: Any, X: Any, y: Any, temperature: Any, likelihood: Likelihood = GAUSSIAN
) -> tuple[Network | TraceableNetwork, Array, Array | None, float | Array]:
    check_net(net)
    # of arrays of JAX, traced ones, too, the values are the caller's to check
    if isinstance(X, Array):
        net.layers[0].check_shape(X.shape)
    else:
        X = net.layers[0].check_inputs(X)
    outputs = 1 if likelihood.one_label else net.outputs
    if isinstance(y, Array):
        check_labels_shape(y.shape, X.shape[0], outputs=outputs)
    elif y is not None:
        y = check_labels(y, X.shape[0], outputs=outputs)
    temperature, dtype = check_likelihood(temperature), jnp.result_type(float)
    return net, jnp.asarray(X, dtype), None if y is None else jnp.asarray(y, dtype), temperature


def _sample_hidden(net: Network | TraceableNetwork, shape: tuple[int, ...]) -> dict[str, Array]:
    return {name: sample_site(name, site) for name, site in hidden_sites(net, shape).items()}


def network(
    net: Network | TraceableNetwork,
    X: Any,
    y: Any = None,
    *,
    temperature: float | Array,
    likelihood: str | Likelihood = "gaussian",
) -> None:
    """The network's posterior in weight space, as a NumPyro model.

    Parameters
    ----------
    net
        The network.
    X
        Patterns, shape (pattern, input), or images for a `Convolution`.
    y
        Labels, shape (pattern,), or (pattern, output) with several outputs; None to draw them
        from the prior.
    temperature
        T > 0, the variance of the Gaussian likelihood.
    likelihood
        "gaussian", or a likelihood of your own.

    Raises
    ------
    InputError
        If an argument is not as described.

    Notes
    -----
    Sites: W_ℓ, v (and b_ℓ, b_out), the deterministic f (pattern,), and y. With several outputs v,
    b_out, f and y have a last axis more, output.

    References
    ----------
    theory.md, sections 1 and 11.
    """
    chosen = choose_likelihood(likelihood)
    net, X, y, temperature = _checked(net, X, y, temperature, chosen)
    values = _sample_hidden(net, X.shape[1:])
    features = hidden_features(net, values, X)
    readout = {
        name: sample_site(name, site) for name, site in readout_sites(net, X.shape[1:]).items()
    }
    f = _output(net, features, readout)
    numpyro.deterministic("f", f)
    chosen.observe(f, y, temperature)


def marginal(
    net: Network | TraceableNetwork, X: Any, y: Any = None, *, temperature: float | Array
) -> None:
    """The same posterior with the readout integrated exactly, as a NumPyro model.

    Parameters
    ----------
    net, X, y, temperature
        As for `network`.

    Raises
    ------
    InputError
        If an argument is not as described.

    Notes
    -----
    Sites: W_ℓ (and b_ℓ), and y ~ N(0, ΦΦᵀ/(λ_L N_L) (+ 1/λ^b_L) + T·1), which holds for each
    output by itself: one factorisation serves all. The readout and f follow from their exact
    conditionals (`finwidth.sample` draws them).

    The labels are one observation: densities of the model are those of all of them.
    `numpyro.infer.log_likelihood`, and so ``arviz.from_numpyro(mcmc, log_likelihood=True)``, gives
    ``log p(y_i | y_-i, W)`` for each pattern, which leave-one-out cross-validation needs. These
    values do not add up to the log density of all labels.

    References
    ----------
    theory.md, sections 9 and 11; Bürkner, Gabry & Vehtari, Computational Statistics 36 (2021).
    """
    net, X, y, temperature = _checked(net, X, y, temperature)
    values = _sample_hidden(net, X.shape[1:])
    features = readout_features(net, hidden_features(net, values, X))
    observe_together(ReadoutMarginal(features, temperature, net.outputs), y)


def _output(net: Network | TraceableNetwork, features: Array, values: Mapping[str, Array]) -> Array:
    """Return f, shape (point,) or (point, output), from features of the last hidden layer."""
    v = values["v"]
    v = v.reshape(features.shape[1], *v.shape[v.ndim - (net.outputs > 1) :])
    f = features @ v / features.shape[1] ** 0.5
    return f if net.bias_precision is None else f + values["b_out"]


class WeightInputs(NamedTuple):
    """The arrays of a run of `Weights` or `Marginal`.

    Attributes
    ----------
    net
        The network, traceable.
    X, y
        Training set, rotated where there is a rotation, shapes (pattern, input) or of images, and
        (pattern,) or (pattern, output).
    temperature
        T.
    X_test
        Test points in the original inputs, of such a shape, or None.
    rotation
        The input rotation, or None.
    """

    net: Any
    X: Any
    y: Any
    temperature: Any
    X_test: Any
    rotation: Any


@dataclasses.dataclass(frozen=True)
class _WeightProgram:
    """What compiled code of `Weights` depends on besides arrays.

    Parameters
    ----------
    keep
        Sites to store.
    likelihood
        How labels are observed.
    """

    keep: tuple[str, ...]
    likelihood: Likelihood = GAUSSIAN

    def density(self, inputs: WeightInputs) -> tuple[Callable[..., None], tuple, dict]:
        """Return the NumPyro model and its arguments."""
        keywords = {"temperature": inputs.temperature, "likelihood": self.likelihood}
        return network, (inputs.net, inputs.X, inputs.y), keywords

    def reduce(
        self, inputs: WeightInputs, rng_key: Array, sites: dict[str, Array]
    ) -> dict[str, Array]:
        """Return what is stored of a draw of the latent sites."""
        net, points, rotation = inputs.net, inputs.X_test, inputs.rotation
        whole = "W_1" in self.keep or rotation is None
        weight_key, readout_key = random.split(rng_key)
        values = dict(sites)
        if rotation is not None:
            complete = rotation.restore if whole else rotation.extend
            values["W_1"] = complete(weight_key, sites["W_1"], net.weight_precision[0])
            points = points if whole or points is None else rotation.test
        readout, drawn = self._readout(inputs, readout_key, sites)
        values |= drawn
        stored = {}
        if "f" in self.keep:
            values["f"] = _output(net, hidden_features(net, sites, inputs.X), values)
        if "log_prior" in self.keep:
            laws = all_sites(net, inputs.X.shape[1:])
            densities = [
                log_density(law, sites.get(name, values[name])) for name, law in laws.items()
            ]
            values["log_prior"] = jnp.sum(jnp.stack(densities))
        if points is not None:
            features = hidden_features(net, values, points)
            stored["f"] = _output(net, features, values)
            if readout is not None:
                block = readout_features(net, features)
                stored["f_mean"], stored["f_variance"] = readout.moments(block)
        return stored | {f"site:{name}": values[name] for name in self.keep}

    def _readout(
        self, inputs: WeightInputs, rng_key: Array, sites: dict[str, Array]
    ) -> tuple[Readout | None, dict[str, Array]]:
        """Return the readout's posterior given the hidden weights, and a draw of its sites.

        Nothing where the readout is sampled with the other weights.
        """
        return None, {}


@dataclasses.dataclass(frozen=True)
class _MarginalProgram(_WeightProgram):
    """What compiled code of `Marginal` depends on besides arrays."""

    def density(self, inputs: WeightInputs) -> tuple[Callable[..., None], tuple, dict]:
        """Return the NumPyro model and its arguments."""
        _, arguments, keywords = super().density(inputs)
        return marginal, arguments, {"temperature": keywords["temperature"]}

    def _readout(
        self, inputs: WeightInputs, rng_key: Array, sites: dict[str, Array]
    ) -> tuple[Readout | None, dict[str, Array]]:
        net = inputs.net
        features = hidden_features(net, sites, inputs.X)
        readout = condition(readout_features(net, features), inputs.y, inputs.temperature)
        coefficients = readout.draw(rng_key)
        count, shape = features.shape[1], readout_sites(net, inputs.X.shape[1:])["v"].shape
        drawn = {"v": coefficients[:count].reshape(shape) / jnp.sqrt(net.weight_precision[-1])}
        if net.bias_precision is not None:
            drawn["b_out"] = coefficients[count] / jnp.sqrt(net.bias_precision[-1])
        return readout, drawn


@dataclasses.dataclass(frozen=True, eq=False)
class Weights(Posterior):
    """The network's posterior in weight space."""

    likelihood: Likelihood = GAUSSIAN

    name: ClassVar[str] = "network"
    kind: ClassVar[str] = "exact"
    predictions: ClassVar[tuple[str, ...]] = ("f",)
    essential: ClassVar[tuple[str, ...]] = ("v", "b_out")
    default_options: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "split_hmc": {"stiffness": 1.0, "target_accept_prob": 0.85}  # stiff beside large readouts
    }
    several_outputs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "y", self.likelihood.check(self.y))
        self.likelihood.check_classes(self.y, self.network.outputs)

    @property
    def settings(self) -> dict[str, Any]:
        """The likelihood, where it is not the Gaussian one."""
        return {} if self.likelihood == GAUSSIAN else {"likelihood": self.likelihood.name}

    def identity(self) -> dict[str, Any]:
        """Return the likelihood's record; InputError where it has none."""
        record = self.likelihood.record()
        if record is None:
            wanted = "a likelihood with a record, with a checkpoint to be found again by it"
            raise InputError(f"expected {wanted}, got {self.likelihood!r}")
        return {} if self.likelihood == GAUSSIAN else {"likelihood": record}

    @property
    def sites(self) -> Mapping[str, Site]:
        """The weights and biases, in the original inputs."""
        return all_sites(self.network, self.X.shape[1:])

    @property
    def derived(self) -> Mapping[str, Site]:
        """f on the training set, and the log density of the weights under the prior."""
        return fitted(self.network, self.X.shape[0]) | {"log_prior": Site((), ())}

    def prior(self) -> tuple[Callable[..., None], tuple, dict]:
        """Return `network`, without labels."""
        keywords = {"temperature": self.temperature, "likelihood": self.likelihood}
        return network, (self.network, self.X), keywords

    def inputs(self) -> WeightInputs:
        """Return all arrays that compiled code takes."""
        nothing = np.zeros((0, *self.X.shape[1:]))
        rotation = None
        if self.network.layers[0].rotates:
            rotation = rotate_inputs(self.X, nothing if self.X_test is None else self.X_test)
        arrays = WeightInputs(
            traceable(self.network),
            self.X if rotation is None else rotation.train,
            self.y,
            np.asarray(self.temperature),
            self.X_test,
            rotation,
        )
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, float), arrays)

    def program(self, keep: tuple[str, ...]) -> Program:
        """Return the program that stores the sites `keep`."""
        return _WeightProgram(keep, self.likelihood)


@dataclasses.dataclass(frozen=True, eq=False)
class Marginal(Weights):
    """The same posterior with the readout integrated exactly."""

    name: ClassVar[str] = "marginal"
    default_options: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    predictions: ClassVar[tuple[str, ...]] = ("f", "f_mean", "f_variance")

    def check(self) -> None:
        """Refuse likelihoods with which the readout cannot be integrated in closed form."""
        if not (self.likelihood.conjugate and self.likelihood.homogeneous):
            raise InputError(
                "expected model='network' with this likelihood, given which the readout is not "
                f"integrated in closed form, got model='marginal' and {self.likelihood.name!r}"
            )

    def program(self, keep: tuple[str, ...]) -> Program:
        """Return the program that stores the sites `keep`."""
        return _MarginalProgram(keep)
