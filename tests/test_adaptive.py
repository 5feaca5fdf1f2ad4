"""The adaptive kernel: exact cases, limits, symmetries, independent action and optimisation."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
import reference
import scipy.optimize

import finwidth as fw
from finwidth._numerics import trust_region as _trust_region
from finwidth._numerics.precision import float64
from finwidth.theories import adaptive

SETTINGS = {
    "erf": ("erf", None, 0.05, 6),
    "relu": ("relu", None, 0.05, 6),
    "identity": ("identity", None, 0.05, 6),
    "erf, biases": ("erf", (0.7, 2.0), 0.05, 6),
    "relu, biases": ("relu", (0.7, 2.0), 0.05, 6),
    "erf, more inputs than patterns": ("erf", None, 0.05, 30),
    "relu, hot": ("relu", None, 5.0, 6),
    "erf, noiseless": ("erf", None, 0.0, 6),
    "relu, noiseless": ("relu", None, 0.0, 6),
}
WIDTH, N_PATTERNS = 7, 14


def data(n_inputs: int = 6, n_patterns: int = N_PATTERNS) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(n_inputs)
    X = rng.normal(size=(n_patterns + 5, n_inputs))
    y = np.tanh(X[:, 0] - 0.5 * X[:, 1]) + 0.3
    return X[:n_patterns], y[:n_patterns], X[n_patterns:], y[n_patterns:]


def joint_covariance(solution: Any) -> np.ndarray:
    """Covariance of the weights of one unit, and of its bias, from the public results."""
    S = solution.weight_covariance.values
    if solution.network.bias_precision is None:
        return S
    cross = solution.bias_covariance.values
    return np.block([[S, cross[:, None]], [cross, np.array(solution.bias_variance)]])


@functools.cache
def solved(name: str) -> Any:
    activation, bias, temperature, n_inputs = SETTINGS[name]
    net = fw.Network([WIDTH], activation, weight_precision=[1.3, 0.8], bias_precision=bias)
    X, y, *_ = data(n_inputs)
    return fw.solve(net, X, y, temperature=temperature, theory="adaptive")


QUICK = ("erf", "relu, biases")


@pytest.fixture(
    params=[
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SETTINGS
    ]
)
def solution(request: pytest.FixtureRequest) -> Any:
    return solved(request.param)


def action_near(solution: Any, step: np.ndarray, u: float, w: float) -> float:
    """The independent action where the covariance is changed by `step`, log Q̄, log 1/(1+Q) too."""
    problem = solution.problem
    q_bar = float(solution.order_parameters.q_bar[0]) * np.exp(u)
    shrinkage = np.exp(w) / (1 + float(solution.order_parameters.q[0]))
    return reference.adaptive_action(
        problem.network,
        problem.X,
        problem.y,
        problem.temperature,
        joint_covariance(solution) + step,
        q_bar,
        1 / shrinkage - 1,
    )


def test_action_is_the_formula(solution: Any) -> None:
    expected = action_near(solution, np.zeros_like(joint_covariance(solution)), 0.0, 0.0)
    assert solution.action == pytest.approx(expected, rel=1e-11)
    log_evidence = -0.5 * (expected + solution.problem.n_patterns * np.log(2 * np.pi))
    assert solution.log_evidence == pytest.approx(log_evidence, rel=1e-11)


def test_stationary_in_every_unknown_of_the_independent_action(solution: Any) -> None:
    assert solution.converged
    assert solution.residual <= 1e-9
    covariance = joint_covariance(solution)
    rng = np.random.default_rng(0)
    h = 1e-5
    scale = WIDTH + N_PATTERNS
    odd = solution.network.activation.parity == "odd"
    moves = [(np.zeros_like(covariance), 1.0, 1.0 if odd else 0.0)]
    moves += [] if odd else [(np.zeros_like(covariance), 0.0, 1.0)]
    for _ in range(6):
        g = rng.normal(size=covariance.shape)
        moves.append((g @ g.T / len(g) - 0.5 * np.eye(len(g)), 0.0, 0.0))
    for step, u, w in moves:
        up, down = (action_near(solution, s * step, s * u, s * w) for s in (h, -h))
        assert abs(up - down) / (2 * h) <= 1e-6 * scale


def test_minimum_in_the_covariance_and_maximum_in_q(solution: Any) -> None:
    covariance = joint_covariance(solution)
    zero = np.zeros_like(covariance)
    centre = action_near(solution, zero, 0.0, 0.0)
    rng = np.random.default_rng(1)
    for _ in range(6):
        g = rng.normal(size=covariance.shape)
        step = 0.02 * (g + g.T) * np.min(np.linalg.eigvalsh(covariance)) / len(g)
        both = action_near(solution, step, 0.0, 0.0) + action_near(solution, -step, 0.0, 0.0)
        assert both > 2 * centre
    if solution.network.activation.parity != "odd":
        assert max(action_near(solution, zero, 0.0, w) for w in (-0.05, 0.05)) < centre
    else:
        assert min(action_near(solution, zero, u, u) for u in (-0.05, 0.05)) > centre


def test_gradient_and_hessian_match_differences_away_from_the_minimum(solution: Any) -> None:
    landscape = solution.landscape
    r = landscape.rank
    rng = np.random.default_rng(2)
    with float64():
        point = landscape.point(np.eye(r) + 0.1 * rng.normal(size=(r, r)), 0.4)
        product = landscape.hessian(point)
        for _ in range(3):
            g = rng.normal(size=(r, r))
            step = np.append((g + g.T).ravel() / r, rng.normal())
            h = 1e-4
            up, down = landscape.move(point, h * step), landscape.move(point, -h * step)
            slope = (up.value - down.value) / (2 * h)
            assert point.gradient @ step == pytest.approx(slope, rel=1e-5, abs=1e-5 * WIDTH)
            h = 1e-3  # of a second difference, whose rounding error falls with h²
            up, down = landscape.move(point, h * step), landscape.move(point, -h * step)
            bend = (up.value - 2 * point.value + down.value) / h**2
            assert step @ product(step) == pytest.approx(bend, rel=1e-5, abs=1e-5 * WIDTH)


def test_action_at_the_prior_covariance_is_the_nested_one(solution: Any) -> None:
    problem = solution.problem
    nested = fw.solve(
        problem.network, problem.X, problem.y, temperature=problem.temperature, theory="nested"
    )
    with float64():
        start = solution.landscape.point(
            np.eye(solution.landscape.rank), float(np.log(nested.order_parameters.q_bar[0]))
        )
    assert start.value == pytest.approx(nested.action, rel=1e-9)
    assert np.expm1(-start.log_shrinkage) == pytest.approx(
        float(nested.order_parameters.q[0]), abs=1e-8
    )
    assert solution.action < nested.action


def test_predictions_are_the_gaussian_process_of_the_explicit_kernel(solution: Any) -> None:
    problem = solution.problem
    X_test = data(problem.X.shape[1])[2]
    n = len(problem.y)
    full = reference.adaptive_kernel(
        problem.network,
        problem.X,
        joint_covariance(solution),
        float(solution.order_parameters.q_bar[0]),
        float(solution.order_parameters.q[0]),
        X_test,
    )
    a = full[:n, :n] + problem.temperature * np.eye(n)
    _, mean, variance = reference.conditional(a, problem.y, full[n:, :n], np.diag(full)[n:])
    prediction = solution.predict(X_test, full_covariance=True)
    np.testing.assert_allclose(prediction.mean, mean, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(prediction.variance, variance, rtol=1e-6, atol=1e-8)
    covariance = full[n:, n:] - full[n:, :n] @ np.linalg.solve(a, full[:n, n:])
    np.testing.assert_allclose(prediction.covariance, covariance, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(solution.renormalized_kernel, full[:n, :n], atol=1e-12)


def test_covariance_is_positive_and_its_parts_agree(solution: Any) -> None:
    assert np.all(np.linalg.eigvalsh(joint_covariance(solution)) > 0)
    S = solution.weight_covariance.values
    np.testing.assert_allclose(S, S.T, atol=1e-14)
    spectrum = solution.spectrum.values
    np.testing.assert_allclose(spectrum, np.linalg.eigvalsh(S)[::-1], rtol=1e-10)
    direction = solution.leading_direction.values
    assert direction @ direction == pytest.approx(1.0, abs=1e-12)
    assert direction @ S @ direction == pytest.approx(spectrum[0], rel=1e-10)


def solve(net: fw.Network, X: np.ndarray, y: np.ndarray, temperature: float = 0.05) -> Any:
    return fw.solve(net, X, y, temperature=temperature, theory="adaptive")


@pytest.mark.slow
def test_full_space_optimisation_by_other_means_finds_the_same() -> None:
    """N_0 > P: all of S, by BFGS with differences on the independent action."""
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(3, 4)), np.array([1.0, -0.5, 0.3])
    net = fw.Network([4], "erf", weight_precision=[1.5, 0.6])
    found = solve(net, X, y)
    rows, columns = np.tril_indices(4)

    def unpack(theta: np.ndarray) -> tuple[np.ndarray, float]:
        lower = np.zeros((4, 4))
        lower[rows, columns] = theta[:-1]
        return lower @ lower.T, float(np.exp(theta[-1]))

    def objective(theta: np.ndarray) -> float:
        S, q_bar = unpack(theta)
        return reference.adaptive_action(net, X, y, 0.05, S, q_bar, 1 / q_bar - 1)

    start = np.append(np.eye(4)[rows, columns], 0.0)
    best = scipy.optimize.minimize(objective, start, method="BFGS", options={"gtol": 1e-7})
    S, q_bar = unpack(best.x)
    assert found.action == pytest.approx(best.fun, abs=1e-9)
    np.testing.assert_allclose(found.weight_covariance, S, atol=1e-5)
    assert float(found.order_parameters.q_bar[0]) == pytest.approx(q_bar, abs=1e-5)


@pytest.mark.parametrize("activation", ["erf", "relu"])
@pytest.mark.slow
def test_infinite_width_is_the_gaussian_process_with_corrections_of_order_one_over_n(
    activation: str,
) -> None:
    X, y, X_test, _ = data()
    shifts, changes = [], []
    for width in (10**4, 10**5):
        net = fw.Network([width], activation)
        found = solve(net, X, y)
        infinite = fw.solve(net, X, y, temperature=0.05, theory="infinite")
        shifts.append(found.weight_covariance.values - np.eye(6))
        changes.append(found.predict(X_test).mean - infinite.predict(X_test).mean)
    assert np.max(np.abs(shifts[1])) < 1e-3
    np.testing.assert_allclose(10 * shifts[1], shifts[0], rtol=0.02, atol=1e-5)
    np.testing.assert_allclose(10 * changes[1], changes[0], rtol=0.02, atol=1e-5)


@pytest.mark.parametrize("activation", ["erf", pytest.param("relu", marks=pytest.mark.slow)])
def test_rotating_the_inputs_rotates_the_covariance(activation: str) -> None:
    X, y, X_test, _ = data()
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(6, 6)))[0]
    net = fw.Network([WIDTH], activation)
    a, b = solve(net, X, y), solve(net, X @ rotation, y)
    S = a.weight_covariance.values
    np.testing.assert_allclose(b.weight_covariance, rotation.T @ S @ rotation, atol=1e-8)
    assert b.action == pytest.approx(a.action, rel=1e-11)
    overlap = b.leading_direction.values @ rotation.T @ a.leading_direction.values
    assert abs(overlap) == pytest.approx(1.0, abs=1e-8)
    first, second = a.predict(X_test), b.predict(X_test @ rotation)
    np.testing.assert_allclose(first.mean, second.mean, atol=1e-8)
    np.testing.assert_allclose(first.variance, second.variance, atol=1e-8)


@pytest.mark.parametrize("activation", [pytest.param("erf", marks=pytest.mark.slow), "relu"])
def test_scaling_labels_readout_and_noise_together_changes_neither_s_nor_q(activation: str) -> None:
    X, y, *_ = data()
    c = 3.0
    bias = {"bias_precision": [0.5, 1.5]}
    scaled = {"bias_precision": [0.5, 1.5 / c**2]}
    a = solve(fw.Network([WIDTH], activation, weight_precision=[1.2, 0.7], **bias), X, y)
    b = solve(
        fw.Network([WIDTH], activation, weight_precision=[1.2, 0.7 / c**2], **scaled),
        X,
        c * y,
        0.05 * c**2,
    )
    np.testing.assert_allclose(b.weight_covariance, a.weight_covariance, atol=1e-8)
    for name in ("q_bar", "q"):
        np.testing.assert_allclose(b.order_parameters[name], a.order_parameters[name], atol=1e-8)


def test_identity_with_one_input_is_a_linear_network_of_two_equal_layers() -> None:
    """S is a scalar then, and enters as a second Q̄."""
    rng = np.random.default_rng(6)
    X = rng.normal(size=(8, 1))
    y = 2.0 * X[:, 0] + 0.1 * rng.normal(size=8)
    found = solve(fw.Network([5], "identity"), X, y)
    deep = fw.solve(fw.Network([5, 5], "identity"), X, y, temperature=0.05, theory="nested")
    q_bar = deep.order_parameters.q_bar.values
    assert found.weight_covariance.item() == pytest.approx(q_bar[0], rel=1e-9)
    assert float(found.order_parameters.q_bar[0]) == pytest.approx(q_bar[1], rel=1e-9)
    assert found.action == pytest.approx(deep.action, rel=1e-10)


def test_identity_with_orthonormal_patterns_solves_one_equation_per_direction() -> None:
    """C = 1: S keeps the labels' direction and one value in all others."""
    n, width, temperature = 6, 8, 0.1
    rotation = np.linalg.qr(np.random.default_rng(7).normal(size=(n, n)))[0]
    X = np.sqrt(n) * rotation
    y = 4.0 * np.random.default_rng(8).normal(size=n)
    found = solve(fw.Network([width], "identity"), X, y, temperature)
    q_bar = float(found.order_parameters.q_bar[0])

    def residual(mu: float, labels: float) -> float:
        a = temperature + q_bar * mu
        return width * (1 - 1 / mu) + q_bar / a * (1 - labels / a)

    along, across = (
        scipy.optimize.brentq(residual, 1e-6, 1e6, args=labels, xtol=1e-14)
        for labels in (float(y @ y), 0.0)
    )
    expected = np.array([along, *[across] * (n - 1)], dtype=np.float64)
    np.testing.assert_allclose(found.spectrum, expected, rtol=1e-8)
    direction = X.T @ y / np.linalg.norm(X.T @ y)
    assert abs(found.leading_direction.values @ direction) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(
    "name",
    [
        "identity",
        "relu",
        pytest.param("relu, hot", marks=pytest.mark.slow),
        pytest.param("relu, noiseless", marks=pytest.mark.slow),
    ],
)
def test_homogeneous_activations_share_the_scale_between_s_and_q_bar(
    name: str,
) -> None:
    """K∘(cC) = c K∘C, so S, and Q̄ with 1/(1+Q), obey tr(λ_0 S) − N_0 = Q̄ − 1."""
    found = solved(name)
    excess = 1.3 * np.trace(found.weight_covariance.values) - 6
    assert excess == pytest.approx(float(found.order_parameters.q_bar[0]) - 1, abs=1e-7)


def test_directions_without_training_patterns_keep_their_prior() -> None:
    X, y, *_ = data(30)
    net = fw.Network([WIDTH], "erf", weight_precision=[1.4, 0.9])
    found = solve(net, X, y)
    outside = np.random.default_rng(9).normal(size=(3, 30))
    outside -= outside @ np.linalg.pinv(X) @ X
    np.testing.assert_allclose(
        outside @ found.weight_covariance.values, outside / 1.4, rtol=0, atol=1e-10
    )
    prediction = found.predict(outside)
    c = np.einsum("ij,ij->i", outside, outside) / (30 * 1.4)
    kappa0 = 2 / np.pi * np.arcsin(2 * c / (1 + 2 * c)) / 0.9
    np.testing.assert_allclose(prediction.mean, 0.0, atol=1e-10)
    np.testing.assert_allclose(
        prediction.variance, float(found.order_parameters.q_bar[0]) * kappa0, rtol=1e-10
    )


def test_padding_the_inputs_changes_nothing_in_the_span() -> None:
    X, y, X_test, _ = data()
    padded = [np.sqrt(2) * np.column_stack([v, np.zeros_like(v)]) for v in (X, X_test)]
    net = fw.Network([WIDTH], "relu", bias_precision=1.0)
    a, b = solve(net, X, y), solve(net, padded[0], y)
    assert b.action == pytest.approx(a.action, rel=1e-11)
    S = b.weight_covariance.values
    np.testing.assert_allclose(S[:6, :6], a.weight_covariance.values, atol=1e-8)
    np.testing.assert_allclose(S[6:, 6:], np.eye(6), atol=1e-12)
    np.testing.assert_allclose(b.predict(padded[1]).mean, a.predict(X_test).mean, atol=1e-8)


def test_bias_precision_to_infinity_is_no_bias() -> None:
    X, y, X_test, _ = data()
    a = solve(fw.Network([WIDTH], "relu"), X, y)
    b = solve(fw.Network([WIDTH], "relu", bias_precision=1e12), X, y)
    np.testing.assert_allclose(b.predict(X_test).mean, a.predict(X_test).mean, atol=1e-6)
    assert a.bias_variance == 0.0
    assert b.bias_variance == pytest.approx(1e-12, rel=1e-4)


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_leading_direction_is_that_of_a_planted_teacher(activation: str) -> None:
    rng = np.random.default_rng(10)
    teacher = rng.normal(size=12)
    teacher /= np.linalg.norm(teacher)
    X = rng.normal(size=(80, 12))
    found = solve(fw.Network([10], activation), X, np.tanh(2 * X @ teacher), 0.01)
    assert abs(found.leading_direction.values @ teacher) > 0.95
    assert found.spectrum.values[0] > 1.0


@pytest.mark.slow
def test_quadrature_agrees_with_the_closed_form_also_where_the_variances_grow() -> None:
    """Large labels stretch S beyond the range that the quadrature is first chosen for."""
    X, y, X_test, _ = data()
    plain = fw.Activation("erf by quadrature", jax.scipy.special.erf, parity="odd")
    a = solve(fw.Network([2], "erf"), X, 6 * y)
    b = solve(fw.Network([2], plain), X, 6 * y)
    assert np.max(np.diag(b.point.covariance)) > 2 * np.max(np.diag(b.problem.covariance.cross))
    assert b.residual <= 1e-9
    assert b.action == pytest.approx(a.action, rel=1e-7)
    np.testing.assert_allclose(b.predict(X_test).mean, a.predict(X_test).mean, atol=1e-5)


@pytest.mark.slow
def test_activation_without_parity_and_closed_form() -> None:
    X, y, X_test, y_test = data()
    softplus = fw.Activation("softplus by quadrature", jax.nn.softplus)
    found = solve(fw.Network([WIDTH], softplus, bias_precision=2.0), X, y)
    assert found.residual <= 1e-9
    error = found.generalization_error(X_test, y_test)
    assert float(error.error) == pytest.approx(float(error.bias2 + error.variance))


def test_zero_patterns_leave_the_prior() -> None:
    net = fw.Network([WIDTH], "erf", weight_precision=2.0)
    found = solve(net, np.zeros((3, 2)), np.zeros(3))
    np.testing.assert_allclose(found.weight_covariance, 0.5 * np.eye(2))
    assert np.all(np.isnan(found.leading_direction))


def test_one_minimum_at_large_width() -> None:
    X, y, *_ = data()
    assert solve(fw.Network([200], "erf"), X, y).n_roots == 1


def test_a_repeated_pattern_needs_noise() -> None:
    X, y, *_ = data()
    X[1] = X[0]
    assert solve(fw.Network([WIDTH], "relu"), X, y).residual <= 1e-9
    with pytest.raises(fw.InputError, match="larger temperature"):
        solve(fw.Network([WIDTH], "relu"), X, y, 0.0)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (fw.Network([5, 5]), r"expected one hidden layer for theory='adaptive', got .*\(5, 5\)"),
        (fw.Network([1], "relu"), r"width of at least 2 .*'relu'.* got widths = \(1,\)"),
    ],
)
def test_networks_it_is_not_defined_for_are_refused(network: fw.Network, message: str) -> None:
    X, y, *_ = data()
    with pytest.raises(fw.InputError, match=message):
        solve(network, X, y)


def test_no_minimum_is_an_error_with_the_best_point(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, X_test, _ = data()
    monkeypatch.setattr(adaptive, "minimise", lambda *a: _trust_region.minimise(*a, max_steps=1))
    with pytest.raises(fw.ConvergenceError, match="adaptive") as caught:
        solve(fw.Network([2], "erf"), X, 3 * y)
    best = caught.value.best
    assert not best.converged
    assert best.residual > 1e-9
    assert np.all(np.isfinite(best.predict(X_test).mean))
