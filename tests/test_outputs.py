"""Several outputs (theory.md, section 14), against dense algebra on PD × PD matrices."""

import copy
import functools
import pickle

import numpy as np
import pytest
import reference
import scipy.linalg

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth._problem.problem import make_problem
from finwidth.theories._saddle.outputs import solve_rotated
from finwidth.theories._theory import choose_theory

P, D = 9, 3
RNG = np.random.default_rng(11)
X, Y = RNG.normal(size=(P, 5)), RNG.normal(size=(P, D)) * [2.0, 1.0, 0.3]
X_TEST, Y_TEST = RNG.normal(size=(4, 5)), RNG.normal(size=(4, D))
ROTATION = scipy.linalg.expm([[0.0, 0.4, -0.9], [-0.4, 0.0, 0.3], [0.9, -0.3, 0.0]])

NETS = {
    "erf": fw.Network((7,), "erf", (1.0, 0.7), outputs=D),
    "erf, bias": fw.Network((7,), "erf", (1.0, 0.7), bias_precision=2.0, outputs=D),
    "relu": fw.Network((7,), "relu", (1.0, 0.7), outputs=D),
    "relu, bias": fw.Network((7,), "relu", (1.0, 0.7), bias_precision=2.0, outputs=D),
    "erf, deep": fw.Network((7, 4), "erf", (1.0, 0.7, 1.3), outputs=D),
}
SLOW = pytest.mark.slow
one_layer = pytest.mark.parametrize(
    "name",
    ["erf", pytest.param("erf, bias", marks=SLOW), pytest.param("relu", marks=SLOW), "relu, bias"],
)


@functools.cache
def solved(name, theory="nested", temperature=0.2):
    return fw.solve(NETS[name], X, Y, temperature=temperature, theory=theory)


def matrices(solution):
    order = solution.order_parameters
    return order.q_bar.values, order.q.values


def parts(net, points=X):
    """K − mmᵀ and mmᵀ with 1/λ_1, and the output's bias, on some patterns."""
    bias = net.bias_precision or (np.inf,) * (net.depth + 1)
    c = points @ points.T / (net.weight_precision[0] * points.shape[1]) + 1 / bias[0]
    kernel, m = reference.layer(net.activation.name, c)
    mean = np.outer(m, m) / net.weight_precision[1]
    return kernel / net.weight_precision[1] - mean, mean, np.full_like(c, 1 / bias[-1])


def dense_kernel(net, q_bar, r, points=X):
    """K_R of one hidden layer, output index slow."""
    kernel, mean, bias = parts(net, points)
    return np.kron(q_bar, kernel) + np.kron(r, mean) + np.kron(np.eye(len(r)), bias)


def dense_data(a, y):
    return np.linalg.slogdet(a)[1] + y @ np.linalg.solve(a, y)


def stacked(labels):
    return labels.T.reshape(-1)


def action(net, labels, temperature, q_bar, q):
    """The action as printed, in Q̄ and Q."""
    one = np.eye(len(q))
    a = dense_kernel(net, q_bar, np.linalg.inv(one + q)) + temperature * np.eye(labels.size)
    prior = -np.trace(q @ q_bar) + np.linalg.slogdet(one + q)[1]
    return net.widths[0] * prior + dense_data(a, stacked(labels))


def curly(a, labels, x):
    """𝒢(X)_de = tr[(A⁻¹)_de X] − a_dᵀ X a_e."""
    n, size = labels.shape
    inverse = np.linalg.inv(a).reshape(size, n, size, n)
    dual = np.linalg.solve(a, stacked(labels)).reshape(size, n)
    return np.einsum("dmen,nm->de", inverse, x) - dual @ x @ dual.T


# The equations


@one_layer
def test_equations_as_printed(name):
    net, solution = NETS[name], solved(name)
    (q_bar,), (q,) = matrices(solution)
    r = np.linalg.inv(np.eye(D) + q)
    kernel, mean, _ = parts(net)
    a = dense_kernel(net, q_bar, r) + 0.2 * np.eye(P * D)
    width = net.widths[0]
    np.testing.assert_allclose(q, curly(a, Y, kernel) / width, atol=1e-11)
    np.testing.assert_allclose(q_bar, r - r @ curly(a, Y, mean) @ r / width, atol=1e-11)
    assert np.min(np.linalg.eigvalsh(q_bar)) > 0
    assert solution.action == pytest.approx(action(net, Y, 0.2, q_bar, q), rel=1e-12)
    evidence = -0.5 * (solution.action + P * D * np.log(2 * np.pi))
    assert solution.log_evidence == pytest.approx(evidence, rel=1e-14)


@one_layer
def test_action_is_stationary_in_both_matrices(name):
    (q_bar,), (q,) = matrices(solved(name))
    step = 1e-5
    for index in range(D * D):
        change = np.zeros((D, D))
        change.flat[index] = step
        change = change + change.T
        for dq_bar, dq in ((change, 0.0), (0.0, change)):
            ends = [
                action(NETS[name], Y, 0.2, q_bar + sign * dq_bar, q + sign * dq) for sign in (1, -1)
            ]
            assert abs(ends[0] - ends[1]) / (2 * step) < 1e-7 * (P + 7)


def test_directions_decouple():
    solution = solved("erf")
    order, kernel = solution.order_parameters, parts(NETS["erf"])[0]
    labels = Y @ order.rotation.values
    single = NETS["erf"].replace(outputs=1)
    for k, q_bar in enumerate(order.q_bar_direction.values[0]):
        one = fw.solve(single, X, labels[:, k], temperature=0.2)
        assert one.order_parameters.q_bar.item() == pytest.approx(q_bar, rel=1e-12)
        for other, q_other in enumerate(order.q_bar_direction.values[0]):
            fit, other_fit = (
                np.linalg.solve(0.2 * np.eye(P) + q * kernel, labels[:, other])
                for q in (q_bar, q_other)
            )
            assert k == other or abs(labels[:, k] @ (fit - other_fit)) < 1e-11


def test_depth_is_stationary_in_rotation_and_scales():
    """𝒮 of theory.md for several layers: O and q_ℓk by finite differences."""
    net, solution = NETS["erf, deep"], solved("erf, deep")
    order = solution.order_parameters
    single = net.replace(outputs=1)

    def value(rotation, q_bar):
        kernels = [reference.kernel(single, X, q, 1 / q - 1) for q in q_bar.T]
        a = sum(np.kron(np.outer(o, o), k) for o, k in zip(rotation.T, kernels, strict=True))
        prior = np.array(net.widths) @ (q_bar - np.log(q_bar) - 1)
        return np.sum(prior) + dense_data(a + 0.2 * np.eye(P * D), stacked(Y))

    rotation, q_bar = order.rotation.values, order.q_bar_direction.values
    assert solution.action == pytest.approx(value(rotation, q_bar), rel=1e-12)
    step = 1e-5
    for index in range(q_bar.size):
        change = step * np.eye(q_bar.size)[index].reshape(q_bar.shape)
        ends = [value(rotation, q_bar * np.exp(sign * change)) for sign in (1, -1)]
        assert abs(ends[0] - ends[1]) / (2 * step) < 1e-7 * (P + 4)
    for k, other in ((0, 1), (0, 2), (1, 2)):
        turn = np.zeros((D, D))
        turn[k, other], turn[other, k] = step, -step
        ends = [value(rotation @ scipy.linalg.expm(sign * turn), q_bar) for sign in (1, -1)]
        assert abs(ends[0] - ends[1]) / (2 * step) < 1e-7 * (P + 4)
    commuting = order.q_bar.values
    np.testing.assert_allclose(commuting[0] @ commuting[1], commuting[1] @ commuting[0], atol=1e-13)


@pytest.mark.parametrize("theory", ["nested", "wishart"])
def test_deep_linear_is_the_saddle_of_two_matrices_in_any_basis(theory):
    """Exact for the identity: M = Q̄_2^½ Q̄_1 Q̄_2^½, without a common basis assumed."""
    net = fw.Network((6, 4), "identity", outputs=D)
    solution = fw.solve(net, X, Y, temperature=0.2, theory=theory)
    c = X @ X.T / X.shape[1]

    def value(first, second):
        root = scipy.linalg.sqrtm(second)
        a = np.kron(root @ first @ root, c) + 0.2 * np.eye(P * D)
        prior = [np.trace(q) - np.linalg.slogdet(q)[1] - D for q in (first, second)]
        return np.dot(net.widths, prior) + dense_data(a, stacked(Y))

    first, second = matrices(solution)[0]
    assert solution.action == pytest.approx(value(first, second), rel=1e-11)
    rng, step = np.random.default_rng(0), 1e-5
    for _ in range(6):
        changes = [step * (part + part.T) for part in rng.normal(size=(2, D, D))]
        ends = [value(first + s * changes[0], second + s * changes[1]) for s in (1, -1)]
        assert abs(ends[0] - ends[1]) / (2 * step) < 1e-6 * (P + 6)


# Limits and exact cases


@pytest.mark.parametrize("name", ["erf", "relu, bias", "erf, deep"])
def test_output_without_labels_leaves_one_output(name):
    """Y = (y, 0): the outputs are independent, each of section 2."""
    labels = np.column_stack([Y[:, 0], np.zeros(P)])
    net = NETS[name].replace(outputs=2)
    single = net.replace(outputs=1)
    both = fw.solve(net, X, labels, temperature=0.2)
    predicted = both.predict(X_TEST)
    actions = 0.0
    for k in range(2):
        one = fw.solve(single, X, labels[:, k], temperature=0.2)
        actions += one.action
        alone = one.predict(X_TEST)
        for values, expected in zip(matrices(both), matrices(one), strict=True):
            np.testing.assert_allclose(values[:, k, k], expected, rtol=1e-12)
            np.testing.assert_allclose(values[:, k, 1 - k], 0.0, atol=1e-12)
        np.testing.assert_allclose(predicted.mean[:, k], alone.mean, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(predicted.variance[:, k], alone.variance, rtol=1e-11)
    np.testing.assert_allclose(predicted.output_covariance[:, 0, 1], 0.0, atol=1e-12)
    assert both.action == pytest.approx(actions, rel=1e-12)


@pytest.mark.parametrize("name", ["erf", pytest.param("relu", marks=SLOW), "erf, deep"])
def test_rotated_labels_rotate_everything(name):
    solution, turned = solved(name), fw.solve(NETS[name], X, Y @ ROTATION, temperature=0.2)
    for values, others in zip(matrices(solution), matrices(turned), strict=True):
        np.testing.assert_allclose(ROTATION.T @ values @ ROTATION, others, atol=2e-12)
    before, after = solution.predict(X_TEST), turned.predict(X_TEST)
    np.testing.assert_allclose(before.mean @ ROTATION, after.mean, atol=2e-12)
    covariance = ROTATION.T @ before.output_covariance @ ROTATION
    np.testing.assert_allclose(covariance, after.output_covariance, atol=2e-12)
    assert turned.action == pytest.approx(solution.action, rel=1e-12)
    np.testing.assert_allclose(turned.criterion, solution.criterion, rtol=1e-9)


@pytest.mark.parametrize(("width", "distance"), [(10**4, 3e-3), (10**6, 3e-5)])
def test_first_order_in_one_over_width(width, distance):
    """N(Q̄ − 1) → −G at Q̄ = 1."""
    net = NETS["erf"].replace(widths=(width,))
    (q_bar,), _ = matrices(fw.solve(net, X, Y, temperature=0.2))
    a = dense_kernel(net, np.eye(D), np.eye(D)) + 0.2 * np.eye(P * D)
    expected = -curly(a, Y, parts(net)[0])
    found = width * (q_bar - np.eye(D))
    assert np.linalg.norm(found - expected) < distance * np.linalg.norm(expected)


@pytest.mark.parametrize("width", [4, 9, 40])
def test_without_noise_the_matrix_root(width):
    """N Q̄² + (P − N) Q̄ − Λ = 0 with Λ = λ_1 YᵀK⁻¹Y, below, at and above N = P."""
    net = NETS["erf"].replace(widths=(width,))
    solution = fw.solve(net, X, Y, temperature=0.0)
    kernel = parts(net)[0]
    fit = Y.T @ np.linalg.solve(kernel, Y)
    load = P / width
    root = scipy.linalg.sqrtm((1 - load) ** 2 * np.eye(D) + 4 * fit / width)
    (q_bar,), _ = matrices(solution)
    np.testing.assert_allclose(q_bar, 0.5 * ((1 - load) * np.eye(D) + root), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(solution.criterion, np.linalg.eigvalsh(fit)[::-1] / P, rtol=1e-9)


@pytest.mark.parametrize("theory", ["nested", "wishart"])
def test_deep_linear_without_noise_obeys_the_law_of_eigenvalues(theory):
    """1 − u_k = α(1 − r_k/u_k^L), r_k the eigenvalues of YᵀK_0⁻¹Y/P."""
    points, labels = X[:4], Y[:4]
    net = fw.Network((6, 6), "identity", outputs=D)
    solution = fw.solve(net, points, labels, temperature=0.0, theory=theory)
    c = points @ points.T / points.shape[1]
    r = np.linalg.eigvalsh(labels.T @ np.linalg.solve(c, labels) / 4)[::-1]
    for u in solution.order_parameters.q_bar_direction.values:
        np.testing.assert_allclose(1 - u, 4 / 6 * (1 - r / u**2), atol=1e-7)


@pytest.mark.parametrize("name", ["erf, bias", pytest.param("relu", marks=SLOW), "erf, deep"])
def test_infinite_width_leaves_independent_outputs(name):
    solution = solved(name, "infinite")
    order = solution.order_parameters
    assert np.array_equal(order.q_bar, np.broadcast_to(np.eye(D), order.q_bar.shape))
    predicted = solution.predict(X_TEST)
    action = 0.0
    for k in range(D):
        one = fw.solve(
            NETS[name].replace(outputs=1), X, Y[:, k], temperature=0.2, theory="infinite"
        )
        alone = one.predict(X_TEST)
        action += one.action
        np.testing.assert_allclose(predicted.mean[:, k], alone.mean, rtol=1e-12)
        np.testing.assert_allclose(predicted.variance[:, k], alone.variance, rtol=1e-12)
    assert solution.action == pytest.approx(action, rel=1e-13)


# Predictions


@one_layer
def test_predictions_are_those_of_the_dense_process(name):
    net, solution = NETS[name], solved(name)
    (q_bar,), (q,) = matrices(solution)
    everything, n = np.vstack([X, X_TEST]), P + len(X_TEST)
    full = dense_kernel(net, q_bar, np.linalg.inv(np.eye(D) + q), everything)
    full = full.reshape(D, n, D, n).transpose(1, 0, 3, 2)  # pattern, output, pattern, output
    np.testing.assert_allclose(solution.renormalized_kernel, full[:P, :, :P], atol=1e-12)
    a = full[:P, :, :P].reshape(P * D, P * D) + 0.2 * np.eye(P * D)
    kappa = full[P:, :, :P].reshape(-1, P * D)
    mean = (kappa @ np.linalg.solve(a, Y.reshape(-1))).reshape(-1, D)
    prior = full[P:, :, P:]
    covariance = prior - (kappa @ np.linalg.solve(a, kappa.T)).reshape(prior.shape)
    joint, usual = solution.predict(X_TEST, full_covariance=True), solution.predict(X_TEST)
    np.testing.assert_allclose(joint.covariance, covariance, atol=1e-11)
    for predicted in (joint, usual):
        np.testing.assert_allclose(predicted.mean, mean, atol=1e-11)
        blocks = np.einsum("ndne->nde", covariance)
        np.testing.assert_allclose(predicted.output_covariance, blocks, atol=1e-11)
        np.testing.assert_allclose(predicted.variance, np.einsum("ndd->nd", blocks), atol=1e-11)
    assert usual.covariance is None
    errors = solution.generalization_error(X_TEST, Y_TEST)
    bias2, variance = np.mean((Y_TEST - mean) ** 2), np.mean(usual.variance)
    assert errors.bias2.item() == pytest.approx(bias2, rel=1e-10)
    assert errors.error.item() == pytest.approx(bias2 + variance, rel=1e-10)


@pytest.mark.parametrize("theory", ["nested", "wishart"])
def test_deep_predictions_are_those_of_the_dense_process(theory):
    solution = solved("erf, deep", theory)
    kernel = solution.renormalized_kernel
    assert kernel.shape == (P, D, P, D)
    a = kernel.reshape(P * D, P * D) + 0.2 * np.eye(P * D)
    expected = kernel.reshape(P * D, P * D) @ np.linalg.solve(a, Y.reshape(-1))
    joint = solution.predict(X, full_covariance=True)
    np.testing.assert_allclose(joint.mean.reshape(-1), expected, atol=1e-11)
    prior = kernel.reshape(P * D, P * D)
    covariance = prior - prior @ np.linalg.solve(a, prior)
    np.testing.assert_allclose(joint.covariance.reshape(P * D, P * D), covariance, atol=1e-11)
    blocks = np.einsum("ndne->nde", joint.covariance)
    np.testing.assert_allclose(solution.predict(X).output_covariance, blocks, atol=1e-12)


# Degenerate labels


@pytest.mark.parametrize("name", ["erf", "relu"])
def test_more_outputs_than_patterns_and_outputs_alike(name):
    """Flat directions of the rotation: the solution is no less exact."""
    few, labels = X[:2], np.column_stack([Y[:2], Y[:2, 0], np.zeros(2)])
    net = NETS[name].replace(outputs=5)
    solution = fw.solve(net, few, labels, temperature=0.2)
    (q_bar,), (q,) = matrices(solution)
    kernel, mean, bias = parts(net, few)
    r = np.linalg.inv(np.eye(5) + q)
    a = np.kron(q_bar, kernel) + np.kron(r, mean) + np.kron(np.eye(5), bias) + 0.2 * np.eye(10)
    np.testing.assert_allclose(q, curly(a, labels, kernel) / 7, atol=1e-10)
    np.testing.assert_allclose(q_bar, r - r @ curly(a, labels, mean) @ r / 7, atol=1e-10)
    assert np.allclose(q_bar[0], q_bar[3][[3, 1, 2, 0, 4]], atol=1e-10)  # equal outputs


def test_false_stationary_point_is_left():
    """Two directions with equal order parameters by symmetry: stationary, but no minimum."""
    points, labels = np.eye(2), np.array([[1.5, 0.4], [0.4, 1.5]])
    net = fw.Network((4,), "erf", outputs=2)
    with float64():
        rule = choose_theory("nested")
        problem = make_problem(net, points, labels, 0.05)
        found = solve_rotated(rule, problem, rotation=np.eye(2))
    expected = fw.solve(net, points, labels, temperature=0.05)
    assert found.action == pytest.approx(expected.action, rel=1e-12)
    np.testing.assert_allclose(matrices(found)[0], matrices(expected)[0], atol=1e-10)
    assert expected.order_parameters.q_bar.values[0, 0, 1] > 0.1  # the outputs do mix


# Many problems, copies, errors


@pytest.mark.parametrize(
    ("name", "theory"), [("erf", "nested"), pytest.param("relu", "nested", marks=SLOW)]
)
def test_solve_many_is_solve(name, theory):
    settings = {"theory": theory, "X_test": X_TEST, "y_test": Y_TEST}
    many = fw.solve_many(NETS[name], X, Y, widths=[5, 50], temperature=[0.2, 1.0], **settings)
    for width in (5, 50):
        net = NETS[name].replace(widths=(width,))
        one = fw.solve(net, X, Y, temperature=1.0, theory=theory)
        here = many.sel(width=width, temperature=1.0)
        errors = one.generalization_error(X_TEST, Y_TEST)
        assert here.q_bar.dims == ("layer", "output", "output_")
        np.testing.assert_allclose(here.q_bar, one.order_parameters.q_bar, rtol=1e-9, atol=1e-11)
        assert here.action.item() == pytest.approx(one.action, rel=1e-12)
        assert here.error.item() == pytest.approx(errors.error.item(), rel=1e-10)


@pytest.mark.parametrize("name", ["erf", "relu, bias", "erf, deep"])
@pytest.mark.parametrize("way", [lambda s: pickle.loads(pickle.dumps(s)), copy.deepcopy])
def test_copies_say_the_same_to_the_last_bit(name, way):
    solution = solved(name)
    other = way(solution)
    assert repr(other) == repr(solution) and other.action == solution.action
    assert other.order_parameters.identical(solution.order_parameters)
    for key, value in vars(solution.predict(X_TEST, full_covariance=True)).items():
        assert np.array_equal(vars(other.predict(X_TEST, full_covariance=True))[key], value), key


def test_order_parameters_have_named_dimensions():
    order = solved("erf, deep").order_parameters
    for name in ("q_bar", "q"):
        assert order[name].dims == ("layer", "output", "output_")
        assert order[name].shape == (2, D, D)
    assert order.rotation.dims == ("output", "direction")
    assert np.array_equal(order.output, np.arange(D))
    falling = np.prod(order.q_bar_direction.values, axis=0)
    assert np.all(np.diff(falling) <= 0)


def test_what_is_not_covered_is_refused_in_one_line():
    net = NETS["erf"]
    for wrong in (Y[:, 0], Y[:, :2], Y.T):
        with pytest.raises(fw.InputError, match=r"expected y = .*\(9, 3\)"):
            fw.solve(net, X, wrong, temperature=0.2)
    with pytest.raises(fw.InputError, match=r"expected y_test = .*\(4, 3\)"):
        solved("erf").generalization_error(X_TEST, Y_TEST[:, :2])
    for theory in ("adaptive", "corrected", "perturbative"):
        with pytest.raises(fw.InputError, match="expected outputs = 1 with .*, got 3"):
            fw.solve(net, X, Y, temperature=0.2, theory=theory)
    with pytest.raises(fw.InputError, match="a larger temperature, or a kernel"):
        fw.solve(net, np.vstack([X, X[:1]]), np.vstack([Y, Y[:1]]), temperature=0.0)
    with pytest.raises(fw.InputError, match="expected solution = a"):
        fw.fluctuations(solved("erf"))
