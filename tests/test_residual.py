"""Residual blocks: theory.md, section 13, and its exact checks; what is sampled against it."""

import copy
import functools
import json
import pickle

import jax.numpy as jnp
import numpy as np
import pytest
import reference
import scipy.special
import scipy.stats
from arviz_stats.base import array_stats
from scipy.special import logsumexp

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth._problem.restored import restored_network
from finwidth.models._features import hidden_features

RNG = np.random.default_rng(13)
X, X_TEST = RNG.normal(size=(11, 6)), RNG.normal(size=(7, 6))
Y, Y_TEST = np.sin(2 * X[:, 0]) + X[:, 1], np.sin(2 * X_TEST[:, 0])
T = 0.2


def block(width=12, skip=0.8, branch=1.3, overlap=True, **more):
    """A dense layer and a residual block, of erf, with a linear readout."""
    settings = {
        "activation": "erf",
        "weight_precision": (1.1, 0.7, 1.4),
        "readout_activation": "identity",
    }
    layers = (fw.Dense(width), fw.Residual(width, skip, branch, overlap))
    return fw.Network(layers=layers, **(settings | more))


def tower(width=9, **more):
    """A dense layer and three blocks, with biases and an erf readout."""
    strengths = ((1.0, 0.5), (0.7, 1.1), (-0.9, 0.8))
    blocks = (fw.Residual(width, skip, branch) for skip, branch in strengths)
    settings = {"activation": "erf", "weight_precision": (1.0, 0.8, 1.2, 0.9, 1.1)}
    settings |= {"bias_precision": (4.0, 3.0, 5.0, 2.0, 6.0)}
    return fw.Network(layers=(fw.Dense(width), *blocks), **(settings | more))


@functools.cache
def solve(net, **more):
    return fw.solve(net, X, Y, **({"temperature": T} | more))


def some_slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


# --- section 13 anew, in NumPy -----------------------------------------------------------------


def slope(name, c):
    """E[σ'(h)]."""
    return 2 / np.sqrt(np.pi * (1 + 2 * c)) if name == "erf" else np.ones_like(c)


def parts(net, n, c):
    """C, Γ + Γᵀ and K∘C between the points of a layer, each with its strengths and 1/λ."""
    layer, precision = net.layers[n], net.weight_precision[n]
    squares = reference.layer(net.activation.name, c)[0]
    e = slope(net.activation.name, np.diag(c))
    cross = layer.skip * layer.branch * c * (e[:, None] + e[None, :]) / np.sqrt(precision)
    return layer.skip**2 * c, cross, layer.branch**2 * squares / precision


def kernel(net, q, pairs, X=X):
    """K_R of a dense layer, blocks with their (s, r), and the readout with its q."""
    bias = net.bias_precision or (np.inf,) * (net.depth + 1)
    c = X @ X.T / (net.weight_precision[0] * X.shape[1]) + 1 / bias[0]
    for n, (s, r) in enumerate(pairs, start=1):
        skip, cross, branch = parts(net, n, c)
        c = skip + r * cross + s * branch + 1 / bias[n]
    last = reference.layer(net.readout_activation.name, c)[0]
    return q * last / net.weight_precision[-1] + 1 / bias[-1]


def action(net, q, pairs):
    a = kernel(net, q, pairs) + T * np.eye(len(Y))
    n = net.widths[0]
    prior = n * (q - np.log(q) - 1) + sum(n * (s - np.log(s - r**2) - 1) for s, r in pairs)
    return prior + np.linalg.slogdet(a)[1] + Y @ np.linalg.solve(a, Y)


def found(solution):
    order = solution.order_parameters
    return float(order.q_bar[-1]), list(zip(order.s.values, order.r.values, strict=True))


@pytest.mark.parametrize("net", [block(), some_slow(block(bias_precision=3.0)), some_slow(tower())])
def test_the_kernel_and_the_action_are_those_of_section_13(net):
    solution = solve(net)
    q, pairs = found(solution)
    assert solution.residual <= 1e-9
    assert all(abs(r) > 1e-3 for _, r in pairs)
    np.testing.assert_allclose(solution.renormalized_kernel, kernel(net, q, pairs), rtol=1e-10)
    assert solution.action == pytest.approx(action(net, q, pairs), rel=1e-10)
    everything = kernel(net, q, pairs, np.concatenate([X, X_TEST]))
    a, n = everything[: len(X), : len(X)] + T * np.eye(len(X)), len(X)
    _, mean, variance = reference.conditional(a, Y, everything[n:, :n], np.diag(everything)[n:])
    prediction = solution.predict(X_TEST)
    np.testing.assert_allclose(prediction.mean, mean, rtol=1e-8)
    np.testing.assert_allclose(prediction.variance, variance, rtol=1e-8)


@pytest.mark.parametrize("net", [block(), some_slow(tower())])
def test_the_action_is_stationary(net):
    """In q, every s and every r, by differences of the action as printed."""
    q, pairs = found(solve(net))
    flat = np.array([q, *np.ravel(pairs)])

    def value(flat):
        return action(net, flat[0], flat[1:].reshape(-1, 2))

    for step in 1e-5 * np.eye(flat.size):
        assert abs(value(flat + step) - value(flat - step)) / 2e-5 < 2e-6


def test_the_stationarity_equations_as_printed():
    """q⁻¹ = 1 + G_{K_R/q}/N; 1/(s − r²) = 1 + q G_{K∘C}/N; 2r/(s − r²) = −q G_{Γ+Γᵀ}/N."""
    net = block()
    q, [(s, r)] = found(solve(net))
    a = kernel(net, q, [(s, r)]) + T * np.eye(len(Y))
    inverse, weights = np.linalg.inv(a), np.linalg.solve(a, Y)
    _, cross, branch = parts(net, 1, X @ X.T / (1.1 * 6))

    def force(x):
        return (np.trace(inverse @ x) - weights @ x @ weights) / 12

    assert 1 / q == pytest.approx(1 + force(kernel(net, 1.0, [(s, r)])), rel=1e-8)
    assert 1 / (s - r**2) == pytest.approx(1 + q / 1.4 * force(branch), rel=1e-8)
    assert 2 * r / (s - r**2) == pytest.approx(-q / 1.4 * force(cross), rel=1e-8)


def test_gradients_of_the_equations_are_those_of_the_action():
    """Away from the saddle point, along every unknown."""
    net = block()
    solution = solve(net)
    equations, theta = solution.point.equations, np.array([0.3, -0.2, 0.4])

    def value(theta):
        w, r, u = theta
        return action(net, np.exp(u), [(np.exp(w) + r**2, r)])

    steps = 1e-5 * np.eye(3)
    slopes = [(value(theta + step) - value(theta - step)) / 2e-5 for step in steps]
    with float64():
        gradient = equations.value(theta) * (12 + len(Y))
    np.testing.assert_allclose(gradient, slopes, rtol=1e-7)


# --- exact cases -------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_a_branch_it_is_one_linear_layer():
    net = block(branch=0.0)
    linear = fw.Network((12,), "identity", (1.1, 1.4 / 0.8**2))
    one, other = solve(net), solve(linear)
    q, [(s, r)] = found(one)
    assert (s, r) == (pytest.approx(1.0, abs=1e-12), pytest.approx(0.0, abs=1e-12))
    assert q == pytest.approx(float(other.order_parameters.q_bar[0]), rel=1e-9)
    assert one.action == pytest.approx(other.action, rel=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("readout", ["identity", "erf"])
def test_without_a_skip_it_is_the_network_of_two_layers(readout):
    net = block(skip=0.0, readout_activation=readout)
    dense = fw.Network((12, 12), "erf", (1.1, 0.7 / 1.3**2, 1.4), readout_activation=readout)
    one, other = solve(net), solve(dense)
    q, [(s, r)] = found(one)
    assert r == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose([s, q], other.order_parameters.q_bar.values, rtol=1e-8)
    np.testing.assert_allclose(one.predict(X_TEST).mean, other.predict(X_TEST).mean, rtol=1e-7)
    if readout == "identity":  # Q̄ scale one kernel, so they are alike where widths are
        assert q == pytest.approx(s, rel=1e-8)


@pytest.mark.slow
def test_infinite_width_and_the_slopes_towards_it():
    """q, s → 1 and r → 0, each with its 1/N from the forces at infinite width."""
    infinite = solve(block(), theory="infinite")
    assert found(infinite) == (1.0, [(1.0, 0.0)])
    a = kernel(block(), 1.0, [(1.0, 0.0)]) + T * np.eye(len(Y))
    np.testing.assert_allclose(fw.nngp_kernel(block(), X), a - T * np.eye(len(Y)), rtol=1e-12)
    inverse, weights = np.linalg.inv(a), np.linalg.solve(a, Y)
    _, cross, branch = parts(block(), 1, X @ X.T / (1.1 * 6))
    forces = [
        np.trace(inverse @ x) - weights @ x @ weights
        for x in (kernel(block(), 1.0, [(1.0, 0.0)]), branch / 1.4, cross / 2 / 1.4)
    ]
    for width, rtol in ((10**4, 2e-2), (10**6, 2e-4)):
        q, [(s, r)] = found(solve(block(width)))
        changes = width * np.array([q - 1, s - 1, r])
        np.testing.assert_allclose(changes, -np.array(forces), rtol=rtol)


@pytest.mark.slow
def test_dropping_the_overlap_is_wrong_at_order_1_over_width():
    """N times the difference of the predicted means has a limit, which is not zero."""
    differences = []
    for width in (10**4, 10**5):
        means = [solve(block(width, overlap=o)).predict(X_TEST).mean for o in (True, False)]
        differences.append(width * (means[0] - means[1]))
    np.testing.assert_allclose(*differences, rtol=1e-2, atol=1e-4)
    assert np.max(np.abs(differences[0])) > 0.1
    naive = solve(block(overlap=False)).order_parameters
    assert naive.r.values == 0.0 and naive.s.values != 1.0


@pytest.mark.slow
def test_a_block_of_relu_at_infinite_width_keeps_the_second_moment():
    net = block(activation="relu", readout_activation="relu")
    c = X @ X.T / (1.1 * 6)
    c = 0.8**2 * c + 1.3**2 * reference.layer("relu", c)[0] / 0.7
    expected = reference.layer("relu", c)[0] / 1.4
    solution = solve(net, theory="infinite")
    np.testing.assert_allclose(solution.renormalized_kernel, expected, rtol=1e-10)


@pytest.mark.slow
def test_a_readout_that_is_not_odd_has_its_mean_term():
    """erf in the layer, ReLU before the readout: Q̄ and Q of section 4 for the last kernel."""
    net = fw.Network((9, 7), "erf", readout_activation="relu")
    solution = solve(net)
    q_bar, q = (solution.order_parameters[name].values for name in ("q_bar", "q"))
    c = q_bar[0] * reference.layer("erf", X @ X.T / 6)[0]
    k, m = reference.layer("relu", c)
    expected = q_bar[1] * (k - np.outer(m, m)) + np.outer(m, m) / (1 + q[1])
    np.testing.assert_allclose(solution.renormalized_kernel, expected, rtol=1e-9)
    assert q_bar[0] == pytest.approx(1 / (1 + q[0]))
    assert q_bar[1] != pytest.approx(1 / (1 + q[1]), rel=1e-3)


# --- the identity: the mixture over (v, z) is the network --------------------------------------


def identity_moments(net, nodes=120):
    """Log evidence, mean and variance of f, by quadrature over q and |c v + ρ z|²/|v|².

    Given v the latter is a noncentral χ² of N degrees of freedom times ρ²/(λN).
    """
    n, layer = net.widths[0], net.layers[1]
    spread = layer.branch**2 / (net.weight_precision[1] * n)
    q, log_q = reference.gamma_nodes(n, nodes)
    law = scipy.stats.ncx2(n, layer.skip**2 / spread)
    low, high = law.ppf(1e-13), law.isf(1e-13)
    x, w = np.polynomial.legendre.leggauss(nodes)
    a = low + (high - low) * (x + 1) / 2
    log_a = np.log(w * (high - low) / 2) + law.logpdf(a)
    scale = net.weight_precision[0] * net.weight_precision[-1] * X.shape[1]
    c, kappa = X @ X.T / scale, X_TEST @ X.T / scale
    kappa0 = np.sum(X_TEST**2, axis=1) / scale
    rows, logs = [], []
    for one, log_one in zip(q, log_q, strict=True):
        for two, log_two in zip(a * spread, log_a, strict=True):
            if log_one + log_two < -45:
                continue
            g = one * two
            log_p, mean, variance = reference.conditional(
                g * c + T * np.eye(len(Y)), Y, g * kappa, g * kappa0
            )
            logs.append(log_one + log_two + log_p)
            rows.append((mean, variance + mean**2))
    logs = np.array(logs)
    weights = np.exp(logs - logsumexp(logs))
    mean, second = np.tensordot(weights, np.array(rows), 1)
    return logsumexp(logs), mean, second - mean**2


@pytest.mark.slow
@pytest.mark.parametrize("width", [4, 12])
def test_the_mixture_of_the_identity_is_a_quadrature_of_its_own(width):
    net = block(width, activation="identity")
    mixture = fw.mixture(net, X, Y, temperature=T)
    log_evidence, mean, variance = identity_moments(net)
    assert mixture.log_evidence == pytest.approx(log_evidence, abs=1e-7)
    prediction = mixture.predict(X_TEST)
    np.testing.assert_allclose(prediction.mean, mean, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(prediction.variance, variance, rtol=1e-6)


@pytest.mark.slow
def test_the_mixture_without_labels_is_the_law_of_v_and_z():
    """T → ∞: q, s and r have their prior moments, and f has the prior's variance."""
    net = block(6, activation="identity")
    mixture = fw.mixture(net, X[:2], Y[:2], temperature=1e12)
    order = mixture.order_parameters
    assert float(order.r_sd[0]) == pytest.approx(6**-0.5, rel=1e-8)
    np.testing.assert_allclose([order.s[0], order.q_bar[0], order.r[0]], [1, 1, 0], atol=1e-8)
    # s = |z|²/N
    assert float(order.s_sd[0]) == pytest.approx(np.sqrt(2 / 6), rel=1e-7)
    prior = (0.8**2 + 1.3**2 / 0.7) * np.sum(X_TEST**2, axis=1) / (1.1 * 1.4 * 6)
    np.testing.assert_allclose(mixture.predict(X_TEST).variance, prior, rtol=1e-6)


@pytest.mark.slow
def test_the_mixture_of_erf_is_an_average_over_v_and_z():
    """Evidence and mean over draws of Gaussian v and z, as section 13 has them."""
    net = block(12)
    rng, n = np.random.default_rng(0), 12
    v, z = rng.normal(size=(2, 20_000, n))
    q = np.mean(v**2, axis=1)
    s, r = np.mean(z**2, axis=1), np.mean(v * z, axis=1) / np.sqrt(q)
    everything = np.concatenate([X, X_TEST])
    split, logs, means = len(X), [], []
    for one in zip(q, s, r, strict=True):
        k = kernel(net, one[0], [one[1:]], everything)
        a = k[:split, :split] + T * np.eye(split)
        log_p, mean, _ = reference.conditional(a, Y, k[split:, :split], np.diag(k)[split:])
        logs.append(log_p)
        means.append(mean)
    weights = np.exp(np.array(logs) - max(logs))
    means, mixture = np.array(means), fw.mixture(net, X, Y, temperature=T)
    expected = weights @ means / weights.sum()
    noise = np.sqrt(weights**2 @ (means - expected) ** 2) / weights.sum()
    assert np.all(np.abs(mixture.predict(X_TEST).mean - expected) < 4.5 * noise)
    evidence = np.mean(weights)
    error = np.std(weights) / np.sqrt(len(weights)) / evidence
    assert abs(mixture.log_evidence - np.log(evidence) - max(logs)) < 4.5 * error


# --- sampling ----------------------------------------------------------------------------------


def test_the_network_forwards():
    net, rng = tower(), np.random.default_rng(1)
    shapes = {"W_1": (9, 6)} | {f"W_{n}": (9, 9) for n in (2, 3, 4)}
    shapes |= {f"b_{n}": (9,) for n in (1, 2, 3, 4)}
    values = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    h = values["W_1"] @ X.T / np.sqrt(6) + values["b_1"][:, None]
    for n, layer in enumerate(net.layers[1:], start=2):
        update = values[f"W_{n}"] @ scipy.special.erf(h) / 3
        h = layer.skip * h + layer.branch * update + values[f"b_{n}"][:, None]
    with float64():
        arrays = {name: jnp.asarray(value) for name, value in values.items()}
        features = hidden_features(net, arrays, jnp.asarray(X))
    np.testing.assert_allclose(features, scipy.special.erf(h).T, rtol=1e-12)


def sampled(net, model, **more):
    settings = {"num_warmup": 400, "num_samples": 2500, "num_chains": 4, "seed": 2}
    return fw.sample(
        net,
        X,
        Y,
        temperature=T,
        X_test=X_TEST,
        y_test=Y_TEST,
        model=model,
        progress=False,
        **(settings | more),
    )


def assert_alike(tree, error, mean):
    """The test error and the means of f are exact ones within four Monte Carlo errors."""
    f = tree["predictions"].f.values
    for draws, exact in ((((f - Y_TEST) ** 2).mean(-1), error), *zip(f.T, mean, strict=True)):
        draws = draws if draws.shape == f.shape[:2] else draws.T
        mcse = float(array_stats.mcse(draws, chain_axis=0, draw_axis=1, method="mean"))
        assert abs(draws.mean() - exact) < 4 * mcse


@pytest.mark.slow
@pytest.mark.parametrize("model", ["network", "marginal", "student_t"])
def test_the_posterior_of_the_identity_is_the_exact_mixture(model):
    net = block(5, activation="identity")
    mixture = fw.mixture(net, X, Y, temperature=T)
    exact = mixture.scores(X_TEST, Y_TEST)
    tree = sampled(net, model)
    assert_alike(tree, float(exact.error), mixture.predict(X_TEST).mean)


@pytest.mark.slow
def test_the_mixture_of_erf_is_sampled_as_it_is_integrated():
    net = block(12)
    mixture = fw.mixture(net, X, Y, temperature=T)
    tree = sampled(net, "student_t")
    assert set(tree["posterior"].data_vars) == {"t_2", "r_2", "s_2", "q_bar_2"}
    assert_alike(tree, float(mixture.scores(X_TEST, Y_TEST).error), mixture.predict(X_TEST).mean)
    draws, order = tree["posterior"], mixture.order_parameters
    for name in ("s", "r"):
        mcse = float(array_stats.mcse(draws[f"{name}_2"].values, chain_axis=0, draw_axis=1))
        assert abs(float(draws[f"{name}_2"].mean()) - float(order[name][0])) < 4.5 * mcse


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "labels", "more"),
    [
        ("marginal", "several", {}),
        ("network", "several", {}),
        ("network", "classes", {"likelihood": "softmax"}),
        ("network", "signs", {"likelihood": "logit"}),
        ("network", "signs", {"likelihood": "probit"}),
    ],
)
def test_several_outputs_and_classes_are_sampled(model, labels, more):
    y, outputs = {
        "several": (np.column_stack([Y, -Y]), 2),
        "classes": (np.arange(len(Y)) % 3, 3),
        "signs": (np.sign(Y), 1),
    }[labels]
    net = block(5, activation="relu", outputs=outputs)
    tree = fw.sample(
        net,
        X,
        y,
        temperature=T if not more else 1.0,
        X_test=X_TEST,
        model=model,
        num_chains=1,
        num_warmup=20,
        num_samples=20,
        progress=False,
        **more,
    )
    assert tree["predictions"].f.shape == ((1, 20, 7) if outputs == 1 else (1, 20, 7, outputs))
    assert json.loads(tree.attrs["provenance"])["sampler"] == "split_hmc"
    assert np.all(np.isfinite(tree["predictions"].f))


# --- several outputs and other likelihoods, in theory ------------------------------------------


@pytest.mark.slow
def test_several_outputs_are_problems_of_one_along_directions():
    labels = np.column_stack([Y, np.cos(X[:, 2]), X[:, 3]])
    net = block(outputs=3)
    solution = fw.solve(net, X, labels, temperature=T)
    order = solution.order_parameters
    basis = order.rotation.values
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-12)
    for k in range(3):
        alone = fw.solve(block(), X, labels @ basis[:, k], temperature=T).order_parameters
        for name in ("q_bar", "s", "r"):
            np.testing.assert_allclose(
                order[f"{name}_direction"].isel(direction=k).values, alone[name].values, atol=1e-8
            )


@pytest.mark.slow
def test_a_turn_of_the_outputs_turns_the_prediction():
    labels = np.column_stack([Y, np.cos(X[:, 2])])
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(2, 2)))[0]
    net = block(outputs=2)
    one, other = (fw.solve(net, X, y, temperature=T) for y in (labels, labels @ turn))
    assert one.action == pytest.approx(other.action, rel=1e-10)
    means = one.predict(X_TEST).mean @ turn, other.predict(X_TEST).mean
    np.testing.assert_allclose(*means, atol=1e-7)


@pytest.mark.slow
def test_two_classes_have_a_saddle_point_in_q_s_and_r():
    net = block()
    solution = fw.solve(net, X, np.sign(Y), likelihood="probit")
    assert solution.residual <= 1e-9 and abs(float(solution.order_parameters.r[0])) > 1e-4
    theta = solution.point.theta

    def value(theta):
        order = solution.point.chart.value(theta)
        conditioned = solution.rule.condition(solution.problem, order)
        return float(solution.point.chart.entropy(theta)) + conditioned.action

    with float64():
        for step in 1e-4 * np.eye(3):
            assert abs(value(theta + step) - value(theta - step)) / 2e-4 < 1e-5


# --- what is refused, in one line --------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fw.Network(layers=(fw.Residual(4),)), "expected a layer before a residual block"),
        (
            lambda: fw.Network(layers=(fw.Dense(5), fw.Residual(4))),
            r"expected width = 5 of a residual block, that of the layer before.*got 4",
        ),
        (lambda: block().replace(widths=(5, 6)), r"expected width = 5 of a residual block.*got 6"),
        (lambda: fw.Residual(4, skip=np.nan), "expected skip = a finite float"),
        (lambda: fw.Residual(4, branch=np.inf), "expected branch = a finite float"),
        (lambda: fw.Residual(4, 0.0, 0.0), "expected skip ≠ 0 or branch ≠ 0"),
        (lambda: fw.Residual(4, overlap=2), "expected overlap"),
        (lambda: solve(block(activation="relu")), "expected an odd activation with a residual"),
        (lambda: solve(block(), theory="wishart"), "expected dense layers with theory='wishart'"),
        (lambda: solve(block(), theory="cavity"), "expected dense layers with theory='cavity'"),
        (lambda: fw.mixture(block(overlap=False), X, Y, temperature=T), "overlap=True and a width"),
        (lambda: fw.mixture(block(1), X, Y, temperature=T), "overlap=True and a width"),
        (lambda: fw.mixture(block(activation="relu"), X, Y, temperature=T), "expected odd activa"),
        (lambda: fw.mixture(tower(), X, Y, temperature=T), "a dense layer and one residual block"),
        (
            lambda: fw.mixture(block(outputs=2), X, np.column_stack([Y, Y]), temperature=T),
            "expected outputs = 1 with the scale mixture",
        ),
        (
            lambda: solve(fw.Network((5,), "erf", readout_activation="relu"), theory="adaptive"),
            "expected readout_activation = activation with theory='adaptive'",
        ),
        (lambda: block(readout_activation="none"), "expected activation"),
        (lambda: block(readout_activation=3), "expected readout_activation = a registered name"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(make, message, unchecked_types):
    with pytest.raises(fw.InputError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


# --- the network and its results on disk -------------------------------------------------------


def test_a_network_with_blocks_is_copied_pickled_and_recorded():
    net = tower(readout_activation="identity")
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other == net and hash(other) == hash(net)
    record = json.loads(json.dumps(net.record()))
    assert restored_network(record) == net
    assert record["layers"][1] == {
        "layer": "residual",
        "width": 9,
        "skip": 1.0,
        "branch": 0.5,
        "overlap": True,
    }
    assert "Residual(width=9, skip=1.0, branch=0.5" in repr(net)
    assert "readout_activation" not in tower().record()
    wider = net.replace(widths=(20,) * 4)
    assert wider.layers[2] == fw.Residual(20, 0.7, 1.1)
    assert net.replace(activation="tanh").readout_activation.name == "identity"
    assert tower().replace(activation="tanh").readout_activation.name == "tanh"


@pytest.mark.slow
def test_a_sweep_tells_strengths_apart_and_finds_results_again(tmp_path):
    data = fw.Dataset(X, Y, X_TEST, Y_TEST, name="tiny")
    nets = [block(skip=skip, branch=1.0) for skip in (0.5, 1.0)]
    nets.append(block(skip=1.0, branch=1.0, overlap=False))
    nets.append(nets[1].replace(readout_activation="erf"))
    grid = fw.grid(data=data, net=nets, temperature=T, theory=["nested", "infinite"])
    first = fw.sweep(grid, store=tmp_path, progress=False)
    errors = first.error.sel(theory="nested").values.ravel()
    assert len(set(errors.tolist())) == 4
    for net, error in zip(nets, errors, strict=True):
        expected = solve(net).scores(X_TEST, Y_TEST).error
        assert error == pytest.approx(float(expected), rel=1e-10)
    again = fw.sweep(grid, store=tmp_path, progress=False)
    assert again.identical(first)


@pytest.mark.slow
def test_many_widths_and_what_else_a_solution_is_asked():
    net = block()
    many = fw.solve_many(
        net, X, Y, widths=[8, 50], temperature=T, X_test=X_TEST, y_test=Y_TEST
    ).isel(temperature=0)
    one = solve(block(8))
    for name in ("q_bar", "s", "r"):
        np.testing.assert_allclose(
            many[name].sel(width=8).values, one.order_parameters[name].values, rtol=1e-7
        )
    response = fw.diagnostics.width_response(one, X_TEST, Y_TEST)
    step = [solve(block(width)) for width in (7999, 8001)]
    assert response.d_r.dims == ("block",) and response.d_r.block.values == [2]
    far = fw.diagnostics.width_response(solve(block(8000)), X_TEST, Y_TEST)
    slope = np.diff([float(s.order_parameters.r[0]) for s in step]) / (1 / 8001 - 1 / 7999)
    assert float(far.d_r[0]) == pytest.approx(float(slope[0]), rel=1e-3)
    roots = fw.diagnostics.roots(one)
    assert float(roots.r.isel(root=0)[0]) == float(one.order_parameters.r[0])


@pytest.mark.slow
def test_fluctuations_around_a_block_come_closer_to_the_mixture():
    net = block(40)
    mixture, solution = fw.mixture(net, X, Y, temperature=T), solve(net)
    result = fw.fluctuations(solution, X_TEST, Y_TEST)
    exact = float(mixture.scores(X_TEST, Y_TEST).error)
    assert abs(float(result.error) - exact) < 0.3 * abs(float(result.error_leading) - exact)
    assert abs(float(result.log_evidence) - mixture.log_evidence) < 0.05
    order = mixture.order_parameters
    assert float(result.r_sd[0]) == pytest.approx(float(order.r_sd[0]), rel=0.1)


@pytest.mark.slow
def test_a_run_is_saved_loaded_and_compared(tmp_path):
    net = block(5, readout_activation="identity")
    tree = sampled(net, "marginal", num_chains=1, num_warmup=20, num_samples=20)
    fw.save(tree, tmp_path / "run.nc")
    loaded = fw.load(tmp_path / "run.nc")
    record = json.loads(loaded.attrs["provenance"])["network"]
    assert restored_network(record) == net
    report = fw.compare(solve(net), loaded)
    assert isinstance(report.attrs["verdict"], str)
    fw.attach(loaded, solve(net))
    assert loaded["theory/nested"].s.dims == ("block",)
    other = net.replace(layers=(fw.Dense(5), fw.Residual(5, 0.9, 1.3)))
    with pytest.raises(fw.InputError, match="expected theory and tree of the same network"):
        fw.compare(solve(other), tree)


def test_a_record_of_an_unknown_layer_is_refused():
    record = block().record()
    record["layers"][1]["layer"] = "resisual"
    with pytest.raises(fw.InputError, match="expected layer .*did you mean 'residual'"):
        restored_network(record)
    record["layers"][1] = {"layer": "residual", "width": 12, "strength": 1.0}
    with pytest.raises(fw.InputError, match="expected a layer of the record"):
        restored_network(record)


# --- section 15: what was measured -------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return fw.load_dataset("digits", classes=(0, 1), n_train=60, n_test=100)


def strengths_one(width=30, readout="identity", overlap=True, activation="erf"):
    layers = (fw.Dense(width), fw.Residual(width, overlap=overlap))
    return fw.Network(layers=layers, activation=activation, readout_activation=readout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "theory", "error", "accuracy"),
    [
        (strengths_one(), "nested", 0.20094, 0.9560),
        (strengths_one(overlap=False), "nested", 0.20479, None),
        (strengths_one(), "infinite", 0.24428, 0.9452),
        (strengths_one(readout="erf"), "nested", 0.18510, 0.9621),
        (strengths_one(readout="erf", overlap=False), "nested", 0.18587, None),
        (strengths_one(readout="erf"), "infinite", 0.19820, 0.9579),
    ],
)
def test_theory_on_digits_is_what_section_15_prints(digits, net, theory, error, accuracy):
    solution = fw.solve(net, digits.X_train, digits.y_train, temperature=0.1, theory=theory)
    scores = solution.scores(digits.X_test, digits.y_test)
    assert float(scores.error) == pytest.approx(error, abs=6e-6)
    assert accuracy is None or float(scores.accuracy) == pytest.approx(accuracy, abs=6e-5)


@pytest.mark.slow
def test_the_saddle_point_on_digits_is_that_of_section_15(digits):
    solution = fw.solve(strengths_one(), digits.X_train, digits.y_train, temperature=0.1)
    order = solution.order_parameters
    values = float(order.q_bar[0]), float(order.r[0]), float(order.s[0])
    np.testing.assert_allclose(values, (0.6255, -0.1589, 0.8844), atol=6e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "model", "error", "se"),
    [
        (strengths_one(), "marginal", 0.20065, 0.00062),
        (strengths_one(), "student_t", 0.20146, 0.00028),
        (strengths_one(readout="erf"), "marginal", 0.17434, 0.00182),
        (strengths_one(6, activation="identity"), "marginal", 0.17941, 0.00138),
        (strengths_one(6, activation="identity"), "student_t", 0.18048, 0.00029),
    ],
)
def test_sampling_on_digits_is_what_section_15_measured(digits, net, model, error, se):
    tree = fw.sample(
        net,
        digits.X_train,
        digits.y_train,
        temperature=0.1,
        X_test=digits.X_test,
        y_test=digits.y_test,
        model=model,
        target_mcse=5e-4,
        target_ess=1000.0,
        keep=None if model == "student_t" else ["v"],
        progress=False,
    )
    scores = fw.scores(tree)
    noise = np.hypot(float(scores.error_mcse), se)
    assert abs(float(scores.error) - error) < 3.5 * noise
