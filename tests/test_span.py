"""Whitened inputs, and the span of patterns."""

import numpy as np
import pytest

import finwidth as fw
from finwidth._layers.dense import input_covariance, whiten_inputs
from finwidth._numerics.precision import float64
from finwidth._numerics.span import Span

RNG = np.random.default_rng(8)


@pytest.mark.parametrize("bias", [None, (0.3, 1.0)])
def test_products_of_whitened_inputs_are_the_input_covariance(bias):
    net = fw.Network((4,), "erf", (1.7, 1.0), bias)
    X = RNG.normal(size=(5, 3))
    white = whiten_inputs(net, X)
    assert white.shape == (5, 3 if bias is None else 4)
    with float64():
        covariance = np.asarray(input_covariance(net, X).cross)
    np.testing.assert_allclose(white @ white.T, covariance, rtol=1e-14)


@pytest.mark.parametrize(("shape", "rank"), [((9, 5), 5), ((9, 5), 2), ((4, 7), 4), ((4, 7), 1)])
def test_coordinates_in_the_span_say_all_of_the_rows(shape, rank):
    X = RNG.normal(size=(shape[0], rank)) @ RNG.normal(size=(rank, shape[1]))
    span = Span.of(X)
    basis = span.basis()
    assert span.rank == rank
    np.testing.assert_allclose(basis.T @ basis, np.eye(rank), atol=1e-14)
    np.testing.assert_allclose(span.coordinates() @ basis.T, X, atol=1e-13)
    np.testing.assert_allclose(span.coordinates(1), X @ span.basis(1), atol=1e-13)


def test_of_zeros_nothing_is_spanned():
    assert Span.of(np.zeros((3, 2))).basis().shape == (2, 0)
