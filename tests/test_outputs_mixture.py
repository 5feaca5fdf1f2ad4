"""The scale mixture of several outputs against dense algebra, PD×PD matrices and all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from numpyro.infer.util import log_density

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth.models._kronecker import Eigen, KroneckerNormal, symmetric_root
from finwidth.models._matrix_mixture import MatrixMixture

RNG = np.random.default_rng(31)
X, Y = RNG.normal(size=(6, 9)), RNG.normal(size=(6, 2))
X_TEST = RNG.normal(size=(4, 9))
T = 0.3


def eigen(kernel, bias):
    values, vectors = np.linalg.eigh(kernel)
    parts = (values, vectors, vectors.sum(axis=0), bias)
    return Eigen(*(jnp.asarray(part, float) for part in parts))


def stacked(matrix, kernel, bias):
    """M ⊗ K + 1 ⊗ b 11ᵀ, output index slow."""
    return np.kron(matrix, kernel) + np.kron(np.eye(len(matrix)), np.full(kernel.shape, bias))


@pytest.mark.parametrize("bias", [0.0, 0.8])
@pytest.mark.parametrize("rows", [1, 5])
def test_log_density_of_the_labels_is_the_dense_one(rows, bias):
    """With its derivatives, also where M = gᵀg is singular with several zero eigenvalues."""
    half, y = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 3))
    arguments = RNG.normal(size=(rows, 3)), 0.1 * y + 0.2, np.asarray(T)

    def ours(g, loc, temperature):
        return KroneckerNormal(kernel, g.T @ g, loc, temperature).joint(jnp.asarray(y))

    def dense(g, loc, temperature):
        total = jnp.kron(g.T @ g, half @ half.T) + jnp.kron(jnp.eye(3), bias * jnp.ones((6, 6)))
        total += temperature * jnp.eye(18)
        residual = jnp.ravel((y - loc).T)
        quadratic = residual @ jnp.linalg.solve(total, residual)
        return -0.5 * (quadratic + jnp.linalg.slogdet(2 * jnp.pi * total)[1])

    with float64():
        kernel = eigen(half @ half.T, bias)
        arguments = tuple(map(jnp.asarray, arguments))
        compute = (jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2))) for f in (ours, dense))
        one, other = (f(*arguments) for f in compute)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_law_of_labels_of_the_mixture_samples_itself():
    half, g = RNG.normal(size=(3, 2)), RNG.normal(size=(1, 2))
    with float64():
        matrix = jnp.asarray(g.T @ g)
        law = KroneckerNormal(eigen(half @ half.T, 0.8), matrix, jnp.ones((3, 2)), T)
        draws = np.asarray(law.sample(jax.random.key(1), (40_000,))) - 1.0
    expected = stacked(g.T @ g, half @ half.T, 0.8) + T * np.eye(6)
    flat = np.swapaxes(draws, 1, 2).reshape(-1, 6)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.max(np.abs(flat.T @ flat / len(flat) - expected) / scale) < 5 * np.sqrt(2 / 40_000)


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_symmetric_root_and_its_derivative(rows):
    """Of gᵀg along g, also of low rank: (S + dS)² = M + dM."""
    g, direction = RNG.normal(size=(2, rows, 4))

    def root(t):
        moved = jnp.asarray(g + t * direction)
        return symmetric_root(moved.T @ moved)

    with float64():
        value, slope = map(np.asarray, jax.jvp(root, (0.0,), (1.0,)))
        steps = [np.asarray(root(s)) for s in (1e-6, -1e-6)]
    np.testing.assert_allclose(value @ value, g.T @ g, atol=1e-7)
    np.testing.assert_allclose(value, value.T, atol=1e-14)
    np.testing.assert_allclose((steps[0] - steps[1]) / 2e-6, slope, atol=1e-6)


MIXTURES = [
    (fw.Network((3,), "erf", (0.8, 1.3), outputs=2), "nested"),
    (fw.Network((4,), "relu", (0.8, 1.3), 1.5, outputs=2), "nested"),
    (fw.Network((1,), "relu", (0.8, 1.3), outputs=2), "nested"),
    (fw.Network((1, 4, 3), "identity", (0.8, 1.3, 0.9, 1.1), outputs=2), "nested"),
    (fw.Network((4, 3), "relu", (0.8, 1.3, 0.9), 1.5, outputs=2), "wishart"),
]


def mixture_terms(net, theory, values):
    """M, the mean and the kernel of theory.md, 11, on all points, from the Gaussian sites."""
    points, last = np.concatenate([X, X_TEST]), net.weight_precision[1]
    no_bias = net.replace(outputs=1)
    if net.bias_precision is not None:  # hidden ones stay: 1/λ^b_L is the last of the three terms
        no_bias = no_bias.replace(bias_precision=(*net.bias_precision[:-1], 1e300))
    kernel = fw.nngp_kernel(no_bias, points)
    g = [values[f"g_{n}"] for n in range(1, net.depth + 1) if f"g_{n}" in values]
    if "a" in values:
        inputs = points @ points.T / (net.weight_precision[0] * points.shape[1])
        inputs += 0.0 if net.bias_precision is None else 1 / net.bias_precision[0]
        m = np.sqrt(np.diag(inputs) / (2 * np.pi))
        q_bar = last * np.outer(values["a"], values["a"])
        q_bar = (q_bar + (g[0].T @ g[0] if g else 0.0)) / net.widths[0]
        return [q_bar], q_bar, np.outer(m, values["a"]), kernel - np.outer(m, m) / last
    q_bar = [one.T @ one / width for one, width in zip(g, net.widths, strict=True)]
    matrix = q_bar[0]
    upper = functools.reduce(np.matmul, [scipy.linalg.sqrtm(q) for q in q_bar[1:]], np.eye(2))
    return q_bar, upper.T @ matrix @ upper, np.zeros((len(points), 2)), kernel


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "theory"),
    MIXTURES,
    ids=["erf", "relu-bias", "relu-one-unit", "identity-L3", "wishart-relu-L2"],
)
def test_mixture_is_the_gaussian_process_of_theory_md(net, theory):
    """Prior density of labels, and what is stored of a draw, against dense algebra."""
    bias = 0.0 if net.bias_precision is None else 1 / net.bias_precision[-1]
    posterior = MatrixMixture(net, X, Y, T, X_TEST, None, theory)
    gaussian = {name: site for name, site in posterior.sites.items() if name != "q_bar"}
    values = {
        name: RNG.normal(size=site.shape) / np.sqrt(site.precision)
        for name, site in gaussian.items()
    }
    q_bar, matrix, mean, kernel = mixture_terms(net, theory, values)
    n = len(X)
    joint = stacked(matrix, kernel, bias)
    train = np.concatenate([np.arange(n), len(kernel) + np.arange(n)])
    test = np.setdiff1d(np.arange(len(joint)), train)
    total = joint[np.ix_(train, train)] + T * np.eye(2 * n)
    residual = (Y - mean[:n]).T.ravel()
    with float64():
        found = log_density(
            fw.models.student_t, (net, X, Y), {"temperature": T, "theory": theory}, values
        )[0]
        program = posterior.program(("q_bar",))
        reduce = functools.partial(program.reduce, posterior.inputs())
        keys = jax.random.split(jax.random.key(0), 20_000)
        sites = {name: jnp.asarray(value) for name, value in values.items()}
        stored = jax.jit(reduce)(keys[0], sites)
        f = np.asarray(jax.jit(jax.vmap(lambda key: reduce(key, sites)["f"]))(keys))
    expected = scipy.stats.multivariate_normal(np.zeros(2 * n), total).logpdf(residual)
    for name, site in gaussian.items():
        expected += scipy.stats.norm(0, site.precision**-0.5).logpdf(values[name]).sum()
    assert float(found) == pytest.approx(expected, rel=1e-7)
    np.testing.assert_allclose(stored["site:q_bar"], q_bar, rtol=1e-10)
    cross = joint[np.ix_(test, train)]
    moved = cross @ np.linalg.solve(total, np.column_stack([residual, cross.T]))
    exact = mean[n:] + moved[:, 0].reshape(2, -1).T
    covariance = joint[np.ix_(test, test)] - moved[:, 1:]
    own = covariance.reshape(2, len(X_TEST), 2, len(X_TEST))
    own = np.einsum("itjt->tij", own)
    np.testing.assert_allclose(stored["f_mean"], exact, atol=1e-7)
    np.testing.assert_allclose(stored["f_covariance"], own, atol=1e-7)
    np.testing.assert_allclose(stored["f_variance"], np.einsum("tii->ti", own), atol=1e-7)
    flat = np.swapaxes(f - exact, 1, 2).reshape(len(f), -1)
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    bound = 5 * np.sqrt(2 / len(f))
    assert np.max(np.abs(flat.T @ flat / len(f) - covariance) / scale) < bound
