"""Draws of the posterior as a function: the law of f at points that came after the sampling."""

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from .._likelihoods import Likelihood
from .._numerics.precision import in_float64
from .._observables import Components, Prediction
from .._problem.network import Network
from .._problem.traceable import TraceableNetwork, traceable
from ..models._features import hidden_features, readout_features
from ..models._readout import condition

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Draws"]

_TOGETHER = 32  # draws side by side


class Draws:
    """What draws of all weights say at any point.

    Parameters
    ----------
    network
        The network that was sampled.
    likelihood
        How labels follow from f.
    temperature
        T.
    tree
        What `finwidth.sample` returned, with every site kept.
    """

    def __init__(
        self, network: Network, likelihood: Likelihood, temperature: float, tree: "xr.DataTree"
    ) -> None:
        self.network, self.likelihood, self.temperature = network, likelihood, temperature
        self.tree = tree

    def _sites(self, chosen: Any = slice(None)) -> dict[str, Array]:
        """Return the weights of some draws, of all chains in a row."""
        arrays = {
            str(name): one.values for name, one in self.tree["posterior"].dataset.data_vars.items()
        }
        return {
            name: jnp.asarray(array.reshape(-1, *array.shape[2:])[chosen])
            for name, array in arrays.items()
        }

    @in_float64
    def predict(self, X: Float[np.ndarray, "point input"]) -> Prediction:
        """Return the law of f: a mixture of one Gaussian a draw, with no width if f is sampled.

        With the Gaussian likelihood the readout is integrated given the hidden weights of a draw.
        """
        points, known = _padded(X)
        net, sites = traceable(self.network), self._sites()
        if self.likelihood.conjugate:
            X_train, y = (
                jnp.asarray(self.tree[group][name].values)
                for group, name in (("constant_data", "X"), ("observed_data", "y"))
            )
            mean, variance = _moments(net, sites, X_train, y, self.temperature, points)
        else:
            mean = _outputs(net, sites, points)
            variance = jnp.zeros_like(mean)
        mean, variance = np.asarray(mean)[:, known], np.asarray(variance)[:, known]
        weights = np.full(len(mean), 1.0 / len(mean))
        average = mean.mean(axis=0)
        total = variance.mean(axis=0) + mean.var(axis=0)
        return Prediction(average, total, components=Components(weights, mean, variance))

    @in_float64
    def sample(self, X: Float[np.ndarray, "point input"], chosen: np.ndarray) -> np.ndarray:
        """Return f of the draws of these numbers, shape (draw, point) or (draw, point, output)."""
        points, known = _padded(X)
        return np.asarray(_outputs(traceable(self.network), self._sites(chosen), points))[:, known]

    @property
    def number(self) -> int:
        """How many draws there are, of all chains."""
        sizes = self.tree["posterior"].sizes
        return sizes["chain"] * sizes["draw"]


def _padded(X: np.ndarray) -> tuple[Array, slice]:
    """Return points filled up to a power of two, so that any number shares compiled code."""
    size = 1 << max(len(X) - 1, 15).bit_length()
    return jnp.asarray(np.resize(X, (size, X.shape[1]))), slice(len(X))


@jax.jit
def _moments(
    net: TraceableNetwork,
    sites: dict[str, Array],
    X: Array,
    y: Array,
    temperature: float | Array,
    points: Array,
) -> tuple[Array, Array]:
    def one(values: dict[str, Array]) -> tuple[Array, Array]:
        features = readout_features(net, hidden_features(net, values, X))
        block = readout_features(net, hidden_features(net, values, points))
        return condition(features, y, temperature).moments(block)

    return lax.map(one, sites, batch_size=_TOGETHER)


@jax.jit
def _outputs(net: TraceableNetwork, sites: dict[str, Array], points: Array) -> Array:
    return lax.map(functools.partial(_output, net, points), sites, batch_size=_TOGETHER)


def _output(net: TraceableNetwork, points: Array, values: dict[str, Array]) -> Array:
    """Return f of one draw, shape (point,) or (point, output)."""
    features = readout_features(net, hidden_features(net, values, points))
    v = values["v"] * jnp.sqrt(net.weight_precision[-1])
    if net.bias_precision is not None:
        bias = values["b_out"] * jnp.sqrt(net.bias_precision[-1])
        v = jnp.concatenate([v, bias[None]])
    return features @ v
