"""What ArviZ makes of a run: groups whose numbers are right, and functions that take them.

`APPLIES` is the table of docs/how-to/read-a-result-in-arviz.md, which a test compares with it.
"""

import json
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.stats

import finwidth as fw

RNG = np.random.default_rng(5)
X = RNG.normal(size=(24, 3))
W = RNG.normal(size=3)
Y = np.tanh(X @ W) + 0.5 * RNG.normal(size=24)
T = 0.8  # high enough that no pattern is too influential for LOO with 400 draws


def run(model: str, outputs: int = 1, **changes) -> object:
    y = Y if outputs == 1 else np.column_stack([Y, -0.5 * Y])[:, :outputs]
    settings = {"keep": ["v", "f", "W_1"] if model != "student_t" else ["q_bar", "f"]} | changes
    return fw.sample(
        fw.Network((6,), "erf", outputs=outputs),
        X,
        y,
        temperature=T,
        model=model,
        num_chains=2,
        num_warmup=100,
        num_samples=200,
        prior=50,
        progress=False,
        **settings,
    )


@pytest.fixture(scope="module")
def tree():
    return run("marginal")


@pytest.mark.parametrize(
    ("model", "outputs"),
    [
        ("marginal", 1),
        pytest.param("network", 1, marks=pytest.mark.slow),
        pytest.param("student_t", 1, marks=pytest.mark.slow),
        pytest.param("marginal", 2, marks=pytest.mark.slow),
        pytest.param("student_t", 2, marks=pytest.mark.slow),
    ],
)
def test_densities_and_replicates_are_those_of_the_likelihood(model, outputs, tree):
    result = tree if (model, outputs) == ("marginal", 1) else run(model, outputs)
    y, f = result["observed_data"].y.values, result["posterior"].f.values
    expected = scipy.stats.norm.logpdf(y, f, np.sqrt(T))
    if outputs > 1:  # the outputs of a pattern are one observation
        expected = expected.sum(axis=-1)
    np.testing.assert_allclose(result["log_likelihood"].y.values, expected, rtol=1e-10)
    assert result["posterior_predictive"].y.dims == result["posterior"].f.dims
    noise = (result["posterior_predictive"].y.values - f) / np.sqrt(T)
    assert scipy.stats.kstest(noise.ravel(), "norm").pvalue > 1e-4
    assert result["prior_predictive"].y.dims == result["posterior"].f.dims
    assert result["prior_predictive"].sizes["draw"] == 50


def test_the_log_prior_is_that_of_the_weights(tree):
    """But for directions of the inputs that no pattern has, of which there are none here."""
    posterior = tree["posterior"]
    squares = (posterior.W_1**2).sum(("unit", "input")) + (posterior.v**2).sum("unit")
    count = 6 * 3 + 6
    expected = -0.5 * squares.values - 0.5 * count * np.log(2 * np.pi)
    np.testing.assert_allclose(tree["log_prior"].weights.values, expected, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "outputs"), [("student_t", 1), ("student_t", 2)])
def test_f_on_the_training_set_is_drawn_from_its_conditional(model, outputs):
    """f at a training pattern, given as a test point too: the same law, by two ways."""
    y = Y if outputs == 1 else np.column_stack([Y, -0.5 * Y])
    result = fw.sample(
        fw.Network((6,), "erf", outputs=outputs),
        X,
        y,
        temperature=T,
        X_test=X,
        model=model,
        num_chains=2,
        num_warmup=100,
        num_samples=1000,
        keep=["q_bar", "f"],
        progress=False,
    )
    f, predictions = result["posterior"].f.values, result["predictions"]
    deviation = np.sqrt(predictions.f_variance.values)
    z = (f - predictions.f_mean.values) / deviation
    assert scipy.stats.kstest(z.ravel()[::7], "norm").pvalue > 1e-4
    assert abs(np.mean(z**2) - 1) < 0.05


APPLIES = {
    "compare": lambda t: az.compare({"a": t, "b": t}),
    "diagnose": az.diagnose,
    "ess": az.ess,
    "eti": az.eti,
    "hdi": az.hdi,
    "loo": az.loo,
    "loo_expectations": az.loo_expectations,
    "loo_influence": az.loo_influence,
    "loo_metrics": az.loo_metrics,
    "loo_pit": az.loo_pit,
    "loo_r2": lambda t: az.loo_r2(t, var_name="y"),
    "loo_score": az.loo_score,
    "mcse": az.mcse,
    "metrics": az.metrics,
    "plot_autocorr": lambda t: az.plot_autocorr(t, var_names=["v"]),
    "plot_compare": lambda t: az.plot_compare(az.compare({"a": t, "b": t})),
    "plot_convergence_dist": az.plot_convergence_dist,
    "plot_dist": lambda t: az.plot_dist(t, var_names=["v"]),
    "plot_energy": az.plot_energy,
    "plot_ess": lambda t: az.plot_ess(t, var_names=["v"]),
    "plot_ess_evolution": lambda t: az.plot_ess_evolution(t, var_names=["v"]),
    "plot_forest": lambda t: az.plot_forest(t, var_names=["v"]),
    "plot_khat": lambda t: az.plot_khat(az.loo(t, pointwise=True)),
    "plot_loo_interval": az.plot_loo_interval,
    "plot_loo_pit": az.plot_loo_pit,
    "plot_mcse": lambda t: az.plot_mcse(t, var_names=["v"]),
    "plot_pair": lambda t: az.plot_pair(t, var_names=["v"], coords={"unit": [0, 1, 2]}),
    "plot_parallel": lambda t: az.plot_parallel(t, var_names=["v"]),
    "plot_ppc_dist": az.plot_ppc_dist,
    "plot_ppc_interval": az.plot_ppc_interval,
    "plot_ppc_pit": az.plot_ppc_pit,
    "plot_ppc_tstat": az.plot_ppc_tstat,
    "plot_prior_posterior": lambda t: az.plot_prior_posterior(t, var_names=["v"]),
    "plot_psense_dist": lambda t: az.plot_psense_dist(t, var_names=["v"], coords={"unit": [0]}),
    "plot_rank": lambda t: az.plot_rank(t, var_names=["v"]),
    "plot_rank_dist": lambda t: az.plot_rank_dist(t, var_names=["v"]),
    "plot_trace": lambda t: az.plot_trace(t, var_names=["v"]),
    "plot_trace_dist": lambda t: az.plot_trace_dist(t, var_names=["v"]),
    "psense": az.psense,
    "psense_summary": az.psense_summary,
    "rhat": az.rhat,
    "summary": az.summary,
}
QUICK = ("compare", "loo", "loo_pit", "psense", "summary", "plot_ppc_dist")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in APPLIES],
)
def test_functions_take_a_run_without_a_warning(name, tree):
    APPLIES[name](tree)
    plt.close("all")


def test_the_page_names_what_applies():
    page = Path(__file__).parents[1] / "docs" / "how-to" / "read-a-result-in-arviz.md"
    text = page.read_text(encoding="utf-8")
    missing = [name for name in APPLIES if f"`{name}`" not in text]
    assert not missing


def test_wrong_arguments_are_refused(unchecked_types):
    net, data = fw.Network((3,), "erf"), {"temperature": T, "progress": False}
    for name, value in (("log_likelihood", 1), ("posterior_predictive", "yes"), ("prior", -1)):
        with pytest.raises(fw.InputError, match=f"expected {name} = "):
            fw.sample(net, X, Y, **data, **{name: value})


@pytest.mark.slow
def test_groups_are_those_that_were_asked_for():
    settings = {"log_likelihood": False, "posterior_predictive": False, "prior": 0}
    short = {"num_warmup": 10, "num_samples": 10, "num_chains": 1, "progress": False}
    net = fw.Network((6,), "erf")
    bare = fw.sample(net, X, Y, temperature=T, keep=["v"], **short, **settings)
    assert set(bare.children) == {"posterior", "sample_stats", "observed_data", "constant_data"}
    usual = fw.sample(net, X, Y, temperature=T, keep=["v"], **short)
    more = {"log_likelihood", "log_prior", "posterior_predictive"}
    assert set(usual.children) == set(bare.children) | more
    assert set(usual["posterior"].data_vars) == {"v"}  # f is stored for these groups alone
    np.testing.assert_array_equal(usual["posterior"].v, bare["posterior"].v)
    assert json.loads(usual.attrs["provenance"])["keep"] == ["v"]


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", ["logit", "softmax"])
def test_functions_take_a_run_of_classes_without_a_warning(likelihood):
    several = likelihood == "softmax"
    signs = np.sign(Y)
    labels = np.where(signs > 0, 1, np.where(X[:, 0] > 0, 2, 0)).astype(float)
    classes = fw.sample(
        fw.Network((5,), "erf", outputs=3 if several else 1),
        X,
        labels if several else signs,
        likelihood=likelihood,
        model="network",
        num_chains=2,
        num_warmup=100,
        num_samples=200,
        keep=["v"],
        progress=False,
    )
    for function in (az.loo, az.plot_ppc_pava, az.plot_loo_pava, az.psense, az.summary):
        function(classes)
        plt.close("all")
