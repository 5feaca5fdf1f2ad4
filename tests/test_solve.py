"""The saddle point: exact cases, stationarity, limits and scaling laws of theory.md."""

import subprocess
import sys

import jax
import numpy as np
import pytest
import reference
import scipy.optimize

import finwidth as fw
from finwidth.theories import Problem, available

RNG = np.random.default_rng(7)
X = RNG.normal(size=(24, 9))
Y = np.where(RNG.random(24) < 0.5, -1.0, 1.0)
X_TEST = RNG.normal(size=(13, 9))
Y_TEST = np.where(RNG.random(13) < 0.5, -1.0, 1.0)

QUICK = ((1, None), (3, 2.0))  # depth and biases: a compilation each
CASES = [
    pytest.param(
        activation,
        widths,
        bias,
        temperature,
        marks=[] if (len(widths), bias) in QUICK else [pytest.mark.slow],
    )
    for activation in ("erf", "relu", "identity")
    for widths in ((15,), (15, 30), (20, 10, 40))
    for bias in (None, 2.0)
    for temperature in (0.0, 0.01, 1.0)
    if not (activation == "identity" and temperature == 0)  # P > N_0: the kernel is singular
] + [
    pytest.param(activation, (20, 10, 40, 15), 2.0, temperature, marks=pytest.mark.slow)
    for activation, temperature in (("erf", 0.0), ("relu", 0.01), ("identity", 0.01))
]


def order(solution):
    parameters = solution.order_parameters
    return parameters.q_bar.values, parameters.q.values


@pytest.mark.parametrize(("activation", "widths", "bias", "temperature"), CASES)
def test_solution_is_a_stationary_point_of_the_action(activation, widths, bias, temperature):
    net = fw.Network(widths, activation, (0.8, *(1.3,) * len(widths)), bias)
    solution = fw.solve(net, X, Y, temperature=temperature)
    q_bar, q = order(solution)
    assert solution.converged
    assert solution.residual <= 1e-9
    reference_action = reference.action(net, X, Y, temperature, q_bar, q)
    assert solution.action == pytest.approx(reference_action, rel=1e-9)
    log_2pi = len(Y) * np.log(2 * np.pi)
    assert solution.log_evidence == pytest.approx(-0.5 * (reference_action + log_2pi), rel=1e-9)
    odd = activation != "relu"
    step = 1e-5
    for layer in range(len(widths)):
        for which in ("q_bar",) if odd else ("q_bar", "q"):
            values = []
            for sign in (1, -1):
                shifted_bar, shifted = q_bar.copy(), q.copy()
                if which == "q":
                    shifted[layer] += sign * step
                else:
                    shifted_bar[layer] += sign * step
                if odd:  # Q is eliminated: Q̄ = 1/(1 + Q)
                    shifted = 1 / shifted_bar - 1
                values.append(reference.action(net, X, Y, temperature, shifted_bar, shifted))
            slope = (values[0] - values[1]) / (2 * step)
            # truncation error of the difference, far below the size of the terms that cancel
            assert abs(slope) < 1e-6 * (sum(widths) + len(Y))
    if odd:
        np.testing.assert_allclose(q_bar, 1 / (1 + q), rtol=1e-12)


@pytest.mark.parametrize(
    ("activation", "widths"),
    [pytest.param("tanh", (12,), marks=pytest.mark.slow), ("gelu", (12, 9))],
)
def test_activations_without_parity_or_closed_form_are_solved(activation, widths):
    solution = fw.solve(fw.Network(widths, activation), X, Y, temperature=0.1)
    assert solution.residual <= 1e-9


@pytest.mark.parametrize(
    ("activation", "bias"),
    [
        ("erf", None),
        pytest.param("erf", 1.5, marks=pytest.mark.slow),
        pytest.param("relu", None, marks=pytest.mark.slow),
        ("relu", 1.5),
    ],
)
def test_prediction_is_that_of_the_renormalised_kernel(activation, bias):
    net = fw.Network((15, 8), activation, bias_precision=bias)
    solution = fw.solve(net, X, Y, temperature=0.05)
    everything = np.concatenate([X, X_TEST])
    kernel = reference.kernel(net, everything, *order(solution))
    n = len(Y)
    _, mean, variance = reference.conditional(
        kernel[:n, :n] + 0.05 * np.eye(n), Y, kernel[n:, :n], np.diag(kernel)[n:]
    )
    prediction = solution.predict(X_TEST, full_covariance=True)
    np.testing.assert_allclose(prediction.mean, mean, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(prediction.variance, variance, rtol=1e-8)
    np.testing.assert_allclose(np.diag(prediction.covariance), variance, rtol=1e-8)
    assert np.linalg.eigvalsh(prediction.covariance).min() > 0
    np.testing.assert_allclose(solution.renormalized_kernel, kernel[:n, :n], rtol=1e-9, atol=1e-12)
    errors = solution.generalization_error(X_TEST, Y_TEST)
    assert float(errors.error) == pytest.approx(np.mean((Y_TEST - mean) ** 2 + variance), rel=1e-8)
    assert float(errors.error) == pytest.approx(float(errors.bias2 + errors.variance), rel=1e-14)


def test_one_odd_layer_minimises_the_one_dimensional_action():
    data = fw.load_dataset("digits", classes=(0, 1), n_train=100, n_test=100)
    net = fw.Network((20,), "erf")
    solution = fw.solve(net, data.X_train, data.y_train, temperature=0.001)
    values, vectors = np.linalg.eigh(fw.nngp_kernel(net, data.X_train))
    y2 = (vectors.T @ data.y_train) ** 2

    def effective(log_q_bar):
        q_bar = np.exp(log_q_bar)
        total = 0.001 + q_bar * values
        return 20 * (q_bar - log_q_bar - 1) + np.sum(np.log(total) + y2 / total)

    best = scipy.optimize.minimize_scalar(effective, bracket=(-1, 1), tol=1e-14)
    assert float(solution.order_parameters.q_bar[0]) == pytest.approx(np.exp(best.x), rel=1e-6)
    # theory.md's acceptance numbers, computed with code independent of this package
    assert float(solution.order_parameters.q_bar[0]) == pytest.approx(0.827107, abs=5e-7)
    errors = solution.generalization_error(data.X_test, data.y_test)
    assert float(errors.error) == pytest.approx(0.054837, abs=5e-7)
    assert float(errors.bias2) == pytest.approx(0.038030, abs=5e-7)
    assert float(errors.variance) == pytest.approx(0.016807, abs=5e-7)


@pytest.mark.parametrize("width", [5, 24, 100])  # α > 1, = 1, < 1
def test_noiseless_solution_of_one_odd_layer_is_the_closed_form(width):
    net = fw.Network((width,), "erf", (1.0, 0.7))
    solution = fw.solve(net, X, Y, temperature=0.0)
    kernel, _ = reference.layer("erf", X @ X.T / X.shape[1])
    alpha = len(Y) / width
    fit = 0.7 * Y @ np.linalg.solve(kernel, Y) / len(Y)
    q_bar = 0.5 * (1 - alpha + np.sqrt((1 - alpha) ** 2 + 4 * alpha * fit))
    assert float(solution.order_parameters.q_bar[0]) == pytest.approx(q_bar, rel=1e-10)
    assert solution.criterion == pytest.approx(fit, rel=1e-9)
    assert (q_bar < 1) == (solution.criterion < 1)
    # and the limit of small noise
    noisy = fw.solve(net, X, Y, temperature=1e-9)
    assert float(noisy.order_parameters.q_bar[0]) == pytest.approx(q_bar, rel=1e-6)


def test_noiseless_mean_does_not_depend_on_width_or_readout_precision():
    predictions = [
        fw.solve(fw.Network((n,), "erf", (1.0, p)), X, Y, temperature=0.0)
        for n in (3, 30, 3000)
        for p in (0.2, 5.0)
    ]
    first = predictions[0].predict(X_TEST).mean
    for solution in predictions[1:]:
        np.testing.assert_allclose(solution.predict(X_TEST).mean, first, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_noiseless_variance_is_that_of_infinite_width_times_q_bar(temperature):
    net = fw.Network((10,), "erf")
    finite = fw.solve(net, X, Y, temperature=temperature)
    infinite = fw.solve(net, X, Y, temperature=temperature, theory="infinite")
    ratio = finite.predict(X_TEST).variance / infinite.predict(X_TEST).variance
    q_bar = float(finite.order_parameters.q_bar[0])
    if temperature == 0:
        np.testing.assert_allclose(ratio, q_bar, rtol=1e-8)
    else:
        assert np.max(np.abs(ratio - q_bar)) > 1e-3  # noise breaks the law


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_deep_linear_network_obeys_li_and_sompolinsky(depth):
    width, precision = 40, 0.8
    inputs = RNG.normal(size=(20, 30))
    labels = RNG.normal(size=20)
    net = fw.Network((width,) * depth, "identity", (1.0, *(precision,) * depth))
    solution = fw.solve(net, inputs, labels, temperature=0.0)
    u = order(solution)[0] / precision
    np.testing.assert_allclose(u, u[0], rtol=1e-9)  # equal widths, equal layers
    variance = 1 / precision
    alpha = len(labels) / width
    kernel0 = variance**depth * inputs @ inputs.T / inputs.shape[1]
    r0 = variance**depth * labels @ np.linalg.solve(kernel0, labels) / len(labels)
    assert 1 - u[0] / variance == pytest.approx(alpha * (1 - r0 / u[0] ** depth), rel=1e-8)


@pytest.mark.parametrize("activation", ["erf", "relu", "identity"])
@pytest.mark.parametrize("depth", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_infinite_width_limit_is_approached_as_one_over_width(activation, depth):
    deviations = []
    for width in (10**4, 10**5):
        net = fw.Network((width,) * depth, activation)
        solution = fw.solve(net, X, Y, temperature=0.1)
        q_bar, q = order(solution)
        deviations.append(np.concatenate([q_bar - 1, q]) * width)
    np.testing.assert_allclose(deviations[0], deviations[1], rtol=2e-2, atol=1e-3)
    infinite = fw.solve(net, X, Y, temperature=0.1, theory="infinite")
    np.testing.assert_allclose(
        solution.predict(X_TEST).mean, infinite.predict(X_TEST).mean, atol=1e-3
    )
    assert (infinite.residual, infinite.converged, infinite.n_roots) == (0.0, True, 1)
    assert np.all(infinite.order_parameters.q_bar == 1)
    # the Gaussian process, independently
    a = fw.nngp_kernel(net, X) + 0.1 * np.eye(len(Y))
    kappa = fw.nngp_kernel(net, X_TEST, X)
    kappa0 = np.diag(fw.nngp_kernel(net, X_TEST))
    log_evidence, mean, variance = reference.conditional(a, Y, kappa, kappa0)
    np.testing.assert_allclose(infinite.predict(X_TEST).mean, mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(infinite.predict(X_TEST).variance, variance, rtol=1e-9)
    assert infinite.log_evidence == pytest.approx(log_evidence, rel=1e-10)


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_infinite_temperature_limit_is_the_prior(activation):
    net = fw.Network((10, 5), activation)
    solution = fw.solve(net, X, Y, temperature=1e9)
    prediction = solution.predict(X_TEST)
    np.testing.assert_allclose(order(solution)[0], 1, atol=1e-6)
    np.testing.assert_allclose(prediction.mean, 0, atol=1e-6)
    np.testing.assert_allclose(prediction.variance, np.diag(fw.nngp_kernel(net, X_TEST)), rtol=1e-6)


@pytest.mark.parametrize(
    ("activation", "depth", "temperature"),
    [
        ("erf", 4, 0.03),
        ("relu", 2, 0.0),
        pytest.param("relu", 4, 0.03, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("scale", [0.05, 20.0])
def test_scaling_of_labels_readout_precision_and_temperature(scale, activation, temperature, depth):
    precisions = (1.0, 1.2, 0.9, 0.7, 1.1)[: depth + 1]
    base = fw.Network((10, 14, 12, 9)[:depth], activation, precisions)
    scaled = base.replace(weight_precision=(*precisions[:-1], precisions[-1] / scale**2))
    first = fw.solve(base, X, Y, temperature=temperature)
    second = fw.solve(scaled, X, scale * Y, temperature=scale**2 * temperature)
    np.testing.assert_allclose(order(second)[0], order(first)[0], rtol=1e-7)
    np.testing.assert_allclose(
        second.predict(X_TEST).mean, scale * first.predict(X_TEST).mean, rtol=1e-6, atol=1e-8
    )


def test_log_evidence_approaches_the_exact_mixture_as_one_over_width():
    differences = []
    for width in (200, 400, 800):
        net = fw.Network((width,), "identity")
        exact, *_ = reference.identity_mixture(net, X, Y, 0.1, X_TEST, nodes=200)
        differences.append(fw.solve(net, X, Y, temperature=0.1).log_evidence - exact)
    assert abs(differences[0]) < 1  # O(1), while log Z itself is tens
    assert differences[0] / differences[1] == pytest.approx(2, rel=0.1)
    assert differences[1] / differences[2] == pytest.approx(2, rel=0.1)


def test_identity_saddle_approaches_the_exact_mixture_as_one_over_width():
    distances = []
    for width in (200, 400, 800):
        net = fw.Network((width, width), "identity")
        prediction = fw.solve(net, X, Y, temperature=0.1).predict(X_TEST)
        _, mean, variance = reference.identity_mixture(net, X, Y, 0.1, X_TEST)
        distances.append(
            [
                np.linalg.norm(prediction.mean - mean),
                np.linalg.norm(prediction.variance - variance),
            ]
        )
    for first, second in zip(distances, distances[1:], strict=False):
        np.testing.assert_allclose(np.divide(first, second), 2, rtol=0.1)


def test_mean_term_matches_monte_carlo_of_the_dual_function():
    """−2 log E exp(i s·f) = extremum over (Q, Q̄) of N[−QQ̄ + log(1+Q)] + sᵀK_R s, m ≠ 0."""
    width, n_draws = 2, 400_000
    rng = np.random.default_rng(3)
    net = fw.Network((width,), "relu", (1.0, 0.6))
    s = np.array([3.0, 0.5, 2.0])
    inputs = X[:3]
    hidden = rng.multivariate_normal(np.zeros(3), inputs @ inputs.T / 9, size=n_draws)
    features = np.maximum(hidden, 0)
    mean = features.mean(axis=0)
    covariance = np.cov(features.T)
    # one neuron's contribution q to s·f, Gaussian by the Breuer-Major theorem
    q = (s @ mean + np.sqrt(s @ covariance @ s) * rng.normal(size=n_draws)) / np.sqrt(0.6 * width)
    # over the readout's weight, exp(i v q) averages to exp(−q²/2)
    samples = np.exp(-(q**2) / 2)
    estimate = -2 * width * np.log(samples.mean())
    error = 2 * width * samples.std() / samples.mean() / np.sqrt(n_draws)

    def kernel_form(q_bar, q_value):
        return s @ reference.kernel(net, inputs, [q_bar], [q_value]) @ s

    def gradient(point):
        q_bar, q_value = point
        step = 1e-6
        value = lambda b, q: width * (-q * b + np.log1p(q)) + kernel_form(b, q)  # noqa: E731
        return [
            (value(q_bar + step, q_value) - value(q_bar - step, q_value)) / (2 * step),
            (value(q_bar, q_value + step) - value(q_bar, q_value - step)) / (2 * step),
        ]

    q_bar, q_value = scipy.optimize.root(gradient, [1.0, 0.1]).x
    dual = width * (-q_value * q_bar + np.log1p(q_value)) + kernel_form(q_bar, q_value)
    assert dual == pytest.approx(estimate, abs=6 * error + 1e-3 * abs(dual))
    # the package's kernel is the reference's (see the test of predictions); the mean term matters:
    without = width * np.log1p(s @ (covariance + np.outer(mean, mean)) @ s / (0.6 * width))
    assert abs(without - estimate) > 20 * error


def test_roots_are_counted():
    assert fw.solve(fw.Network((10,), "erf"), X, Y, temperature=0.1).n_roots == 1


def test_theory_is_float64_whatever_jax_is_set_to_and_leaves_the_setting():
    code = """
import jax, jax.numpy as jnp, numpy as np, finwidth as fw
assert jnp.zeros(1).dtype == jnp.float32, "importing finwidth changed JAX's precision"
rng = np.random.default_rng(0)
X, y = rng.normal(size=(9, 4)), rng.normal(size=9)
s = fw.solve(fw.Network((5,), "erf"), X, y, temperature=0.1)
assert s.predict(X).mean.dtype == np.float64 and s.residual < 1e-12
assert fw.nngp_kernel(s.network, X).dtype == np.float64
assert jnp.zeros(1).dtype == jnp.float32
jax.config.update("jax_enable_x64", True)
t = fw.solve(fw.Network((5,), "erf"), X, y, temperature=0.1)
assert float(t.order_parameters.q_bar[0]) == float(s.order_parameters.q_bar[0])
assert jnp.zeros(1).dtype == jnp.float64
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("activation", [pytest.param("erf", marks=pytest.mark.slow), "gelu"])
def test_kernels_run_under_strict_promotion(activation, strict_jax):
    fw.solve(fw.Network((6, 5), activation), X, Y, temperature=0.1)
    assert not jax.config.jax_enable_x64


def test_not_converged_raises_with_the_best_point(monkeypatch):
    from finwidth.theories._saddle import theory as _saddle

    track = _saddle.track
    monkeypatch.setattr(_saddle, "track", lambda equations: track(equations, max_steps=0))
    with pytest.raises(
        fw.ConvergenceError, match=r"expected theory=.nested. to converge at widths .* got residual"
    ) as info:
        fw.solve(fw.Network((5, 5), "erf"), X, Y, temperature=0.1)
    assert isinstance(info.value.best, fw.Solution)
    assert not info.value.best.converged


BAD = [
    ({"X": np.where(np.eye(24, 9) > 0, np.nan, X)}, "expected X = finite"),
    ({"y": np.where(np.arange(24) == 3, np.inf, Y)}, "expected y = finite"),
    ({"y": Y[:-1]}, r"expected y = an array of shape \(24,\)"),
    ({"y": Y[:, None]}, r"expected y = .* got shape \(24, 1\)"),
    ({"X": X[:, 0]}, r"expected X = an array of shape \(pattern, input\), got shape \(24,\)"),
    ({"X": X.astype(str)}, "expected X = a real numeric array"),
    ({"X": X[:0], "y": Y[:0]}, "expected X = at least one pattern"),
    ({"X": [[1.0], [1.0, 2.0]]}, "expected X = .* ragged"),
    ({"temperature": -0.1}, "expected temperature = a finite float ≥ 0, got -0.1"),
    ({"temperature": np.nan}, "expected temperature"),
    ({"temperature": "hot"}, "expected temperature = .* got 'hot'"),
    ({"theory": "nestd"}, r"expected theory = one of .* \(did you mean 'nested'\?\)"),
    ({"net": "erf"}, "expected net = a finwidth.Network, got str"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_input_is_one_clear_line(change, message, unchecked_types):
    arguments = {"net": fw.Network((5,)), "X": X, "y": Y, "temperature": 0.1} | change
    net, inputs, labels = (arguments.pop(name) for name in ("net", "X", "y"))
    with pytest.raises(fw.InputError, match=message) as info:
        fw.solve(net, inputs, labels, **arguments)
    assert "got" in str(info.value)
    assert "\n" not in str(info.value)


def test_a_theory_called_directly_solves_in_float64_too():
    """As `solve` does; tests run with JAX in float32."""
    net = fw.Network((15,), "erf")
    problem = Problem(net, X, Y, 0.1)
    for name in ("nested", "wishart", "infinite", "corrected", "adaptive"):
        direct = available()[name].solve(problem)
        assert direct.log_evidence == fw.solve(net, X, Y, temperature=0.1, theory=name).log_evidence


@pytest.mark.parametrize("name", sorted(available()))
def test_a_theory_called_directly_refuses_what_is_no_problem_of_its_own(name, unchecked_types):
    theory = available()[name]
    with pytest.raises(fw.InputError, match="expected network = a finwidth.Network, got str"):
        theory.check("erf")
    with pytest.raises(fw.InputError, match=r"expected problem = a finwidth.theories.Problem"):
        theory.solve(fw.Network((15,), "erf"))
    if name in ("adaptive", "cavity", "corrected", "perturbative"):
        with pytest.raises(fw.InputError, match="expected one hidden layer"):
            theory.solve(Problem(fw.Network((5, 4), "erf"), X, Y, 0.1))


@pytest.mark.parametrize("start", [[0.0, 0.0], 0.0, [np.nan], [800.0], ["q"]])
def test_a_start_that_is_none(start, unchecked_types):
    problem = Problem(fw.Network((15,), "erf"), X, Y, 0.1)
    with pytest.raises(fw.InputError, match="expected start = "):
        available()["nested"].solve(problem, start)


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_noiseless_training_on_duplicates_is_refused(activation):
    twice = np.concatenate([X, X[:1]])
    with pytest.raises(fw.InputError, match="got temperature = 0 and reciprocal condition"):
        fw.solve(fw.Network((5,), activation), twice, np.append(Y, Y[0]), temperature=0.0)


def test_noiseless_training_with_more_patterns_than_rank_is_refused():
    with pytest.raises(fw.InputError, match="expected a larger temperature"):
        fw.solve(fw.Network((5,), "identity"), X, Y, temperature=0.0)
    assert fw.solve(fw.Network((5,), "identity"), X, Y, temperature=0.1).criterion == np.inf


def test_ill_conditioned_noise_is_refused_or_its_accuracy_stated():
    twice, labels = np.concatenate([X, X]), np.concatenate([Y, Y])
    with pytest.raises(fw.InputError, match="expected a larger temperature"):
        fw.solve(fw.Network((50,), "erf"), twice, labels, temperature=1e-15)
    with pytest.warns(fw.AccuracyWarning, match="expected a relative accuracy of 1e-8, got about"):
        fw.solve(fw.Network((50,), "erf"), twice, labels, temperature=1e-8)


def test_a_single_pattern_and_a_single_input_are_enough():
    solution = fw.solve(fw.Network((3,), "erf"), [[0.5]], [1.0], temperature=0.0)
    # α λ yᵀK⁻¹y/P for P = 1
    k = 2 / np.pi * np.arcsin(2 * 0.25 / 1.5)
    q_bar = 0.5 * (2 / 3 + np.sqrt(4 / 9 + 4 / 3 / k))
    assert float(solution.order_parameters.q_bar[0]) == pytest.approx(q_bar, rel=1e-12)
    prediction = solution.predict([[0.5], [0.1]])
    assert prediction.mean[0] == pytest.approx(1, rel=1e-12)


def test_the_training_set_of_a_solution_cannot_be_changed_from_outside():
    inputs, labels = X.copy(), Y.copy()
    solution = fw.solve(fw.Network((5,), "erf"), inputs, labels, temperature=0.1)
    before = solution.predict(X_TEST).mean
    inputs[:] = 0
    labels[:] = 0
    np.testing.assert_array_equal(solution.predict(X_TEST).mean, before)
