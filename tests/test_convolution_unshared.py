"""A convolution whose patches share no weights, against theory.md, section 12, written out here.

K_ab is m_a m_bᵀ for a ≠ b, so that every channel and patch is a unit of its own.
"""

import itertools
import math
import pickle

import arviz as az
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from sampled import assert_sampled_is_the_mixture

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth.models._features import hidden_features

RNG = np.random.default_rng(21)
P, A, T = 9, 4, 0.2
X, Y = RNG.normal(size=(P, 4, 4)), RNG.normal(size=P)
X_TEST, Y_TEST = RNG.normal(size=(5, 4, 4)), RNG.normal(size=5)
LAYER = fw.Convolution(channels=6, patch=2, stride=2, shared=False)
PRECISION, BIAS = (1.3, 0.8), (2.0, 3.0)


def net(activation="erf", layer=LAYER, **more):
    return fw.Network(layers=(layer,), activation=activation, weight_precision=PRECISION, **more)


def windows(images):
    """Patches of 2 × 2 side by side, row by row: (pattern, patch, s)."""
    places = itertools.product((0, 2), (0, 2))
    return np.stack([images[:, i : i + 2, j : j + 2].reshape(-1, 4) for i, j in places], axis=1)


def unit_kernel(x, y, a, activation="erf", bias=0.0):
    """K_aa(x, x') and the means m_a of section 7."""
    x, y = windows(x)[:, a], windows(y)[:, a]
    c = x @ y.T / (4 * PRECISION[0]) + bias
    c_x, c_y = (np.sum(one**2, axis=1) / (4 * PRECISION[0]) + bias for one in (x, y))
    if activation == "erf":
        ratio = 2 * c / np.sqrt(np.outer(1 + 2 * c_x, 1 + 2 * c_y))
        return 2 / np.pi * np.arcsin(ratio), np.zeros(len(x))
    cosine = np.clip(c / np.sqrt(np.outer(c_x, c_y)), -1, 1)
    theta = np.arccos(cosine)
    relu = np.sqrt(np.outer(c_x, c_y)) / (2 * np.pi) * (np.sin(theta) + (np.pi - theta) * cosine)
    return relu, np.sqrt(c_x / (2 * np.pi))


def action(q_bar, q, width, activation, biases=(0.0, 0.0)):
    """Σ_a N_c[−Q_a Q̄_a + log(1 + Q_a)] + logdet A + yᵀA⁻¹y, that of A layers of units."""
    total = T * np.eye(P) + biases[1]
    for a in range(A):
        k, m = unit_kernel(X, X, a, activation, biases[0])
        outer = np.outer(m, m)
        total = total + (q_bar[a] * (k - outer) + outer / (1 + q[a])) / (PRECISION[1] * A)
    prior = width * np.sum(-q * q_bar + np.log1p(q))
    return prior + np.linalg.slogdet(total)[1] + Y @ np.linalg.solve(total, Y)


def orders(solution):
    order = solution.order_parameters
    assert order.q_bar.dims == ("layer", "patch")
    return order.q_bar.values[0], order.q.values[0]


# --- theory ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "biases"), [("erf", None), pytest.param("relu", BIAS, marks=pytest.mark.slow)]
)
def test_the_action_is_that_of_independent_units(activation, biases):
    solution = fw.solve(net(activation, bias_precision=biases), X, Y, temperature=T)
    assert solution.residual <= 1e-10
    q_bar, q = orders(solution)
    inverse = (0.0, 0.0) if biases is None else (1 / biases[0], 1 / biases[1])
    at = action(q_bar, q, 6, activation, inverse)
    assert solution.action == pytest.approx(at, rel=1e-11)
    for a, kind in itertools.product(range(A), ("q_bar", "q")):
        step = 1e-5 * np.eye(A)[a]
        moved = (step, 0 * step) if kind == "q_bar" else (0 * step, step)
        ends = [
            action(q_bar + s * moved[0], q + s * moved[1], 6, activation, inverse) for s in (1, -1)
        ]
        assert abs(ends[0] - ends[1]) / 2e-5 < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "pooling"),
    [
        ("erf", "none"),
        ("erf", "average"),
        ("relu", "none"),
        ("relu", "average"),
    ],
)
def test_one_patch_has_nothing_to_share(activation, pooling):
    own, shared = (
        fw.solve(
            net(activation, fw.Convolution(6, 4, pooling=pooling, shared=flag)),
            X,
            Y,
            temperature=T,
        )
        for flag in (False, True)
    )
    dense = fw.solve(fw.Network((6,), activation, PRECISION), X.reshape(P, -1), Y, temperature=T)
    for one in (own, shared):
        assert one.action == pytest.approx(dense.action, rel=1e-12)
        here, there = one.predict(X_TEST), dense.predict(X_TEST.reshape(5, -1))
        np.testing.assert_allclose(here.mean, there.mean, rtol=1e-9)
        np.testing.assert_allclose(here.variance, there.variance, rtol=1e-9)


@pytest.mark.slow
def test_infinite_width_does_not_know_whether_weights_are_shared():
    """Also one scalar for all patches does not: the kernels of two patches are in neither."""
    shared = fw.Convolution(6, 2, 2)
    for activation in ("erf", "relu"):
        kernels = [fw.nngp_kernel(net(activation, layer), X) for layer in (LAYER, shared)]
        np.testing.assert_allclose(kernels[0], kernels[1], rtol=1e-12)
    scalars = [
        fw.solve(net(layer=layer), X, Y, temperature=T, theory="scalar").action
        for layer in (LAYER, shared)
    ]
    assert scalars[0] == pytest.approx(scalars[1], rel=1e-12)


def test_wide_networks_leave_infinite_width_as_one_over_n():
    """N_c(Q̄_a − 1) → −G_aa, with the kernels written out above."""
    blocks = np.array([unit_kernel(X, X, a)[0] for a in range(A)]) / (PRECISION[1] * A)
    inverse = np.linalg.inv(blocks.sum(axis=0) + T * np.eye(P))
    pull = inverse - np.outer(inverse @ Y, inverse @ Y)
    g = np.einsum("aij,ij->a", blocks, pull)
    distances = []
    for width in (10**3, 10**5):
        q_bar, _ = orders(fw.solve(net(layer=LAYER.resize(width)), X, Y, temperature=T))
        distances.append(np.max(np.abs(width * (q_bar - 1) + g)) / np.max(np.abs(g)))
    assert distances[0] < 1e-1 and distances[1] < 1e-3


def test_permuted_patches_permute_the_order_parameters():
    """And since no weights are shared, turning the pixels of one patch changes nothing."""
    order = np.array([2, 0, 3, 1])
    turn = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    blocks = windows(X)
    blocks[:, 1] = blocks[:, 1] @ turn
    moved = blocks[:, order].reshape(P, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(P, 4, 4)
    one, other = (orders(fw.solve(net(), images, Y, temperature=T))[0] for images in (X, moved))
    np.testing.assert_allclose(other, one[order], atol=1e-10)


@pytest.mark.parametrize("pooling", ["average", pytest.param("none", marks=pytest.mark.slow)])
def test_kernels_are_those_of_drawn_weights(pooling):
    """E σ(h_a)σ(h_b), of averages over patches too, from networks of many channels."""
    channels, activation = 40_000, "relu"
    layer = fw.Convolution(channels, 2, 2, pooling, shared=False)
    network = net(activation, layer, bias_precision=BIAS)
    generator = np.random.default_rng(3)
    weights = generator.normal(size=(channels, A, 4)) / PRECISION[0] ** 0.5
    biases = generator.normal(size=(channels, A)) / BIAS[0] ** 0.5
    with float64():
        values = {"W_1": jnp.asarray(weights), "b_1": jnp.asarray(biases)}
        phi = np.asarray(hidden_features(network, values, jnp.asarray(X[:3])))
    h = np.einsum("cas,nas->nca", weights, windows(X[:3])) / 2 + biases
    sigma = np.maximum(h, 0.0)
    expected = sigma.mean(axis=2) if pooling == "average" else sigma.reshape(3, -1)
    np.testing.assert_allclose(phi, expected, atol=1e-13)
    parts = sigma if pooling == "none" else sigma.mean(axis=2, keepdims=True)
    found = np.einsum("nca,mca->nm", parts, parts) / (channels * parts.shape[2])
    spread = np.einsum("nca,mca->nmc", parts, parts) / parts.shape[2]
    error = spread.std(axis=2) / channels**0.5
    kernel = PRECISION[1] * (fw.nngp_kernel(network, X[:3]) - 1 / BIAS[1])
    assert np.all(np.abs(found - kernel) < 4.5 * error)


@pytest.mark.slow
def test_dense_layers_above_an_average():
    layers = (fw.Convolution(6, 2, 2, "average", shared=False), fw.Dense(5))
    deep = fw.Network(layers=layers, activation="relu", weight_precision=1.2)
    solution = fw.solve(deep, X, Y, temperature=T)
    assert solution.residual <= 1e-9 and solution.order_parameters.q_bar.shape == (2,)


@pytest.mark.slow
def test_many_widths_are_solved_like_one_each():
    widths = [4, 40]
    grid = fw.solve_many(net(), X, Y, widths=widths, temperature=T, X_test=X_TEST, y_test=Y_TEST)
    for width in widths:
        solution = fw.solve(net(layer=LAYER.resize(width)), X, Y, temperature=T)
        at = grid.sel(width=width).squeeze("temperature")
        np.testing.assert_allclose(at.q_bar, solution.order_parameters.q_bar, atol=1e-9)
        assert float(at.error) == pytest.approx(
            float(solution.scores(X_TEST, Y_TEST).error), rel=1e-8
        )


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_the_temperature_of_largest_evidence(shared):
    """Where the derivative of the log evidence, taken by differences, vanishes; λ_1 with it."""
    generator = np.random.default_rng(8)
    images, noise = generator.normal(size=(40, 4, 4)), generator.normal(size=40)
    labels = np.tanh(images[:, 0, 0] + images[:, 0, 1]) + 0.5 * noise
    network = net(layer=fw.Convolution(6, 2, 2, shared=shared))
    solution = fw.solve(
        network, images, labels, temperature="evidence", readout_precision="evidence"
    )
    precision = solution.network.weight_precision
    assert solution.converged and precision[1] != PRECISION[1]

    def at(log_t, log_precision):
        moved = network.replace(
            weight_precision=(precision[0], precision[1] * math.exp(log_precision))
        )
        temperature = solution.temperature * math.exp(log_t)
        return fw.solve(moved, images, labels, temperature=temperature).log_evidence

    for step in ((1e-3, 0.0), (0.0, 1e-3)):
        ends = [at(*step), at(*(-one for one in step))]
        assert abs(ends[0] - ends[1]) / 2e-3 < 1e-4
        assert max(ends) <= solution.log_evidence


# --- mixture and posterior -----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["identity", "relu"])
@pytest.mark.filterwarnings("ignore:expected an error of the evidence:finwidth.AccuracyWarning")
def test_mixture_by_points_and_by_chains(activation):
    mixture = fw.mixture(net(activation), X, Y, temperature=T)
    tree = fw.sample(
        net(activation),
        X,
        Y,
        temperature=T,
        X_test=X_TEST,
        y_test=Y_TEST,
        model="student_t",
        num_samples=3000,
        progress=False,
    )
    assert tree["posterior"].q_bar.dims == ("chain", "draw", "layer", "patch")
    drawn = tree["posterior"].dataset[["q_bar"]]
    error = az.mcse(drawn).q_bar.values + mixture.order_parameters.q_bar_se.values
    distance = drawn.q_bar.mean(("chain", "draw")) - mixture.order_parameters.q_bar
    assert np.all(np.abs(distance.values) < 4.5 * error)
    scores, expected = fw.scores(tree), mixture.scores(X_TEST, Y_TEST)
    error = math.hypot(float(scores.error_mcse), float(expected.error_se))
    assert abs(float(scores.error) - float(expected.error)) < 4.5 * error


@pytest.mark.slow
@pytest.mark.parametrize("model", ["network", "marginal"])
@pytest.mark.filterwarnings("ignore:expected an error of the evidence:finwidth.AccuracyWarning")
def test_identity_network_is_the_mixture(model):
    network = net("identity", bias_precision=BIAS)
    assert_sampled_is_the_mixture(network, X, Y, X_TEST, Y_TEST, T, model)


@pytest.mark.slow
def test_two_patches_of_the_identity_by_quadrature():
    """N_c Q̄_a ~ χ² with N_c degrees, independent: trapezoids in both."""
    images, width = X[:, :2], 6
    mixture = fw.mixture(net("identity", LAYER.resize(width)), images, Y, temperature=T)
    u = np.linspace(-8.0, 2.7, 161)
    blocks = [
        one @ one.T
        for one in np.swapaxes(images.reshape(P, 2, 2, 2), 1, 2).swapaxes(0, 1).reshape(2, P, 4)
    ]
    scale = 1 / (4 * PRECISION[0] * PRECISION[1] * 2)
    logs = np.empty((u.size, u.size))
    prior = 0.5 * width * u - 0.5 * width * np.exp(u)  # of log Q̄
    prior += 0.5 * width * math.log(0.5 * width) - scipy.special.gammaln(0.5 * width)
    for i, j in np.ndindex(logs.shape):
        a = scale * (math.exp(u[i]) * blocks[0] + math.exp(u[j]) * blocks[1]) + T * np.eye(P)
        likelihood = np.linalg.slogdet(2 * np.pi * a)[1] + Y @ np.linalg.solve(a, Y)
        logs[i, j] = prior[i] + prior[j] - 0.5 * likelihood
    evidence = scipy.special.logsumexp(logs) + 2 * math.log(u[1] - u[0])
    assert mixture.log_evidence == pytest.approx(evidence, abs=1e-5)


@pytest.mark.slow
def test_a_run_keeps_weights_of_every_patch():
    tree = fw.sample(
        net(bias_precision=BIAS),
        X,
        Y,
        temperature=T,
        X_test=X_TEST,
        num_warmup=3,
        num_samples=3,
        num_chains=1,
        log_likelihood=False,
        posterior_predictive=False,
        progress=False,
    )
    posterior = tree["posterior"]
    assert posterior.W_1.dims == ("chain", "draw", "unit", "patch", "patch_input")
    assert posterior.W_1.shape[2:] == (6, A, 4)
    assert posterior.b_1.dims == ("chain", "draw", "unit", "patch")
    assert posterior.v.shape[2:] == (6, A)


# --- as a part of the house ---------------------------------------------------------------------


def test_descriptions():
    assert fw.Convolution(6, 2, 2) != LAYER and LAYER.resize(7).shared is False
    assert repr(LAYER) == "Convolution(channels=6, patch=2, stride=2, pooling='none', shared=False)"
    assert pickle.loads(pickle.dumps(net())) == net()
    (record,) = net().record()["layers"]
    assert record.pop("layer") == "convolution" and fw.Convolution(**record) == LAYER
    (record,) = net(layer=fw.Convolution(6, 2, 2)).record()["layers"]
    assert "shared" not in record  # what is stored under the layer's record stays valid


def test_order_parameters_are_drawn_in_their_places():
    solution = fw.solve(net(), X, Y, temperature=T)
    (image,) = fw.plot_order_parameters(solution).get_images()
    q_bar = orders(solution)[0]
    np.testing.assert_array_equal(image.get_array(), q_bar.reshape(2, 2) - 1)
