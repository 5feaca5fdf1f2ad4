"""The scale mixture of several outputs (theory.md, section 14), against other integrals."""

import functools
import pickle
import warnings

import numpy as np
import pytest
import reference
import scipy.linalg
import scipy.stats
from scipy.special import multigammaln

import finwidth as fw
from finwidth._numerics.largest import largest
from finwidth.theories._mixture.wishart_law import WishartLaw

P = 6
RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(P, 4)), RNG.normal(size=(P, 3)) * [1.5, 0.7, 0.4]
X_TEST, Y_TEST = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 3))
T = 0.3


@functools.cache
def solved(activation, width, outputs=2, bias=None):
    net = fw.Network((width,), activation, bias_precision=bias, outputs=outputs)
    return fw.mixture(net, X, Y[:, :outputs], temperature=T)


def by_eigenvalues(net, labels, temperature):
    """Exact moments for D = 2, over eigenvalues and angle of Q̄: dense algebra at every node.

    The Wishart density of NQ̄ in log q_1 > log q_2 and the angle is smooth.
    """
    n, points = net.widths[0], np.vstack([X, X_TEST])
    kernel = fw.nngp_kernel(net.replace(outputs=1), points)
    bias = 0.0 if net.bias_precision is None else 1 / net.bias_precision[-1]
    kernel, eye = kernel - bias, np.eye(2)
    x, w = np.polynomial.legendre.leggauss(50)
    nodes, logs = [], []
    high, gap = 3.0 + 5.5 * (x - 1), 8.0 * (x + 1)
    for a, wa in zip(high, w, strict=True):
        for b, wb in zip(gap, w, strict=True):
            q = n * np.exp([a, a - b])
            # dQ̄ = |q_1 − q_2| dq_1 dq_2 dθ, θ in [0, π)
            log = 0.5 * (n - 3) * np.sum(np.log(q)) - 0.5 * np.sum(q) + np.log(q[0] - q[1])
            log += np.sum(np.log(q)) - n * np.log(2) - multigammaln(n / 2, 2)
            nodes.append(q / n)
            logs.append(log + np.log(wa * wb * 5.5 * 8.0))
    nodes, logs = np.array(nodes), np.array(logs)
    keep = logs > np.max(logs) - 25
    total = temperature * np.eye(2 * P)
    evidence, first, second = 0.0, 0.0, 0.0
    angles = np.pi * np.arange(12) / 12
    for q, log in zip(nodes[keep], logs[keep], strict=True):
        turns = np.array([[np.cos(angles), -np.sin(angles)], [np.sin(angles), np.cos(angles)]])
        matrices = np.einsum("dka,k,eka->ade", turns, q, turns)
        full = np.einsum("ade,mn->amdne", matrices, kernel) + bias * np.einsum(
            "de,mn->mdne", eye, np.ones_like(kernel)
        )
        a = full[:, :P, :, :P].reshape(-1, 2 * P, 2 * P) + total
        cross = full[:, P:, :, :P].reshape(len(a), -1, 2 * P)
        y = labels.reshape(-1)
        solved = np.linalg.solve(a, np.broadcast_to(y, (len(a), y.size))[..., None])
        value = y @ solved[..., 0].T + np.linalg.slogdet(2 * np.pi * a)[1]
        weights = np.exp(log - 0.5 * value) * np.pi / 12
        mean = (cross @ solved)[..., 0]
        prior = full[:, P:, :, P:].reshape(len(a), 2 * len(X_TEST), -1)
        given = prior - cross @ np.linalg.solve(a, np.swapaxes(cross, 1, 2))
        evidence += weights.sum()
        first += weights @ mean
        second += np.einsum("a,aij->ij", weights, given + mean[:, :, None] * mean[:, None, :])
    mean = first / evidence
    return np.log(evidence), mean, second / evidence - np.outer(mean, mean)


@pytest.mark.parametrize(
    ("activation", "width", "bias"),
    [("identity", 4, None), ("erf", 3, 2.0)],
)
@pytest.mark.slow
def test_two_outputs_by_another_quadrature(activation, width, bias):
    """Identity: the exact posterior of the network."""
    mixture = solved(activation, width, bias=bias)
    evidence, mean, covariance = by_eigenvalues(mixture.network, Y[:, :2], T)
    assert mixture.residual <= 1e-9
    assert mixture.log_evidence == pytest.approx(evidence, abs=1e-6)
    joint = mixture.predict(X_TEST, full_covariance=True)
    np.testing.assert_allclose(joint.mean.reshape(-1), mean, atol=1e-6)
    found = joint.covariance.reshape(2 * len(X_TEST), -1)
    np.testing.assert_allclose(found, covariance, atol=1e-6)
    usual = mixture.predict(X_TEST)
    blocks = np.einsum("ndne->nde", joint.covariance)
    np.testing.assert_allclose(usual.output_covariance, blocks, atol=1e-11)
    np.testing.assert_allclose(usual.mean, joint.mean, atol=1e-11)


def by_factors(factors, logs, kernel, labels, index):
    """Return log evidence, mean, covariance and accuracy of a draw, and the error of the last.

    Sums over L with NQ̄ = LLᵀ, of PD×PD matrices; `index` is the class of each test point.
    """
    d, n = factors.shape[1], len(X_TEST)
    full = np.einsum("ade,mn->admen", factors @ np.swapaxes(factors, 1, 2), kernel)
    a = full[:, :, :P, :, :P].reshape(-1, d * P, d * P) + T * np.eye(d * P)
    cross = full[:, :, P:, :, :P].reshape(len(a), -1, d * P)
    y = labels.T.reshape(-1)
    dual = np.linalg.solve(a, np.broadcast_to(y, (len(a), y.size))[..., None])
    logs = logs - 0.5 * (dual[..., 0] @ y + np.linalg.slogdet(2 * np.pi * a)[1])
    means = (cross @ dual)[..., 0].reshape(-1, d, n).swapaxes(1, 2)
    prior = full[:, :, P:, :, P:].reshape(len(a), d * n, -1)
    given = prior - cross @ np.linalg.solve(a, np.swapaxes(cross, 1, 2))
    own = np.einsum("adnen->ande", given.reshape(-1, d, n, d, n))
    weights = np.exp(logs - logs.max())
    total = weights.sum()
    weights = weights / total
    mean = np.tensordot(weights, means, 1)
    second = np.einsum("a,ande->nde", weights, own + np.einsum("and,ane->ande", means, means))
    right = largest(means, np.einsum("andd->and", own), own, index).mean(axis=1)
    accuracy = weights @ right
    error = np.sqrt(weights**2 @ (right - accuracy) ** 2)
    covariance = second - np.einsum("nd,ne->nde", mean, mean)
    return np.log(total) + logs.max(), mean, covariance, accuracy, error


@pytest.mark.slow
def test_bartletts_decomposition_by_quadrature():
    """Identity, one layer, D = 2: L_11 ~ χ_N, L_22 ~ χ_(N−1), L_21 ~ N(0, 1), the exact law."""
    width, mixture = 4, solved("identity", 4)
    index = np.array([0, 1, 1])
    y_test = np.eye(2)[index]
    u, below = np.arange(-5.2, 2.2, 0.25), np.arange(-6.0, 6.1, 0.5)
    a, b, c = (one.ravel() for one in np.meshgrid(u, u, below, indexing="ij"))
    logs = scipy.stats.chi(width).logpdf(np.exp(a)) + a
    logs += scipy.stats.chi(width - 1).logpdf(np.exp(b)) + b
    logs += scipy.stats.norm.logpdf(c) + 2 * np.log(0.25) + np.log(0.5)
    keep = logs > -24
    factors = np.zeros((keep.sum(), 2, 2))
    factors[:, 0, 0], factors[:, 1, 1] = np.exp(a[keep]), np.exp(b[keep])
    factors[:, 1, 0] = c[keep]
    kernel = fw.nngp_kernel(mixture.network, np.vstack([X, X_TEST]))
    found = by_factors(factors / np.sqrt(width), logs[keep], kernel, Y[:, :2], index)
    assert mixture.log_evidence == pytest.approx(found[0], abs=1e-5)
    predicted, scores = mixture.predict(X_TEST), mixture.scores(X_TEST, y_test)
    np.testing.assert_allclose(predicted.mean, found[1], atol=1e-5)
    np.testing.assert_allclose(predicted.output_covariance, found[2], atol=1e-4)
    assert scores.accuracy.item() == pytest.approx(found[3], abs=1e-5)
    assert "accuracy_se" not in scores
    joint = mixture.predict(X_TEST, full_covariance=True)
    blocks = np.einsum("ndne->nde", joint.covariance)
    np.testing.assert_allclose(predicted.output_covariance, blocks, atol=1e-11)


def test_accuracy_of_three_classes_by_sampling_the_readout():
    """With a standard error, which is that of the nodes; `predictive_law` has the Gaussians."""
    mixture, index, draws = solved("erf", 6, 3), np.array([0, 2, 1]), 8000
    scores = mixture.scores(X_TEST, np.eye(3)[index])
    readout = np.random.default_rng(3).normal(size=(draws, 3, 6)) / np.sqrt(6)
    kernel = fw.nngp_kernel(mixture.network, np.vstack([X, X_TEST]))
    *_, accuracy, error = by_factors(readout, np.zeros(draws), kernel, Y, index)
    assert 0 < scores.accuracy_se < error < 1e-3
    assert abs(scores.accuracy - accuracy) < 4 * error + 4 * scores.accuracy_se
    law = mixture.predictive_law(X_TEST)
    assert abs(np.tensordot(law.components.weights, law.components.mean, 1) - law.mean).max() < 1e-3
    by_moments = largest(law.mean, law.variance, law.output_covariance, index).mean()
    assert abs(by_moments - scores.accuracy) > 1e-4  # tails are not those of one Gaussian
    classes = law.mean.argmax(axis=1)
    assert scores.accuracy_mean == np.mean(classes == index) and scores.accuracy_mean_se >= 0


def test_one_unit_has_a_matrix_without_density():
    """N = 1 < D: Q̄ = g gᵀ, integrated over g in polar coordinates."""
    mixture = solved("identity", 1)
    kernel = X @ X.T / X.shape[1]
    radius, weights = np.polynomial.legendre.leggauss(120)
    radius, weights = 5.0 * (radius + 1), 5.0 * weights
    y, total = Y[:, :2].T.reshape(-1), 0.0
    for angle in np.pi * np.arange(48) / 48:
        g = np.array([np.cos(angle), np.sin(angle)])
        a = np.kron(np.outer(g, g), kernel) * radius[:, None, None] ** 2 + T * np.eye(2 * P)
        solved_y = np.linalg.solve(a, np.broadcast_to(y, (len(a), y.size))[..., None])[..., 0]
        likelihood = np.exp(-0.5 * (solved_y @ y + np.linalg.slogdet(2 * np.pi * a)[1]))
        # both signs of g: angle and angle + π
        total += np.sum(weights * radius * np.exp(-0.5 * radius**2) * likelihood) / 48
    assert mixture.log_evidence == pytest.approx(np.log(total), abs=1e-7)


@pytest.mark.parametrize("bias", [pytest.param(None, marks=pytest.mark.slow), 2.0])
def test_a_mean_term_by_sampling_the_readout(bias):
    """f | V is Gaussian for Gaussian features of mean m and covariance K − mmᵀ (section 5)."""
    points, labels, draws = X[:4], Y[:4, :2], 60_000
    net = fw.Network((4,), "relu", bias_precision=bias, outputs=2)
    mixture = fw.mixture(net, points, labels, temperature=T)
    predicted = mixture.predict(X_TEST, full_covariance=True)
    everything = np.vstack([points, X_TEST])
    variance = 0.0 if bias is None else 1 / bias
    c = everything @ everything.T / X.shape[1] + variance
    kernel, m = reference.layer("relu", c)
    # V with columns for two outputs: Σ_i v_i/√N multiplies m, VᵀV/N the rest
    readout = np.random.default_rng(8).normal(size=(draws, 4, 2))
    along, gram = readout.sum(axis=1) / 2, np.swapaxes(readout, 1, 2) @ readout / 4
    full = np.einsum("ade,mn->admen", gram, kernel - np.outer(m, m))
    full += variance * np.einsum("de,mn->dmen", np.eye(2), np.ones_like(kernel))
    rest = labels.T.reshape(-1) - np.einsum("ad,m->adm", along, m[:4]).reshape(draws, -1)
    a = full[:, :, :4, :, :4].reshape(draws, 8, 8) + T * np.eye(8)
    dual = np.linalg.solve(a, rest[..., None])[..., 0]
    logs = -0.5 * (np.sum(rest * dual, axis=1) + np.linalg.slogdet(2 * np.pi * a)[1])
    weights = np.exp(logs)
    error = np.std(weights) / np.mean(weights) / np.sqrt(draws)
    assert abs(mixture.log_evidence - np.log(weights.mean())) < 4 * error + 4 * mixture.residual
    cross = full[:, :, 4:, :, :4].reshape(draws, -1, 8)
    values = (cross @ dual[..., None])[..., 0] + np.einsum("ad,m->adm", along, m[4:]).reshape(
        draws, -1
    )
    given = full[:, :, 4:, :, 4:].reshape(draws, *cross.shape[1:2], -1)
    given = given - cross @ np.linalg.solve(a, np.swapaxes(cross, 1, 2))
    weights = weights / weights.sum()
    mean = weights @ values
    mean_error = np.sqrt(weights**2 @ (values - mean) ** 2)
    found = predicted.mean.T.reshape(-1)
    assert np.all(np.abs(found - mean) < 5 * mean_error + 1e-3)
    covariance = np.einsum("a,aij->ij", weights, given) + (values - mean).T * weights @ (
        values - mean
    )
    found = predicted.covariance.transpose(1, 0, 3, 2).reshape(covariance.shape)
    np.testing.assert_allclose(found, covariance, atol=0.02 * np.max(covariance))


def test_dual_function_with_a_mean_term():
    """E exp(i tr s̄ᵀf): the formula, our (a, W) mixture, and Monte Carlo over the readout."""
    n, precision, rng = 6, 1.4, np.random.default_rng(2)
    kernel, m = reference.layer("relu", X @ X.T / X.shape[1])
    duals = 0.9 * rng.normal(size=(P, 2))
    along = duals.T @ m
    theta = duals.T @ (kernel - np.outer(m, m)) @ duals / precision
    grown = np.eye(2) + theta / n
    formula = np.linalg.det(grown) ** (-n / 2)
    formula *= np.exp(-0.5 * along @ np.linalg.solve(grown, along) / precision)
    assert 0.1 < formula < 0.7, formula
    # given V, a neuron adds v·u/√N with u = s̄ᵀσ ~ N(s̄ᵀm, s̄ᵀ(K − mmᵀ)s̄)
    v = rng.normal(size=(100_000, n, 2)) / np.sqrt(precision)
    spread = np.einsum("anc,cd,and->a", v, theta * precision, v) / n
    sampled = np.cos(v.sum(axis=1) @ along / np.sqrt(n)) * np.exp(-0.5 * spread)
    assert abs(sampled.mean() - formula) < 4 * sampled.std() / np.sqrt(len(v))
    law = WishartLaw(
        (n,), (kernel - np.outer(m, m)) / precision, np.zeros((P, 2)), T, 0.0, m / precision**0.5
    )
    entries = np.where(
        law.degrees > 0,
        0.5 * np.log(rng.chisquare(np.maximum(law.degrees, 1.0), size=(100_000, len(law.degrees)))),
        rng.normal(size=(100_000, len(law.degrees))),
    )
    batch = law.at(entries)
    turned = np.swapaxes(batch.basis, 1, 2) @ duals.T
    mean = np.sum(batch.slopes * (turned @ (m / precision**0.5)), axis=1)
    variance = np.einsum("ak,akm,mn,akn->a", batch.scale, turned, law.kernel, turned, optimize=True)
    mixed = np.cos(mean) * np.exp(-0.5 * variance)
    assert abs(mixed.mean() - formula) < 4 * mixed.std() / np.sqrt(len(mixed))


def test_deep_linear_network_by_sampling_its_weights():
    """Given all layers but the first, f is a process of covariance VᵀW Wᵀ V/(N_1N_2) ⊗ C."""
    points, labels, draws = X[:4], Y[:4, :2], 60_000
    net = fw.Network((3, 5), "identity", outputs=2)
    with warnings.catch_warnings():  # the standard error of the evidence may be above 1e-3
        warnings.simplefilter("ignore", fw.AccuracyWarning)
        mixture = fw.mixture(net, points, labels, temperature=T)
    rng = np.random.default_rng(8)
    upper = rng.normal(size=(draws, 2, 5)) @ rng.normal(size=(draws, 5, 3))
    gram = upper @ np.swapaxes(upper, 1, 2) / 15
    everything = np.vstack([points, X_TEST])
    full = np.einsum("ade,mn->admen", gram, everything @ everything.T / X.shape[1])
    a = full[:, :, :4, :, :4].reshape(draws, 8, 8) + T * np.eye(8)
    y = labels.T.reshape(-1)
    dual = np.linalg.solve(a, np.broadcast_to(y, (draws, 8))[..., None])
    weights = np.exp(-0.5 * (dual[..., 0] @ y + np.linalg.slogdet(2 * np.pi * a)[1]))
    error = np.std(weights) / np.mean(weights) / np.sqrt(draws)
    assert abs(mixture.log_evidence - np.log(weights.mean())) < 4 * (error + mixture.residual)
    values = (full[:, :, 4:, :, :4].reshape(draws, -1, 8) @ dual)[..., 0]
    weights = weights / weights.sum()
    mean = weights @ values
    mean_error = np.sqrt(weights**2 @ (values - mean) ** 2)
    found = mixture.predict(X_TEST).mean.T.reshape(-1)
    assert np.all(np.abs(found - mean) < 5 * mean_error + 1e-3)


@pytest.mark.parametrize("outputs", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_rotated_labels_rotate_everything(outputs):
    turn = scipy.linalg.expm(
        0.7 * np.triu(np.ones((outputs,) * 2), 1) - 0.7 * np.tri(outputs, k=-1)
    )
    mixture = solved("erf", 6, outputs)
    other = fw.mixture(mixture.network, X, Y[:, :outputs] @ turn, temperature=T)
    error = 1e-7 if outputs == 2 else 5 * (mixture.residual + other.residual)
    assert other.log_evidence == pytest.approx(mixture.log_evidence, abs=error)
    before, after = mixture.predict(X_TEST), other.predict(X_TEST)
    np.testing.assert_allclose(before.mean @ turn, after.mean, atol=error)
    covariance = turn.T @ before.output_covariance @ turn
    np.testing.assert_allclose(covariance, after.output_covariance, atol=error)


@pytest.mark.parametrize(
    ("widths", "theory"),
    [((5,), "nested"), pytest.param((9, 7), "wishart", marks=pytest.mark.slow)],
)
def test_without_information_the_prior_remains(widths, theory):
    """T → ∞: E Q̄ = 1, Var Q̄_de = (1 + δ_de)/N, log p(y) that of the noise."""
    net = fw.Network(widths, "erf", outputs=3)
    mixture = fw.mixture(net, X, Y, temperature=1e8, theory=theory)
    noise = -0.5 * P * 3 * np.log(2 * np.pi * 1e8)
    assert abs(mixture.log_evidence - noise) < 1e-6 + 5 * mixture.residual
    order = mixture.order_parameters
    assert np.all(np.abs(order.q_bar - np.eye(3)) < 6 * order.q_bar_se + 1e-6)
    for layer, width in enumerate(widths):
        expected = np.sqrt((1 + np.eye(3)) / width)
        np.testing.assert_allclose(order.q_bar_sd[layer], expected, rtol=0.03)
    prior = mixture.predict(X_TEST)
    kernel = np.diag(fw.nngp_kernel(net, X_TEST))
    np.testing.assert_allclose(prior.variance, np.stack([kernel] * 3, axis=1), rtol=0.02)


def test_the_saddle_is_that_of_the_mixture_at_large_width():
    mixture = solved("erf", 2000)
    saddle = fw.solve(mixture.network, X, Y[:, :2], temperature=T)
    one, other = mixture.predict(X_TEST), saddle.predict(X_TEST)
    np.testing.assert_allclose(one.mean, other.mean, atol=1e-3)
    np.testing.assert_allclose(one.output_covariance, other.output_covariance, atol=3e-3)


def test_errors_have_a_standard_error_where_points_are_random():
    mixture = solved("erf", 6, 3)
    errors = mixture.generalization_error(X_TEST, Y_TEST)
    predicted = mixture.predict(X_TEST)
    bias2 = np.mean((Y_TEST - predicted.mean) ** 2)
    assert errors.bias2.item() == pytest.approx(bias2, rel=1e-12)
    assert errors.error.item() == pytest.approx(bias2 + predicted.variance.mean(), rel=1e-12)
    for name in ("error", "bias2", "variance"):
        assert 0 < errors[f"{name}_se"].item() < 1e-3 * errors[name].item()
    assert "error_se" not in solved("erf", 6).generalization_error(X_TEST, Y_TEST[:, :2])
    by_name = fw.solve(mixture.network, X, Y, temperature=T, theory="mixture")
    assert by_name.log_evidence == mixture.log_evidence
    copied = pickle.loads(pickle.dumps(mixture))
    assert np.array_equal(copied.predict(X_TEST).output_covariance, predicted.output_covariance)


def test_what_is_not_covered_is_refused():
    for net, theory in (
        (fw.Network((5, 5), "relu", outputs=2), "nested"),
        (fw.Network((5, 5), "erf", outputs=2), "nested"),
    ):
        with pytest.raises(fw.InputError, match="the scale mixture"):
            fw.mixture(net, X, Y[:, :2], temperature=T, theory=theory)
    with pytest.raises(fw.InputError, match="expected temperature > 0 .* got width 2"):
        fw.mixture(fw.Network((2,), "erf", outputs=3), X, Y, temperature=0.0)
