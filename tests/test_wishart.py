"""The rescaled infinite-width kernel: stationarity, where it equals `nested`, limits, scaling."""

import numpy as np
import pytest
import reference

import finwidth as fw

RNG = np.random.default_rng(11)
X = RNG.normal(size=(24, 9))
Y = np.where(RNG.random(24) < 0.5, -1.0, 1.0)
X_TEST = RNG.normal(size=(13, 9))
WIDTHS = [(15,), (15, 30), (20, 10, 40), (8, 20, 12, 30)]
QUICK = ((1, None), (3, 2.0))  # depth and biases: a compilation each
SOME = [WIDTHS[0], pytest.param(WIDTHS[1], marks=pytest.mark.slow), WIDTHS[2]]


def solve(net, temperature=0.05, y=Y, theory="wishart"):
    return fw.solve(net, X, y, temperature=temperature, theory=theory)


def q_bar_of(solution):
    return solution.order_parameters.q_bar.values


@pytest.mark.parametrize("activation", ["erf", "relu", "identity"])
@pytest.mark.parametrize(
    ("widths", "bias"),
    [
        pytest.param(widths, bias, marks=() if (len(widths), bias) in QUICK else pytest.mark.slow)
        for widths in WIDTHS
        for bias in (None, 2.0)
    ],
)
@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_solution_is_a_stationary_point_of_the_action(activation, widths, bias, temperature):
    if activation == "identity" and temperature == 0:
        pytest.skip("more patterns than inputs: the kernel is singular")
    net = fw.Network(widths, activation, (0.8, *(1.3,) * len(widths)), bias)
    solution = solve(net, temperature)
    q_bar = q_bar_of(solution)
    assert solution.converged
    assert solution.residual <= 1e-9
    expected = reference.wishart_action(net, X, Y, temperature, q_bar)
    assert solution.action == pytest.approx(expected, rel=1e-9)
    for layer in range(len(widths)):
        step = np.zeros(len(widths))
        step[layer] = 1e-5
        up, down = (
            reference.wishart_action(net, X, Y, temperature, q_bar + sign * step)
            for sign in (1, -1)
        )
        assert abs(up - down) / 2e-5 < 1e-6 * (sum(widths) + len(Y))
    np.testing.assert_allclose(q_bar, 1 / (1 + solution.order_parameters.q.values), rtol=1e-12)
    # the same force on every layer
    force = np.array(widths) * (q_bar - 1)
    np.testing.assert_allclose(force, force[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("activation", ["erf", "tanh", "identity"])
@pytest.mark.parametrize("bias", [pytest.param(None, marks=pytest.mark.slow), 1.5])
def test_one_odd_layer_is_nested(activation, bias):
    net = fw.Network((12,), activation, (0.7, 1.2), bias)
    first, second = (solve(net, theory=name) for name in ("wishart", "nested"))
    np.testing.assert_allclose(q_bar_of(first), q_bar_of(second), rtol=1e-9)
    assert first.action == pytest.approx(second.action, rel=1e-9)
    for name in ("mean", "variance"):
        one, other = (getattr(s.predict(X_TEST), name) for s in (first, second))
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("widths", [*SOME, pytest.param(WIDTHS[3], marks=pytest.mark.slow)])
def test_identity_is_nested_at_any_depth(widths):
    net = fw.Network(widths, "identity")
    first, second = (solve(net, theory=name) for name in ("wishart", "nested"))
    np.testing.assert_allclose(q_bar_of(first), q_bar_of(second), rtol=1e-8)
    assert first.log_evidence == pytest.approx(second.log_evidence, rel=1e-10)


@pytest.mark.parametrize("widths", SOME)
def test_relu_is_the_nested_recursion_without_mean_terms(widths):
    """ReLU is positively homogeneous: K∘(Q̄ K) = Q̄ (K∘K), so the Q̄ leave the recursion."""
    net = fw.Network(widths, "relu", (0.8, *(1.3,) * len(widths)))
    q_bar = q_bar_of(solve(net))
    c = X @ X.T / (0.8 * X.shape[1])
    for value, precision in zip(q_bar, net.weight_precision[1:], strict=True):
        c = value * reference.layer("relu", c)[0] / precision
    np.testing.assert_allclose(solve(net).renormalized_kernel, c, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:expected y = labels")
def test_hidden_activations_without_closed_form_keep_their_accuracy():
    """The hidden variances are those of infinite width, so a small Q̄ must not shorten a rule."""
    net = fw.Network((3, 3), "tanh", (0.5, 0.5, 1.0))
    solution = solve(net, temperature=0.1, y=0.01 * Y)
    scale = np.prod(q_bar_of(solution))
    assert scale < 0.5
    np.testing.assert_allclose(
        solution.renormalized_kernel, scale * fw.nngp_kernel(net, X), rtol=1e-7, atol=1e-12
    )


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_limits(activation):
    wide = fw.Network((10**7, 10**7), activation)
    infinite = solve(wide, theory="infinite")
    np.testing.assert_allclose(
        solve(wide).predict(X_TEST).mean, infinite.predict(X_TEST).mean, atol=1e-5
    )
    hot = solve(fw.Network((10, 5), activation), temperature=1e9)
    np.testing.assert_allclose(q_bar_of(hot), 1, atol=1e-6)
    np.testing.assert_allclose(hot.predict(X_TEST).mean, 0, atol=1e-6)


@pytest.mark.parametrize("scale", [0.1, 7.0])
def test_scaling_of_labels_readout_precision_and_temperature(scale):
    base = fw.Network((10, 14), "relu", (1.0, 1.2, 0.9))
    scaled = base.replace(weight_precision=(1.0, 1.2, 0.9 / scale**2))
    first = solve(base, 0.03)
    second = solve(scaled, 0.03 * scale**2, scale * Y)
    np.testing.assert_allclose(q_bar_of(second), q_bar_of(first), rtol=1e-7)
    np.testing.assert_allclose(
        second.predict(X_TEST).mean, scale * first.predict(X_TEST).mean, rtol=1e-6, atol=1e-8
    )


def test_deep_linear_network_obeys_li_and_sompolinsky():
    labels, inputs = RNG.normal(size=20), RNG.normal(size=(20, 30))
    depth, width, variance = 4, 40, 1 / 0.8
    net = fw.Network((width,) * depth, "identity", (1.0, *(0.8,) * depth))
    solution = fw.solve(net, inputs, labels, temperature=0.0, theory="wishart")
    u = q_bar_of(solution) * variance
    kernel = variance**depth * inputs @ inputs.T / 30
    r0 = variance**depth * labels @ np.linalg.solve(kernel, labels) / 20
    np.testing.assert_allclose(1 - u / variance, 20 / width * (1 - r0 / u**depth), rtol=1e-8)
