"""Several outputs of a convolution: a matrix over patches and outputs (theory.md, 11 and 12)."""

import itertools
import pickle

import numpy as np
import pytest

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth._problem.problem import make_problem
from finwidth.theories._saddle.patch_outputs import OutputKernels
from finwidth.theories._saddle.patches import search

RNG = np.random.default_rng(31)
P, A, D, T = 7, 2, 2, 0.2
X, Y = RNG.normal(size=(P, 2, 4)), RNG.normal(size=(P, D))
X_TEST, Y_TEST = RNG.normal(size=(4, 2, 4)), RNG.normal(size=(4, D))
LAYER = fw.Convolution(channels=6, patch=2, stride=2)
PRECISION, BIAS = (1.3, 0.8), (2.0, 3.0)


def net(activation="erf", layer=LAYER, outputs=D, **more):
    return fw.Network(
        layers=(layer,), activation=activation, weight_precision=PRECISION, outputs=outputs, **more
    )


def moments(activation, bias=0.0, shared=True):
    """K_ab(x, x') of the training set, shape (a, b, x, x'), and the means, shape (a, x)."""
    x = np.stack([X[:, :, :2].reshape(P, 4), X[:, :, 2:].reshape(P, 4)])
    c = np.einsum("ais,bjs->abij", x, x) / (4 * PRECISION[0]) + bias
    own = np.einsum("aaii->ai", c)
    ends = own[:, None, :, None], own[None, :, None, :]
    if activation == "erf":
        ratio = 2 * c / np.sqrt((1 + 2 * ends[0]) * (1 + 2 * ends[1]))
        k, m = 2 / np.pi * np.arcsin(ratio), np.zeros((A, P))
    else:
        root = np.sqrt(ends[0] * ends[1])
        cosine = np.clip(c / root, -1, 1)
        theta = np.arccos(cosine)
        k = root / (2 * np.pi) * (np.sin(theta) + (np.pi - theta) * cosine)
        m = np.sqrt(own / (2 * np.pi))
    if not shared:
        for a, b in itertools.permutations(range(A), 2):
            k[a, b] = np.outer(m[a], m[b])
    return k, m


def kernel(q_bar, r, activation, biases=(0.0, 0.0), shared=True):
    """K_R, shape (pattern, output, pattern, output), of Q̄ and R over (patch, output)."""
    k, m = moments(activation, biases[0], shared)
    outer = np.einsum("ai,bj->abij", m, m)
    q_bar, r = (one.reshape(A, D, A, D) for one in (q_bar, r))
    total = np.einsum("adbe,abij->idje", q_bar, k - outer)
    total += np.einsum("adbe,abij->idje", r, outer)
    bias = np.einsum("ij,de->idje", np.ones((P, P)), np.eye(D)) * biases[1]
    return total / (PRECISION[1] * A) + bias


def action(q_bar, r, activation, biases=(0.0, 0.0), shared=True):
    a = kernel(q_bar, r, activation, biases, shared).reshape(P * D, P * D) + T * np.eye(P * D)
    q, y = np.linalg.inv(r) - np.eye(A * D), Y.ravel()
    prior = 6 * (-np.trace(q @ q_bar) - np.linalg.slogdet(r)[1])
    return prior + np.linalg.slogdet(a)[1] + y @ np.linalg.solve(a, y)


def matrices(solution):
    found = solution.order_parameters
    if found.q_bar.ndim == 5:
        q_bar, q = (found[name].values[0].reshape(A * D, A * D) for name in ("q_bar", "q"))
    else:
        q_bar, q = np.zeros((2, A * D, A * D))
        for a in range(A):
            part = slice(a * D, a * D + D)
            q_bar[part, part], q[part, part] = found.q_bar.values[0, a], found.q.values[0, a]
    return q_bar, np.linalg.inv(np.eye(A * D) + q)


@pytest.mark.parametrize(
    ("activation", "biases", "shared"),
    [
        ("erf", None, True),
        pytest.param("relu", BIAS, True, marks=pytest.mark.slow),
        pytest.param("relu", None, False, marks=pytest.mark.slow),
    ],
)
def test_the_action_is_stationary(activation, biases, shared):
    layer = fw.Convolution(6, 2, 2, shared=shared)
    solution = fw.solve(net(activation, layer, bias_precision=biases), X, Y, temperature=T)
    assert solution.converged and solution.residual <= 1e-10
    q_bar, r = matrices(solution)
    inverse = (0.0, 0.0) if biases is None else (1 / biases[0], 1 / biases[1])
    rest = activation, inverse, shared
    assert solution.action == pytest.approx(action(q_bar, r, *rest), rel=1e-11)
    odd = activation == "erf"
    for i, j in itertools.combinations_with_replacement(range(A * D), 2):
        if not shared and i // D != j // D:
            continue
        change = np.zeros((A * D, A * D))
        change[i, j] = change[j, i] = 1e-5
        for in_q, in_r in [(1, 1)] if odd else [(1, 0), (0, 1)]:
            ends = [
                action(q_bar + s * in_q * change, r + s * in_r * change, *rest) for s in (1, -1)
            ]
            assert abs(ends[0] - ends[1]) / 2e-5 < 1e-6
    np.testing.assert_allclose(
        solution.renormalized_kernel, kernel(q_bar, r, *rest), rtol=1e-9, atol=1e-12
    )


def test_rotated_labels_rotate_everything():
    rotation = np.linalg.qr(RNG.normal(size=(D, D)))[0]
    one, other = (fw.solve(net(), X, labels, temperature=T) for labels in (Y, Y @ rotation))
    turn = np.kron(np.eye(A), rotation)
    np.testing.assert_allclose(matrices(other)[0], turn.T @ matrices(one)[0] @ turn, atol=1e-9)
    here, there = one.predict(X_TEST), other.predict(X_TEST)
    np.testing.assert_allclose(there.mean, here.mean @ rotation, atol=1e-9)
    expected = rotation.T @ here.output_covariance @ rotation
    np.testing.assert_allclose(there.output_covariance, expected, atol=1e-9)


def test_full_covariance_holds_the_variances():
    solution = fw.solve(net(), X, Y, temperature=T)
    short, full = solution.predict(X_TEST), solution.predict(X_TEST, full_covariance=True)
    np.testing.assert_allclose(short.mean, full.mean, rtol=1e-10)
    np.testing.assert_allclose(short.output_covariance, full.output_covariance, rtol=1e-9)
    np.testing.assert_allclose(np.einsum("ndnd->nd", full.covariance), short.variance, rtol=1e-9)
    at_training = solution.predict(X, full_covariance=True)  # the law given y, from K_R itself
    assert repr(pickle.loads(pickle.dumps(solution))) == repr(solution)
    k = solution.renormalized_kernel.reshape(P * D, P * D)
    mean = k @ np.linalg.solve(k + T * np.eye(P * D), Y.ravel())
    np.testing.assert_allclose(at_training.mean.ravel(), mean, rtol=1e-8)


def test_wide_networks_leave_infinite_width_as_one_over_n():
    """N_c(Q̄ − 1) → −𝒢, with the kernels written out above."""
    one = np.eye(A * D)
    k = kernel(one, one, "erf").reshape(P * D, P * D)
    inverse = np.linalg.inv(k + T * np.eye(P * D))
    pull = inverse - np.outer(inverse @ Y.ravel(), inverse @ Y.ravel())
    blocks = moments("erf")[0] / (PRECISION[1] * A)
    g = np.einsum("idje,abij->adbe", pull.reshape(P, D, P, D), blocks).reshape(A * D, A * D)
    distances = []
    for width in (10**3, 10**5):
        q_bar = matrices(fw.solve(net(layer=LAYER.resize(width)), X, Y, temperature=T))[0]
        distances.append(np.max(np.abs(width * (q_bar - one) + g)) / np.max(np.abs(g)))
    assert distances[0] < 1e-1 and distances[1] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_one_patch_is_the_dense_layer(activation):
    layer, images = fw.Convolution(6, 2), X[:, :, :2]
    one = fw.solve(net(activation, layer), images, Y, temperature=T)
    dense = fw.Network((6,), activation, PRECISION, outputs=D)
    other = fw.solve(dense, images.reshape(P, -1), Y, temperature=T)
    assert one.action == pytest.approx(other.action, rel=1e-10)
    here = one.predict(X_TEST[:, :, :2])
    there = other.predict(X_TEST[:, :, :2].reshape(4, -1))
    np.testing.assert_allclose(here.mean, there.mean, atol=1e-8)
    np.testing.assert_allclose(here.output_covariance, there.output_covariance, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_one_output_is_that_of_the_matrix_over_patches(activation):
    with float64():
        problem = make_problem(net(activation, outputs=1, bias_precision=BIAS), X, Y[:, 0], T)
        ((found, conditioned),) = search([problem], OutputKernels(problem), None)
    expected = fw.solve(problem.network, X, Y[:, 0], temperature=T)
    q_bar = expected.order_parameters.q_bar.values[0]
    np.testing.assert_allclose(found.q_bar, q_bar, atol=1e-10)
    np.testing.assert_allclose(conditioned.weights, expected.weights, rtol=1e-8)


@pytest.mark.slow
def test_many_widths_are_solved_like_one_each():
    grid = fw.solve_many(net(), X, Y, widths=[4, 40], temperature=T, X_test=X_TEST, y_test=Y_TEST)
    solution = fw.solve(net(layer=LAYER.resize(40)), X, Y, temperature=T)
    at = grid.sel(width=40).squeeze("temperature")
    np.testing.assert_allclose(at.q_bar, solution.order_parameters.q_bar, atol=1e-9)
    assert float(at.error) == pytest.approx(float(solution.scores(X_TEST, Y_TEST).error), rel=1e-8)


def test_what_does_not_fit_or_is_not_derived_is_refused():
    with pytest.raises(fw.InputError, match="expected memory_limit = at least"):
        fw.solve(net(), X, Y, temperature=T, memory_limit=10**5)
    with pytest.raises(fw.InputError, match="expected outputs = 1 with a mixture"):
        fw.mixture(net(), X, Y, temperature=T)
    with pytest.raises(fw.InputError, match="expected likelihood = 'gaussian' with several"):
        fw.solve(net(), X, np.array([0, 1, 0, 1, 0, 1, 1]), likelihood="softmax")
    with pytest.raises(fw.InputError, match="expected outputs = 1"):
        fw.solve(net(), X, Y, temperature=T, theory="scalar")
