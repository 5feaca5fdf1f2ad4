"""What `finwidth.sample` needs of the scale mixture: its sites, and f given a draw of them.

Given the order parameters f is a Gaussian process, so its moments at test points and joint draws
of it are exact (Williams & Rasmussen, Gaussian Processes (2006), eq. 2.19).
"""

import functools
import math
from collections.abc import Callable

import jax.numpy as jnp
import jax.scipy.linalg as linalg
import numpy as np
from jax import Array, random

from ._inputs import check_choice
from ._kernels import bias_variances
from ._mixture_law import check_mixture
from ._network import Network
from ._precision import float64
from ._student_t import RandomField, random_field, student_t
from .infer._model import reported_values

__all__ = ["SAMPLERS", "mixture_density", "mixture_reduction", "mixture_sites"]

# those that do not need Gaussian sites
SAMPLERS = ("hmc", "langevin", "nuts")


def mixture_sites(
    network: Network, theory: str
) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Return dimensions and shapes of the sites as they are stored."""
    shapes: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {}
    if check_mixture(network, theory):
        shapes["a"] = ((), ())
        if network.widths[0] > 1:
            shapes["r_squared"] = ((), ())
    return shapes | {"q_bar": (("layer",), (network.depth,))}


def mixture_density(theory: str) -> Callable[..., None]:
    """Return the model, whose arguments are those of the other models."""
    check_choice("theory", theory, ("nested", "wishart"))
    return functools.partial(student_t, theory=theory)


def mixture_reduction(
    network: Network,
    X: np.ndarray,
    y: np.ndarray,
    temperature: float,
    X_test: np.ndarray | None,
    theory: str,
    keep: tuple[str, ...],
) -> Callable[[Array, dict[str, Array]], dict[str, Array]]:
    """Return the function from unconstrained values of the sites to what is stored of a draw.

    Parameters
    ----------
    network
        The network.
    X, y
        Training set, shapes (pattern, input) and (pattern,).
    temperature
        T > 0.
    X_test
        Test points, shape (test_pattern, input), or None.
    theory
        "nested" or "wishart".
    keep
        Sites to store.
    """
    model = mixture_density(theory)
    constrain = reported_values(model, (network, X, y), {"temperature": temperature})
    predict = None if X_test is None else _predictor(network, X, y, temperature, X_test, theory)

    def reduce(rng_key: Array, sites: dict[str, Array]) -> dict[str, Array]:
        values = constrain(sites)
        stored = {} if predict is None else predict(rng_key, values)
        return stored | {f"site:{name}": values[name] for name in keep}

    return reduce


def _root(field: RandomField) -> Array:
    """Return R with R Rᵀ = the covariance of f at Q̄ = 1 without the bias, shape (point, rank)."""
    with float64():
        covariance = np.asarray(field.covariance(jnp.ones(field.network.depth), output_bias=False))
    values, vectors = np.linalg.eigh(covariance)
    positive = values > values[-1] * values.size * np.finfo(np.float64).eps
    return jnp.asarray(vectors[:, positive] * np.sqrt(values[positive]), float)


def _predictor(
    network: Network,
    X: np.ndarray,
    y: np.ndarray,
    temperature: float,
    X_test: np.ndarray,
    theory: str,
) -> Callable[[Array, dict[str, Array]], dict[str, Array]]:
    """Return the function from the sites to f (a joint draw) and its moments at the test points."""
    n = X.shape[0]
    field = random_field(network, np.concatenate([X, X_test]), theory)
    labels = jnp.asarray(y, float)
    bias = float(bias_variances(network)[-1])
    root = _root(field) if field.only_scale else None

    def predict(rng_key: Array, values: dict[str, Array]) -> dict[str, Array]:
        mean, covariance = field.mean(values), field.covariance(values["q_bar"])
        factor = jnp.linalg.cholesky(covariance[:n, :n] + temperature * jnp.eye(n))
        # rows κ L⁻ᵀ
        half = linalg.solve_triangular(factor, covariance[:n, n:], lower=True).T

        def regress(residual: Array) -> Array:
            """Return κ A⁻¹ residual."""
            return half @ linalg.solve_triangular(factor, residual, lower=True)

        f_mean = mean[n:] + regress(labels - mean[:n])
        f_variance = jnp.diagonal(covariance)[n:] - jnp.sum(half**2, axis=1)
        keys = random.split(rng_key, 3)
        if root is None:
            eigenvalues, vectors = jnp.linalg.eigh(covariance[n:, n:] - half @ half.T)
            # negative by rounding alone, where the kernel is singular
            noise = random.normal(keys[0], eigenvalues.shape, eigenvalues.dtype)
            f = f_mean + vectors @ (jnp.sqrt(jnp.maximum(eigenvalues, 0.0)) * noise)
        else:
            # Matheron's rule: condition a draw from the prior
            prior = jnp.sqrt(jnp.prod(values["q_bar"])) * (
                root @ random.normal(keys[0], root.shape[1:], root.dtype)
            ) + math.sqrt(bias) * random.normal(keys[1], (), root.dtype)
            noise = math.sqrt(temperature) * random.normal(keys[2], (n,), root.dtype)
            f = f_mean + prior[n:] - regress(prior[:n] + noise)
        return {"f": f, "f_mean": f_mean, "f_variance": f_variance}

    return predict
