"""scikit-learn's view: its own checks, and that an estimator says what theory and draws say."""

import pickle
import warnings

import numpy as np
import pytest
from scipy.special import ndtr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

import finwidth as fw

RNG = np.random.default_rng(5)
X = 3.0 + 2.0 * RNG.normal(size=(20, 3))
Y = 40.0 + 7.0 * np.tanh(X[:, 0] - 3.0) + RNG.normal(size=20)
TEST = 3.0 + 2.0 * RNG.normal(size=(7, 3))
CLASSES = np.where(Y > 40.0, "high", "low")
STANDARD = (X - X.mean(axis=0)) / X.std(axis=0), (TEST - X.mean(axis=0)) / X.std(axis=0)
NET = fw.Network((10,), "erf")
BOTH = [fw.FiniteWidthRegressor(), fw.FiniteWidthClassifier()]


def regressor(**parameters) -> fw.FiniteWidthRegressor:
    return fw.FiniteWidthRegressor(**{"widths": (10,), "temperature": 0.1} | parameters)


def classifier(**parameters) -> fw.FiniteWidthClassifier:
    return fw.FiniteWidthClassifier(**{"widths": (10,), "temperature": 0.1} | parameters)


@pytest.fixture(scope="module")
def fitted() -> fw.FiniteWidthRegressor:
    return regressor().fit(X, Y)


@pytest.fixture(scope="module")
def theory() -> fw.Solution:
    return fw.solve(NET, STANDARD[0], (Y - Y.mean()) / Y.std(), temperature=0.1)


# --- scikit-learn's own checks -----------------------------------------------------------------

# without noise in the labels the evidence grows until the end of the search, and says so
NO_NOISE = pytest.mark.filterwarnings("ignore:expected an evidence")


@pytest.mark.slow
@NO_NOISE
@parametrize_with_checks(BOTH)
def test_checks_of_scikit_learn(estimator, check, unchecked_types):
    check(estimator)


QUICK = {  # those that fit nothing, or one small set
    "check_estimators_unfitted",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_set_params",
    "check_mixin_order",
    "check_valid_tag_types",
    "check_fit2d_1sample",
    "check_estimator_sparse_tag",
}


@pytest.mark.parametrize("estimator", BOTH, ids=lambda one: type(one).__name__)
def test_quick_checks_of_scikit_learn(estimator, unchecked_types):
    done = set()
    for one, check in estimator_checks_generator(estimator):
        name = getattr(check, "func", check).__name__
        if name in QUICK:
            check(one)
            done.add(name)
    assert len(done) > 5


# --- what the theory says ----------------------------------------------------------------------


def test_regression_is_the_theory_in_units_of_the_labels(fitted, theory):
    mean, std = fitted.predict(TEST, return_std=True)
    expected = theory.predict(STANDARD[1])
    np.testing.assert_allclose(mean, Y.mean() + Y.std() * expected.mean, rtol=1e-9)
    np.testing.assert_allclose(std, Y.std() * np.sqrt(expected.variance), rtol=1e-9)
    np.testing.assert_array_equal(fitted.predict(TEST), mean)
    # p(y) dy is the same in all units
    units = len(Y) * np.log(Y.std())
    np.testing.assert_allclose(fitted.log_evidence_, theory.log_evidence - units, rtol=1e-12)
    assert fitted.temperature_ == 0.1 and fitted.network_ == NET
    assert 0.5 < fitted.score(X, Y) < 1.0


def test_other_units_of_inputs_and_labels_change_nothing_but_the_units(fitted):
    other = clone(fitted).fit(1e3 * X - 5.0, -2.0 * Y + 1.0)
    mean, std = other.predict(1e3 * TEST - 5.0, return_std=True)
    was = fitted.predict(TEST, return_std=True)
    np.testing.assert_allclose(mean, -2.0 * was[0] + 1.0, rtol=1e-7)
    np.testing.assert_allclose(std, 2.0 * was[1], rtol=1e-7)
    expected = fitted.log_evidence_ - len(Y) * np.log(2.0)
    np.testing.assert_allclose(other.log_evidence_, expected, rtol=1e-9)


def test_draws_of_functions_have_the_moments_of_the_posterior(fitted, theory):
    n = 20_000
    f = fitted.sample_y(TEST, n, random_state=3)
    assert f.shape == (len(TEST), n)
    expected = theory.predict(STANDARD[1], full_covariance=True)
    mean, std = fitted.predict(TEST, return_std=True)
    assert np.all(np.abs(f.mean(axis=1) - mean) < 4.5 * std / np.sqrt(n))
    covariance = Y.std() ** 2 * expected.covariance
    noise = np.sqrt((covariance**2 + np.outer(std**2, std**2)) / n)
    assert np.all(np.abs(np.cov(f) - covariance) < 4.5 * noise)
    np.testing.assert_array_equal(f, fitted.sample_y(TEST, n, random_state=3))


@pytest.mark.slow
def test_the_temperature_is_that_of_largest_evidence():
    found = regressor(temperature="evidence", theory="infinite").fit(X, Y)
    expected = fw.solve(
        NET, STANDARD[0], (Y - Y.mean()) / Y.std(), temperature="evidence", theory="infinite"
    )
    np.testing.assert_allclose(found.temperature_, expected.temperature, rtol=1e-6)


def test_two_classes_as_numbers():
    """The probability that a new label, f and noise, is positive."""
    made = classifier().fit(X, CLASSES)
    assert list(made.classes_) == ["high", "low"]
    expected = fw.solve(NET, STANDARD[0], np.where(CLASSES == "low", 1.0, -1.0), temperature=0.1)
    law = expected.predict(STANDARD[1])
    low = ndtr(law.mean / np.sqrt(law.variance + 0.1))
    np.testing.assert_allclose(made.predict_proba(TEST), np.stack([1 - low, low], 1), rtol=1e-8)
    np.testing.assert_array_equal(made.predict(TEST), np.where(low > 0.5, "low", "high"))
    assert made.score(X, CLASSES) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", ["logit", "softmax"])
def test_classes_as_classes(likelihood):
    made = classifier(likelihood=likelihood, temperature=None).fit(X, CLASSES)
    softmax = likelihood == "softmax"
    numbers = (CLASSES == "low").astype(float)
    expected = fw.solve(
        NET.replace(outputs=2) if softmax else NET,
        STANDARD[0],
        numbers if softmax else 2 * numbers - 1,
        likelihood=likelihood,
    )
    probabilities = expected.predict(STANDARD[1]).probabilities
    np.testing.assert_allclose(made.predict_proba(TEST), probabilities, rtol=1e-9)
    assert made.temperature_ == 1.0


@pytest.mark.slow
def test_three_classes_as_numbers_are_an_output_each():
    labels = np.digitize(Y, np.quantile(Y, [0.3, 0.6]))
    made = classifier().fit(X, labels)
    assert made.network_.outputs == 3
    expected = fw.solve(NET.replace(outputs=3), STANDARD[0], np.eye(3)[labels], temperature=0.1)
    law = expected.predict(STANDARD[1])
    draws = np.stack(
        [
            np.random.default_rng(0).multivariate_normal(m, c + 0.1 * np.eye(3), 40_000)
            for m, c in zip(law.mean, law.output_covariance, strict=True)
        ]
    )
    shares = np.eye(3)[draws.argmax(axis=2)].mean(axis=1)
    np.testing.assert_allclose(made.predict_proba(TEST), shares, atol=4.5 * 0.5 / 200)


@pytest.mark.slow
def test_several_outputs_share_a_network():
    labels = np.stack([Y, -3.0 * np.sin(X[:, 1])], axis=1)
    made = regressor().fit(X, labels)
    mean, std = made.predict(TEST, return_std=True)
    assert made.network_.outputs == 2 and mean.shape == std.shape == (7, 2)
    assert made.sample_y(TEST, 5).shape == (7, 2, 5)
    f = made.sample_y(TEST, 20_000)
    assert np.all(np.abs(f.mean(axis=2) - mean) < 4.5 * std / np.sqrt(20_000))
    one = regressor().fit(X, Y[:, None])
    assert one.predict(TEST).shape == (7, 1) and one.sample_y(TEST, 2).shape == (7, 1, 2)
    np.testing.assert_array_equal(one.predict(TEST)[:, 0], regressor().fit(X, Y).predict(TEST))


# --- what draws say ----------------------------------------------------------------------------

DRAWS = {"num_warmup": 200, "num_samples": 400, "num_chains": 2}


@pytest.mark.slow
def test_sampling_linear_networks_agrees_with_their_exact_law():
    """Of an identity the mixture is the exact law, sampled here at points that came later."""
    shared = {"activation": "identity", "widths": (5,)}
    options = {"num_samples": 2000, "num_chains": 4}
    drawn = regressor(theory="sample", sampling=options, **shared).fit(X, Y)
    exact = regressor(theory="mixture", **shared).fit(X, Y)
    mean, std = drawn.predict(TEST, return_std=True)
    expected, width = exact.predict(TEST, return_std=True)
    # more than a thousand effective draws
    np.testing.assert_allclose(mean, expected, atol=5 * np.max(width) / np.sqrt(1000))
    np.testing.assert_allclose(std, width, rtol=0.1)
    f = drawn.sample_y(TEST, 4000)
    assert np.all(np.abs(f.mean(axis=1) - mean) < 5 * std / np.sqrt(1000))
    np.testing.assert_allclose(f.std(axis=1), width, rtol=0.1)
    assert drawn.log_evidence_ is None and drawn.posterior_["posterior"].sizes["draw"] == 2000


@pytest.mark.slow
def test_predictions_of_draws_are_those_of_the_run_itself():
    """At test points that the run knew, its moments of f, and with classes its probabilities."""
    scaled = (Y - Y.mean()) / Y.std()
    drawn = regressor(theory="sample", sampling=DRAWS).fit(X, Y)
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    keep = ["W_1", "v"]
    tree = fw.sample(
        NET, STANDARD[0], scaled, temperature=0.1, X_test=STANDARD[1], seed=seed, keep=keep,
        log_likelihood=False, posterior_predictive=False, progress=False, **DRAWS,
    )  # fmt: skip
    np.testing.assert_allclose(
        tree["posterior"]["W_1"], drawn.posterior_["posterior"]["W_1"], rtol=1e-5, atol=1e-8
    )
    of_run = tree["predictions"]["f_mean"].mean(("chain", "draw")).values
    np.testing.assert_allclose(drawn.predict(TEST), Y.mean() + Y.std() * of_run, rtol=1e-6)

    made = classifier(theory="sample", likelihood="logit", temperature=1.0, sampling=DRAWS)
    made.fit(X, CLASSES)
    tree = fw.sample(
        NET, STANDARD[0], np.where(CLASSES == "low", 1.0, -1.0), X_test=STANDARD[1], seed=seed,
        keep=keep, likelihood="logit", model="network", temperature=1.0, log_likelihood=False,
        posterior_predictive=False, progress=False, **DRAWS,
    )  # fmt: skip
    low = tree["predictions"]["p"].mean(("chain", "draw")).values
    np.testing.assert_allclose(made.predict_proba(TEST)[:, 1], low, rtol=1e-6)


@pytest.mark.slow
def test_draws_of_three_classes_and_the_temperature_of_the_evidence():
    labels = np.digitize(Y, np.quantile(Y, [0.3, 0.6]))
    made = classifier(theory="sample", sampling=DRAWS).fit(X, labels)
    probabilities = made.predict_proba(TEST)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    assert made.score(X, labels) > 0.6
    other = regressor(theory="sample", temperature="evidence", sampling=DRAWS).fit(X, Y)
    same = regressor(temperature="evidence").fit(X, Y)
    assert other.temperature_ == same.temperature_ and other.log_evidence_ == same.log_evidence_


# --- in scikit-learn's company -----------------------------------------------------------------


def test_a_pipeline_and_its_copies_predict_the_same(fitted):
    pipeline = make_pipeline(StandardScaler(), clone(fitted)).fit(X, Y)
    np.testing.assert_allclose(pipeline.predict(TEST), fitted.predict(TEST), rtol=1e-9)
    copy = pickle.loads(pickle.dumps(fitted))
    for now, before in zip(
        copy.predict(TEST, return_std=True), fitted.predict(TEST, return_std=True), strict=True
    ):
        np.testing.assert_array_equal(now, before)
    assert copy.log_evidence_ == fitted.log_evidence_


@pytest.mark.slow
def test_a_search_in_two_spawned_workers_finds_what_one_process_does():
    grid = {"widths": [(10,), (40,)], "activation": ["erf", "relu"]}
    searches = [GridSearchCV(regressor(), grid, n_jobs=n, cv=3).fit(X, Y) for n in (1, 2)]
    one, two = (search.cv_results_["mean_test_score"] for search in searches)
    np.testing.assert_allclose(two, one, rtol=1e-8)
    assert searches[0].best_params_ == searches[1].best_params_
    scores = cross_val_score(classifier(), X, CLASSES, cv=3, n_jobs=2)
    assert scores.shape == (3,) and scores.mean() > 0.5


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"widths": ()}, "widths"),
        ({"theory": "nestd"}, "theory"),
        ({"temperature": -1.0}, "temperature"),
        ({"sampling": {"num_samples": 5}}, "sampling = None unless theory = 'sample'"),
        ({"theory": "sample", "sampling": {"draws": 5}}, "sampling = one of"),
        ({"theory": "sample", "sampling": 3}, "sampling = a dict"),
        ({"readout_precision": "evidence"}, "readout_precision"),
        ({"theory": "sample", "readout_precision": "evidence"}, "readout_precision"),
        ({"standardise_X": "yes"}, "standardise_X"),
        ({"standardise_y": None}, "standardise_y"),
    ],
)
def test_wrong_parameters_are_refused_by_fit(parameters, message):
    with pytest.raises(fw.InputError, match=message):
        regressor(**parameters).fit(X, Y)


def test_wrong_labels_are_refused():
    with pytest.raises(fw.InputError, match="labels that differ"):
        regressor().fit(X, np.full(20, 3.0))
    with pytest.raises(fw.InputError, match="at least two classes"):
        classifier().fit(X, np.full(20, 3))
    with pytest.raises(fw.InputError, match="'gaussian' or 'softmax' with 3 classes"):
        classifier(likelihood="logit").fit(X, np.arange(20) % 3)
    with pytest.raises(fw.InputError, match="temperature = a number"):
        classifier(likelihood="logit", temperature="evidence").fit(X, CLASSES)
    with pytest.raises(fw.InputError, match="Unknown label type"):
        classifier().fit(X, Y)


def test_a_failed_fit_leaves_what_was_fitted(fitted):
    copy = pickle.loads(pickle.dumps(fitted))
    with pytest.raises(fw.InputError), warnings.catch_warnings():
        copy.set_params(temperature=-1.0).fit(X, 2.0 * Y)
    np.testing.assert_array_equal(copy.predict(TEST), fitted.predict(TEST))
    with pytest.raises(NotFittedError):
        clone(fitted).predict(TEST)
