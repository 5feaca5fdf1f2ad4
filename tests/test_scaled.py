"""The data term for a kernel of varying scale, against dense linear algebra."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import finwidth as fw
from finwidth._numerics.tridiagonal import ScaledKernel, TridiagonalFactor


@st.composite
def forms(draw, least_weight):
    """T·1 + s K + Σ_j w_j c_j c_jᵀ: its parts (K, columns, y), s, w, T and the dense matrix."""
    n, rank = draw(st.integers(1, 25)), draw(st.integers(0, 2))
    temperature = draw(st.sampled_from([1e-3, 0.3, 1e6]))
    scale = draw(st.floats(0.05, 10))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    root = rng.normal(size=(n, n + 2))
    kernel, y = root @ root.T / n, rng.normal(size=n)
    columns, weights = rng.normal(size=(n, rank)), rng.uniform(least_weight, 2, size=rank)
    a = temperature * np.eye(n) + scale * kernel + (columns * weights) @ columns.T
    return (kernel, columns, y), scale, weights, temperature, a


@settings(max_examples=40, deadline=None)
@given(form=forms(least_weight=0.1))
def test_value_and_gradient_match_dense_algebra(form):
    (kernel, columns, y), scale, weights, temperature, a = form
    n = y.size
    value, d_scale, d_weights = ScaledKernel(kernel, columns, y).data_term(
        scale, weights, temperature
    )
    dense = np.linalg.slogdet(a)[1] + y @ np.linalg.solve(a, y)
    assert value == pytest.approx(dense, rel=1e-9)
    # d/d log s of logdet A + yᵀA⁻¹y, from its definition
    solved = np.linalg.solve(a, np.column_stack([scale * kernel, y]))
    expected = np.trace(solved[:, :n]) - solved[:, n] @ (scale * kernel) @ solved[:, n]
    assert d_scale == pytest.approx(expected, rel=1e-7, abs=1e-9 * np.trace(solved[:, :n]))
    for j in range(weights.size):
        term = weights[j] * np.outer(columns[:, j], columns[:, j])
        expected = np.trace(np.linalg.solve(a, term)) - solved[:, n] @ term @ solved[:, n]
        assert d_weights[j] == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_not_positive_definite_is_nan():
    value, d_scale, _ = ScaledKernel(
        np.diag([1.0, -2.0, 1.0]), np.zeros((3, 0)), np.ones(3)
    ).data_term(1.0, np.zeros(0), 0.1)
    assert np.isnan(value)
    assert np.isnan(d_scale)


@settings(max_examples=40, deadline=None)
@given(form=forms(least_weight=0.0))
def test_factor_matches_dense_algebra(form):
    (kernel, columns, y), scale, weights, temperature, a = form
    factor = TridiagonalFactor(ScaledKernel(kernel, columns, y), scale, weights, temperature)
    b = np.random.default_rng(0).normal(size=(y.size, 3))
    solved = np.linalg.solve(a, b)
    size = np.linalg.norm(solved)
    assert factor.logdet == pytest.approx(np.linalg.slogdet(a)[1], rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(factor.solve(b), solved, atol=1e-9 * size)
    np.testing.assert_allclose(factor.solve(b[:, 0]), solved[:, 0], atol=1e-9 * size)
    assert factor.quadratic(y) == pytest.approx(y @ np.linalg.solve(a, y), rel=1e-9)
    half = factor.whiten(b)
    np.testing.assert_allclose(half.T @ half, b.T @ solved, atol=1e-9 * size)


def test_extreme_eigenvalues_and_rotation():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(30, 40))
    kernel = root @ root.T
    reduced = ScaledKernel(kernel, np.zeros((30, 0)), np.ones(30))
    values = np.linalg.eigvalsh(kernel)
    assert reduced.extreme_eigenvalues == pytest.approx((values[0], values[-1]), rel=1e-10)
    block = rng.normal(size=(30, 4))
    rotated = reduced.rotate(block)
    np.testing.assert_allclose(reduced.rotate(rotated, back=True), block, atol=1e-12)
    np.testing.assert_allclose(rotated.T @ rotated, block.T @ block, atol=1e-10)


def test_a_singular_matrix_is_refused():
    kernel = np.ones((5, 5))
    reduced = ScaledKernel(kernel, np.zeros((5, 0)), np.ones(5))
    with pytest.raises(fw.InputError, match="expected a larger temperature"):
        TridiagonalFactor(reduced, 1.0, np.zeros(0), 0.0)
    assert np.all(kernel == 1.0)  # nothing is overwritten unless asked
