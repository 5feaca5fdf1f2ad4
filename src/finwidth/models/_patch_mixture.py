"""The scale mixture of a convolution: a matrix Q̄ over patches, from a Gaussian site.

N_c Q̄ = gᵀg with standard normal g, shape (N_c, A), which is Wishart for any N_c, and given Q̄ f is
a Gaussian process of covariance Σ_ab Q̄_ab B_ab; of patches that share no weights the diagonal
matters alone. With a mean term Q̄ = (λ_1 a aᵀ + gᵀg)/N_c with one
row less in g, and f has the mean Σ_a a_a m_a/√A.

Source: theory.md, sections 14 and 16.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array, random

from .._basics.errors import InputError
from .._layers.convolution import Convolution
from .._layers.layer import Site
from .._numerics.precision import float64
from .._problem.network import Network
from .._problem.problem import Problem
from ..infer._model import reported_values
from ..theories._saddle.patch_kernels import patch_blocks, upper
from ._matrix_mixture import WishartMixture, gaussian_sites
from ._posterior import Program
from ._process import draw_elsewhere, draw_fit
from ._sites import sample_site
from ._together import JointNormal, observe_together

__all__ = ["PatchInputs", "PatchMixture", "patch_arrays", "patch_mixture"]


class PatchInputs(NamedTuple):
    """The arrays of a run.

    Attributes
    ----------
    train
        B_ab for a ≤ b on the training patterns, those of a < b twice, shape (pair, pattern²);
        for a = b where patches share no weights.
    rest
        Likewise on all points, training patterns first, shape (pair, point²), or None without
        test points.
    mean
        m_a/√A on all points, shape (point, patch), or None.
    y
        Labels, shape (pattern,), or None.
    temperature, bias
        T and 1/λ^b_1, or 0.
    precision
        λ_1.
    """

    train: Any
    rest: Any
    mean: Any
    y: Any
    temperature: Any
    bias: Any
    precision: Any


def _check(net: Network, theory: Any) -> None:
    if theory != "nested":
        raise InputError(f"expected theory = 'nested' with layers = {net.layers}, got {theory!r}")
    if net.outputs > 1:
        raise InputError(
            f"expected outputs = 1 with model='student_t' and layers = {net.layers}, got "
            f"{net.outputs}"
        )


def patch_arrays(
    net: Network, X: np.ndarray, y: Any, temperature: Any, X_test: np.ndarray | None, theory: str
) -> PatchInputs:
    """Return all arrays of a run, in JAX's default precision; may be called while JAX traces."""
    _check(net, theory)
    n, points = len(X), X if X_test is None else np.concatenate([X, X_test])
    with jax.ensure_compile_time_eval(), float64():
        blocks = patch_blocks(Problem(net, X, np.zeros(n), 1.0), points)
        mean = blocks.mean_a
    pairs, counted = len(blocks.pairs), blocks.pairs
    if blocks.shared:
        first, second = upper(_side(pairs))
        counted = np.where(first == second, 1.0, 2.0)[:, None, None] * counted
    arrays = PatchInputs(
        counted[:, :n, :n].reshape(pairs, -1),
        None if X_test is None else counted.reshape(pairs, -1),
        None if mean is None else mean * np.sqrt(net.weight_precision[1]),
        y,
        temperature,
        0.0 if net.bias_precision is None else 1.0 / net.bias_precision[1],
        net.weight_precision[1],
    )
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, float), arrays)


def _covariance(pairs: Array, q_bar: Array, bias: Array) -> Array:
    """Return Σ_ab Q̄_ab B_ab + 1/λ^b, square."""
    packed = q_bar if q_bar.ndim == 1 else q_bar[upper(q_bar.shape[0])]
    size = round(pairs.shape[1] ** 0.5)
    return (packed @ pairs).reshape(size, size) + bias


def _q_bar(inputs: PatchInputs, values: Mapping[str, Array], layer: Convolution) -> Array:
    """Return Q̄, shape (patch, patch), or its diagonal where patches share no weights."""
    g = values.get("g_1", jnp.zeros((0, _patches(inputs, layer))))
    gram = g.T @ g
    if inputs.mean is not None:
        gram = gram + inputs.precision * jnp.outer(values["a"], values["a"])
    gram = gram / layer.width
    return gram if layer.shared else jnp.diagonal(gram)


def _patches(inputs: PatchInputs, layer: Convolution) -> int:
    pairs = inputs.train.shape[0]
    return _side(pairs) if layer.shared else pairs


def _side(pairs: int) -> int:
    """Return the size of a matrix whose upper triangle has so many entries."""
    return round((2 * pairs + 0.25) ** 0.5 - 0.5)


def patch_mixture(inputs: PatchInputs, layer: Convolution) -> None:
    """The NumPyro model, given what it knows of the patterns."""
    patches, has_mean = _patches(inputs, layer), inputs.mean is not None
    precision = inputs.precision if has_mean else None
    sites = gaussian_sites((layer.width,), "patch", patches, precision)
    values = {name: sample_site(name, site) for name, site in sites.items()}
    q_bar = _q_bar(inputs, values, layer)
    covariance = _covariance(inputs.train, q_bar, inputs.bias)
    n = covariance.shape[0]
    loc = inputs.mean[:n] @ values["a"] if has_mean else jnp.zeros(n, covariance.dtype)
    numpyro.deterministic("q_bar", q_bar[None])
    total = covariance + inputs.temperature * jnp.eye(n)
    observe_together(JointNormal(loc, covariance_matrix=total), inputs.y)


@dataclasses.dataclass(frozen=True)
class _PatchProgram:
    """What compiled code depends on besides arrays.

    Parameters
    ----------
    keep
        Sites to store.
    layer
        The convolution.
    """

    keep: tuple[str, ...]
    layer: Convolution

    def density(self, inputs: PatchInputs) -> tuple[Callable[..., None], tuple, dict]:
        """Return the NumPyro model and its arguments."""
        return patch_mixture, (inputs._replace(rest=None), self.layer), {}

    def reduce(
        self, inputs: PatchInputs, rng_key: Array, sites: dict[str, Array]
    ) -> dict[str, Array]:
        """Return what is stored of a draw of the sites."""
        model, arguments, keywords = self.density(inputs)
        values = reported_values(model, arguments, keywords)(sites)
        q_bar = _q_bar(inputs, values, self.layer)

        def law(pairs: Array) -> tuple[Array, Array]:
            covariance = _covariance(pairs, q_bar, inputs.bias)
            if inputs.mean is None:
                return jnp.zeros(covariance.shape[0], covariance.dtype), covariance
            return inputs.mean[: covariance.shape[0]] @ values["a"], covariance

        stored, given = {}, (inputs.y, inputs.temperature)
        if inputs.rest is not None:
            stored = draw_elsewhere(*law(inputs.rest), *given, rng_key)
        if "f" in self.keep:
            f = draw_fit(*law(inputs.train), *given, random.fold_in(rng_key, 1))
            values = values | {"f": f}
        return stored | {f"site:{name}": values[name] for name in self.keep}


@dataclasses.dataclass(frozen=True, eq=False)
class PatchMixture(WishartMixture):
    """The posterior of the scale mixture, of a convolution without pooling."""

    def check(self) -> None:
        """Raise InputError where the mixture is not defined."""
        _check(self.network, self.theory)

    @property
    def _layer(self) -> Convolution:
        layer = self.network.layers[0]
        assert isinstance(layer, Convolution)
        return layer

    @property
    def sites(self) -> Mapping[str, Site]:
        """The order parameters, and what they are made of."""
        net, layer = self.network, self._layer
        patches = layer.size(self.X.shape[1:]) // layer.width
        precision = None if net.activations[0].parity == "odd" else net.weight_precision[1]
        sites = gaussian_sites(net.widths, "patch", patches, precision)
        axes = 2 if layer.shared else 1
        q_bar = Site(("layer", "patch", "patch_")[: axes + 1], (1, *(patches,) * axes))
        return sites | {"q_bar": q_bar}

    def prior(self) -> tuple[Callable[..., None], tuple, dict]:
        """Return the model, without labels."""
        inputs = patch_arrays(self.network, self.X, None, self.temperature, None, self.theory)
        return patch_mixture, (inputs, self._layer), {}

    def inputs(self) -> PatchInputs:
        """Return all arrays that compiled code takes."""
        return patch_arrays(
            self.network, self.X, self.y, self.temperature, self.X_test, self.theory
        )

    def program(self, keep: tuple[str, ...]) -> Program:
        """Return the program that stores the sites `keep`."""
        return _PatchProgram(keep, self._layer)
