"""A Gaussian process given labels: its moments, and joint draws of it, on fixed points.

Source: Williams & Rasmussen, Gaussian Processes (2006), eq. 2.19.
"""

import jax.numpy as jnp
import jax.scipy.linalg as linalg
from jax import Array, random
from jaxtyping import Float

__all__ = ["draw_elsewhere", "draw_fit"]


def draw_fit(
    mean: Float[Array, " n"],
    covariance: Float[Array, "n n"],
    labels: Float[Array, " n"],
    temperature: Array,
    rng_key: Array,
) -> Float[Array, " n"]:
    """Return a draw of f where labels are known."""
    eigenvalues, vectors = jnp.linalg.eigh(covariance)
    eigenvalues = jnp.maximum(eigenvalues, 0.0)  # negative by rounding alone
    shrunk = eigenvalues / (eigenvalues + temperature)
    noise = random.normal(rng_key, labels.shape, labels.dtype)
    centred = shrunk * (vectors.T @ (labels - mean)) + jnp.sqrt(temperature * shrunk) * noise
    return mean + vectors @ centred


def draw_elsewhere(
    mean: Float[Array, " all"],
    covariance: Float[Array, "all all"],
    labels: Float[Array, " n"],
    temperature: Array,
    rng_key: Array,
) -> dict[str, Array]:
    """Return f (a joint draw) and its moments at the points after the first n."""
    n = labels.shape[0]
    factor = jnp.linalg.cholesky(covariance[:n, :n] + temperature * jnp.eye(n))
    # rows κ L⁻ᵀ
    half = linalg.solve_triangular(factor, covariance[:n, n:], lower=True).T
    centred = linalg.solve_triangular(factor, labels - mean[:n], lower=True)
    f_mean = mean[n:] + half @ centred
    f_variance = jnp.diagonal(covariance)[n:] - jnp.sum(half**2, axis=1)
    eigenvalues, vectors = jnp.linalg.eigh(covariance[n:, n:] - half @ half.T)
    # negative by rounding alone, where the kernel is singular
    noise = random.normal(rng_key, eigenvalues.shape, eigenvalues.dtype)
    f = f_mean + vectors @ (jnp.sqrt(jnp.maximum(eigenvalues, 0.0)) * noise)
    return {"f": f, "f_mean": f_mean, "f_variance": f_variance}
