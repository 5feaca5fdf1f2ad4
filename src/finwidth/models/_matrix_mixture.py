"""The scale mixture of several outputs: a matrix Q̄ for every layer, each from a Gaussian site.

N_ℓ Q̄_ℓ = g_ℓᵀ g_ℓ with standard normal g_ℓ, shape (N_ℓ, D), which is Wishart for any N_ℓ, and given
the Q̄_ℓ f is a Gaussian process of covariance M ⊗ K, with M = B ᵀQ̄_1 B, B = Q̄_2^½ … Q̄_L^½. With a
mean term Q̄ = (λ_1 a aᵀ + gᵀg)/N_1 with one row less in g, and f has the mean m aᵀ.

Source: theory.md, section 11.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array, random

from .._basics.errors import InputError
from .._layers.layer import Site
from .._numerics.precision import float64
from .._problem.network import Network
from ..infer._model import reported_values
from ..theories._mixture.field import random_field
from ..theories._mixture.law import check_mixture
from ..theories._theory import SHELF
from . import _kronecker
from ._kronecker import Eigen, KroneckerNormal, symmetric_root
from ._posterior import Posterior, Program, fitted
from ._sites import sample_site
from ._together import observe_together

__all__ = ["MatrixInputs", "MatrixMixture", "ScaleMixture", "matrix_arrays", "matrix_mixture"]


class MatrixInputs(NamedTuple):
    """The arrays of a run.

    Attributes
    ----------
    kernel
        K on the training patterns, with all 1/λ.
    y
        Labels, shape (pattern, output), or None.
    temperature
        T.
    precision
        λ_1.
    mean
        m on the training patterns and the test points, shape (point,), or None.
    cross, variances
        K between test points and training patterns in its eigenbasis, shape
        (test_pattern, pattern), and its diagonal at the test points; or None.
    root
        R with R Rᵀ = K on the training patterns and the test points, shape (point, point), or None.
    """

    kernel: Any
    y: Any
    temperature: Any
    precision: Any
    mean: Any
    cross: Any
    variances: Any
    root: Any


def _check(net: Network, theory: Any) -> bool:
    """Check that the mixture is defined; return whether it has a mean term."""
    has_mean = check_mixture(net.replace(outputs=1), theory)
    chosen: Any = SHELF.get(theory)
    if not has_mean and not chosen.only_scales(net):
        raise InputError(
            "expected one hidden layer, the identity without biases or theory='wishart' for the "
            f"scale mixture of {net.outputs} outputs, got activation {net.activation.name!r} and "
            f"{net.depth} hidden layers"
        )
    return has_mean


def gaussian_sites(widths: tuple[int, ...], dim: str, size: int, precision: Any) -> dict[str, Site]:
    """Return what matrices over `dim` are made of; `precision` is λ_1 with a mean term or None."""
    sites = {}
    if precision is not None:
        sites["a"] = Site((dim,), (size,), precision)
        widths = (widths[0] - 1,)
    for layer, rows in enumerate(widths, start=1):
        row = "row" if len(widths) == 1 else f"row_{layer}"
        if rows > 0:
            sites[f"g_{layer}"] = Site((row, dim), (rows, size), 1.0)
    return sites


def matrix_arrays(
    net: Network, X: np.ndarray, y: Any, temperature: Any, X_test: np.ndarray | None, theory: str
) -> MatrixInputs:
    """Return all arrays of a run, in JAX's default precision; may be called while JAX traces.

    Raises
    ------
    InputError
        If the mixture is not defined for this network and theory.
    """
    has_mean, n = _check(net, theory), X.shape[0]
    points = X if X_test is None else np.concatenate([X, X_test])
    with jax.ensure_compile_time_eval(), float64():
        field = random_field(net.replace(outputs=1), points, theory)
        covariance = np.asarray(field.covariance({"q_bar": jnp.ones(net.depth)}, output_bias=False))
        mean = np.asarray(field.mean({"a": jnp.ones(())})) if has_mean else None
    values, vectors = _eigen(covariance[:n, :n])
    bias = 0.0 if net.bias_precision is None else 1.0 / net.bias_precision[-1]
    cross = variances = root = None
    if X_test is not None:
        cross, variances = covariance[n:, :n] @ vectors, np.diag(covariance)[n:]
        joint, columns = _eigen(covariance)
        root = columns * np.sqrt(joint)
    eigen = (values, vectors, vectors.sum(axis=0), bias)
    arrays = MatrixInputs(
        Eigen(*(jnp.asarray(part, float) for part in eigen)),
        y,
        temperature,
        net.weight_precision[1],
        mean,
        cross,
        variances,
        root,
    )
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, float), arrays)


def _eigen(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(covariance)
    return np.maximum(values, 0.0), vectors  # negative by rounding alone


def matrix_mixture(inputs: MatrixInputs, widths: tuple[int, ...], outputs: int) -> None:
    """The NumPyro model, given what it knows of the patterns."""
    has_mean = inputs.mean is not None
    sites = gaussian_sites(widths, "output", outputs, inputs.precision if has_mean else None)
    values = {name: sample_site(name, site) for name, site in sites.items()}
    grams = []
    for layer, width in enumerate(widths, start=1):
        g = values.get(f"g_{layer}", jnp.zeros((0, outputs)))
        gram = g.T @ g
        if has_mean:
            gram += inputs.precision * jnp.outer(values["a"], values["a"])
        grams.append(gram / width)
    q_bar = jnp.stack(grams)
    numpyro.deterministic("q_bar", q_bar)
    n = inputs.kernel.values.shape[0]
    loc = jnp.zeros((n, outputs))
    if has_mean:
        loc = jnp.outer(inputs.mean[:n], values["a"])
    law = KroneckerNormal(inputs.kernel, _product(q_bar), loc, inputs.temperature)
    observe_together(law, inputs.y)


def _product(q_bar: Array) -> Array:
    """Return M from Q̄_ℓ, shape (layer, output, output)."""
    matrix = q_bar[0]
    if len(q_bar) > 1:
        factor = symmetric_root(q_bar[1])
        for upper in q_bar[2:]:
            factor = factor @ symmetric_root(upper)
        matrix = factor.T @ matrix @ factor
    return 0.5 * (matrix + matrix.T)


@dataclasses.dataclass(frozen=True)
class _MatrixProgram:
    """What compiled code depends on besides arrays.

    Parameters
    ----------
    keep
        Sites to store.
    widths, outputs
        N_1 … N_L and D.
    """

    keep: tuple[str, ...]
    widths: tuple[int, ...]
    outputs: int

    def density(self, inputs: MatrixInputs) -> tuple[Callable[..., None], tuple, dict]:
        """Return the NumPyro model and its arguments."""
        return matrix_mixture, (inputs, self.widths, self.outputs), {}

    def reduce(
        self, inputs: MatrixInputs, rng_key: Array, sites: dict[str, Array]
    ) -> dict[str, Array]:
        """Return what is stored of a draw of the sites."""
        model, arguments, keywords = self.density(inputs)
        values = reported_values(model, arguments, keywords)(sites)
        stored = {} if inputs.cross is None else _predict(inputs, rng_key, values)
        if "f" in self.keep:
            values = values | {"f": _fit(inputs, random.fold_in(rng_key, 1), values)}
        return stored | {f"site:{name}": values[name] for name in self.keep}


def _fit(inputs: MatrixInputs, rng_key: Array, values: Mapping[str, Array]) -> Array:
    """Return a draw of f on the training set, given the sites."""
    kernel, temperature = inputs.kernel, inputs.temperature
    n, outputs = inputs.y.shape
    mean = jnp.zeros_like(inputs.y)
    if inputs.mean is not None:
        mean = jnp.outer(inputs.mean[:n], values["a"])
    centred = kernel.vectors.T @ (inputs.y - mean)
    given = _kronecker.condition(kernel, _product(values["q_bar"]), centred, temperature)
    # Matheron's rule, in the eigenbasis of K and in that of the outputs: A_k⁻¹ of a residual
    # turns f ~ N(0, A_k − T) into f given labels, which are T·A_k⁻¹ of it away from f
    keys, dtype = random.split(rng_key, 3), inputs.y.dtype
    prior = jnp.sqrt(kernel.values)[:, None] * random.normal(keys[0], (n, outputs), dtype)
    prior *= jnp.sqrt(given.scales)
    bias = jnp.sqrt(kernel.bias) * random.normal(keys[1], (outputs,), dtype)
    prior += kernel.ones[:, None] * bias
    noise = jnp.sqrt(temperature) * random.normal(keys[2], (n, outputs), dtype)
    dual = given.dual - _kronecker.solve(kernel, given, prior + noise)
    # f = y − T A⁻¹(y − m − prior − noise) − noise
    f = centred @ given.basis - temperature * dual - noise
    return mean + kernel.vectors @ f @ given.basis.T


def _predict(inputs: MatrixInputs, rng_key: Array, values: Mapping[str, Array]) -> dict[str, Array]:
    """Return f (a joint draw) and its moments at the test points, given the sites."""
    kernel, temperature, cross = inputs.kernel, inputs.temperature, inputs.cross
    n, outputs = inputs.y.shape
    mean = jnp.zeros((n + cross.shape[0], outputs), cross.dtype)
    if inputs.mean is not None:
        mean = jnp.outer(inputs.mean, values["a"])
    labels = kernel.vectors.T @ (inputs.y - mean[:n])
    given = _kronecker.condition(kernel, _product(values["q_bar"]), labels, temperature)
    scales, basis, bias = given.scales, given.basis, kernel.bias

    def regress(dual: Array) -> Array:
        """Return κ A_k⁻¹ z_k from the duals."""
        return scales * (cross @ dual) + bias * (kernel.ones @ dual)

    f_mean = mean[n:] + regress(given.dual) @ basis.T
    # κ_0 − κA_k⁻¹κᵀ, with κ = q_k K + b 1
    squares = scales**2 * (cross**2 @ (1.0 / given.total))
    squares += 2.0 * bias * scales * (cross @ given.ones) + bias * (given.capacity - 1.0)
    shared = scales * (cross @ given.ones) + given.capacity - 1.0
    explained = squares - bias * shared**2 / given.capacity
    variance = scales * inputs.variances[:, None] + bias - explained
    f_covariance = jnp.einsum("ik,tk,jk->tij", basis, variance, basis)
    # Matheron's rule: condition a draw from the prior
    keys, dtype = random.split(rng_key, 3), cross.dtype
    noise = random.normal(keys[0], (inputs.root.shape[1], outputs), dtype)
    prior = jnp.sqrt(scales) * (inputs.root @ noise)
    prior += jnp.sqrt(bias) * random.normal(keys[1], (outputs,), dtype)
    noise = jnp.sqrt(temperature) * random.normal(keys[2], (n, outputs), dtype)
    dual = _kronecker.solve(kernel, given, kernel.vectors.T @ (prior[:n] + noise))
    f = f_mean + (prior[n:] - regress(dual)) @ basis.T
    return {
        "f": f,
        "f_mean": f_mean,
        "f_variance": jnp.diagonal(f_covariance, axis1=1, axis2=2),
        "f_covariance": f_covariance,
    }


@dataclasses.dataclass(frozen=True, eq=False)
class ScaleMixture(Posterior):
    """What the posteriors of the scale mixture share.

    Parameters
    ----------
    theory
        How the order parameters enter the kernel, "nested" or "wishart".
    """

    theory: str = "nested"

    name: ClassVar[str] = "student_t"
    kind: ClassVar[str] = "scale mixture"

    @property
    def derived(self) -> Mapping[str, Site]:
        """f on the training set."""
        return fitted(self.network, self.X.shape[0])


@dataclasses.dataclass(frozen=True, eq=False)
class WishartMixture(ScaleMixture):
    """The posterior of a scale mixture whose order parameters are matrices made of Gaussians."""

    essential: ClassVar[tuple[str, ...]] = ("a", "q_bar")

    @property
    def gaussian(self) -> bool:
        """All are but Q̄, which is made of them."""
        return True


@dataclasses.dataclass(frozen=True, eq=False)
class MatrixMixture(WishartMixture):
    """The posterior of the scale mixture, of several outputs."""

    several_outputs: ClassVar[bool] = True

    def check(self) -> None:
        """Raise InputError where the mixture is not defined."""
        _check(self.network, self.theory)

    @property
    def sites(self) -> Mapping[str, Site]:
        """The order parameters, and what they are made of."""
        net = self.network
        precision = net.weight_precision[1] if _check(net, self.theory) else None
        sites = gaussian_sites(net.widths, "output", net.outputs, precision)
        shape = (net.depth, net.outputs, net.outputs)
        return sites | {"q_bar": Site(("layer", "output", "output_"), shape)}

    def prior(self) -> tuple[Callable[..., None], tuple, dict]:
        """Return the model, without labels."""
        inputs = matrix_arrays(self.network, self.X, None, self.temperature, None, self.theory)
        return matrix_mixture, (inputs, self.network.widths, self.network.outputs), {}

    @property
    def predicted(self) -> Mapping[str, Site]:
        """Also the covariance of the outputs at each test point: they are not independent."""
        sites, outputs = super().predicted, self.network.outputs
        if not sites:
            return sites
        shape = (*sites["f"].shape, outputs)
        return {**sites, "f_covariance": Site(("test_pattern", "output", "output_"), shape)}

    def inputs(self) -> MatrixInputs:
        """Return all arrays that compiled code takes."""
        return matrix_arrays(
            self.network, self.X, self.y, self.temperature, self.X_test, self.theory
        )

    def program(self, keep: tuple[str, ...]) -> Program:
        """Return the program that stores the sites `keep`."""
        return _MatrixProgram(keep, self.network.widths, self.network.outputs)
