"""The posterior of networks with several outputs: exact cases, and what one output says of many."""

import functools
import json

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
import xarray as xr
from arviz_stats.base import array_stats
from numpyro.infer import MCMC
from numpyro.infer.util import log_density

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth._observables.squared_error import error_series
from finwidth.models._mixture import Mixture
from finwidth.models._posterior import make_posterior
from finwidth.models._readout import ReadoutMarginal, condition, log_marginal

RNG = np.random.default_rng(23)
X, Y = RNG.normal(size=(6, 9)), RNG.normal(size=(6, 2)) * [1.5, 0.5] + [[1.0, 0.0]]
X_TEST, Y_TEST = RNG.normal(size=(4, 9)), RNG.normal(size=(4, 2))
T = 0.3
SAMPLERS = ("split_hmc", "langevin", "nuts", "hmc")


def sample(net, **changes):
    arguments = {
        "temperature": T,
        "X_test": X_TEST,
        "y_test": Y_TEST,
        "num_samples": 1000,
        "progress": False,
    } | changes
    return fw.sample(net, X, Y, **arguments)


def deviation(values, expected):
    """(Mean − expected)/MCSE of a series, each entry by itself; values (chain, draw, …)."""
    values = np.asarray(values).reshape(*values.shape[:2], -1)
    mcse = array_stats.mcse(values, chain_axis=0, draw_axis=1, method="mean")
    return np.max(np.abs((values.mean(axis=(0, 1)) - np.ravel(expected)) / mcse))


# --- the readout, integrated -----------------------------------------------------------------


@pytest.mark.parametrize("shape", [(12, 4), (3, 6)])
def test_log_marginal_is_the_sum_of_that_of_each_output(shape):
    """Value, gradient in the features and in T, and in the labels."""
    with float64():
        features, y = (jnp.asarray(RNG.normal(size=(shape[0], n))) for n in (shape[1], 3))
        compute = jax.jit(jax.value_and_grad(log_marginal, argnums=(0, 1, 2)))
        value, (by_features, by_y, by_temperature) = compute(features, y, T)
        parts = [compute(features, column, T) for column in y.T]
        assert float(value) == pytest.approx(sum(float(one) for one, _ in parts), rel=1e-13)
        np.testing.assert_allclose(by_features, sum(g[0] for _, g in parts), atol=1e-12)
        np.testing.assert_allclose(by_y.T, [g[1] for _, g in parts], atol=1e-12)
        assert float(by_temperature) == pytest.approx(sum(float(g[2]) for _, g in parts))
        direction = jnp.asarray(RNG.normal(size=shape))
        steps = [float(log_marginal(features + s * direction, y, T)) for s in (1e-6, -1e-6)]
        assert (steps[0] - steps[1]) / 2e-6 == pytest.approx(
            float(jnp.vdot(by_features, direction)), rel=1e-6
        )
        orthogonal = scipy.stats.ortho_group(3, seed=1).rvs()
        assert float(log_marginal(features, y @ orthogonal, T)) == pytest.approx(
            float(value), rel=1e-13
        )


@pytest.mark.parametrize("shape", [(12, 4), (3, 6)])
def test_readout_of_each_output_is_that_of_one(shape):
    """Moments exactly; draws by their covariance, which is the same for all outputs."""
    features, y = RNG.normal(size=shape), RNG.normal(size=(shape[0], 2))
    block = RNG.normal(size=(3, shape[1]))
    with float64():
        readout = condition(jnp.asarray(features), jnp.asarray(y), T)
        mean, variance = readout.moments(jnp.asarray(block))
        for d in range(2):
            one = condition(jnp.asarray(features), jnp.asarray(y[:, d]), T)
            np.testing.assert_allclose(readout.coefficients[:, d], one.coefficients, atol=1e-13)
            expected = one.moments(jnp.asarray(block))
            np.testing.assert_allclose(mean[:, d], expected[0], atol=1e-13)
            np.testing.assert_array_equal(variance[:, d], expected[1])
        n = 20_000
        draws = np.asarray(jax.jit(jax.vmap(readout.draw))(jax.random.split(jax.random.key(0), n)))
    covariance = np.linalg.inv(features.T @ features / T + np.eye(shape[1]))
    expected = scipy.linalg.block_diag(covariance, covariance)
    flat = np.swapaxes(draws - np.asarray(readout.coefficients), 1, 2).reshape(n, -1)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.max(np.abs(flat.T @ flat / n - expected) / scale) < 5 * np.sqrt(2 / n)
    assert np.max(np.abs(flat.mean(axis=0)) / np.sqrt(np.diag(expected) / n)) < 4.5


def test_law_of_the_labels_samples_itself():
    features = RNG.normal(size=(3, 2))
    with float64():
        law = ReadoutMarginal(jnp.asarray(features), T, 2)
        assert law.event_shape == (3, 2)
        draws = np.asarray(law.sample(jax.random.key(1), (40_000,)))
    block = features @ features.T + T * np.eye(3)
    expected = np.kron(np.eye(2), block)
    flat = np.swapaxes(draws, 1, 2).reshape(-1, 6)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.max(np.abs(flat.T @ flat / len(flat) - expected) / scale) < 5 * np.sqrt(2 / 40_000)


@pytest.mark.parametrize(
    "net",
    [
        fw.Network((3,), "erf", (0.7, 1.3), outputs=2),
        pytest.param(
            fw.Network((9, 4), "relu", (0.7, 1.1, 1.3), (2.0, 0.8, 0.5), outputs=2),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["erf", "relu-bias"],
)
def test_densities_are_products_over_the_outputs(net):
    """Given the hidden weights, of both models; the sites' shapes, and f."""
    one = net.replace(outputs=1)
    with float64():
        seeded = numpyro.handlers.seed(fw.models.network, jax.random.key(2))
        trace = numpyro.handlers.trace(seeded).get_trace(net, X, temperature=T)
        values = {k: v["value"] for k, v in trace.items() if v["type"] == "sample" and k != "y"}
        assert values["v"].shape == (net.widths[-1], 2)
        assert trace["y"]["value"].shape == trace["f"]["value"].shape == (6, 2)
        hidden = {k: v for k, v in values.items() if k not in ("v", "b_out")}
        for model, latent in ((fw.models.network, values), (fw.models.marginal, hidden)):
            found = float(log_density(model, (net, X, Y), {"temperature": T}, latent)[0])
            parts = 0.0
            for d in range(2):
                own = {k: v if k in hidden else v[..., d] for k, v in latent.items()}
                parts += float(log_density(model, (one, X, Y[:, d]), {"temperature": T}, own)[0])
            prior = sum(float(jnp.sum(trace[k]["fn"].log_prob(v))) for k, v in hidden.items())
            assert found == pytest.approx(parts - prior, rel=1e-12)


BIASED = fw.Network((3,), "relu", (0.7, 1.3), (2.0, 0.5), outputs=2)


@pytest.mark.parametrize(
    ("model", "net"),
    [
        pytest.param(fw.models.network, BIASED, marks=pytest.mark.slow),
        pytest.param(fw.models.marginal, BIASED, marks=pytest.mark.slow),
        pytest.param(fw.models.student_t, BIASED, marks=pytest.mark.slow),
        (fw.models.student_t, fw.Network((1, 4), "identity", (0.7, 1.3, 0.9), outputs=2)),
    ],
    ids=["network", "marginal", "student_t", "student_t-L2"],
)
def test_prior_predictive_has_the_moments_of_the_prior(model, net):
    """E[f fᵀ] is 1 ⊗ the infinite-width kernel at any width; 4th order terms are Wishart's."""
    n = 20_000
    with float64():
        predictive = numpyro.infer.Predictive(model, num_samples=n)
        y = np.asarray(predictive(jax.random.key(3), net, X, temperature=T)["y"])
    flat = np.swapaxes(y, 1, 2).reshape(n, -1)
    expected = np.kron(np.eye(2), fw.nngp_kernel(net, X) + T * np.eye(len(X)))
    products = flat[:, :, None] * flat[:, None, :]
    error = products.std(axis=0) / np.sqrt(n)
    assert np.max(np.abs(products.mean(axis=0) - expected) / error) < 4.5


# --- whole runs ------------------------------------------------------------------------------


def bartlett(width, nodes):
    """Nodes of 2×2 matrices Q̄ with N Q̄ ~ Wishart(N, 1), and their log weights.

    N Q̄ = L Lᵀ with L_11 ~ χ_N, L_22 ~ χ_{N−1}, L_21 ~ N(0, 1), and for N = 1 L_11 ~ N(0, 1),
    L_22 = 0. Sums over equal steps of L_21 and the logarithms of the others: their densities vanish
    at both ends.
    """
    z, u = np.linspace(-8, 8, nodes), np.linspace(-8, 2.2, nodes)
    normal = z, scipy.stats.norm.logpdf(z) + np.log(z[1] - z[0])
    if width == 1:
        diagonal = normal, (np.zeros(1), np.zeros(1))
    else:
        step = np.log(u[1] - u[0])
        diagonal = [
            (np.exp(u), scipy.stats.chi(n).logpdf(np.exp(u)) + u + step) for n in (width, width - 1)
        ]
    factors = np.meshgrid(diagonal[0][0], diagonal[1][0], z, indexing="ij")
    weights = sum(np.meshgrid(diagonal[0][1], diagonal[1][1], normal[1], indexing="ij"))
    keep = weights > weights.max() - 45
    first, second, below = (factor[keep] for factor in factors)
    q_bar = np.array([[first**2, first * below], [first * below, below**2 + second**2]]) / width
    return np.moveaxis(q_bar, -1, 0), weights[keep]


@functools.cache
def quadrature(width, nodes=72):
    """Evidence, and posterior moments of f at the test points and of Q̄, of the identity network.

    By theory.md, 11: f | Q̄ ~ GP(0, Q̄ ⊗ C) with N Q̄ ~ Wishart(N, 1).
    """
    q_bar, log_weights = bartlett(width, 5 * nodes if width == 1 else nodes)
    assert abs(scipy.special.logsumexp(log_weights)) < 1e-6
    c = X @ X.T / X.shape[1]
    cross, kappa0 = X_TEST @ X.T / X.shape[1], np.sum(X_TEST**2, axis=1) / X.shape[1]
    values, vectors = np.linalg.eigh(c)
    scales, basis = np.linalg.eigh(q_bar)
    s = T + np.maximum(scales, 0)[:, None, :] * values[:, None]  # (node, pattern, output)
    rotated = (vectors.T @ Y) @ basis
    log_weights = log_weights - 0.5 * np.sum(rotated**2 / s + np.log(2 * np.pi * s), axis=(1, 2))
    log_evidence = scipy.special.logsumexp(log_weights)
    weights = np.exp(log_weights - log_evidence)
    mean = scales[:, None, :] * ((cross @ vectors) @ (rotated / s))
    mean = mean @ np.swapaxes(basis, 1, 2)
    explained = scales[:, None, :] ** 2 * ((cross @ vectors) ** 2 @ (1 / s))
    variance = scales[:, None, :] * kappa0[:, None] - explained
    expected = np.einsum("n,nti->ti", weights, mean)
    second = np.einsum("n,nij,ntj,nkj->tik", weights, basis, variance, basis, optimize=True)
    second += np.einsum("n,nti,ntj->tij", weights, mean, mean, optimize=True)
    covariance = second - expected[:, :, None] * expected[:, None, :]
    return log_evidence, expected, covariance, np.einsum("n,nij->ij", weights, q_bar)


def assert_exact(tree, width):
    """The draws of f and their moments agree with the quadrature within 4 MCSE."""
    _, mean, covariance, q_bar = quadrature(width)
    draws = tree["predictions"]
    f = draws["f"].values
    pairs = (f - mean)[..., :, None] * (f - mean)[..., None, :]
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    z = {"f": deviation(f, mean), "covariance of f": deviation(pairs, covariance)}
    if "f_mean" in draws:
        f_mean, f_variance = draws["f_mean"].values, draws["f_variance"].values
        error = np.mean((Y_TEST - f_mean) ** 2 + f_variance, axis=(-1, -2))
        z["f_mean"] = deviation(f_mean, mean)
        z["variance"] = deviation((f_mean - mean) ** 2 + f_variance, variance)
        z["error"] = deviation(error, np.mean((Y_TEST - mean) ** 2 + variance))
    if "q_bar" in tree["posterior"]:
        z["q_bar"] = deviation(tree["posterior"]["q_bar"].values, q_bar)
    assert max(z.values()) < 4, z


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 4])
def test_quadrature_has_converged(width):
    for one, other in zip(quadrature(width), quadrature(width, 100), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


@pytest.mark.parametrize(
    ("width", "model", "sampler"),
    [
        (4, "marginal", "split_hmc"),
        pytest.param(1, "marginal", "split_hmc", marks=pytest.mark.slow),
        pytest.param(1, "student_t", "split_hmc", marks=pytest.mark.slow),
        pytest.param(4, "student_t", "nuts", marks=pytest.mark.slow),
        *(
            pytest.param(4, model, sampler, marks=pytest.mark.slow)
            for model in ("network", "marginal")
            for sampler in SAMPLERS
            if (model, sampler) != ("marginal", "split_hmc")
        ),
    ],
)
def test_identity_network_is_sampled_exactly(width, model, sampler):
    """Also with fewer units than outputs, and of the scale mixture, which is its law."""
    tree = sample(
        fw.Network((width,), "identity", outputs=2),
        model=model,
        sampler=sampler,
        sampler_options={"num_steps": 30} if sampler == "langevin" else None,
        num_samples=4000 if model == "network" else 2000,
        seed=1,
    )
    assert_exact(tree, width)
    if model == "student_t":  # of which the outputs are not independent given a draw
        posterior, predictions = tree["posterior"], tree["predictions"]
        assert posterior["q_bar"].dims == ("chain", "draw", "layer", "output", "output_")
        assert predictions["f_covariance"].dims[2:] == ("test_pattern", "output", "output_")
        diagonal = np.einsum("cdtii->cdti", predictions["f_covariance"])
        np.testing.assert_array_equal(predictions["f_variance"], diagonal)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["marginal", "network"])
def test_a_run_is_continued_and_stops(model, tmp_path):
    """The test error that stops it is the mean over points and outputs."""
    net = fw.Network((3,), "erf", bias_precision=1.5, outputs=2)
    keywords = {"model": model, "num_warmup": 50, "num_chains": 2, "checkpoint": tmp_path / "c"}
    sample(net, num_samples=25, **keywords)
    whole = sample(net, num_samples=50, **keywords)
    again = sample(net, num_samples=50, **keywords | {"checkpoint": None})
    for group in ("posterior", "predictions"):
        xr.testing.assert_equal(whole[group].to_dataset(), again[group].to_dataset())
    with pytest.raises(fw.InputError, match=r"expected a checkpoint of the same run"):
        fw.sample(
            net.replace(outputs=1), X, Y[:, 0], temperature=T, num_samples=50, progress=False,
            **keywords,
        )  # fmt: skip
    assert_whole(again, model)
    draws = again["predictions"]
    block = {name: draws[name].values for name in draws.data_vars}
    f = draws["f_mean" if model == "marginal" else "f"]
    variance = draws["f_variance"] if model == "marginal" else 0.0
    labels = again["predictions_constant_data"]["y_test"]
    error = ((labels - f) ** 2 + variance).mean(("test_pattern", "output"))
    series = error_series([block], Y_TEST)
    np.testing.assert_allclose(series, error.transpose("chain", "draw"), rtol=1e-12)
    if model == "marginal":
        stopped = sample(net, num_samples=None, target_ess=150.0, num_chains=2)
        assert 100 <= stopped["posterior"].sizes["draw"] < 2000
        assert json.loads(stopped.attrs["provenance"])["target"]["reached"]
    fw.save(again, tmp_path / "run.nc")
    loaded = fw.load(tmp_path / "run.nc")["predictions"].to_dataset()
    xr.testing.assert_equal(loaded, draws.to_dataset())


def assert_whole(tree, model):
    """All that has an axis of outputs; the weights that are stored give the f that is stored."""
    posterior, predictions = tree["posterior"], tree["predictions"]
    assert posterior["v"].dims == ("chain", "draw", "unit", "output")
    assert posterior["b_out"].dims == ("chain", "draw", "output")
    assert set(predictions) == {"f"} | ({"f_mean", "f_variance"} if model == "marginal" else set())
    for value in predictions.data_vars.values():
        assert value.dims == ("chain", "draw", "test_pattern", "output")
    assert tree["observed_data"]["y"].dims == ("pattern", "output")
    assert tree["predictions_constant_data"]["y_test"].dims == ("test_pattern", "output")
    assert predictions["output"].values.tolist() == [0, 1]
    assert json.loads(tree.attrs["provenance"])["network"]["outputs"] == 2
    h = xr.DataArray(X_TEST / 3.0, dims=("test_pattern", "input")).dot(posterior["W_1"], "input")
    features = xr.apply_ufunc(scipy.special.erf, h + posterior["b_1"])
    f = features.dot(posterior["v"], "unit") / 3**0.5 + posterior["b_out"]
    f = f.transpose(*predictions["f"].dims)
    np.testing.assert_allclose(f, predictions["f"], atol=1e-12)


def test_sites_of_the_mixture_are_gaussian_matrices():
    def sites(net, theory):
        posterior = make_posterior(Mixture, net, X, Y, T, X_TEST, None, theory=theory)
        assert posterior.gaussian and posterior.default_sampler == "split_hmc"
        assert posterior.predicted["f_covariance"].dims == ("test_pattern", "output", "output_")
        assert posterior.predicted["f_covariance"].shape == (4, 2, 2)
        return {name: (site.dims, site.shape) for name, site in posterior.sites.items()}

    order = ("layer", "output", "output_")
    assert sites(fw.Network((4, 3), "erf", outputs=2), "wishart") == {
        "g_1": (("row_1", "output"), (4, 2)),
        "g_2": (("row_2", "output"), (3, 2)),
        "q_bar": (order, (2, 2, 2)),
    }
    assert sites(fw.Network((4,), "relu", outputs=2), "nested") == {
        "a": (("output",), (2,)),
        "g_1": (("row", "output"), (3, 2)),
        "q_bar": (order, (1, 2, 2)),
    }
    assert set(sites(fw.Network((1,), "relu", outputs=2), "nested")) == {"a", "q_bar"}


def test_storage_counts_the_outputs(monkeypatch):
    monkeypatch.setattr("finwidth._sampling.sample.run", lambda plan: plan.storage())
    net, draws = fw.Network((1,), "erf", outputs=2), {"num_samples": 2**14, "num_chains": 1}
    draws |= {"log_likelihood": False, "posterior_predictive": False}
    # 8 bytes of v (1, 2), and of three predictions of 4 points and 2 outputs; of the mixture of
    # g (1, 2), q_bar (1, 2, 2) and also the covariances (4, 2, 2)
    size = (2 + 3 * 8) / 8
    assert sample(net, keep=["v"], **draws) == f"storing v, f(X_test): {size:.1f} MiB"
    size = (2 + 4 + 3 * 8 + 16) / 8
    stored = sample(net, model="student_t", **draws)
    assert stored == f"storing g_1, q_bar, f(X_test): {size:.1f} MiB"


@pytest.mark.slow
@pytest.mark.parametrize("model", [fw.models.network, fw.models.marginal, fw.models.student_t])
def test_arviz_sees_patterns_and_outputs(model):
    net = fw.Network((3,), "erf", outputs=2)
    mcmc = MCMC(fw.infer.SplitHMC(model), num_warmup=5, num_samples=6, progress_bar=False)
    mcmc.run(jax.random.key(0), net, X, Y, temperature=T)
    tree = az.from_numpyro(mcmc, log_likelihood=True)
    assert tree["observed_data"]["y"].dims == ("pattern", "output")
    assert tree["log_likelihood"]["y"].dims == ("chain", "draw", "pattern")


@pytest.mark.parametrize("model", ["network", "marginal", "student_t"])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("y", Y[:, 0], r"expected y = an array of shape \(6, 2\), 2 labels, one an output, for"),
        ("y", Y[:, :1], r"expected y = an array of shape \(6, 2\), .*got shape \(6, 1\)"),
        ("y", Y.T, r"expected y = an array of shape \(6, 2\), .*got shape \(2, 6\)"),
        ("y", np.where(Y > 1, np.nan, Y), "expected y = finite values only"),
        ("y_test", Y_TEST[:, 0], r"expected y_test = an array of shape \(4, 2\), 2 labels"),
        ("y_test", np.ones((4, 3)), r"expected y_test = an array of shape \(4, 2\), .*\(4, 3\)"),
    ],
)
def test_labels_of_another_shape_are_refused(model, name, value, message):
    net = fw.Network((3,), "erf", outputs=2)
    arguments = {"y": Y, "temperature": T, "X_test": X_TEST, "y_test": Y_TEST} | {name: value}
    with pytest.raises(fw.InputError, match=message) as info:
        fw.sample(net, X, model=model, **arguments)
    assert "\n" not in str(info.value)
    if name == "y":
        seeded = numpyro.handlers.seed(getattr(fw.models, model), 0)
        with pytest.raises(fw.InputError, match=message):
            seeded(net, X, value, temperature=T)
        if model != "student_t" and value.shape != Y.shape:
            with pytest.raises(fw.InputError, match=message):
                seeded(net, jnp.asarray(X), jnp.asarray(value), temperature=T)


def test_what_the_mixture_does_not_cover_is_refused():
    for net, theory in (
        (fw.Network((3, 3), "erf", outputs=2), "nested"),
        (fw.Network((3, 3), "identity", bias_precision=1.0, outputs=2), "nested"),
    ):
        message = "expected one hidden layer, the identity without biases or theory='wishart'"
        with pytest.raises(fw.InputError, match=message):
            sample(net, model="student_t", theory=theory)
        with pytest.raises(fw.InputError, match=message):
            fw.models.student_t(net, X, Y, temperature=T)
    with pytest.raises(fw.InputError, match="expected one hidden layer, an odd activation"):
        sample(fw.Network((3, 3), "relu", outputs=2), model="student_t")
