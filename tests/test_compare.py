"""The comparison: calibrated z-scores, and a verdict that names, admits or refuses."""

import dataclasses
import json
import math
import statistics
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import xarray as xr

import finwidth as fw
from finwidth._basics.errors import InputError
from finwidth._problem.network import Network
from finwidth._results.compare import compare
from finwidth._results.files import load, save
from finwidth._results.verdict import Limits
from finwidth.activations._activation import Activation

ERF = Activation("erf", jax.scipy.special.erf, parity="odd")
NETWORK = Network(widths=(20,), activation=ERF)
N_TEST = 6
Y_TEST = np.array([1.0, -1.0, 1.0, 1.0, -1.0, -1.0])
# The 'true' posterior of the synthetic runs: independent Gaussians at the test points.
MEAN = np.array([0.8, -0.6, 1.2, 0.3, -0.9, -1.4])
SD = np.array([0.2, 0.3, 0.1, 0.25, 0.2, 0.15])


@dataclasses.dataclass(frozen=True)
class FakeTheory:
    """A theory that says N(mean, sd²) at the test points."""

    mean: np.ndarray = dataclasses.field(default_factory=lambda: MEAN)
    sd: np.ndarray = dataclasses.field(default_factory=lambda: SD)
    network: Network = NETWORK
    temperature: float = 0.1
    theory: str = "nested"
    converged: bool = True

    def predict(self, X_test, full_covariance=False):
        return SimpleNamespace(mean=self.mean, variance=self.sd**2, covariance=None)

    def generalization_error(self, X_test, y_test):
        bias2, variance = np.mean((y_test - self.mean) ** 2), np.mean(self.sd**2)
        return xr.Dataset({"error": bias2 + variance, "bias2": bias2, "variance": variance})


def ar1(rng, n_chains, n_draws, n_series, rho):
    """Stationary AR(1) chains of unit variance, shape (chain, draw, series)."""
    noise = rng.normal(size=(n_draws, n_chains, n_series))
    chains = np.empty_like(noise)
    chains[0] = noise[0]
    for draw in range(1, n_draws):
        chains[draw] = rho * chains[draw - 1] + math.sqrt(1 - rho**2) * noise[draw]
    return chains.transpose(1, 0, 2)


def make_tree(f=None, f_variance=None, y_test=Y_TEST, diverging=0, seed=0, **draws):
    """A run whose draws of f (or conditional means, with `f_variance`) are given."""
    if f is None:
        options = {"n_chains": 4, "n_draws": 1500, "n_series": N_TEST, "rho": 0.3} | draws
        f = MEAN + SD * ar1(np.random.default_rng(seed), **options)
    dims = ("chain", "draw", "test_pattern")
    predictions = {"f": (dims, f)}
    if f_variance is not None:
        predictions = {"f_mean": (dims, f), "f_variance": (dims, f_variance)}
    flags = np.zeros(f.shape[:2], dtype=bool)
    flags.flat[:diverging] = True
    constant = {"X_test": (("test_pattern", "input"), np.zeros((f.shape[2], 3)))}
    if y_test is not None:
        constant["y_test"] = ("test_pattern", y_test)
    tree = xr.DataTree.from_dict(
        {
            "predictions": xr.Dataset(predictions),
            "predictions_constant_data": xr.Dataset(constant),
            "sample_stats": xr.Dataset({"diverging": (("chain", "draw"), flags)}),
        }
    )
    network = {
        "widths": [20],
        "activation": "erf",
        "weight_precision": [1.0, 1.0],
        "bias_precision": None,
    }
    record = {"network": network, "temperature": 0.1, "model": "marginal", "sampler": "nuts"}
    tree.attrs["provenance"] = json.dumps(record)
    return tree


def verdict(theory, tree, **options):
    report = compare(theory, tree, **options)
    assert report.attrs["verdict"] == str(report.verdict.values)
    assert report.attrs["outcome"] == str(report.outcome.values)
    return report.attrs["outcome"], report.attrs["verdict"]


# Calibration: with the true theory z is a standard normal


def test_z_of_the_true_means_is_standard_normal():
    n_test = 150  # independent chains, so independent z-scores
    f = ar1(np.random.default_rng(1), 4, 500, n_test, 0.6)
    theory = FakeTheory(mean=np.zeros(n_test), sd=np.ones(n_test))
    report = compare(theory, make_tree(f, y_test=np.ones(n_test)))
    z = report.mean_z.values
    # chi-square with n_test degrees of freedom, at four standard deviations of its mean
    assert abs(np.sum(z**2) / n_test - 1.0) < 4 * math.sqrt(2 / n_test)
    assert abs(np.mean(z)) < 4 / math.sqrt(n_test)
    assert float(report.fraction_beyond) == 0.0


@pytest.mark.parametrize("conditional", [pytest.param(False, marks=pytest.mark.slow), True])
def test_z_of_the_true_scores_is_standard_normal(conditional):
    n_runs, scores = 50, []
    for seed in range(n_runs):
        tree = make_tree(seed=seed, n_draws=400, rho=0.5)
        if conditional:  # law of total variance: half of it is within, half between draws
            f = MEAN + (tree["predictions/f"].values - MEAN) / math.sqrt(2)
            tree = make_tree(f, f_variance=np.broadcast_to(SD**2 / 2, f.shape).copy())
        z = compare(FakeTheory(), tree).z
        assert float(z.sel(quantity="accuracy_mean")) == 0  # far from any boundary
        scores.append(z.sel(quantity=["error", "bias2", "variance", "accuracy"]).values)
    scores = np.array(scores)
    assert np.all(np.abs(np.mean(scores, axis=0)) < 4 / math.sqrt(n_runs))
    assert np.all(np.abs(np.mean(scores**2, axis=0) - 1.0) < 4 * math.sqrt(2 / n_runs))


def test_bias2_is_not_raised_by_the_noise_of_the_posterior_mean():
    theory = FakeTheory(mean=Y_TEST)  # the true bias is zero, where the naive square is not
    estimates, corrections = [], []
    for seed in range(60):
        f = Y_TEST + SD * ar1(np.random.default_rng(seed), 4, 100, N_TEST, 0.2)
        report = compare(theory, make_tree(f))
        estimates.append(float(report.exact.sel(quantity="bias2")))
        corrections.append(float(report.bias2_correction))
        assert abs(float(report.z.sel(quantity="bias2"))) < 4
    standard_error = np.std(estimates) / math.sqrt(len(estimates))
    assert abs(np.mean(estimates)) < 4 * standard_error
    assert np.mean(corrections) > 4 * standard_error, "otherwise this test shows nothing"


def test_error_is_bias2_plus_variance():
    exact = compare(FakeTheory(), make_tree()).exact
    total = float(exact.sel(quantity="bias2") + exact.sel(quantity="variance"))
    assert float(exact.sel(quantity="error")) == pytest.approx(total, rel=1e-12)


def test_conditional_moments_estimate_the_same_with_less_noise():
    rng = np.random.default_rng(3)
    mean = MEAN + SD * math.sqrt(0.5) * ar1(rng, 4, 2000, N_TEST, 0.3)
    f = mean + SD * math.sqrt(0.5) * rng.normal(size=mean.shape)
    plain = compare(FakeTheory(), make_tree(f))
    blackwell = compare(FakeTheory(), make_tree(mean, np.broadcast_to(SD**2 / 2, f.shape).copy()))
    moving = ["error", "bias2", "variance", "accuracy"]
    assert np.all(blackwell.mcse.sel(quantity=moving) < plain.mcse.sel(quantity=moving))
    plain, blackwell = plain.sel(quantity=moving), blackwell.sel(quantity=moving)
    assert np.all(np.abs(blackwell.exact - plain.exact) < 4 * np.hypot(plain.mcse, blackwell.mcse))


# Verdicts


def test_no_disagreement_says_what_the_run_could_have_seen():
    report = compare(FakeTheory(), make_tree())
    assert report.attrs["outcome"] == "no disagreement"
    sentence = report.attrs["verdict"]
    assert sentence.startswith("No disagreement found: error ")
    power = 4 * float(report.mcse[0] / report.exact[0])
    assert f"could have seen a difference in error of {100 * power:.1f} % or more" in sentence


def test_a_run_with_little_power_says_so():
    f = MEAN + 20 * SD * ar1(np.random.default_rng(5), 4, 150, N_TEST, 0.0)
    outcome, sentence = verdict(FakeTheory(sd=20 * SD), make_tree(f), r_hat_limit=1.1)
    assert outcome == "no disagreement"
    assert sentence.endswith("so the run has little power.")


def test_a_wrong_theory_is_named_with_its_size():
    theory = FakeTheory(sd=1.5 * SD)
    report = compare(theory, make_tree())
    assert report.attrs["outcome"] == "disagreement"
    sentence = report.attrs["verdict"]
    assert sentence.startswith("Theory and posterior disagree: error ")
    assert "(nested) against" in sentence
    assert "% too high; variance" in sentence
    assert "while bias2 and accuracy_mean agree within 4 MCSE" in sentence
    assert float(report.z.sel(quantity="error")) > 4
    size = float(report.relative_difference.sel(quantity="variance"))
    assert size == pytest.approx(1.25, abs=0.1)
    assert str(round(100 * size, -1))[:2] in sentence


def test_means_that_differ_are_named_although_the_error_agrees():
    mean = MEAN.copy()
    mean[[0, 1]] = 2 * Y_TEST[:2] - MEAN[:2]  # mirrored about the label: the same square
    outcome, sentence = verdict(FakeTheory(mean=mean), make_tree())
    assert outcome == "disagreement"
    assert "the mean differs at 2 of 6 test patterns" in sentence
    assert "at x_test[" in sentence
    assert "while error and bias2 and variance and accuracy and accuracy_mean agree" in sentence


def test_a_significant_but_tiny_difference_is_called_small():
    f = MEAN + SD * ar1(np.random.default_rng(6), 4, 20000, N_TEST, 0.0) * 0.05
    outcome, sentence = verdict(FakeTheory(mean=MEAN + 0.0005, sd=0.05 * SD), make_tree(f))
    assert outcome == "disagreement"
    assert "small but beyond the noise" in sentence


def test_many_patterns_raise_their_limit_and_few_do_not():
    limits = Limits(r_hat=1.01, ess_per_chain=100.0, z=4.0)
    assert limits.for_patterns(1) == limits.for_patterns(100) == 4.0
    assert 4.0 < limits.for_patterns(1000) < limits.for_patterns(100_000) < 6.0
    chance = 2 * 1000 * statistics.NormalDist().cdf(-limits.for_patterns(1000))
    assert chance == pytest.approx(0.01)


# Refusals


def test_chains_that_have_not_mixed_are_not_judged():
    f = make_tree()["predictions/f"].values.copy()
    f[0, :, 4] += 0.3
    outcome, sentence = verdict(FakeTheory(), make_tree(f))
    assert outcome == "not judged"
    assert sentence.startswith("Not judged: the chains have not mixed (R-hat 1.")
    assert "for f at x_test[4], limit 1.01); run longer" in sentence


def test_a_wrong_theory_is_not_judged_either_when_the_chains_have_not_mixed():
    f = make_tree()["predictions/f"].values.copy()
    f[0] += 0.5
    assert verdict(FakeTheory(mean=-MEAN), make_tree(f))[0] == "not judged"


def test_disjoint_modes_that_only_the_spread_shows_are_not_judged():
    f = make_tree()["predictions/f"].values.copy()
    f[0] = MEAN + 3 * (f[0] - MEAN)  # the same mean, another scale
    outcome, sentence = verdict(FakeTheory(), make_tree(f))
    assert outcome == "not judged"
    assert "have not mixed" in sentence


def test_too_few_effective_draws_are_not_judged():
    outcome, sentence = verdict(FakeTheory(), make_tree(seed=8, n_draws=40), r_hat_limit=1.5)
    assert outcome == "not judged"
    assert "too few effective draws (bulk ESS " in sentence
    assert "at least 400 wanted" in sentence


@pytest.mark.parametrize("n_draws", [1, 2, 3])
def test_a_handful_of_draws_is_not_judged(n_draws):
    outcome, sentence = verdict(FakeTheory(), make_tree(n_draws=n_draws))
    assert outcome == "not judged"
    assert f"{n_draws} draws in each chain are too few" in sentence


def test_one_chain_is_not_judged():
    outcome, sentence = verdict(FakeTheory(), make_tree(n_chains=1, n_draws=5000))
    assert outcome == "not judged"
    assert "one chain cannot show that it has mixed" in sentence


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_draws_are_not_judged(value):
    f = make_tree()["predictions/f"].values.copy()
    f[1, 7, 2] = value
    outcome, sentence = verdict(FakeTheory(), make_tree(f))
    assert outcome == "not judged"
    assert "non-finite values of f at x_test[2]" in sentence


def test_non_finite_conditional_variances_are_not_judged():
    f = make_tree()["predictions/f"].values
    variance = np.ones_like(f)
    variance[0, 0, 0] = np.nan
    outcome, sentence = verdict(FakeTheory(), make_tree(f, variance))
    assert outcome == "not judged"
    assert "non-finite values of the accuracy or the variance or the error" in sentence


def test_a_theory_that_is_not_finite_or_not_converged_is_not_judged():
    outcome, sentence = verdict(FakeTheory(mean=MEAN * np.nan), make_tree())
    assert outcome == "not judged"
    assert "theory is not finite" in sentence
    outcome, sentence = verdict(FakeTheory(converged=False), make_tree())
    assert outcome == "not judged"
    assert "has not converged" in sentence


@pytest.mark.parametrize("levels", [[0, 0, 0, 0], [0, 1, 2, 3], [-1, 1, -1, 1]])
def test_chains_that_stand_still_are_not_judged(levels):
    f = np.broadcast_to(np.array(levels, float)[:, None, None], (4, 200, N_TEST)).copy()
    assert verdict(FakeTheory(), make_tree(f))[0] == "not judged"


@pytest.mark.parametrize(("diverging", "said"), [(0, False), (3, True)])
def test_divergences_are_mentioned(diverging, said):
    report = compare(FakeTheory(), make_tree(diverging=diverging))
    assert int(report.divergences) == diverging
    assert ("3 of 6000 transitions diverged" in report.attrs["verdict"]) is said


def test_a_pattern_whose_f_cannot_vary_has_no_r_hat_and_no_noise():
    f = make_tree()["predictions/f"].values.copy()
    f[..., 3] = 0.0
    mean, sd = MEAN.copy(), SD.copy()
    mean[3] = sd[3] = 0.0
    report = compare(FakeTheory(mean, sd), make_tree(f))
    assert report.attrs["outcome"] == "no disagreement"
    assert np.isnan(report.r_hat[3])
    assert float(report.mean_mcse[3]) == float(report.mean_z[3]) == 0.0
    mean[3] = 0.1
    report = compare(FakeTheory(mean, sd), make_tree(f))
    assert report.attrs["outcome"] == "disagreement"
    assert np.isinf(report.mean_z[3])


# The report as a Dataset


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "(exact)"),
        ({"posterior": "scale mixture"}, "(scale mixture)"),
        ({"posterior": "scale mixture", "biased": True}, "(scale mixture)"),
        ({"theory": "nested"}, "(scale mixture)"),  # of before it was recorded
        ({"posterior": "exact", "biased": True}, "(biased sampler)"),
        ({"biased": True}, "(biased sampler)"),
    ],
)
def test_draws_that_are_not_the_network_s_posterior_are_not_called_exact(change, said):
    tree = make_tree()
    record = json.loads(tree.attrs["provenance"]) | change
    tree.attrs["provenance"] = json.dumps(record)
    for theory in (FakeTheory(), FakeTheory(sd=1.5 * SD)):
        assert said in verdict(theory, tree)[1]


def test_reports_of_several_widths_are_one_dataset(tmp_path):
    reports = []
    for width in (20, 50):
        tree = make_tree()
        record = json.loads(tree.attrs["provenance"])
        record["network"]["widths"] = [width]
        tree.attrs["provenance"] = json.dumps(record)
        reports.append(compare(FakeTheory(network=NETWORK.replace(widths=(width,))), tree))
    together = xr.concat(reports, dim="width")
    np.testing.assert_array_equal(together["width"], [20, 50])
    assert together["exact"].dims == ("width", "quantity")
    assert together["verdict"].dims == ("width",)
    loaded = load(save(xr.DataTree(together), tmp_path / "reports.nc"))
    assert loaded.to_dataset().identical(together)


def test_the_report_carries_its_context(tmp_path):
    report = compare(FakeTheory(), make_tree())
    assert json.loads(report.attrs["network"])["widths"] == [20]
    assert report.attrs["model"] == "marginal"
    assert report.attrs["r_hat_limit"] == 1.01
    assert report.attrs["ess_limit"] == 400.0
    assert int(report.n_chains) == 4
    assert int(report.n_draws) == 1500
    assert float(report.temperature) == 0.1
    assert load(save(xr.DataTree(report), tmp_path / "r.nc")).to_dataset().identical(report)


# Bad input


def test_theory_and_tree_of_different_runs_are_refused():
    with pytest.raises(InputError, match=r"same temperature, got 0.5 in the theory and 0.1 in"):
        compare(FakeTheory(temperature=0.5), make_tree())
    with pytest.raises(
        InputError, match=r"got widths = \[7\] in the theory and \[20\] in the tree"
    ):
        compare(FakeTheory(network=NETWORK.replace(widths=(7,))), make_tree())


def test_theory_and_tree_of_different_training_sets_are_refused():
    @dataclasses.dataclass(frozen=True)
    class Solved(FakeTheory):
        problem: SimpleNamespace = dataclasses.field(
            default_factory=lambda: SimpleNamespace(X=np.ones((2, 3)), y=np.array([1.0, -1.0]))
        )

    tree = make_tree()
    tree["constant_data"] = xr.DataTree(xr.Dataset({"X": (("pattern", "input"), np.ones((2, 3)))}))
    tree["observed_data"] = xr.DataTree(xr.Dataset({"y": ("pattern", [1.0, -1.0])}))
    assert compare(Solved(), tree).attrs["outcome"] == "no disagreement"
    tree["observed_data"] = xr.DataTree(xr.Dataset({"y": ("pattern", [1.0, 1.0])}))
    with pytest.raises(InputError, match="same training set, got different values of y"):
        compare(Solved(), tree)
    tree["observed_data"] = xr.DataTree(xr.Dataset({"y": ("pattern", [1.0])}))
    with pytest.raises(InputError, match=r"got y of shape \(2,\) in the theory and \(1,\) in"):
        compare(Solved(), tree)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("predictions", "expected tree with f .* got no such group"),
        ("predictions_constant_data", "expected tree with X_test"),
    ],
)
def test_a_tree_without_predictions_is_refused(group, message):
    tree = make_tree()
    del tree[group]
    with pytest.raises(InputError, match=message):
        compare(FakeTheory(), tree)


def test_a_tree_without_labels_f_or_provenance_is_refused():
    with pytest.raises(InputError, match="expected tree with y_test"):
        compare(FakeTheory(), make_tree(y_test=None))
    tree = make_tree()
    tree["predictions"] = xr.DataTree(tree["predictions"].to_dataset().rename(f="g"))
    with pytest.raises(InputError, match=r"in group 'predictions', got \['g'\]"):
        compare(FakeTheory(), tree)
    tree = make_tree()
    del tree.attrs["provenance"]
    with pytest.raises(InputError, match="provenance"):
        compare(FakeTheory(), tree)


@pytest.mark.parametrize(
    "options", [{"r_hat_limit": 1.0}, {"ess_per_chain": 0.0}, {"z_limit": math.nan}]
)
def test_limits_are_checked(options):
    name = next(iter(options))
    with pytest.raises(InputError, match=f"expected {name} = a finite float > "):
        compare(FakeTheory(), make_tree(), **options)


@pytest.mark.usefixtures("unchecked_types")
def test_theory_and_tree_the_wrong_way_round_are_told_apart():
    X, y = np.eye(3), np.ones(3)
    theory = fw.solve(fw.Network((4,), "erf"), X, y, temperature=0.5)
    tree = xr.DataTree()
    with pytest.raises(fw.InputError, match=r"expected compare\(theory, tree\), in this order"):
        fw.compare(tree, theory)
    with pytest.raises(fw.InputError, match=r"expected attach\(tree, theory\), in this order"):
        fw.attach(theory, tree)
