"""The NumPyro models: sites, densities, and what NumPyro can do with them."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
import scipy.stats
from numpyro.infer.util import log_density

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth.models._readout import condition

RNG = np.random.default_rng(5)
X = RNG.normal(size=(7, 4))
Y = RNG.normal(size=7)
NETS = [
    fw.Network((3,), "erf", (0.7, 1.3)),
    fw.Network((9,), "relu", (0.7, 1.3), (2.0, 0.5)),
    fw.Network((3, 5), "tanh", (0.7, 1.1, 1.3)),
    fw.Network((4, 3), "erf", (0.7, 1.1, 1.3), (2.0, 1.0, 0.5)),
]


def draw(net, model=fw.models.network):
    seeded = numpyro.handlers.seed(model, jax.random.key(2))
    trace = numpyro.handlers.trace(seeded).get_trace(net, X, temperature=0.3)
    return trace, {k: v["value"] for k, v in trace.items() if v["type"] == "sample" and k != "y"}


def forward(net, values, X):
    """The network of theory.md, section 1, in NumPy."""
    fn = {
        "erf": lambda h: np.asarray(jax.scipy.special.erf(h)),
        "tanh": np.tanh,
        "relu": lambda h: np.maximum(h, 0),
    }[net.activation.name]
    h = X
    for layer in range(1, net.depth + 1):
        w = np.asarray(values[f"W_{layer}"])
        h = h @ w.T / np.sqrt(w.shape[1]) + np.asarray(values.get(f"b_{layer}", 0.0))
        h = fn(h)
    return h, h @ np.asarray(values["v"]) / np.sqrt(net.widths[-1]) + values.get("b_out", 0.0)


SLOW = pytest.mark.slow
SOME = [pytest.param(net, marks=SLOW if net.bias_precision is None else ()) for net in NETS]


@pytest.mark.parametrize("net", SOME, ids=repr)
def test_network_density_is_prior_times_likelihood(net):
    with float64():
        trace, values = draw(net)
        density = float(
            log_density(fw.models.network, (net, X, Y), {"temperature": 0.3}, values)[0]
        )
        expected = 0.0
        for layer, precision in enumerate(net.weight_precision, start=1):
            name = f"W_{layer}" if layer <= net.depth else "v"
            expected += scipy.stats.norm(0, precision**-0.5).logpdf(values[name]).sum()
        for layer, precision in enumerate(net.bias_precision or (), start=1):
            name = f"b_{layer}" if layer <= net.depth else "b_out"
            expected += scipy.stats.norm(0, precision**-0.5).logpdf(values[name]).sum()
        _, f = forward(net, values, X)
        expected += scipy.stats.norm(f, 0.3**0.5).logpdf(Y).sum()
        assert density == pytest.approx(expected, rel=1e-10)
        np.testing.assert_allclose(trace["f"]["value"], f, rtol=1e-12)


@pytest.mark.parametrize("net", SOME, ids=repr)
def test_marginal_density_is_the_network_s_with_the_readout_integrated(net):
    """p(y | W) = p(y, v | W)/p(v | W, y) for any v."""
    with float64():
        _, values = draw(net)
        keywords = {"temperature": 0.3}
        joint = float(log_density(fw.models.network, (net, X, Y), keywords, values)[0])
        hidden = {k: v for k, v in values.items() if k not in ("v", "b_out")}
        marginal = float(log_density(fw.models.marginal, (net, X, Y), keywords, hidden)[0])
        features = fw.models.readout_features(
            net, fw.models.hidden_features(net, values, jnp.asarray(X))
        )
        readout = condition(features, jnp.asarray(Y), 0.3)
        covariance = np.linalg.inv(
            np.asarray(features.T @ features) / 0.3 + np.eye(features.shape[1])
        )
        whitened = np.asarray(values["v"]) * np.sqrt(net.weight_precision[-1])
        log_jacobian = 0.5 * net.widths[-1] * np.log(net.weight_precision[-1])
        if net.bias_precision is not None:
            last = net.bias_precision[-1]
            whitened = np.append(whitened, np.asarray(values["b_out"]) * np.sqrt(last))
            log_jacobian += 0.5 * np.log(last)
        posterior = scipy.stats.multivariate_normal(readout.coefficients, covariance)
        assert marginal == pytest.approx(
            joint - posterior.logpdf(whitened) - log_jacobian, rel=1e-8
        )


@pytest.mark.parametrize("model", [pytest.param(fw.models.network, marks=SLOW), fw.models.marginal])
def test_prior_predictive_has_the_moments_of_the_prior(model):
    """E[f fᵀ] is the infinite-width kernel at any width, for one hidden layer."""
    net = fw.Network((3,), "erf", (0.7, 1.3), (2.0, 0.5))
    n = 20_000
    with float64():
        predictive = numpyro.infer.Predictive(model, num_samples=n)
        y = np.asarray(predictive(jax.random.key(3), net, X, temperature=0.3)["y"])
    expected = fw.nngp_kernel(net, X) + 0.3 * np.eye(7)
    products = y[:, :, None] * y[:, None, :]
    error = products.std(axis=0) / np.sqrt(n)
    assert np.max(np.abs(products.mean(axis=0) - expected) / error) < 4.5


def test_sites_sit_in_named_plates():
    trace, _ = draw(fw.Network((3,), "erf"))
    assert [frame.name for frame in trace["W_1"]["cond_indep_stack"]] == ["input", "unit"]
    trace, _ = draw(fw.Network((3, 5), "erf", bias_precision=1.0))
    assert trace["W_2"]["value"].shape == (5, 3)
    names = {frame.name for frame in trace["W_2"]["cond_indep_stack"]}
    assert names == {"unit_1", "unit_2"}
    assert trace["b_out"]["value"].shape == ()


@pytest.mark.slow
def test_models_work_with_other_numpyro_tools():
    """An automatic guide needs gradients through a vmapped model."""
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoNormal

    net = fw.Network((4,), "erf")
    guide = AutoNormal(fw.models.marginal)
    svi = SVI(fw.models.marginal, guide, numpyro.optim.Adam(0.05), Trace_ELBO(num_particles=8))
    result = svi.run(jax.random.key(0), 50, net, X, Y, temperature=0.3, progress_bar=False)
    assert float(result.losses[-10:].mean()) < float(result.losses[:10].mean())


@pytest.mark.parametrize("model", [fw.models.network, fw.models.marginal])
def test_models_refuse_bad_input(model):
    net = fw.Network((3,), "erf")
    seeded = numpyro.handlers.seed(model, 0)
    with pytest.raises(fw.InputError, match="expected temperature = a finite float > 0, got 0"):
        seeded(net, X, Y, temperature=0.0)
    with pytest.raises(fw.InputError, match="expected y = an array of shape"):
        seeded(net, X, Y[:, None], temperature=0.1)
    with pytest.raises(fw.InputError, match="expected X = finite values"):
        seeded(net, np.full((3, 2), np.nan), temperature=0.1)
