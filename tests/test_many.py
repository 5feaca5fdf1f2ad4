"""A grid of solutions is the solutions."""

import numpy as np
import pytest

import finwidth as fw

RNG = np.random.default_rng(2)
X, Y = RNG.normal(size=(12, 5)), RNG.normal(size=12)
X_TEST, Y_TEST = RNG.normal(size=(6, 5)), RNG.normal(size=6)


@pytest.mark.parametrize(
    ("activation", "depth"),
    [("erf", 1), ("relu", 1), pytest.param("erf", 2, marks=pytest.mark.slow)],
)
def test_grid_equals_single_solutions(activation, depth):
    net = fw.Network((7,) * depth, activation, bias_precision=2.0)
    grid = fw.solve_many(
        net, X, Y, widths=[4, 40], temperature=[0.01, 1.0], X_test=X_TEST, y_test=Y_TEST
    )
    assert grid.q_bar.dims == ("width", "temperature", "layer")
    for width in (4, 40):
        for temperature in (0.01, 1.0):
            single = fw.solve(net.replace(widths=(width,) * depth), X, Y, temperature=temperature)
            point = grid.sel(width=width, temperature=temperature)
            expected = single.order_parameters
            np.testing.assert_allclose(point.q_bar, expected.q_bar, rtol=1e-9)
            np.testing.assert_allclose(point.q, expected.q, rtol=1e-7, atol=1e-9)
            errors = single.generalization_error(X_TEST, Y_TEST)
            for name in ("error", "bias2", "variance"):
                assert float(point[name]) == pytest.approx(float(errors[name]), rel=1e-8)
            assert float(point.log_evidence) == pytest.approx(single.log_evidence, rel=1e-9)
    np.testing.assert_allclose(grid["load"], [3.0, 0.3])


@pytest.mark.parametrize("likelihood", ["logit", "softmax"])
def test_a_grid_of_classes_has_their_scores(likelihood):
    index = np.arange(12) % 2
    y, y_test = (one if likelihood == "softmax" else 2.0 * one - 1 for one in (index, index[:6]))
    net = fw.Network((7,), "erf", outputs=2 if likelihood == "softmax" else 1)
    how = {"likelihood": likelihood, "approximation": None if net.outputs > 1 else "laplace"}
    grid = fw.solve_many(
        net, X, y, widths=[4, 40], temperature=1.0, X_test=X_TEST, y_test=y_test, **how
    )
    for width in (4, 40):
        single = fw.solve(net.replace(widths=(width,)), X, y, temperature=1.0, **how)
        point = grid.sel(width=width, temperature=1.0)
        scores = single.scores(X_TEST, y_test)
        assert {"accuracy", "accuracy_mean", "log_loss"} <= set(scores.data_vars)
        for name, value in (dict(scores) | {"log_evidence": single.log_evidence}).items():
            assert float(point[name]) == pytest.approx(float(value), rel=1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": []}, "expected widths"),
        ({"widths": [5, 0]}, "expected widths"),
        ({"temperature": [0.1, -1.0]}, "expected temperature"),
        ({"X_test": X_TEST}, "expected X_test and y_test together"),
        ({"theory": "none"}, "expected theory"),
        ({"likelihood": "probits"}, "expected likelihood"),
        ({"likelihood": "logit"}, "expected y = labels"),
        ({"likelihood": "logit", "temperature": [1.0, 0.0]}, "expected temperature = .* > 0"),
        ({"approximation": "ep"}, "expected approximation = None"),
    ],
)
def test_bad_input(change, message):
    arguments = {"widths": [5], "temperature": 0.1} | change
    with pytest.raises(fw.InputError, match=message):
        fw.solve_many(fw.Network((5,)), X, Y, **arguments)


@pytest.mark.usefixtures("unchecked_types")
def test_an_array_of_precisions_may_mean_two_things():
    """Those of a network's layers, or of several networks."""
    net, settings = fw.Network((3,), "identity"), {"widths": [3], "temperature": 0.1}
    with pytest.raises(fw.InputError, match="expected weight_precision = a list .*got an array"):
        fw.solve_many(net, X, Y, weight_precision=np.array([1.0, 2.0]), **settings)
