"""Several classes in deeper networks, and with mean terms (theory.md, sections 11 and 14)."""

import pickle

import numpy as np
import pytest
import reference
from scipy.linalg import expm
from test_room import Gained

import finwidth as fw
from finwidth._likelihoods.softmax import softmax_laplace

RNG = np.random.default_rng(11)
P, D = 9, 3
X, X_TEST = RNG.normal(size=(P, 4)), RNG.normal(size=(4, 4))
Y = np.array([0.0, 1, 2, 2, 1, 0, 0, 2, 0])
SLOW = pytest.mark.slow


def solve(net, y=Y, **arguments):
    return fw.solve(net, X, y, likelihood="softmax", **arguments)


@pytest.mark.parametrize(
    ("activation", "widths", "bias", "theory", "temperature"),
    [
        pytest.param("erf", (5,), None, "nested", 0.3, marks=SLOW),
        ("relu", (5,), 2.0, "nested", 0.3),
        ("erf", (5, 8), None, "nested", 1.0),
        pytest.param("relu", (6, 5), 2.0, "nested", 0.3, marks=SLOW),
        pytest.param("relu", (6, 5, 9), None, "wishart", 1.0, marks=SLOW),
        pytest.param("erf", (4, 7, 5), 3.0, "nested", 0.3, marks=SLOW),
        pytest.param("identity", (4, 7), None, "nested", 0.3, marks=SLOW),
    ],
)
def test_two_classes_are_logistic_regression_of_the_difference(
    activation, widths, bias, theory, temperature
):
    """f_1 − f_0 has twice the kernel, as with λ_L/2 and λ^b_L/2; the sum is seen by no label."""
    y = (Y > 0).astype(float)
    net = fw.Network(widths, activation, 0.5, bias, outputs=2)
    one = solve(net, y, theory=theory, temperature=temperature)
    half = fw.Network(
        widths,
        activation,
        (*net.weight_precision[:-1], 0.25),
        None if bias is None else (*net.bias_precision[:-1], bias / 2),
    )
    arguments = {"likelihood": "logit", "approximation": "laplace", "temperature": temperature}
    other = fw.solve(half, X, 2 * y - 1, theory=theory, **arguments)
    assert one.action == pytest.approx(other.action, abs=1e-10)
    vector = np.array([1.0, -1.0]) / np.sqrt(2)
    for name in ("q_bar", "q"):
        matrices = one.order_parameters[name].values
        expected = other.order_parameters[name].values
        np.testing.assert_allclose(matrices @ vector, np.outer(expected, vector), atol=1e-8)
        shift = np.full((len(widths), 2), float(name == "q_bar"))
        np.testing.assert_allclose(matrices.sum(axis=2), shift, atol=1e-8)
    first, second = one.predict(X_TEST), other.predict(X_TEST)
    np.testing.assert_allclose(first.probabilities, second.probabilities, atol=1e-8)
    variance = np.einsum("nde,d,e->n", first.output_covariance, vector, vector) * 2
    np.testing.assert_allclose(variance, second.variance, atol=1e-8)


def central(function, step):
    """The derivative at 0, from four points."""

    def slope(h):
        return (function(h) - function(-h)) / (2 * h)

    return (4 * slope(step) - slope(2 * step)) / 3


def two_matrices(net, q_bar, r):
    """𝒮 of one hidden layer with a mean term, from the formula as printed."""
    c = X @ X.T / (net.weight_precision[0] * X.shape[1])
    kernel, m = reference.layer(net.activation.name, c)
    mm, last = np.outer(m, m), net.weight_precision[1]
    whole = (np.kron(kernel - mm, q_bar) + np.kron(mm, r)) / last
    q = np.linalg.inv(r) - np.eye(D)
    prior = -np.trace(q @ q_bar) + np.linalg.slogdet(np.eye(D) + q)[1]
    return net.widths[0] * prior + softmax_laplace(whole, Y, 1.0).action


def test_the_action_with_a_mean_term_is_stationary_in_every_entry():
    net = fw.Network((5,), "relu", 0.3, outputs=D)
    solution = solve(net)
    q_bar = solution.order_parameters.q_bar.values[0]
    r = np.linalg.inv(np.eye(D) + solution.order_parameters.q.values[0])
    assert solution.action == pytest.approx(two_matrices(net, q_bar, r), rel=1e-10)
    assert np.max(np.abs(q_bar @ r - r @ q_bar)) > 1e-4  # no common basis
    for i, j in zip(*np.triu_indices(D), strict=True):
        step = np.zeros((D, D))
        step[i, j] = step[j, i] = 1.0
        by_q_bar = central(lambda h, s=step: two_matrices(net, q_bar + h * s, r), 1e-3)
        by_r = central(lambda h, s=step: two_matrices(net, q_bar, r + h * s), 1e-3)
        assert max(abs(by_q_bar), abs(by_r)) < 1e-7 * (net.widths[0] + P)


def by_direction(net, rotation, q_bar, q):
    """𝒮 of Σ_k o_k o_kᵀ ⊗ K^(k), each by the recursion as printed; arrays (layer, direction)."""
    whole = sum(
        np.kron(reference.kernel(net, X, q_bar[:, k], q[:, k]), np.outer(o, o))
        for k, o in enumerate(rotation.T)
    )
    terms = -q * q_bar + np.log1p(q)
    return float(np.asarray(net.widths) @ terms.sum(axis=1)) + softmax_laplace(whole, Y, 1.0).action


def parts(solution):
    order = solution.order_parameters
    names = ("rotation", "q_bar_direction", "q_direction")
    return tuple(order[name].values for name in names)


@pytest.mark.parametrize(
    ("activation", "bias"), [("erf", None), pytest.param("relu", 2.0, marks=SLOW)]
)
def test_the_action_of_two_layers_is_stationary_in_directions_and_eigenvalues(activation, bias):
    """Along the shift of all outputs, too, which keeps its values of infinite width."""
    net = fw.Network((5, 4), activation, 0.5, bias, outputs=D)
    solution = solve(net)
    rotation, q_bar, q = parts(solution)
    size = net.widths[0] + P
    assert solution.action == pytest.approx(by_direction(net, rotation, q_bar, q), rel=1e-10)
    for k, other in zip(*np.triu_indices(D, 1), strict=True):
        turn = np.zeros((D, D))
        turn[k, other], turn[other, k] = 1.0, -1.0

        def turned(h, turn=turn):
            return by_direction(net, rotation @ expm(h * turn), q_bar, q)

        assert abs(central(turned, 1e-2)) < 1e-7 * size
        assert turned(0.1) > turned(0.0) < turned(-0.1)
    for index in np.ndindex(*q_bar.shape):

        def scaled(h, index=index):
            more = q_bar.copy()
            more[index] *= np.exp(h)
            rest = 1 / more - 1 if activation == "erf" else q
            return by_direction(net, rotation, more, rest)

        assert abs(central(scaled, 1e-3)) < 1e-7 * size
        if activation == "relu":

            def shrunk(h, index=index):
                more = q.copy()
                more[index] = (1 + more[index]) * np.exp(h) - 1
                return by_direction(net, rotation, q_bar, more)

            assert abs(central(shrunk, 1e-3)) < 1e-7 * size
    copied = pickle.loads(pickle.dumps(solution))
    assert np.array_equal(
        copied.predict(X_TEST).probabilities, solution.predict(X_TEST).probabilities
    )


DEEPER = [
    ("erf", (5, 4), "nested"),
    pytest.param("relu", (5,), "nested", marks=SLOW),
    pytest.param("relu", (5, 4), "nested", marks=SLOW),
    pytest.param("erf", (5, 4), "wishart", marks=SLOW),
]


@pytest.mark.parametrize(("activation", "widths", "theory"), DEEPER)
def test_other_names_of_the_classes_permute_everything(activation, widths, theory):
    net = fw.Network(widths, activation, 0.5, outputs=D)
    order = np.array([2, 0, 1])
    one = solve(net, theory=theory)
    other = solve(net, order[Y.astype(int)].astype(float), theory=theory)
    assert one.log_evidence == pytest.approx(other.log_evidence, rel=1e-10)
    first, second = (one_of.order_parameters.q_bar.values for one_of in (one, other))
    np.testing.assert_allclose(second[:, order][:, :, order], first, atol=1e-7)
    p, q = one.predict(X_TEST), other.predict(X_TEST)
    np.testing.assert_allclose(q.probabilities[:, order], p.probabilities, atol=1e-8)


@pytest.mark.slow
def test_classes_that_no_pattern_has_are_alike():
    """Two directions then have the same order parameters, and no basis of their own."""
    solution = solve(fw.Network((5, 4), "erf", 0.5, outputs=6))
    q_bar = solution.order_parameters.q_bar.values
    order = np.array([0, 1, 2, 5, 3, 4])
    np.testing.assert_allclose(q_bar[:, order][:, :, order], q_bar, atol=1e-8)
    p = solution.predict(X_TEST).probabilities
    np.testing.assert_allclose(p[:, order], p, atol=1e-3)  # by Sobol points


def test_one_kernel_that_is_only_scaled_is_that_of_nested_with_the_identity():
    """With unequal widths; the product of all Q̄ solves, in each direction, N_ℓ(q_ℓ − 1) = c."""
    net = fw.Network((4, 9), "identity", 0.5, outputs=D)
    one, other = solve(net), solve(net, theory="wishart")
    assert one.action == pytest.approx(other.action, abs=1e-10)
    rotation, q_bar, q = parts(other)
    excess = np.asarray(net.widths)[:, None] * (q_bar - 1)
    np.testing.assert_allclose(excess[0], excess[1], atol=1e-9)
    assert other.action == pytest.approx(by_direction(net, rotation, q_bar, q), rel=1e-10)


@pytest.mark.parametrize(
    ("activation", "theory"), [("erf", "nested"), pytest.param("relu", "nested", marks=SLOW)]
)
def test_wide_networks_become_the_process(activation, theory):
    net = fw.Network((10**6, 10**6), activation, 0.5, outputs=D)
    wide, infinite = solve(net, theory=theory), solve(net, theory="infinite")
    assert wide.action == pytest.approx(infinite.action, abs=1e-4)
    np.testing.assert_allclose(
        wide.predict(X_TEST).probabilities, infinite.predict(X_TEST).probabilities, atol=1e-5
    )


def test_predictions_are_of_the_conditioned_process():
    net = fw.Network((5, 4), "erf", 0.5, 2.0, outputs=D)
    solution = solve(net)
    rotation, q_bar, q = parts(solution)
    points = np.concatenate([X, X_TEST])
    kernel = sum(
        np.kron(reference.kernel(net, points, q_bar[:, k], q[:, k]), np.outer(o, o))
        for k, o in enumerate(rotation.T)
    )
    n = P * D
    given = softmax_laplace(kernel[:n, :n], Y, 1.0)
    half = given.whiten(kernel[:n, n:])
    found = solution.predict(X_TEST, full_covariance=True)
    np.testing.assert_allclose(found.mean.ravel(), kernel[n:, :n] @ given.weights, rtol=1e-6)
    whole = found.covariance.reshape(4 * D, 4 * D)
    np.testing.assert_allclose(whole, kernel[n:, n:] - half.T @ half, rtol=1e-6, atol=1e-8)


def test_layers_that_are_not_dense_are_refused_but_at_infinite_width():
    net = fw.Network(layers=(fw.Dense(5), Gained(5, gain=1.3)), activation="erf", outputs=D)
    with pytest.raises(fw.InputError, match="expected dense layers or theory='infinite'"):
        solve(net)
    assert solve(net, theory="infinite").converged
