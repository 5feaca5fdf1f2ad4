"""Elementary functions against NumPy's, and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from finwidth._numerics.precision import float64
from finwidth._numerics.special import arctan2


def points():
    rng = np.random.default_rng(0)
    angles = np.concatenate([rng.uniform(-np.pi, np.pi, 20000), np.arange(-8, 9) * np.pi / 8])
    radii = np.exp(rng.uniform(-20, 20, angles.size))
    y, x = radii * np.sin(angles), radii * np.cos(angles)
    exact = np.array([(0.0, 1.0), (0.0, -1.0), (1.0, 0.0), (-1.0, 0.0), (0.0, 0.0), (3.0, 3.0)])
    tiny = np.array([(1e-300, 1.0), (1.0, 1e-300), (-1e-12, -1.0), (0.66, 1.0)])
    extra = np.concatenate([exact, tiny])
    return np.concatenate([y, extra[:, 0]]), np.concatenate([x, extra[:, 1]])


def test_arctan2_is_accurate_to_the_last_digits():
    y, x = points()
    with float64():
        value = np.asarray(arctan2(jnp.asarray(y), jnp.asarray(x)))
    expected = np.arctan2(y, x)
    assert np.all(np.abs(value - expected) <= 4 * np.spacing(np.abs(expected)))


def test_its_derivatives():
    with float64():
        y, x = jnp.asarray(0.3, jnp.float64), jnp.asarray(-0.8, jnp.float64)
        for order in (1, 2, 3):
            ours, theirs = arctan2, jnp.arctan2
            for _ in range(order):
                ours, theirs = jax.grad(ours), jax.grad(theirs)
            assert float(ours(y, x)) == pytest.approx(float(theirs(y, x)), rel=1e-13)


def test_single_precision_and_broadcasting():
    y, x = jnp.ones((3, 1), jnp.float32), jnp.ones(2, jnp.float32)
    value = arctan2(y, x)
    assert value.shape == (3, 2)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, np.pi / 4, rtol=1e-6)
