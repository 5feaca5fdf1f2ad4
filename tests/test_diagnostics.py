"""Diagnostics of a theory, against finite differences, scaling laws and exact cases."""

import numpy as np
import pytest

import finwidth as fw

RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(20, 30)), RNG.normal(size=20)
X_TEST, Y_TEST = RNG.normal(size=(9, 30)), RNG.normal(size=9)


def error(net, temperature, theory="nested"):
    solution = fw.solve(net, X, Y, temperature=temperature, theory=theory)
    return solution.generalization_error(X_TEST, Y_TEST)


@pytest.mark.parametrize(
    ("widths", "activation", "theory"),
    [
        ((8,), "erf", "nested"),
        pytest.param((8,), "relu", "nested", marks=pytest.mark.slow),
        pytest.param((8, 16), "erf", "nested", marks=pytest.mark.slow),
        ((8, 16, 8), "relu", "wishart"),
    ],
)
def test_width_response_is_the_derivative_in_inverse_width(widths, activation, theory):
    net = fw.Network(widths, activation, bias_precision=2.0)
    solution = fw.solve(net, X, Y, temperature=0.2, theory=theory)
    response = fw.diagnostics.width_response(solution, X_TEST, Y_TEST)
    # widths are integers: a multiple of all precisions is not, but large multiples are close
    scale = 1000
    near = [
        fw.solve(
            net.replace(widths=tuple(scale * w + sign * (w // 8) for w in widths)),
            np.asarray(X),
            Y,
            temperature=0.2,
            theory=theory,
        )
        for sign in (1, -1)
    ]
    far = fw.solve(
        net.replace(widths=tuple(scale * w for w in widths)), X, Y, temperature=0.2, theory=theory
    )
    response = fw.diagnostics.width_response(far, X_TEST, Y_TEST)
    step = 1 / near[0].network.widths[0] - 1 / near[1].network.widths[0]
    for name in ("error", "bias2", "variance"):
        ends = [float(one.generalization_error(X_TEST, Y_TEST)[name]) for one in near]
        assert float(response[f"d_{name}"]) == pytest.approx((ends[0] - ends[1]) / step, rel=1e-3)
    assert solution.converged


@pytest.mark.parametrize(("widths", "activation"), [((1,), "erf"), ((1,), "relu"), ((1, 1), "erf")])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_response_at_infinite_width_is_the_first_correction(widths, activation, temperature):
    net = fw.Network(widths, activation)
    infinite = fw.solve(net, X, Y, temperature=temperature, theory="infinite")
    response = fw.diagnostics.width_response(infinite, X_TEST, Y_TEST)
    exact = infinite.generalization_error(X_TEST, Y_TEST)
    remainders = []
    for width in (2000, 4000):
        finite = error(net.replace(widths=(width,) * len(widths)), temperature)
        change = width * float(finite["error"] - exact["error"])
        remainders.append(change - float(response["d_error"]))
    # what is left is of order 1/N
    assert abs(remainders[1]) < 0.6 * abs(remainders[0])
    assert abs(remainders[1]) < 0.1 * abs(float(response["d_error"])) + 1e-3


@pytest.mark.parametrize("size", [0.3, 3.0])
def test_without_noise_the_criterion_is_the_sign_of_the_response(size):
    infinite = fw.solve(fw.Network((1,), "erf"), X, size * Y, temperature=0.0, theory="infinite")
    response = fw.diagnostics.width_response(infinite, X_TEST, Y_TEST)
    assert float(response["d_bias2"]) == pytest.approx(0.0, abs=1e-6)
    assert (float(response["d_error"]) > 0) == (infinite.criterion > 1)


@pytest.mark.slow
def test_depth_profile_of_relu_has_a_critical_depth():
    net = fw.Network((50,), "relu")
    profile = fw.diagnostics.depth_profile(
        net, X, Y, temperature=0.1, depths=range(1, 6), theory="wishart"
    )
    smallest = profile.smallest_eigenvalue.values
    assert np.all(np.diff(smallest) < 0)
    np.testing.assert_allclose(smallest[0], np.linalg.eigvalsh(fw.nngp_kernel(net, X))[0])
    above = profile.depth.values[profile.criterion.values > 1]
    assert profile.attrs["critical_depth"] == (above[0] if above.size else -1)
    assert profile.q_bar.isnull().sum() == 4 + 3 + 2 + 1
    deep = fw.solve(net.replace(widths=(50,) * 3), X, Y, temperature=0.1, theory="wishart")
    np.testing.assert_allclose(
        profile.q_bar.sel(depth=3).values[:3], deep.order_parameters.q_bar.values
    )


def test_variance_falls_with_the_root_of_the_readout_precision():
    precisions = [1e6, 4e6, 16e6]
    grid = fw.solve_many(
        fw.Network((10,), "erf"),
        X,
        Y,
        widths=[10],
        temperature=0.0,
        weight_precision=[(1.0, value) for value in precisions],
        X_test=X_TEST,
        y_test=Y_TEST,
    )
    variance = grid.variance.values.ravel()
    np.testing.assert_allclose(variance[:-1] / variance[1:], 2.0, rtol=1e-2)
    np.testing.assert_allclose(grid.bias2.values.ravel(), float(grid.bias2[0, 0, 0]), rtol=1e-6)


def test_roots_are_listed_with_their_basins():
    solution = fw.solve(fw.Network((6, 6), "erf"), X, Y, temperature=0.1, theory="wishart")
    listed = fw.diagnostics.roots(solution)
    assert listed.sizes["root"] == solution.n_roots
    np.testing.assert_array_equal(
        listed.q_bar.isel(root=0).values, solution.order_parameters.q_bar.values
    )
    assert int(listed.starts.sum()) > 0
    infinite = fw.solve(fw.Network((6,), "erf"), X, Y, temperature=0.1, theory="infinite")
    assert fw.diagnostics.roots(infinite).sizes["root"] == 1


def test_conditioning_names_the_temperature_where_rounding_matters():
    doubled = np.concatenate([X, X])
    labels = np.concatenate([Y, Y])
    net = fw.Network((50,), "erf")
    solution = fw.solve(net, doubled, labels, temperature=1.0)
    report = fw.diagnostics.conditioning(solution)
    a = solution.renormalized_kernel + np.eye(40)
    assert float(report.condition_number) == pytest.approx(np.linalg.cond(a), rel=1e-9)
    least = float(report.least_temperature)
    assert least > 0  # duplicates: the kernel itself is singular
    with pytest.warns(fw.AccuracyWarning):
        fw.solve(net, doubled, labels, temperature=0.3 * least)
    fw.solve(net, doubled, labels, temperature=10 * least)
    regular = fw.solve(net, X, Y, temperature=1.0)
    assert float(fw.diagnostics.conditioning(regular).least_temperature) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: fw.diagnostics.width_response(1, X_TEST, Y_TEST), "expected solution"),
        (lambda s: fw.diagnostics.width_response(s, X_TEST[:, :2], Y_TEST), "expected X_test"),
        (lambda s: fw.diagnostics.roots(None), "expected solution"),
        (lambda s: fw.diagnostics.conditioning(s, 2.0), "expected accuracy"),
        (
            lambda s: fw.diagnostics.depth_profile(
                s.network, X, Y, temperature=0.1, depths=[1], theory="none"
            ),
            "expected theory",
        ),
        (
            lambda s: fw.diagnostics.depth_profile(s.network, X, Y, temperature=0.1, depths=[0]),
            "expected depths",
        ),
        (
            lambda s: fw.diagnostics.depth_profile(
                fw.Network((2, 2)), X, Y, temperature=0.1, depths=[1]
            ),
            "expected net = one hidden layer",
        ),
    ],
)
def test_bad_input(call, message, unchecked_types):
    solution = fw.solve(fw.Network((6,), "erf"), X, Y, temperature=0.1)
    with pytest.raises(fw.InputError, match=message):
        call(solution)
