"""Theories on inputs of any scale: the solution of the equivalent problem, or a clear error."""

import numpy as np
import pytest

import finwidth as fw

# inputs this large are small labels, of which these tests are
pytestmark = pytest.mark.filterwarnings("ignore:expected y = labels")

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 5)), np.sign(RNG.normal(size=12))
X_TEST, Y_TEST = RNG.normal(size=(4, 5)), np.sign(RNG.normal(size=4))


def solve(scale, theory, activation, widths, labels=1.0, temperature=0.1, patterns=12):
    net = fw.Network(widths, activation)
    solution = fw.solve(
        net,
        X[:patterns] * scale,
        Y[:patterns] * labels,
        temperature=temperature,
        theory=theory,
    )
    return solution, float(solution.generalization_error(X_TEST * scale, Y_TEST * labels)["error"])


@pytest.mark.parametrize("theory", ["nested", "wishart"])
@pytest.mark.parametrize("scale", [1e20, 1e150])
def test_large_inputs_are_small_labels(theory, scale):
    """ReLU is homogeneous: X, y and √T in other units, and fewer units than patterns fit them.

    The order parameters then fall as (labels/inputs)², whatever the unit.
    """
    large, error = solve(scale, theory, "relu", (8,))
    small, same = solve(1e10, theory, "relu", (8,), 1e10 / scale, 0.1 * (1e10 / scale) ** 2)
    np.testing.assert_allclose(large.order_parameters["q_bar"], small.order_parameters["q_bar"])
    assert error == pytest.approx(same * (scale / 1e10) ** 2, rel=1e-6)
    reference, _ = solve(1e10, theory, "relu", (8,))
    ratio = large.order_parameters["q_bar"] / reference.order_parameters["q_bar"]
    np.testing.assert_allclose(ratio, (1e10 / scale) ** 2, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e9, 1e50, 1e150])
def test_adaptive_theory_of_erf_has_a_limit(scale):
    """erf of large arguments is a sign: the scale of the inputs says nothing any more."""
    (first, error), (second, same) = (solve(s, "adaptive", "erf", (8,)) for s in (1e5, scale))
    assert second.residual < 1e-12
    # the corrections to the sign are of order 1/scale
    assert same == pytest.approx(error, rel=1e-4)
    np.testing.assert_allclose(
        second.order_parameters["q_bar"], first.order_parameters["q_bar"], rtol=1e-4
    )


@pytest.mark.parametrize(
    ("activation", "scale"),
    [
        ("identity", 1e3),
        pytest.param("identity", 1e50, marks=pytest.mark.slow),
        pytest.param("relu", 1e10, marks=pytest.mark.slow),
    ],
)
def test_as_many_units_as_patterns(activation, scale):
    """What does not depend on the labels' scale cancels: Q̄ falls as labels/inputs, or one line."""
    widths = (8, 5)
    reference, _ = solve(1e2, "nested", activation, widths, patterns=5)
    try:
        solution, _ = solve(scale, "nested", activation, widths, patterns=5)
    except fw.ConvergenceError as error:
        assert scale > 1e5 and "too flat there for float64" in str(error)
        return
    last = [float(s.order_parameters["q_bar"][-1]) for s in (reference, solution)]
    assert last[1] / last[0] == pytest.approx(1e2 / scale, rel=0.1)
