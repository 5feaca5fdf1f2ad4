"""The integrated readout, and the factorisation under it, against dense Gaussian algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from finwidth._numerics.cholesky import cholesky_and_inverse
from finwidth._numerics.precision import float64
from finwidth.models._readout import ReadoutMarginal, condition, log_marginal

RNG = np.random.default_rng(11)
SHAPES = [(12, 4), (6, 6), (1, 3)]
SLOW = pytest.mark.slow


@pytest.fixture(autouse=True)
def double():
    with float64():
        yield


def problem(shape):
    return RNG.normal(size=shape) / np.sqrt(shape[1]), RNG.normal(size=shape[0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [1e-3, 0.5])
def test_log_marginal_is_the_gaussian_density(shape, temperature):
    features, y = problem(shape)
    covariance = features @ features.T + temperature * np.eye(shape[0])
    expected = scipy.stats.multivariate_normal(np.zeros(shape[0]), covariance).logpdf(y)
    assert float(log_marginal(jnp.asarray(features), jnp.asarray(y), temperature)) == pytest.approx(
        expected, rel=1e-9
    )


@pytest.mark.parametrize("shape", [(12, 4), pytest.param((6, 6), marks=SLOW), (1, 3)])
def test_derivatives_match_those_of_the_plain_density(shape):
    features, y = (jnp.asarray(value) for value in problem(shape))

    def plain(features, y, temperature):
        a = features @ features.T + temperature * jnp.eye(shape[0])
        quadratic = y @ jnp.linalg.solve(a, y)
        return -0.5 * (quadratic + jnp.linalg.slogdet(2 * jnp.pi * a)[1])

    for derivative in (lambda f: jax.grad(f, argnums=(0, 1, 2)), lambda f: jax.jacfwd(f)):
        ours = jax.jit(derivative(log_marginal))(features, y, 0.3)
        theirs = jax.jit(derivative(plain))(features, y, 0.3)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)
    ours = jax.jit(jax.hessian(log_marginal))(features, y, 0.3)
    theirs = jax.jit(jax.hessian(plain))(features, y, 0.3)
    np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("temperature", [1e-6, 1e-10])
def test_quadratic_form_does_not_cancel_at_low_temperature(temperature):
    """y in the span of few features: the residual is of the order of T, not of |y|²."""
    features, _ = problem((40, 3))
    y = features @ np.array([1.0, -2.0, 0.5])
    # exact: y = F c gives yᵀA⁻¹y = cᵀ(1 − T M⁻¹)c, with M = FᵀF + T
    c = np.array([1.0, -2.0, 0.5])
    m = features.T @ features + temperature * np.eye(3)
    quadratic = c @ c - temperature * c @ np.linalg.solve(m, c)
    logdet = 37 * np.log(temperature) + np.linalg.slogdet(m)[1]
    expected = -0.5 * (quadratic + logdet + 40 * np.log(2 * np.pi))
    # |y|²/T ≈ 1e11 would leave no digits if it were subtracted
    assert float(log_marginal(jnp.asarray(features), jnp.asarray(y), temperature)) == pytest.approx(
        expected, rel=1e-7
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_conditional_moments_and_draws(shape):
    features, y = problem(shape)
    block = RNG.normal(size=(3, shape[1]))
    readout = condition(jnp.asarray(features), jnp.asarray(y), 0.2)
    precision = features.T @ features / 0.2 + np.eye(shape[1])
    covariance = np.linalg.inv(precision)
    mean = covariance @ features.T @ y / 0.2
    ours_mean, ours_variance = readout.moments(jnp.asarray(block))
    np.testing.assert_allclose(ours_mean, block @ mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours_variance, np.diag(block @ covariance @ block.T), rtol=1e-8)
    n = 20_000
    draws = np.asarray(jax.jit(jax.vmap(readout.draw))(jax.random.split(jax.random.key(0), n)))
    deviation = np.sqrt(np.diag(covariance) / n)
    np.testing.assert_array_less(np.abs(draws.mean(axis=0) - mean), 4.5 * deviation)
    # the sample covariance's standard error is at most √(2/n) of the variances
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    estimate = np.atleast_2d(np.cov(draws.T))
    assert np.max(np.abs(estimate - covariance) / scale) < 5 * np.sqrt(2 / n)


def test_distribution_samples_its_own_law():
    features, _ = problem((5, 3))
    law = ReadoutMarginal(jnp.asarray(features), 0.4)
    draws = np.asarray(law.sample(jax.random.key(1), (40_000,)))
    covariance = features @ features.T + 0.4 * np.eye(5)
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    assert np.max(np.abs(np.cov(draws.T) - covariance) / scale) < 5 * np.sqrt(2 / 40_000)
    assert law.event_shape == (5,)


@pytest.mark.parametrize(
    "n", [1, 2, 33, 131, *(pytest.param(n, marks=SLOW) for n in (31, 51, 64, 100, 200))]
)
@pytest.mark.parametrize("shift", [1e-2, 1e-9])
def test_cholesky_and_inverse(n, shift):
    """Backward stable at every size, however the blocks fall, also for nearly singular matrices."""
    half = RNG.normal(size=(n, max(1, n // 2)))
    matrix = half @ half.T + shift * np.eye(n)
    factor, inverse = (np.asarray(value) for value in cholesky_and_inverse(jnp.asarray(matrix)))
    for value in (factor, inverse):
        assert np.array_equal(value, np.tril(value))
        assert np.all(np.diag(value) > 0)
    rounding = n * np.finfo(np.float64).eps
    scale = np.linalg.norm(matrix, 2)
    assert np.linalg.norm(factor @ factor.T - matrix, 2) <= 2 * rounding * scale
    conditioning = np.sqrt(scale / shift)
    assert np.linalg.norm(inverse @ factor - np.eye(n), 2) <= 2 * rounding * conditioning


@pytest.mark.parametrize("n", [3, pytest.param(40, marks=SLOW), 90])
@pytest.mark.parametrize("position", [0, -1])
def test_cholesky_and_inverse_of_an_indefinite_matrix_is_nan(n, position):
    matrix = np.eye(n)
    matrix[position, position] = -1.0
    factor, inverse = cholesky_and_inverse(jnp.asarray(matrix))
    assert np.any(np.isnan(factor)) and np.any(np.isnan(inverse))


def test_cholesky_and_inverse_is_differentiable():
    half = RNG.normal(size=(40, 40))
    matrix = jnp.asarray(half @ half.T + np.eye(40))
    direction = jnp.asarray(half + half.T)

    def ours(t):
        factor, inverse = cholesky_and_inverse(matrix + t * direction)
        return jnp.sum(jnp.log(jnp.diagonal(factor))), jnp.sum(inverse**2)

    def plain(t):
        moved = matrix + t * direction
        return 0.5 * jnp.linalg.slogdet(moved)[1], jnp.trace(jnp.linalg.inv(moved))

    for a, b in zip(jax.jacfwd(ours)(0.0), jax.jacfwd(plain)(0.0), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
