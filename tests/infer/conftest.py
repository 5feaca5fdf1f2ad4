"""A linear-Gaussian model with several kinds of Gaussian sites, and its exact posterior."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.diagnostics import effective_sample_size

NOISE = 0.5
LOC_W, SCALE_W = np.array([1.0, -2.0, 0.5]), np.array([2.0, 0.3, 1.0])
SCALE_B = 0.7
COVARIANCE = np.array([[1.0, 0.6], [0.6, 0.8]])


class Linear(NamedTuple):
    model: Callable[..., Any]
    args: tuple
    mean: np.ndarray
    covariance: np.ndarray

    def stack(self, samples: dict) -> np.ndarray:
        """Samples of all sites, (chain, draw, coordinate), in the order of `mean`."""
        return np.concatenate([np.asarray(samples[name]) for name in ("w", "b", "c")], axis=-1)


@pytest.fixture(scope="session")
def linear() -> Linear:
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(15, 7)), rng.normal(size=15)

    def model(X, y):
        # dtype given: without it JAX 0.12 may reuse the constant of a run in the other precision
        dtype = jnp.result_type(float)
        loc_w, scale_w, covariance = (
            jnp.asarray(constant, dtype) for constant in (LOC_W, SCALE_W, COVARIANCE)
        )
        w = numpyro.sample("w", dist.Normal(loc_w, scale_w).to_event(1))
        with numpyro.plate("units", 2):
            b = numpyro.sample("b", dist.Normal(0.0, SCALE_B))
        c = numpyro.sample("c", dist.MultivariateNormal(jnp.ones(2), covariance))
        f = numpyro.deterministic("f", X[:, :3] @ w + X[:, 3:5] @ b + X[:, 5:] @ c)
        with numpyro.plate("patterns", len(y)):
            numpyro.sample("y", dist.Normal(f, NOISE), obs=y)

    prior_mean = np.concatenate([LOC_W, np.zeros(2), np.ones(2)])
    prior = np.zeros((7, 7))
    prior[:3, :3], prior[3:5, 3:5] = np.diag(SCALE_W**2), np.diag([SCALE_B**2] * 2)
    prior[5:, 5:] = COVARIANCE
    gain = np.linalg.solve(X @ prior @ X.T + NOISE**2 * np.eye(len(y)), X @ prior).T
    mean = prior_mean + gain @ (y - X @ prior_mean)
    return Linear(model, (X, y), mean, prior - gain @ X @ prior)


@pytest.fixture(scope="session")
def deviation() -> Callable[[np.ndarray, Any], np.ndarray]:
    """Distance of the mean of draws (chain, draw, …) from a value, in Monte Carlo errors."""

    def deviation(draws: np.ndarray, value: Any) -> np.ndarray:
        draws = np.asarray(draws, dtype=np.float64)
        error = draws.std(axis=(0, 1)) / np.sqrt(effective_sample_size(draws))
        return np.abs(draws.mean(axis=(0, 1)) - value) / error

    return deviation
