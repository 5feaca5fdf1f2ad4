"""Order parameters: what is given in closed form is what JAX makes of value and entropy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from finwidth._layers.order import Chart, OrderParameter, Scale, WithMean
from finwidth._numerics.precision import float64

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("order", [Scale(7), WithMean(7)])
def test_closed_derivatives_are_those_of_the_entropy(order):
    theta = RNG.normal(size=order.size)
    with float64():
        closed, made = order.derivatives(theta), OrderParameter.derivatives(order, theta)
    for one, other in zip(closed, made, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "orders", [(Scale(7), Scale(3)), (WithMean(7), WithMean(3)), (Scale(7), WithMean(3))]
)
def test_a_chart_is_its_layers_one_after_the_other(orders):
    """Traced and not, of one kind (one call for all) and of several."""
    chart = Chart(orders)
    theta = RNG.normal(size=chart.size)
    parts = np.split(theta, [orders[0].size])
    with float64():
        expected = [order.value(part) for order, part in zip(orders, parts, strict=True)]
        for found in (chart.value(theta), chart.value(jnp.asarray(theta))):
            np.testing.assert_allclose(found.values, expected, rtol=1e-14)
        gradient, hessian = chart.derivatives(theta)
        np.testing.assert_allclose(gradient, jax.grad(chart.entropy)(jnp.asarray(theta)))
        np.testing.assert_allclose(
            hessian, jax.hessian(chart.entropy)(jnp.asarray(theta)), atol=1e-12
        )


def test_the_cubic_term_is_a_difference_of_hessians():
    chart = Chart((Scale(7), WithMean(3)))
    theta, directions = 0.3 * RNG.normal(size=3), RNG.normal(size=(2, 3))
    signs = np.array([1.0, -1.0])
    with float64():
        found = chart.cubic(theta, signs, directions)
        for value, direction in zip(found, directions, strict=True):
            step = 1e-5 * direction
            change = chart.derivatives(theta + step)[1] - chart.derivatives(theta - step)[1]
            bends = np.einsum("ki,kj,ij->k", directions, directions, change / 2e-5)
            np.testing.assert_allclose(value, signs @ bends, rtol=1e-7)
