"""The next order around the saddle point: scaling laws against `mixture`, finite differences."""

import math

import numpy as np
import pytest
import reference

import finwidth as fw

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 3))
Y = RNG.normal(size=6)
X_TEST = RNG.normal(size=(5, 3))
Y_TEST = RNG.normal(size=5)

CASES = [
    ("identity", "nested", (1,), None),
    ("identity", "nested", (1, 2), None),
    ("identity", "nested", (1, 2, 1), None),
    ("erf", "nested", (1,), 2.0),
    ("erf", "nested", (1, 2), None),
    ("relu", "nested", (1,), None),
    ("relu", "nested", (1,), 1.0),
    ("erf", "wishart", (1, 2), None),
    ("relu", "wishart", (1, 2), 1.5),
]
QUICK = (CASES[1],)


def distances(activation, theory, ratios, bias, width):
    """Leading and next order minus the mixture: log evidence, error, mean, variance."""
    net = fw.Network(tuple(width * ratio for ratio in ratios), activation, 1.3, bias)
    result = fw.fluctuations(fw.solve(net, X, Y, temperature=0.1, theory=theory), X_TEST, Y_TEST)
    exact = fw.mixture(net, X, Y, temperature=0.1, theory=theory)
    error = float(exact.generalization_error(X_TEST, Y_TEST).error)
    prediction = exact.predict(X_TEST)
    return [
        np.array(
            [
                abs(float(result["log_evidence" + order]) - exact.log_evidence),
                abs(float(result["error" + order]) - error),
                np.linalg.norm(result["mean" + order] - prediction.mean),
                np.linalg.norm(result["variance" + order] - prediction.variance),
            ]
        )
        for order in ("_leading", "")
    ]


@pytest.mark.parametrize(
    "activation, theory, ratios, bias",
    [pytest.param(*case, marks=pytest.mark.slow) if case not in QUICK else case for case in CASES],
)
def test_remainder_falls_as_the_square_of_the_width(activation, theory, ratios, bias):
    # at a fixed training set; the leading order's falls as the width
    leading, following = zip(
        *(distances(activation, theory, ratios, bias, width) for width in (60, 120)), strict=True
    )
    np.testing.assert_allclose(np.divide(*leading), 2.0, rtol=0.2)
    np.testing.assert_allclose(np.divide(*following), 4.0, rtol=0.35)
    assert np.all(following[1] < 0.1 * leading[1])


def test_with_as_many_patterns_as_neurons_the_evidence_s_remainder_falls_as_the_width():
    # there the leading order misses a constant
    leading, following = [], []
    for n in (20, 40, 80):
        rng = np.random.default_rng(1)
        x, y = rng.normal(size=(n, n)), rng.choice([-1.0, 1.0], size=n)
        net = fw.Network((n,), "identity")
        exact = fw.mixture(net, x, y, temperature=0.1).log_evidence
        result = fw.fluctuations(fw.solve(net, x, y, temperature=0.1))
        leading.append(float(result.log_evidence_leading) - exact)
        following.append(float(result.log_evidence) - exact)
    np.testing.assert_allclose(leading[1:], leading[:-1], rtol=0.2)
    np.testing.assert_allclose(np.divide(following[:-1], following[1:]), 2.0, rtol=0.3)
    assert abs(following[-1]) < 0.1 * abs(leading[-1])


def half_action(net, theory, theta):
    """½𝒮 as a function of the unknowns."""
    depth = net.depth
    q_bar = np.exp(theta[:depth])
    if theory == "wishart":
        return 0.5 * reference.wishart_action(net, X, Y, 0.1, q_bar)
    shrinkage = q_bar if theta.size == depth else np.exp(theta[depth:])
    action = reference.action(net, X, Y, 0.1, q_bar, 1 / shrinkage - 1)
    return 0.5 * action


@pytest.mark.parametrize(
    "activation, theory, ratios, bias",
    [pytest.param(*CASES[2], marks=pytest.mark.slow), CASES[4], CASES[6], CASES[8]],
)
def test_hessian_against_finite_differences(activation, theory, ratios, bias):
    net = fw.Network(tuple(12 * ratio for ratio in ratios), activation, 1.3, bias)
    solution = fw.solve(net, X, Y, temperature=0.1, theory=theory)
    order = solution.order_parameters
    theta = np.log(order.q_bar.values)
    if activation == "relu" and theory == "nested":
        theta = np.append(theta, -np.log1p(order.q.values))
    steps = 1e-4 * np.eye(theta.size)
    expected = [
        [
            sum(
                a * b * half_action(net, theory, theta + a * one + b * other)
                for a in (1, -1)
                for b in (1, -1)
            )
            / 4e-8
            for other in steps
        ]
        for one in steps
    ]
    hessian = fw.fluctuations(solution).hessian.values
    np.testing.assert_allclose(hessian, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("activation, theory", [("identity", "nested"), ("erf", "wishart")])
def test_standard_deviations_of_the_order_parameters(activation, theory):
    gaps = []
    for width in (100, 200):
        net = fw.Network((width, 2 * width), activation)
        exact = fw.mixture(net, X, Y, temperature=0.1, theory=theory).order_parameters.q_bar_sd
        found = fw.fluctuations(fw.solve(net, X, Y, temperature=0.1, theory=theory)).q_bar_sd
        gaps.append(np.abs(found.values / exact.values - 1))
    assert np.all(gaps[0] < 0.01)
    assert np.all(gaps[1] < 0.6 * gaps[0])


def test_only_the_product_of_scales_meets_the_data_yet_the_hessian_is_regular():
    net = fw.Network((30, 30, 30), "erf")
    solution = fw.solve(net, X, Y, temperature=0.1, theory="wishart")
    values = fw.fluctuations(solution).hessian_eigenvalues.values
    # directions that leave the product as it is feel the prior alone
    q_bar = solution.order_parameters.q_bar.values
    np.testing.assert_allclose(values[:2], 15 * q_bar[0], rtol=1e-6)
    assert values[2] > values[1]


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_where_the_data_say_nothing_the_next_order_is_exact(activation):
    net = fw.Network((4,), activation)
    result = fw.fluctuations(fw.solve(net, X, Y, temperature=1e9), X_TEST)
    expected = -0.5 * (Y @ Y / 1e9 + len(Y) * math.log(2 * math.pi * 1e9))
    assert float(result.log_evidence) == pytest.approx(expected, abs=1e-6)
    assert float(result.log_evidence_leading) == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(result["mean"], 0.0, atol=1e-6)
    np.testing.assert_allclose(result["variance"], result["variance_leading"], rtol=1e-6)


def test_leading_order_is_the_solution_s_own():
    solution = fw.solve(fw.Network((20, 40), "identity", 1.3), X, Y, temperature=0.1)
    result = fw.fluctuations(solution, X_TEST, Y_TEST)
    prediction = solution.predict(X_TEST)
    error = solution.generalization_error(X_TEST, Y_TEST)
    np.testing.assert_allclose(result["mean_leading"], prediction.mean, rtol=1e-9)
    np.testing.assert_allclose(result["variance_leading"], prediction.variance, rtol=1e-9)
    assert float(result.error_leading) == pytest.approx(float(error.error), rel=1e-9)
    assert float(result.bias2_leading) == pytest.approx(float(error.bias2), rel=1e-9)
    assert float(result.log_evidence_leading) == solution.log_evidence
    total = float(result.bias2) + float(result["variance"].mean())
    assert float(result.error) == pytest.approx(total, rel=1e-12)


def test_without_noise():
    net = fw.Network((40,), "erf")
    x, y = X[:3], Y[:3]
    result = fw.fluctuations(fw.solve(net, x, y, temperature=0.0), X_TEST)
    exact = fw.mixture(net, x, y, temperature=0.0)
    leading = abs(float(result.log_evidence_leading) - exact.log_evidence)
    assert abs(float(result.log_evidence) - exact.log_evidence) < 0.1 * leading
    # whatever the scale, the mean is the same
    np.testing.assert_allclose(result["mean"], result["mean_leading"], rtol=1e-7)


def test_arguments_that_make_no_sense_are_refused():
    solution = fw.solve(fw.Network((20,)), X, Y, temperature=0.1)
    infinite = fw.solve(fw.Network((20,)), X, Y, temperature=0.1, theory="infinite")
    deep = fw.solve(fw.Network((20, 20), "relu"), X, Y, temperature=0.1)
    with pytest.raises(fw.InputError, match="nothing fluctuates"):
        fw.fluctuations(infinite)
    with pytest.raises(fw.InputError, match="one hidden layer, an odd activation"):
        fw.fluctuations(deep)
    with pytest.raises(fw.InputError, match="got MixtureSolution"):
        fw.fluctuations(fw.mixture(fw.Network((20,)), X, Y, temperature=0.1))
    with pytest.raises(fw.InputError, match="X_test"):
        fw.fluctuations(solution, X_TEST[:, :2])
    with pytest.raises(fw.InputError, match="y_test alone"):
        fw.fluctuations(solution, y_test=Y_TEST)
    with pytest.raises(fw.InputError, match="y_test"):
        fw.fluctuations(solution, X_TEST, Y_TEST[:3])
