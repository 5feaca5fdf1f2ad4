"""The data term for a kernel of varying scale, against dense linear algebra."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from finwidth._scaled import ScaledKernel


def dense(kernel, columns, y, temperature, scale, weights):
    a = temperature * np.eye(len(y)) + scale * kernel + (columns * weights) @ columns.T
    return np.linalg.slogdet(a)[1] + y @ np.linalg.solve(a, y)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 25),
    rank=st.integers(0, 2),
    temperature=st.sampled_from([1e-3, 0.3, 1e6]),
    scale=st.floats(0.05, 10),
    seed=st.integers(0, 10**6),
)
def test_value_and_gradient_match_dense_algebra(n, rank, temperature, scale, seed):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(n, n + 2))
    kernel, y = factor @ factor.T / n, rng.normal(size=n)
    columns, weights = rng.normal(size=(n, rank)), rng.uniform(0.1, 2, size=rank)
    value, d_scale, d_weights = ScaledKernel(kernel, columns, y).data_term(
        scale, weights, temperature
    )
    a = temperature * np.eye(n) + scale * kernel + (columns * weights) @ columns.T
    assert value == pytest.approx(dense(kernel, columns, y, temperature, scale, weights), rel=1e-9)
    # d/d log s of logdet A + yᵀA⁻¹y, from its definition
    solved = np.linalg.solve(a, np.column_stack([scale * kernel, y]))
    expected = np.trace(solved[:, :n]) - solved[:, n] @ (scale * kernel) @ solved[:, n]
    assert d_scale == pytest.approx(expected, rel=1e-7, abs=1e-9 * np.trace(solved[:, :n]))
    for j in range(rank):
        term = weights[j] * np.outer(columns[:, j], columns[:, j])
        expected = np.trace(np.linalg.solve(a, term)) - solved[:, n] @ term @ solved[:, n]
        assert d_weights[j] == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_not_positive_definite_is_nan():
    value, d_scale, _ = ScaledKernel(
        np.diag([1.0, -2.0, 1.0]), np.zeros((3, 0)), np.ones(3)
    ).data_term(1.0, np.zeros(0), 0.1)
    assert np.isnan(value)
    assert np.isnan(d_scale)
