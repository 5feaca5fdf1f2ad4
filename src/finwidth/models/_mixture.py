"""What `finwidth.sample` needs of the scale mixture: its sites, and f given a draw of them.

Of one output; of several it is in `_matrix_mixture`.

Given the order parameters f is a Gaussian process, so its moments at test points and joint draws
of it are exact (Williams & Rasmussen, Gaussian Processes (2006), eq. 2.19).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg as linalg
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array, random
from jaxtyping import Float

from .._basics.arrays import check_labels
from .._layers.convolution import Convolution
from .._layers.law import Law
from .._layers.layer import Site
from .._layers.stack import by_scales, chart
from .._numerics.precision import float64
from .._problem.network import Network, check_network
from ..infer._model import reported_values
from ..theories._mixture.field import RandomField, random_field
from ..theories._mixture.law import check_mixture
from ._features import check_likelihood
from ._matrix_mixture import MatrixMixture, ScaleMixture, matrix_arrays, matrix_mixture
from ._patch_mixture import PatchMixture, patch_arrays, patch_mixture
from ._posterior import Posterior, Program
from ._process import draw_elsewhere, draw_fit
from ._together import JointNormal, observe_together

__all__ = ["Mixture", "MixtureInputs", "student_t"]


class MixtureInputs(NamedTuple):
    """The arrays of a run.

    Attributes
    ----------
    field
        f on the training patterns, then the test points.
    y
        Labels, shape (pattern,).
    temperature
        T.
    root
        R with R Rᵀ = the covariance of f at Q̄ = 1 without the bias, shape (point, point), where
        the order parameters only scale it and there are test points; else None.
    """

    field: Any
    y: Any
    temperature: Any
    root: Any


@dataclasses.dataclass(frozen=True)
class _MixtureProgram:
    """What compiled code of `Mixture` depends on besides arrays.

    Parameters
    ----------
    keep
        Sites to store.
    """

    keep: tuple[str, ...]

    def density(self, inputs: MixtureInputs) -> tuple[Callable[..., None], tuple, dict]:
        """Return the NumPyro model and its arguments."""
        field = inputs.field.first(inputs.y.shape[0])
        return _mixture_model, (field, inputs.y, inputs.temperature), {}

    def reduce(
        self, inputs: MixtureInputs, rng_key: Array, sites: dict[str, Array]
    ) -> dict[str, Array]:
        """Return what is stored of a draw, from unconstrained values of the sites."""
        model, arguments, keywords = self.density(inputs)
        values = reported_values(model, arguments, keywords)(sites)
        stored = {}
        if inputs.field.covariances.diag_a.shape[0] > inputs.y.shape[0]:
            stored = _predict(inputs, rng_key, values)
        if "f" in self.keep:
            values = values | {"f": _fit(inputs, random.fold_in(rng_key, 1), values)}
        return stored | {f"site:{name}": values[name] for name in self.keep}


@dataclasses.dataclass(frozen=True, eq=False)
class Mixture(ScaleMixture):
    """The posterior of the scale mixture, of one output."""

    default_sampler: ClassVar[str] = "nuts"

    @classmethod
    def for_network(cls, net: Network) -> type[Posterior]:
        """Return the class for the order parameters, and the number of outputs."""
        if net.by_patches:
            return PatchMixture
        return cls if net.outputs == 1 else MatrixMixture

    def check(self) -> None:
        """Raise InputError where the mixture is not defined."""
        check_mixture(self.network, self.theory)

    @property
    def sites(self) -> Mapping[str, Site]:
        """The order parameters."""
        net = self.network
        if not net.by_scales:
            return {name: Site((), ()) for name in _names(net)}
        sites = {"q_bar": Site(("layer",), (net.depth,))}
        if not check_mixture(net, self.theory):
            return sites
        radius = {"r_squared": Site((), ())} if net.widths[0] > 1 else {}
        return {"a": Site((), (), net.weight_precision[1])} | radius | sites

    def prior(self) -> tuple[Callable[..., None], tuple, dict]:
        """Return `student_t`, without labels."""
        keywords = {"temperature": self.temperature, "theory": self.theory}
        return student_t, (self.network, self.X), keywords

    def inputs(self) -> MixtureInputs:
        """Return all arrays that compiled code takes."""
        points = self.X if self.X_test is None else np.concatenate([self.X, self.X_test])
        with float64():
            field = random_field(self.network, points, self.theory)
            root = _root(field) if self.X_test is not None and field.only_scale else None
        inputs = MixtureInputs(field, self.y, np.asarray(self.temperature), root)
        # in default precision, but for the number of terms of a rule
        return jax.tree.map(
            lambda leaf: jnp.asarray(leaf, None if isinstance(leaf, int) else float), inputs
        )

    def program(self, keep: tuple[str, ...]) -> Program:
        """Return the program that stores the sites `keep`."""
        return _MixtureProgram(keep)


def _root(field: RandomField) -> np.ndarray:
    covariance = np.asarray(
        field.covariance({"q_bar": jnp.ones(field.network.depth)}, output_bias=False)
    )
    values, vectors = np.linalg.eigh(covariance)
    positive = values > values[-1] * values.size * np.finfo(np.float64).eps
    return vectors * np.sqrt(np.where(positive, values, 0.0))


def _predict(inputs: MixtureInputs, rng_key: Array, values: dict[str, Array]) -> dict[str, Array]:
    """Return f (a joint draw) and its moments at the test points, given the sites."""
    field, labels, temperature, root = inputs
    n = labels.shape[0]
    mean, covariance = field.mean(values), field.covariance(values)
    keys = random.split(rng_key, 3)
    if root is None:
        return draw_elsewhere(mean, covariance, labels, temperature, keys[0])
    factor = jnp.linalg.cholesky(covariance[:n, :n] + temperature * jnp.eye(n))
    # rows κ L⁻ᵀ
    half = linalg.solve_triangular(factor, covariance[:n, n:], lower=True).T

    def regress(residual: Array) -> Array:
        """Return κ A⁻¹ residual."""
        return half @ linalg.solve_triangular(factor, residual, lower=True)

    f_mean = mean[n:] + regress(labels - mean[:n])
    f_variance = jnp.diagonal(covariance)[n:] - jnp.sum(half**2, axis=1)
    # Matheron's rule: condition a draw from the prior
    noise = root @ random.normal(keys[0], root.shape[1:], root.dtype)
    prior = jnp.sqrt(jnp.prod(values["q_bar"])) * noise
    if field.network.bias_precision is not None:
        bias = random.normal(keys[1], (), root.dtype)
        prior = prior + bias / jnp.sqrt(field.network.bias_precision[-1])
    noise = jnp.sqrt(temperature) * random.normal(keys[2], (n,), root.dtype)
    f = f_mean + prior[n:] - regress(prior[:n] + noise)
    return {"f": f, "f_mean": f_mean, "f_variance": f_variance}


def _fit(inputs: MixtureInputs, rng_key: Array, values: dict[str, Array]) -> Array:
    """Return a draw of f on the training set, given the sites."""
    labels, temperature = inputs.y, inputs.temperature
    field = inputs.field.first(labels.shape[0])
    mean, covariance = field.mean(values), field.covariance(values)
    return draw_fit(mean, covariance, labels, temperature, rng_key)


def _mixture_model(
    field: RandomField, y: Float[Array, " n"] | None, temperature: float | Array
) -> None:
    """The NumPyro model of `student_t`, given what it knows of the patterns."""
    net = field.network
    values: dict[str, Any] = {}
    if not by_scales(net):
        values = _sample_laws(field)
    elif field.has_mean:
        width, precision = net.widths[0], net.weight_precision[1]
        values["a"] = jnp.asarray(numpyro.sample("a", dist.Normal(0.0, precision**-0.5)))
        square = values["a"] ** 2
        if width > 1:
            law = dist.Gamma(0.5 * (width - 1), 0.5 * precision)
            square = square + jnp.asarray(numpyro.sample("r_squared", law))
        values["q_bar"] = jnp.reshape(precision * square / width, (1,))
        numpyro.deterministic("q_bar", values["q_bar"])
    else:
        half = 0.5 * jnp.asarray(net.widths, float)
        with numpyro.plate("layer", net.depth):
            values["q_bar"] = jnp.asarray(numpyro.sample("q_bar", dist.Gamma(half, half)))
    covariance = field.covariance(values)
    total = covariance + temperature * jnp.eye(covariance.shape[0])
    observe_together(JointNormal(field.mean(values), covariance_matrix=total), y)


def _laws(net: Any) -> dict[str, Law]:
    """Return the law of each site, where not all layers are dense."""
    orders = enumerate(chart(net, False).orders, start=1)
    return {law.site(layer): law for layer, order in orders for law in order.laws() or ()}


def _names(net: Any) -> list[str]:
    """Return the sites, those that follow from others (s of a block) included."""
    known = list(_laws(net))
    shown = chart(net, False).value(np.zeros(chart(net, False).size)).shown() or {}
    further = [f"{name}_{at}" for name, (_, layers, _) in shown.items() for at in layers]
    return known + [one for one in further if one not in known and not one.startswith("q_")]


def _sample_laws(field: RandomField) -> dict[str, Any]:
    """Sample the order parameters of layers that are not all dense."""
    values: dict[str, Any] = {}
    for name, law in _laws(field.network).items():
        spread = law.rate**-0.5
        one = dist.Normal(0.0, spread) if law.shape is None else dist.Gamma(law.shape, law.rate)
        values[name] = jnp.asarray(numpyro.sample(name, one))
    for name, (_, layers, found) in (field.order(values).shown() or {}).items():
        for layer, value in zip(layers, found, strict=True):
            if name != "q" and f"{name}_{layer}" not in values:
                numpyro.deterministic(f"{name}_{layer}", value)
    return values


def student_t(
    net: Network,
    X: Any,
    y: Any = None,
    *,
    temperature: float | Array,
    theory: str = "nested",
) -> None:
    """The scale mixture whose saddle point is the theory, as a NumPyro model.

    Parameters
    ----------
    net
        The network. An activation that is not odd takes one hidden layer or theory="wishart";
        with several outputs all do but the identity.
    X
        Patterns, shape (pattern, input).
    y
        Labels, shape (pattern,), or (pattern, output) with several outputs; None to draw them
        from the prior.
    temperature
        T > 0, the variance of the Gaussian likelihood.
    theory
        How the order parameters enter the kernel, "nested" or "wishart".

    Raises
    ------
    InputError
        If an argument is not as described.

    Notes
    -----
    Sites: q_bar (layer,), each Gamma(N_ℓ/2, rate N_ℓ/2), which NUTS moves in its logarithm; with
    a mean term instead a ~ N(0, 1/λ_1) and (N_1 > 1) r_squared with λ_1 r² ~ χ²(N_1 − 1), and the
    deterministic q_bar = λ_1(a² + r²)/N_1. Then y, Gaussian given these, f integrated.

    With a residual block as layer ℓ: r_ℓ ~ N(0, 1/N), t_ℓ ~ Gamma((N − 1)/2, rate N/2), the
    deterministic s_ℓ = t_ℓ + r_ℓ², and q_bar_ℓ of each layer that no block follows.

    With several outputs: g_ℓ (row_ℓ, output), standard normal with N_ℓ rows, and the deterministic
    q_bar (layer, output, ``output_``) = g_ℓᵀg_ℓ/N_ℓ, each Wishart; with a mean term a (output), one
    row less, and q_bar = (λ_1 a aᵀ + gᵀg)/N_1. All these sites are Gaussian: SplitHMC takes them.

    As in `marginal`, the labels are one observation, and `numpyro.infer.log_likelihood` gives
    ``log p(y_i | y_-i, latents)`` for each pattern.

    References
    ----------
    theory.md, sections 5 and 11.
    """
    check_network(net)
    temperature = check_likelihood(temperature)
    inputs = net.layers[0].check_inputs(X)
    if y is not None:
        y = check_labels(y, inputs.shape[0], outputs=net.outputs)
    if net.by_patches:
        layer = net.layers[0]
        assert isinstance(layer, Convolution)
        patch_mixture(patch_arrays(net, inputs, y, temperature, None, theory), layer)
        return
    if net.outputs > 1:
        arrays = matrix_arrays(net, inputs, y, temperature, None, theory)
        matrix_mixture(arrays, net.widths, net.outputs)
        return
    field = random_field(net, inputs, theory)
    _mixture_model(field, None if y is None else jnp.asarray(y, float), temperature)
