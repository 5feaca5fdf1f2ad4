"""Models with f integrated: the density of all labels, and each label given all others."""

from typing import Any

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
import scipy.stats
from numpyro import handlers
from numpyro.infer import (
    HMC,
    MCMC,
    SVI,
    Predictive,
    Trace_ELBO,
    TraceMeanField_ELBO,
)
from numpyro.infer.autoguide import AutoDelta
from numpyro.infer.util import log_density

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth.models._kronecker import Eigen, KroneckerNormal
from finwidth.models._readout import ReadoutMarginal
from finwidth.models._together import JointNormal

RNG = np.random.default_rng(3)
P, T = 6, 0.3
X = RNG.normal(size=(P, 2))
Y = RNG.normal(size=(P, 2))


def readout(columns, outputs):
    """Return the law, its mean, and its covariance of (pattern, output) in that order."""
    features = RNG.normal(size=(P, columns))
    covariance = np.kron(features @ features.T + T * np.eye(P), np.eye(outputs))
    return ReadoutMarginal(jnp.asarray(features), T, outputs), np.zeros(P * outputs), covariance


def dense():
    root, mean = RNG.normal(size=(P, P)), RNG.normal(size=P)
    law = JointNormal(jnp.asarray(mean), covariance_matrix=jnp.asarray(root @ root.T))
    return law, mean, root @ root.T


def kronecker():
    root, other = RNG.normal(size=(P, 4)), RNG.normal(size=(2, 2))
    mean, bias = RNG.normal(size=(P, 2)), 0.7
    values, vectors = np.linalg.eigh(root @ root.T)
    eigen = (np.maximum(values, 0), vectors, vectors.sum(axis=0), np.asarray(bias))
    matrix = other @ other.T
    law = KroneckerNormal(
        Eigen(*map(jnp.asarray, eigen)), jnp.asarray(matrix), jnp.asarray(mean), T
    )
    shared = bias * np.ones((P, P)) + T * np.eye(P)
    return law, mean.ravel(), np.kron(root @ root.T, matrix) + np.kron(shared, np.eye(2))


LAWS = {
    "fewer units": lambda: readout(3, 1),
    "more units": lambda: readout(9, 2),
    "dense": dense,
    "kronecker": kronecker,
}


@pytest.mark.parametrize("make", LAWS.values(), ids=LAWS)
def test_each_pattern_is_given_all_others(make):
    """log p(y_i | y_-i) = log p(y) − log p(y_-i), by dense Gaussians."""
    with float64():
        law, mean, covariance = make()
        y = Y if len(law.event_shape) > 1 else Y[:, 0]
        each = np.asarray(jax.jit(lambda law, y: law.log_prob(y))(law, jnp.asarray(y)))
        joint = float(jax.jit(lambda law, y: law.joint(y))(law, jnp.asarray(y)))
    whole = scipy.stats.multivariate_normal(mean, covariance).logpdf(y.ravel())
    assert joint == pytest.approx(whole, rel=1e-10)
    for i in range(P):
        rest = np.repeat(np.arange(P) != i, y.size // P)
        law = scipy.stats.multivariate_normal(mean[rest], covariance[np.ix_(rest, rest)])
        assert each[i] == pytest.approx(whole - law.logpdf(y.ravel()[rest]), rel=1e-8)
    assert each.shape == (P,)


@pytest.mark.parametrize(
    ("model", "net"),
    [
        (fw.models.marginal, fw.Network((3,), "erf", outputs=2)),
        pytest.param(
            fw.models.student_t,
            fw.Network((3,), "relu", (0.7, 1.3), (2.0, 0.5)),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            fw.models.student_t,
            fw.Network((3,), "relu", (0.7, 1.3), (2.0, 0.5), outputs=2),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_densities_take_all_labels_together(model, net):
    """Whatever NumPyro sums a density for, the labels handed over, conditioned on or masked."""
    keywords = {"temperature": T}
    y = jnp.asarray(Y if net.outputs > 1 else Y[:, 0])
    with float64():
        trace = handlers.trace(handlers.seed(model, 1)).get_trace(net, X, y, **keywords)
        sites = {k: v for k, v in trace.items() if v["type"] == "sample" and k != "y"}
        values = {k: v["value"] for k, v in sites.items()}
        prior = sum(float(jnp.sum(v["fn"].log_prob(v["value"]))) for v in sites.values())
        expected = pytest.approx(prior + float(trace["y"]["fn"].joint(y)), rel=1e-9)

        def density(model, *arguments, **more):
            return float(log_density(model, (net, X, *arguments), keywords, values | more)[0])

        assert density(model, y) == expected
        assert density(model, y=y) == expected
        assert density(handlers.condition(model, {"y": y})) == expected
        assert density(handlers.mask(model, mask=True), y) == expected
        assert density(handlers.mask(model, mask=jnp.array(True)), y) == expected
        assert density(handlers.mask(model, mask=False), y) == 0.0
        guide = AutoDelta(model, init_loc_fn=numpyro.infer.init_to_value(values=values))
        for elbo in (Trace_ELBO, TraceMeanField_ELBO):
            svi = SVI(model, guide, numpyro.optim.Adam(0.1), elbo())
            state = svi.init(jax.random.key(0), net, X, y, **keywords)
            assert float(-svi.evaluate(state, net, X, y, **keywords)) == expected
        draws = Predictive(model, {k: v[None] for k, v in values.items()})(
            jax.random.key(0), net, X, **keywords
        )
    assert draws["y"].shape == (1, *y.shape)


N_PATTERNS = 20
TRAINING = RNG.normal(size=(N_PATTERNS, 3))
TARGETS = np.tanh(TRAINING @ RNG.normal(size=3)) + 0.5 * RNG.normal(size=N_PATTERNS)


NET = fw.Network((3,), "erf")


def run_by_hand(kernel, num_samples):
    mcmc = MCMC(kernel, num_warmup=num_samples // 2, num_samples=num_samples, progress_bar=False)
    mcmc.run(jax.random.key(0), NET, TRAINING, TARGETS, temperature=T)
    return az.from_numpyro(mcmc, log_likelihood=True)


def test_a_likelihood_is_one_number_for_each_pattern():
    """Which is what ArviZ sees of a run of one's own."""
    trace = handlers.trace(handlers.seed(fw.models.marginal, 1)).get_trace(
        NET, TRAINING, temperature=T
    )
    draws = {"W_1": trace["W_1"]["value"][None]}
    found = numpyro.infer.log_likelihood(
        fw.models.marginal, draws, NET, TRAINING, TARGETS, temperature=T
    )
    assert {name: value.shape for name, value in found.items()} == {"y": (1, N_PATTERNS)}


@pytest.mark.slow
def test_arviz_sees_every_pattern_of_a_run_of_one_s_own():
    tree = run_by_hand(HMC(fw.models.marginal, num_steps=1, trajectory_length=None), 4)
    assert tree["log_likelihood"].y.dims == ("chain", "draw", "pattern")
    assert tree["observed_data"].y.dims == ("pattern",)
    assert list(tree["log_likelihood"].data_vars) == ["y"]


@pytest.mark.slow
def test_leave_one_out_is_that_of_the_patterns_left_out():
    """From draws with all patterns, against p(y_i | y_-i) of runs without pattern i."""
    with float64():
        tree = run_by_hand(fw.infer.SplitHMC(fw.models.marginal), 4000)
    found: Any = az.loo(tree, pointwise=True)
    assert found.n_data_points == N_PATTERNS
    assert found.pareto_k.max() < 0.7
    settings = {"temperature": T, "num_chains": 2, "num_samples": 4000, "progress": False}
    for left in range(0, N_PATTERNS, 5):
        rest = np.arange(N_PATTERNS) != left
        without = fw.sample(
            NET, TRAINING[rest], TARGETS[rest], X_test=TRAINING[[left]], **settings
        )["predictions"]
        scale = np.sqrt(without.f_variance + T)
        density = scipy.stats.norm.pdf(TARGETS[left], without.f_mean, scale)[..., 0]
        inverse = np.exp(-tree["log_likelihood"].y[..., left].values)
        error = np.hypot(
            *(az.mcse(draws, method="mean") / draws.mean() for draws in (density, inverse))
        )
        assert abs(float(found.elpd_i[left]) - np.log(density.mean())) < 4 * error
