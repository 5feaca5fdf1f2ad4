"""The convolution against theory.md, section 12, written out here pair of patches by pair.

Images of 4 × 4 with windows of 2 at a stride of 2 have A = 4 patches that share no pixel.
"""

import itertools
import math
import pickle

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from numpyro.infer.util import log_density
from sampled import assert_sampled_is_the_mixture

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth._problem.problem import make_problem
from finwidth.models._features import hidden_features
from finwidth.theories._saddle.patch_action import DataTerm
from finwidth.theories._saddle.patch_kernels import PatchKernels
from finwidth.theories._saddle.patch_search import find_minimum, find_saddle
from finwidth.theories._saddle.patch_secants import find_stationary

RNG = np.random.default_rng(12)
P, A, T = 9, 4, 0.2
X, Y = RNG.normal(size=(P, 4, 4)), RNG.normal(size=P)
X_TEST, Y_TEST = RNG.normal(size=(5, 4, 4)), RNG.normal(size=5)
LAYER = fw.Convolution(channels=6, patch=2, stride=2)
PRECISION, BIAS = (1.3, 0.8), (2.0, 3.0)


def net(activation="erf", layer=LAYER, **more):
    return fw.Network(layers=(layer,), activation=activation, weight_precision=PRECISION, **more)


def windows(images, patch=2, stride=2):
    """Patches of (pattern, channel, row, column), row by row: (pattern, patch, s)."""
    images = images[:, None] if images.ndim == 3 else images
    rows, columns = ((side - patch) // stride + 1 for side in images.shape[2:])
    return np.stack(
        [
            images[:, :, i * stride : i * stride + patch, j * stride : j * stride + patch].reshape(
                len(images), -1
            )
            for i, j in itertools.product(range(rows), range(columns))
        ],
        axis=1,
    )


def second_moments(x, y, activation, bias=0.0):
    """K_ab(x, x') of section 7, shape (patch, patch, a, b), and the means, shape (a, patch)."""
    x, y = windows(x), windows(y)
    scale = PRECISION[0] * x.shape[2]
    c = np.einsum("ias,jbs->abij", x, y) / scale + bias
    c_x, c_y = (np.einsum("ias,ias->ai", one, one) / scale + bias for one in (x, y))
    c_x, c_y = c_x[:, None, :, None], c_y[None, :, None, :]
    if activation == "identity":
        return c, np.zeros(x.shape[:2])
    if activation == "erf":
        ratio = 2 * c / np.sqrt((1 + 2 * c_x) * (1 + 2 * c_y))
        return 2 / np.pi * np.arcsin(ratio), np.zeros(x.shape[:2])
    cosine = np.clip(c / np.sqrt(c_x * c_y), -1, 1)
    theta = np.arccos(cosine)
    relu = np.sqrt(c_x * c_y) / (2 * np.pi) * (np.sin(theta) + (np.pi - theta) * cosine)
    return relu, np.sqrt(c_x[:, 0, :, 0].T / (2 * np.pi))


def kernel(q_bar, r, x, y, activation, biases=(0.0, 0.0)):
    """K_R between two sets of images."""
    k, m = second_moments(x, y, activation, biases[0])
    m_y = second_moments(y, y, activation, biases[0])[1]
    outer = np.einsum("ia,jb->abij", m, m_y)
    total = np.einsum("ab,abij->ij", q_bar, k - outer) + np.einsum("ab,abij->ij", r, outer)
    return total / (PRECISION[1] * len(q_bar)) + biases[1]


def action(q_bar, r, width, activation, biases=(0.0, 0.0)):
    """𝒮 of section 12 with Q = R⁻¹ − 1."""
    a = kernel(q_bar, r, X, X, activation, biases) + T * np.eye(P)
    q = np.linalg.inv(r) - np.eye(len(r))
    prior = width * (-np.trace(q @ q_bar) - np.linalg.slogdet(r)[1])
    return prior + np.linalg.slogdet(a)[1] + Y @ np.linalg.solve(a, Y)


def matrices(solution):
    q_bar, q = solution.order_parameters.q_bar.values[0], solution.order_parameters.q.values[0]
    return q_bar, np.linalg.inv(np.eye(len(q)) + q)


# --- theory ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "biases"),
    [("erf", None), ("relu", BIAS), pytest.param("tanh", None, marks=pytest.mark.slow)],
)
def test_the_action_is_stationary(activation, biases):
    """And it is the action as printed, of which the derivatives are taken by differences."""
    network = net(activation, bias_precision=biases)
    solution = fw.solve(network, X, Y, temperature=T)
    assert solution.residual <= 1e-10
    q_bar, r = matrices(solution)
    if activation == "tanh":
        assert np.allclose(q_bar, r) and np.ptp(np.linalg.eigvalsh(q_bar)) > 1e-3
        return
    inverse = (0.0, 0.0) if biases is None else (1 / biases[0], 1 / biases[1])
    at = action(q_bar, r, 6, activation, inverse)
    assert solution.action == pytest.approx(at, rel=1e-11)
    step, odd = 1e-5, activation == "erf"
    for i, j in [(0, 0), (1, 2), (3, 3), (0, 3)]:
        for moves_q, moves_r in [(1, 1)] if odd else [(1, 0), (0, 1)]:
            change = np.zeros((A, A))
            change[i, j] = change[j, i] = step
            ends = [
                action(
                    q_bar + s * moves_q * change, r + s * moves_r * change, 6, activation, inverse
                )
                for s in (1, -1)
            ]
            assert abs(ends[0] - ends[1]) / (2 * step) < 1e-6
    prediction = solution.predict(X_TEST)
    a = kernel(q_bar, r, X, X, activation, inverse) + T * np.eye(P)
    kappa = kernel(q_bar, r, X_TEST, X, activation, inverse)
    prior = np.diag(kernel(q_bar, r, X_TEST, X_TEST, activation, inverse))
    np.testing.assert_allclose(prediction.mean, kappa @ np.linalg.solve(a, Y), rtol=1e-9)
    explained = np.einsum("ij,ji->i", kappa, np.linalg.solve(a, kappa.T))
    np.testing.assert_allclose(prediction.variance, prior - explained, rtol=1e-9)


@pytest.mark.parametrize(
    ("activation", "pooling"),
    [
        ("erf", "none"),
        ("erf", "average"),
        pytest.param("relu", "none", marks=pytest.mark.slow),
        pytest.param("relu", "average", marks=pytest.mark.slow),
    ],
)
def test_one_patch_is_the_dense_layer(activation, pooling):
    layer = fw.Convolution(channels=6, patch=4, pooling=pooling)
    dense = fw.Network((6,), activation, PRECISION, BIAS)
    one = fw.solve(net(activation, layer, bias_precision=BIAS), X, Y, temperature=T)
    other = fw.solve(dense, X.reshape(P, -1), Y, temperature=T)
    np.testing.assert_allclose(
        one.order_parameters.q_bar.values.ravel(), other.order_parameters.q_bar.values, rtol=1e-10
    )
    assert one.action == pytest.approx(other.action, rel=1e-12)
    for name in ("mean", "variance"):
        here = getattr(one.predict(X_TEST), name)
        there = getattr(other.predict(X_TEST.reshape(5, -1)), name)
        np.testing.assert_allclose(here, there, rtol=1e-9)
    flat = fw.nngp_kernel(dense, X.reshape(P, -1))
    np.testing.assert_allclose(
        fw.nngp_kernel(net(activation, layer, bias_precision=BIAS), X), flat, rtol=1e-12
    )


def test_permuted_patches_permute_the_order_parameter():
    order = np.array([2, 0, 3, 1])
    blocks = X.reshape(P, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(P, A, 2, 2)[:, order]
    moved = blocks.reshape(P, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(P, 4, 4)
    one, other = (matrices(fw.solve(net(), images, Y, temperature=T))[0] for images in (X, moved))
    np.testing.assert_allclose(other, one[np.ix_(order, order)], atol=1e-10)


def test_wide_networks_leave_infinite_width_as_one_over_n():
    """N_c(Q̄ − 1) → −G, with G from the kernels written out above."""
    one = np.eye(A)
    a = kernel(one, one, X, X, "erf") + T * np.eye(P)
    dual = np.linalg.solve(a, Y)
    pull = np.linalg.inv(a) - np.outer(dual, dual)
    g = np.einsum("abij,ij->ab", second_moments(X, X, "erf")[0], pull) / (PRECISION[1] * A)
    g = 0.5 * (g + g.T)
    distances = []
    for width in (10**3, 10**5):
        q_bar = matrices(fw.solve(net(layer=LAYER.resize(width)), X, Y, temperature=T))[0]
        distances.append(np.max(np.abs(width * (q_bar - one) + g)) / np.max(np.abs(g)))
    assert distances[0] < 1e-1 and distances[1] < 1e-3


def test_several_starts_reach_one_minimum():
    theory = fw.theories.available()["nested"]
    with float64():
        problem = make_problem(net(), X, Y, T)
        expected = theory.solve(problem)
        for scale in (0.1, 1.0, 10.0):
            root = RNG.normal(size=(A, A + 2))
            found = theory.solve(problem, scale * root @ root.T / A)
            assert found.action == pytest.approx(expected.action, rel=1e-9)
            np.testing.assert_allclose(matrices(found)[0], matrices(expected)[0], atol=1e-8)


@pytest.mark.parametrize("likelihood", ["gaussian", "logit"])
def test_derivatives_of_the_data_term(likelihood):
    """Gradients and products with the Hessian in Q̄ and R, by differences."""
    with float64():
        problem = make_problem(net("relu"), X, np.sign(Y), 1.0, fw_likelihood(likelihood))
        data = DataTerm(problem, PatchKernels(problem))
        q_bar, r, *changes = (one @ one.T + 0.5 * np.eye(A) for one in RNG.normal(size=(4, A, A)))
        step = 1e-4
        up, down = (data.at(q_bar + s * changes[0], r + s * changes[1]) for s in (step, -step))
        here, bent = data.at(q_bar, r), data.bend(q_bar, r)(*changes)
        assert up and down and here and here.d_r is not None and bent[1] is not None
        slope = np.sum(here.d_q_bar * changes[0]) + np.sum(here.d_r * changes[1])
        assert (up.value - down.value) / (2 * step) == pytest.approx(slope, rel=1e-6)
        for name, other in zip(("d_q_bar", "d_r"), bent, strict=True):
            difference = (getattr(up, name) - getattr(down, name)) / (2 * step)
            np.testing.assert_allclose(other, difference, rtol=1e-4, atol=1e-6)


def fw_likelihood(name):
    from finwidth._likelihoods import choose_likelihood

    return choose_likelihood(name)


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_channel_counts_side_by_side_arrive_where_each_does_by_newton_s_method(activation):
    counts = (3, 6, 60)
    problems = [make_problem(net(activation, fw.Convolution(n, 2, 2)), X, Y, T) for n in counts]
    with float64():
        kernels = PatchKernels(problems[0])
        terms = [DataTerm(problem, kernels) for problem in problems]
        together = find_stationary(terms, None)
        alone = [(find_saddle if data.has_mean else find_minimum)(data, None) for data in terms]
    for found, expected in zip(together, alone, strict=True):
        assert found and found.converged
        assert expected and expected.converged
        assert found.q_bar == pytest.approx(expected.q_bar, abs=1e-9)
        assert found.r == pytest.approx(expected.r, abs=1e-9)


def test_little_memory_gives_the_same_numbers(monkeypatch):
    """Tiles that are made anew each time are the ones that are kept."""
    import finwidth.theories._saddle.patch_kernels as module

    monkeypatch.setattr(module, "_TILE", 16 * A**2)  # tiles of a few patterns
    with float64():
        problem = make_problem(net("relu"), X, Y, T)
        plenty = PatchKernels(problem)
        least = 2 * 8 * P**2 + plenty._bytes_to_keep(2**30) * 0
        with pytest.raises(fw.InputError, match=r"expected memory_limit = at least \d+ bytes") as e:
            PatchKernels(problem, 1000)
        least = int(str(e.value).split("at least ")[1].split()[0])
        scarce = PatchKernels(problem, least)
        matrix = RNG.normal(size=(A, A))
        weights, c = matrix + matrix.T, RNG.normal(size=(P, P))
        c = c + c.T
        for kernels in (plenty, scarce):
            kernels.assemble(weights)
        assert plenty.kept > 0 and scarce.kept == 0
        expected = np.einsum("ab,abij->ij", weights, centred("relu")) / (PRECISION[1] * A)
        for kernels in (plenty, scarce):
            found = kernels.assemble(weights)
            np.testing.assert_allclose(found, expected, atol=1e-13)
            assert np.array_equal(found, found.T)
            np.testing.assert_allclose(
                kernels.contract(lambda rows, columns: c[rows, columns]),
                np.einsum("abij,ij->ab", centred("relu"), c) / (PRECISION[1] * A),
                atol=1e-12,
            )


def centred(activation):
    k, m = second_moments(X, X, activation)
    return k - np.einsum("ia,jb->abij", m, m)


def test_infinite_width_keeps_each_patch_by_itself():
    for activation in ("erf", "relu"):
        k = second_moments(X, X, activation)[0]
        expected = np.einsum("aaij->ij", k) / (PRECISION[1] * A)
        np.testing.assert_allclose(fw.nngp_kernel(net(activation), X), expected, rtol=1e-10)
    solution = fw.solve(net("relu"), X, Y, temperature=T, theory="infinite")
    np.testing.assert_allclose(solution.renormalized_kernel, expected, rtol=1e-10)
    with_test = fw.nngp_kernel(net("erf"), X, X_TEST)
    k = second_moments(X, X_TEST, "erf")[0]
    np.testing.assert_allclose(with_test, np.einsum("aaij->ij", k) / (PRECISION[1] * A), rtol=1e-10)


def test_one_scalar_for_all_patches():
    """A N_c[q − log q − 1] with the kernels of single patches, minimised on a line."""
    solution = fw.solve(net(), X, Y, temperature=T, theory="scalar")
    q = float(solution.order_parameters.q_bar[0, 0, 0])

    def restricted(q):
        return action(q * np.eye(A), q * np.eye(A), 6, "erf")

    assert solution.action == pytest.approx(restricted_diagonal(q), rel=1e-9)
    assert abs(restricted_diagonal(q + 1e-5) - restricted_diagonal(q - 1e-5)) < 1e-9
    assert fw.solve(net(), X, Y, temperature=T).action < restricted(q) + 1e-9


def restricted_diagonal(q):
    k = np.einsum("aaij->ij", second_moments(X, X, "erf")[0]) / (PRECISION[1] * A)
    a = q * k + T * np.eye(P)
    prior = 6 * A * (q - 1 - np.log(q))
    return prior + np.linalg.slogdet(a)[1] + Y @ np.linalg.solve(a, Y)


@pytest.mark.parametrize("activation", ["erf", pytest.param("relu", marks=pytest.mark.slow)])
def test_pooling_is_one_scalar(activation):
    """Σ_ab K_ab/A², with everything that one hidden layer has."""
    layer = fw.Convolution(channels=6, patch=2, stride=2, pooling="average")
    solution = fw.solve(net(activation, layer), X, Y, temperature=T)
    k, m = second_moments(X, X, activation)
    k, m = k.sum(axis=(0, 1)) / A**2, m.mean(axis=1)
    order = solution.order_parameters
    q_bar, q = float(order.q_bar[0]), float(order.q[0])
    expected = (q_bar * (k - np.outer(m, m)) + np.outer(m, m) / (1 + q)) / PRECISION[1]
    np.testing.assert_allclose(solution.renormalized_kernel, expected, rtol=1e-9)
    mixture = fw.mixture(net(activation, layer), X, Y, temperature=T)
    assert mixture.log_evidence == pytest.approx(solution.log_evidence, abs=1.5)
    assert np.all(mixture.predict(X_TEST).variance > 0)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_pooling_with_several_outputs_and_classes(activation):
    layer = fw.Convolution(channels=6, patch=2, stride=2, pooling="average")
    several = np.stack([Y, Y[::-1]], axis=1)
    two = fw.solve(net(activation, layer, outputs=2), X, several, temperature=T)
    assert two.order_parameters.q_bar.shape == (1, 2, 2)
    labels = np.arange(P) % 3.0
    three = fw.solve(net(activation, layer, outputs=3), X, labels, likelihood="softmax")
    np.testing.assert_allclose(three.predict(X_TEST).probabilities.sum(axis=1), 1.0)
    tree = fw.sample(
        net(activation, layer),
        X,
        Y,
        temperature=T,
        model="student_t",
        num_samples=50,
        num_warmup=50,
        num_chains=1,
        progress=False,
    )
    assert tree["posterior"].q_bar.shape == (1, 50, 1)


@pytest.mark.slow
def test_a_dense_layer_above_an_average():
    layer = fw.Convolution(channels=6, patch=2, stride=2, pooling="average")
    deep = fw.Network(layers=(layer, fw.Dense(5)), activation="erf")
    wide = deep.replace(widths=(10**6, 10**6))
    k = fw.nngp_kernel(fw.Network(layers=(layer,), activation="erf"), X)
    ends = np.diag(k)
    ratio = 2 * k / np.sqrt(np.outer(1 + 2 * ends, 1 + 2 * ends))
    np.testing.assert_allclose(fw.nngp_kernel(deep, X), 2 / np.pi * np.arcsin(ratio), rtol=1e-10)
    solution = fw.solve(deep, X, Y, temperature=T)
    infinite = fw.solve(deep, X, Y, temperature=T, theory="infinite").predict(X_TEST).mean
    assert solution.order_parameters.q_bar.shape == (2,)
    close = fw.solve(wide, X, Y, temperature=T).predict(X_TEST).mean
    np.testing.assert_allclose(close, infinite, rtol=1e-3)


def test_channels_and_rectangles():
    """Colours are further entries of each patch; patches are numbered row by row."""
    images = RNG.normal(size=(P, 3, 4, 6))
    network = net(layer=fw.Convolution(channels=6, patch=2, stride=2))
    k = second_moments(images, images, "erf")[0]
    expected = np.einsum("aaij->ij", k) / (PRECISION[1] * 6)
    np.testing.assert_allclose(fw.nngp_kernel(network, images), expected, rtol=1e-10)
    order = fw.solve(network, images, Y, temperature=T).order_parameters
    assert order.q_bar.shape == (1, 6, 6)
    assert order.patch_row.values.tolist() == [0, 0, 0, 1, 1, 1]
    assert order.patch_column.values.tolist() == [0, 1, 2, 0, 1, 2]


def test_many_widths_are_solved_like_one_each():
    widths = [4, 6, 40]
    grid = fw.solve_many(net(), X, Y, widths=widths, temperature=T, X_test=X_TEST, y_test=Y_TEST)
    for width in widths:
        solution = fw.solve(net(layer=LAYER.resize(width)), X, Y, temperature=T)
        at = grid.sel(width=width).squeeze("temperature")
        np.testing.assert_allclose(at.q_bar, solution.order_parameters.q_bar, atol=1e-9)
        assert float(at.action) == pytest.approx(solution.action, rel=1e-10)
        assert float(at.error) == pytest.approx(
            float(solution.scores(X_TEST, Y_TEST).error), rel=1e-8
        )


@pytest.mark.slow
def test_classes_by_the_saddle_point():
    labels = np.sign(Y)
    solution = fw.solve(net(), X, labels, likelihood="logit")
    assert solution.residual <= 1e-9
    probabilities = solution.predict(X_TEST).probabilities
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)


# --- mixture ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_mixture_of_one_patch_is_that_of_the_dense_layer():
    """With a mean term, too."""
    one = fw.mixture(net("relu", fw.Convolution(channels=3, patch=4)), X, Y, temperature=T)
    other = fw.mixture(fw.Network((3,), "relu", PRECISION), X.reshape(P, -1), Y, temperature=T)
    assert one.log_evidence == pytest.approx(other.log_evidence, abs=1e-5)
    there = other.predict(X_TEST.reshape(5, -1))
    np.testing.assert_allclose(one.predict(X_TEST).mean, there.mean, atol=1e-5)


@pytest.mark.slow
def test_density_of_the_mixture_with_a_mean_term():
    """f | a, g ~ GP(Σ_a a_a m_a/√A, Σ_ab Q̄_ab B_ab) with Q̄ = (λ_1 a aᵀ + gᵀg)/N_c."""
    network, generator = net("relu", LAYER.resize(3)), np.random.default_rng(5)
    a, g = generator.normal(size=A), generator.normal(size=(2, A))
    k, m = second_moments(X, X, "relu")
    q_bar = (PRECISION[1] * np.outer(a, a) + g.T @ g) / 3
    centred = k - np.einsum("ia,jb->abij", m, m)
    covariance = np.einsum("ab,abij->ij", q_bar, centred) / (PRECISION[1] * A) + T * np.eye(P)
    law = scipy.stats.multivariate_normal(m @ a / A**0.5, covariance)
    expected = law.logpdf(Y) + scipy.stats.norm.logpdf(g).sum()
    expected += scipy.stats.norm.logpdf(a, scale=PRECISION[1] ** -0.5).sum()
    with float64():
        found, _ = log_density(
            lambda: fw.models.student_t(network, X, Y, temperature=T),
            (),
            {},
            {"a": jnp.asarray(a), "g_1": jnp.asarray(g)},
        )
    assert float(found) == pytest.approx(expected, rel=1e-10)


def test_identity_with_two_patches_is_the_wishart_mixture_by_quadrature():
    """N_c Q̄ ~ Wishart_2(N_c, 1) in Bartlett's coordinates, by trapezoids in each."""
    images, test = X[:, :2], X_TEST[:, :2]
    width = 6
    network = net("identity", LAYER.resize(width))
    mixture = fw.mixture(network, images, Y, temperature=T)
    u = np.linspace(-1.5, 1.9, 45)  # log of a χ variable
    z = np.linspace(-6.5, 6.5, 45)
    l1, l2, off = (one.ravel() for one in np.meshgrid(u, u, z, indexing="ij"))
    logs = -0.5 * off**2 - 0.5 * np.log(2 * np.pi)
    for degrees, log_chi in ((width, l1), (width - 1, l2)):
        logs += degrees * log_chi - 0.5 * np.exp(2 * log_chi)
        logs += math.log(2) * (1 - degrees / 2) - scipy.special.gammaln(degrees / 2)
    keep = logs > logs.max() - 40
    l1, l2, off, logs = (one[keep] for one in (l1, l2, off, logs))
    factor = np.zeros((len(logs), 2, 2))
    factor[:, 0, 0], factor[:, 1, 1], factor[:, 1, 0] = np.exp(l1), np.exp(l2), off
    q_bar = factor @ factor.transpose(0, 2, 1) / width
    k = second_moments(images, images, "identity")[0] / (PRECISION[1] * 2)
    a = np.einsum("nab,abij->nij", q_bar, k) + T * np.eye(P)
    lower = np.linalg.cholesky(a)
    half = np.linalg.solve(lower, np.broadcast_to(Y, (len(a), P))[..., None])[..., 0]
    logs -= np.sum(np.log(np.einsum("nii->ni", lower)), axis=1) + 0.5 * np.sum(half**2, axis=1)
    cell = (u[1] - u[0]) ** 2 * (z[1] - z[0])
    weights = np.exp(logs - logs.max())
    evidence = math.log(cell * weights.sum()) + logs.max() - 0.5 * P * math.log(2 * np.pi)
    assert mixture.log_evidence == pytest.approx(evidence, abs=1e-5)
    weights /= weights.sum()
    np.testing.assert_allclose(
        mixture.order_parameters.q_bar.values[0], np.einsum("n,nab->ab", weights, q_bar), atol=1e-5
    )
    across = second_moments(test, images, "identity")[0] / (PRECISION[1] * 2)
    kappa = np.einsum("nab,abij->nij", q_bar, across)
    dual = np.linalg.solve(a, np.broadcast_to(Y, (len(a), P))[..., None])
    mean = weights @ (kappa @ dual)[..., 0]
    np.testing.assert_allclose(mixture.predict(test).mean, mean, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["identity", "relu"])
@pytest.mark.filterwarnings("ignore:expected an error of the evidence:finwidth.AccuracyWarning")
def test_mixture_by_points_and_by_chains(activation):
    """The scale mixture of four patches: Sobol points against Hamiltonian chains."""
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
    drawn = tree["posterior"].dataset[["q_bar"]]
    error = az.mcse(drawn).q_bar.values + mixture.order_parameters.q_bar_se.values
    distance = drawn.q_bar.mean(("chain", "draw")) - mixture.order_parameters.q_bar
    assert np.all(np.abs(distance.values) < 4.5 * error)
    scores, expected = fw.scores(tree), mixture.scores(X_TEST, Y_TEST)
    error = math.hypot(float(scores.error_mcse), float(expected.error_se))
    assert abs(float(scores.error) - float(expected.error)) < 4.5 * error


# --- posterior ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["none", "average"])
@pytest.mark.parametrize("channels", [1, 3])
def test_forward_is_the_convolution_of_jax(channels, pooling):
    images = RNG.normal(size=(P, channels, 5, 7))
    layer = fw.Convolution(channels=6, patch=3, stride=2, pooling=pooling)
    weights, bias = RNG.normal(size=(6, channels * 9)), RNG.normal(size=6)
    network = net("erf", layer, bias_precision=1.0)
    with float64():
        values = {"W_1": jnp.asarray(weights), "b_1": jnp.asarray(bias)}
        flat = images[:, 0] if channels == 1 else images
        found = np.asarray(hidden_features(network, values, jnp.asarray(flat)))
        h = jax.lax.conv_general_dilated(
            jnp.asarray(images), weights.reshape(6, channels, 3, 3), (2, 2), "VALID"
        )
        h = np.asarray(h) / np.sqrt(9 * channels) + bias[:, None, None]
    expected = scipy.special.erf(h).reshape(P, 6, -1)
    expected = expected.mean(axis=2) if pooling == "average" else expected.reshape(P, -1)
    np.testing.assert_allclose(found, expected, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["network", "marginal"])
@pytest.mark.filterwarnings("ignore:expected an error of the evidence:finwidth.AccuracyWarning")
def test_identity_network_is_the_wishart_mixture(model):
    network = net("identity", bias_precision=(2.0, 3.0))
    assert_sampled_is_the_mixture(network, X, Y, X_TEST, Y_TEST, T, model)


@pytest.mark.slow
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_run_keeps_images_and_weights(outputs, tmp_path):
    labels = Y if outputs == 1 else np.stack([Y, -Y], axis=1)
    network = net(outputs=outputs)
    tree = fw.sample(
        network,
        X,
        labels,
        temperature=T,
        X_test=X_TEST,
        num_warmup=5,
        num_samples=5,
        num_chains=1,
        log_likelihood=False,
        posterior_predictive=False,
        progress=False,
    )
    posterior = tree["posterior"]
    assert posterior.W_1.dims == ("chain", "draw", "unit", "patch_input")
    more = () if outputs == 1 else ("output",)
    assert posterior.v.dims == ("chain", "draw", "unit", "patch", *more)
    assert posterior.v.shape[2:4] == (6, A)
    assert tree["constant_data"].X.dims == ("pattern", "row", "column")
    fw.save(tree, tmp_path / "run.nc")
    again = fw.load(tmp_path / "run.nc")
    np.testing.assert_array_equal(again["posterior"].W_1, posterior.W_1)
    if outputs == 1:
        report = fw.attach(again, fw.solve(network, X, Y, temperature=T, theory="infinite"))
        assert "theory" in report.children


# --- as a part of the house ---------------------------------------------------------------------


def test_descriptions():
    assert LAYER == fw.Convolution(6, 2, 2) != fw.Convolution(6, 2)
    assert repr(LAYER) == "Convolution(channels=6, patch=2, stride=2, pooling='none')"
    assert LAYER.channels == LAYER.width == 6 and LAYER.resize(7).channels == 7
    network = net()
    assert pickle.loads(pickle.dumps(network)) == network
    assert network.replace(widths=(9,)).layers == (LAYER.resize(9),)
    assert network.record() != network.replace(layers=(fw.Convolution(6, 2),)).record()
    (record,) = network.record()["layers"]
    assert record.pop("layer") == "convolution" and fw.Convolution(**record) == LAYER


def test_copies_of_solutions():
    solution = fw.solve(net(), X, Y, temperature=T)
    other = pickle.loads(pickle.dumps(solution))
    assert np.array_equal(other.predict(X_TEST).mean, solution.predict(X_TEST).mean)
    assert repr(other) == repr(solution) and other.order_parameters.equals(
        solution.order_parameters
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 0}, "expected channels"),
        ({"patch": 0}, "expected patch"),
        ({"stride": 0}, "expected stride"),
        ({"pooling": "max"}, "expected pooling"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(fw.InputError, match=message):
        fw.Convolution(**({"channels": 3, "patch": 2} | arguments))


@pytest.mark.parametrize("run", [fw.solve, fw.sample])
def test_bad_images(run):
    def refused(message, layer=LAYER, images=X):
        with pytest.raises(fw.InputError, match=message):
            run(net(layer=layer), images, Y, temperature=T)

    refused(r"got shape \(9, 16\): X.reshape\(-1, 4, 4\) makes images", images=X.reshape(P, -1))
    refused(r"X.reshape\(-1, rows, columns\)", images=X.reshape(P, -1)[:, :15])
    refused(
        r"images of at least 5 × 5 pixels for Convolution\(.*got shape \(9, 4, 4\)",
        layer=fw.Convolution(3, 5),
    )
    refused("expected X = images of shape", images=X[None, None])
    with pytest.raises(fw.InputError, match=r"\(pattern, input\), got shape \(9, 4, 4\)"):
        run(fw.Network((3,), "erf"), X, Y, temperature=T)
    with pytest.raises(fw.InputError, match="expected no layer above Convolution"):
        fw.Network(layers=(LAYER, fw.Dense(3)), activation="erf")
    with pytest.raises(fw.InputError, match="as first layer"):
        fw.Network(layers=(fw.Dense(3), LAYER), activation="erf")


def test_what_is_not_derived_is_refused():
    for theory in ("wishart", "corrected", "adaptive", "cavity", "perturbative"):
        with pytest.raises(fw.InputError, match="expected"):
            fw.solve(net(), X, Y, temperature=T, theory=theory)
    with pytest.raises(fw.InputError, match="expected a Convolution with pooling='none'"):
        fw.solve(fw.Network((3,), "erf"), X.reshape(P, -1), Y, temperature=T, theory="scalar")
    with pytest.raises(fw.InputError, match="expected X_test = an array of shape"):
        fw.solve(net(), X, Y, temperature=T).predict(X_TEST[:, :3])
    with pytest.raises(fw.InputError, match="expected memory_limit = None but for a convolution"):
        fw.mixture(fw.Network((3,), "erf"), X.reshape(P, -1), Y, temperature=T, memory_limit=1e9)
    with pytest.raises(fw.InputError, match="at most 9 patches"):
        fw.mixture(net(layer=fw.Convolution(3, 1)), X, Y, temperature=T)


def test_a_matrix_over_patches_is_drawn_as_what_it_adds_to_1():
    solution = fw.solve(net(), X, Y, temperature=T)
    (image,) = fw.plot_order_parameters(solution).get_images()
    q_bar = solution.order_parameters["q_bar"].values[0]
    np.testing.assert_array_equal(image.get_array(), q_bar - np.eye(len(q_bar)))
    with pytest.raises(fw.InputError, match="expected theory = one solution where .*, got 2"):
        fw.plot_order_parameters([solution, solution])
    with pytest.raises(fw.InputError, match="expected x = 'layer'"):
        fw.plot_order_parameters(solution, "width")


@pytest.mark.slow
def test_a_sweep_tells_layers_apart(tmp_path):
    data = fw.Dataset(X, Y, X_TEST, Y_TEST, name="images")
    nets = [net(), net(layer=fw.Convolution(6, 2)), net(layer=LAYER.resize(7))]
    grid = fw.grid(data=data, net=nets, temperature=T, theory=["nested", "infinite"])
    found = fw.sweep(grid, store=tmp_path, progress=False)
    assert np.unique(found.error.values.ravel()).size >= 5  # the width does not tell at infinity
    again = fw.sweep(grid, store=tmp_path, progress=False)
    np.testing.assert_array_equal(again.error, found.error)


# --- data ---------------------------------------------------------------------------------------


def test_images_of_a_data_set():
    flat = fw.load_dataset("digits", n_train=20, n_test=10)
    images = fw.load_dataset("digits", n_train=20, n_test=10, image=True)
    assert images.X_train.shape == (20, 8, 8) and images.n_inputs == flat.n_inputs == 64
    np.testing.assert_array_equal(images.X_train.reshape(20, -1), flat.X_train)
    assert "image=(8, 8)" in repr(images)
    with pytest.raises(fw.InputError, match="expected image = False"):
        fw.load_dataset("random", n_inputs=16, image=True)


def test_colours_come_first(tmp_path):
    pixels = RNG.integers(0, 255, size=(12, 4, 5, 3)).astype(np.uint8)
    np.savez(tmp_path / "data.npz", X=pixels, y=np.tile([0, 1], 6))
    sizes = {"n_train": 8, "n_test": 4, "path": tmp_path / "data.npz"}
    data = fw.load_dataset("npz", image=True, **sizes)
    assert data.X_train.shape == (8, 3, 4, 5)
    flat = fw.load_dataset("npz", **sizes)
    np.testing.assert_array_equal(
        data.X_train, np.moveaxis(flat.X_train.reshape(8, 4, 5, 3), -1, 1)
    )
