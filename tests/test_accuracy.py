"""Accuracy of draws and of the mean: closed forms, symmetries, honest errors, several outputs."""

import json
import math

import numpy as np
import pytest
import reference
import scipy.integrate
import scipy.stats
import xarray as xr
from scipy.special import ndtr
from test_compare import FakeTheory, ar1, make_tree

import finwidth as fw
from finwidth._numerics import largest as _largest
from finwidth._numerics.largest import bivariate, largest, positive
from finwidth._observables import Components, Draws, Prediction
from finwidth._observables._baseline import baselines
from finwidth._observables._observable import estimates, predictions
from finwidth._observables.accuracy import Accuracy, class_index
from finwidth._results.attach import attach
from finwidth._results.compare import compare

RNG = np.random.default_rng(3)
ONE_HOT = np.eye(3)[[0, 2, 1, 1, 0, 2]]


def gaussians(n, n_outputs, seed=0):
    """Means, covariances, variances and labels of `n` points."""
    rng = np.random.default_rng(seed)
    factor = 0.5 * rng.normal(size=(n, n_outputs, n_outputs))
    covariance = factor @ factor.transpose(0, 2, 1) + 0.05 * np.eye(n_outputs)
    index = rng.integers(0, n_outputs, n)
    return 0.7 * rng.normal(size=(n, n_outputs)), covariance, index


def variances(covariance):
    return np.diagonal(covariance, axis1=-2, axis2=-1).copy()


# --- probabilities of Gaussians ----------------------------------------------------------------


def test_bivariate_probabilities_are_scipy_s():
    h, k = 1.5 * RNG.normal(size=(2, 60))
    h[:4] = k[2:6] = 0.0
    correlation = RNG.uniform(-1, 1, 60)
    expected = [
        scipy.stats.multivariate_normal.cdf([a, b], cov=[[1, r], [r, 1]])
        for a, b, r in zip(h, k, correlation, strict=True)
    ]
    np.testing.assert_allclose(bivariate(h, k, correlation), expected, atol=1e-13)


@pytest.mark.parametrize(
    ("h", "k", "r", "expected"),
    [
        (0.4, 1.3, 1.0, ndtr(0.4)),
        (0.4, 0.4, 1.0, ndtr(0.4)),
        (0.4, -0.4, -1.0, 0.0),
        (0.4, 0.3, -1.0, ndtr(0.4) + ndtr(0.3) - 1),
        (math.inf, 0.3, 0.5, ndtr(0.3)),
        (-math.inf, 0.3, 0.5, 0.0),
        (math.inf, math.inf, 0.5, 1.0),
        (0.0, 0.0, 0.5, 1 / 3),
        (0.0, 0.7, 0.0, ndtr(0.7) / 2),
        (0.0, -0.7, 0.0, ndtr(-0.7) / 2),
    ],
)
def test_bivariate_limits(h, k, r, expected):
    (found,) = bivariate(np.array([h]), np.array([k]), np.array([r]))
    assert found == pytest.approx(expected, abs=1e-15)


def test_two_outputs_are_their_difference():
    mean, covariance, index = gaussians(20, 2)
    sign = np.where(index == 0, 1.0, -1.0)
    spread = covariance[:, 0, 0] + covariance[:, 1, 1] - 2 * covariance[:, 0, 1]
    expected = positive(sign * (mean[:, 0] - mean[:, 1]), spread)
    found = largest(mean, variances(covariance), covariance, index)
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_three_outputs_are_a_bivariate_normal_probability():
    mean, covariance, index = gaussians(15, 3)
    found = largest(mean, variances(covariance), covariance, index)
    for m, c, i, one in zip(mean, covariance, index, found, strict=True):
        difference = np.eye(3)[i] - np.delete(np.eye(3), i, axis=0)  # f_i − f_d
        expected = scipy.stats.multivariate_normal.cdf(
            difference @ m, cov=difference @ c @ difference.T
        )
        assert one == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n_outputs", [2, 3, 4, 10])
def test_independent_outputs_of_one_standard_deviation_are_an_integral(n_outputs):
    """To 1e-10, however far apart the means are, for Gaussians with axes in front as well."""
    index = np.array([0, n_outputs - 1, 1])
    mean = RNG.normal(size=(2, 3, n_outputs)) * np.array([0.3, 3.0])[:, None, None]
    sd = np.array([0.4, 1.0, 2.0])
    found = largest(mean, np.broadcast_to(sd[:, None] ** 2, mean.shape), None, index)
    for i, t in np.ndindex(2, 3):
        ahead = (mean[i, t, index[t]] - np.delete(mean[i, t], index[t])) / sd[t]
        expected, _ = scipy.integrate.quad(
            lambda z, ahead=ahead: scipy.stats.norm.pdf(z) * np.prod(ndtr(ahead + z)),
            -10,
            10,
            epsabs=1e-13,
            epsrel=1e-13,
            limit=400,
        )
        assert found[i, t] == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("n_outputs", [4, 7])
def test_more_outputs_average_within_the_stated_error(n_outputs):
    """Two routes: the separation of variables, and independent outputs by an exact integral."""
    mean = RNG.normal(size=(40, n_outputs))
    index = RNG.integers(0, n_outputs, 40)
    variance = np.full(mean.shape, 0.6)
    exact = largest(mean, variance, None, index)
    covariance = 0.6 * np.eye(n_outputs) + 0.3  # what is common to all outputs changes nothing
    found = largest(
        mean, variance + 0.3, np.broadcast_to(covariance, (40, *covariance.shape)), index
    )
    assert abs(np.mean(found - exact)) < 4 * _largest._TOLERANCE
    np.testing.assert_allclose(found, exact, atol=0.01)


def test_more_outputs_agree_with_monte_carlo_and_sum_to_one():
    mean, covariance, index = gaussians(30, 5)
    found = largest(mean, variances(covariance), covariance, index)
    noise = RNG.normal(size=(20_000, 30, 5))
    f = mean + np.einsum("nij,snj->sni", np.linalg.cholesky(covariance), noise)
    share = np.mean(f.argmax(axis=-1) == index, axis=0)
    error = np.sqrt(np.mean(found * (1 - found)) / 20_000 / 30)
    assert abs(np.mean(share - found)) < 4 * error + _largest._TOLERANCE
    everything = sum(
        largest(mean, variances(covariance), covariance, np.full(30, c)) for c in range(5)
    )
    assert np.mean(everything) == pytest.approx(1, abs=5 * 4 * _largest._TOLERANCE)


def test_an_average_that_stays_noisy_is_told(monkeypatch):
    monkeypatch.setattr(_largest, "_TOLERANCE", 1e-9)
    monkeypatch.setattr(_largest, "_LARGEST_POWER", 5)
    mean, covariance, index = gaussians(3, 4)
    with pytest.warns(fw.AccuracyWarning, match="expected a standard error of 1e-09"):
        largest(mean, variances(covariance), covariance, index)


def test_outputs_that_do_not_vary_are_compared_and_ties_are_shared():
    f = np.array([[1.0, 2.0, 0.5], [2.0, 2.0, 0.5], [1.0, 1.0, 1.0], [3.0, 3.0, 0.0]])
    still = np.zeros_like(f)
    index = np.array([1, 0, 2, 2])
    np.testing.assert_allclose(largest(f, still, None, index), [1, 1 / 2, 1 / 3, 0])
    # one of them varies: its limit of no variance
    still[0, 2] = 1e-30
    assert largest(f, still, None, index)[0] == 1
    assert positive(np.array([0.0, 1.0, -1.0]), np.zeros(3)).tolist() == [0.5, 1, 0]
    assert positive(np.array([1.0]), np.array([-1e-18])) == 1  # rounding


@pytest.mark.parametrize("n_outputs", [2, 3, 5])
def test_a_singular_covariance_is_the_limit_of_regular_ones(n_outputs):
    """Outputs that move together: their order is that of their means."""
    mean = RNG.normal(size=(8, n_outputs))
    index = mean.argmax(axis=1)
    covariance = np.full((8, n_outputs, n_outputs), 0.7)
    np.testing.assert_allclose(
        largest(mean, np.full(mean.shape, 0.7), covariance, index), 1, atol=1e-12
    )


# --- the observable ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "index"),
    [
        ([1.0, -1.0, 1.0], [1, 0, 1]),
        ([1.0, 1.0], None),
        ([1.0, 0.5], None),
        ([0.0, 1.0], None),
        ([[1.0, 0.0], [0.0, 1.0]], [0, 1]),
        ([[1.0, 0.0], [1.0, 0.0]], None),
        ([[1.0, 1.0], [0.0, 1.0]], None),
        ([[1.0, -1.0], [-1.0, 1.0]], None),
        ([[0.5, 0.5], [0.0, 1.0]], None),
        ([[3.0, 0.0], [0.0, 0.0]], None),
    ],
)
def test_labels_that_are_classes(labels, index):
    found = class_index(np.array(labels))
    assert (None if found is None else found.tolist()) == index
    assert Accuracy().defined(np.array(labels)) == (index is not None)


def accuracies(mean, variance, y_test, **more):
    return predictions([Accuracy()], Prediction(mean, variance, **more), y_test)


def test_two_classes_follow_the_error_function():
    mean, variance = RNG.normal(size=7), RNG.uniform(0.1, 2, size=7)
    y_test = np.array([1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0])
    found = accuracies(mean, variance, y_test)
    expected = scipy.stats.norm.cdf(y_test * mean / np.sqrt(variance)).mean()
    assert found["accuracy"] == pytest.approx(expected, rel=1e-14)
    assert found["accuracy_mean"] == np.mean(np.sign(mean) == y_test)
    # monotone: a larger margin helps, a larger variance pulls to one half
    further = accuracies(mean + 0.3 * y_test, variance, y_test)["accuracy"]
    assert further > found["accuracy"]
    right = accuracies(np.abs(mean) * y_test, variance, y_test)["accuracy"]
    assert 0.5 < accuracies(np.abs(mean) * y_test, 2 * variance, y_test)["accuracy"] < right
    assert accuracies(-mean, variance, y_test)["accuracy"] == pytest.approx(1 - expected)
    # the other class under the other name
    assert accuracies(-mean, variance, -y_test) == pytest.approx(found)


def test_two_outputs_are_two_classes_of_one():
    """One-hot labels with f_0 = −f_1 = f/2: the same numbers as labels ±1 and f."""
    mean, variance = RNG.normal(size=6), RNG.uniform(0.1, 1, size=6)
    y_test = np.array([1.0, -1.0, 1.0, 1.0, -1.0, -1.0])
    expected = accuracies(mean, variance, y_test)
    sign = np.array([0.5, -0.5])
    found = accuracies(
        mean[:, None] * sign,
        np.repeat(variance[:, None] / 4, 2, axis=1),
        np.stack([y_test > 0, y_test < 0], axis=1).astype(float),
        output_covariance=variance[:, None, None] * np.outer(sign, sign),
    )
    assert found == pytest.approx(expected, rel=1e-13)


def test_classes_may_be_named_in_another_order():
    mean, covariance, _ = gaussians(6, 3)
    order = [2, 0, 1]
    one = accuracies(mean, variances(covariance), ONE_HOT, output_covariance=covariance)
    other = accuracies(
        mean[:, order],
        variances(covariance)[:, order],
        ONE_HOT[:, order],
        output_covariance=covariance[:, order][:, :, order].copy(),
    )
    assert other == pytest.approx(one, rel=1e-13)


def test_outputs_without_a_covariance_are_independent():
    mean, covariance, _ = gaussians(6, 3)
    variance = variances(covariance)
    diagonal = variance[:, :, None] * np.eye(3)
    expected = accuracies(mean, variance, ONE_HOT, output_covariance=diagonal)
    assert accuracies(mean, variance, ONE_HOT) == pytest.approx(expected, rel=1e-14)


def test_components_are_averaged():
    """A mixture of two Gaussians is right as often as they are, not as their moments are."""
    y_test = np.array([1.0, -1.0])
    means, spread = np.array([[2.0, -0.5], [-0.1, 0.3]]), np.array([[0.04, 1.0], [0.5, 0.1]])
    weights = np.array([0.3, 0.7])
    mean = weights @ means
    variance = weights @ (spread + (means - mean) ** 2)
    law = Prediction(mean, variance, components=Components(weights, means, spread))
    found = predictions([Accuracy()], law, y_test)
    each = [accuracies(m, v, y_test)["accuracy"] for m, v in zip(means, spread, strict=True)]
    assert found["accuracy"] == pytest.approx(weights @ each, rel=1e-14)
    assert abs(found["accuracy"] - accuracies(mean, variance, y_test)["accuracy"]) > 0.01
    assert found["accuracy_mean"] == np.mean(np.sign(mean) == y_test)
    joined = Prediction.join([law, law])
    assert joined.components is not None
    np.testing.assert_array_equal(joined.components.mean, np.tile(means, 2))
    np.testing.assert_array_equal(joined.components.weights, weights)
    assert joined.components.output_covariance is None


# --- draws ---------------------------------------------------------------------------------------


def test_draws_of_f_are_right_or_wrong_and_conditional_moments_average_the_same():
    """Three outputs, correlated: the law of f is N(mean, 2 covariance), half of it given a draw."""
    mean, covariance, _ = gaussians(6, 3)
    root = np.linalg.cholesky(covariance)
    centre = mean + np.einsum("nij,csnj->csni", root, RNG.normal(size=(2, 4000, 6, 3)))
    f = centre + np.einsum("nij,csnj->csni", root, RNG.normal(size=centre.shape))
    expected = accuracies(
        mean, 2 * variances(covariance), ONE_HOT, output_covariance=2 * covariance
    )["accuracy"]
    given = np.broadcast_to(covariance, (*centre.shape, 3))
    errors = []
    for draws in (Draws(f, np.zeros_like(f)), Draws(centre, variances(given), given)):
        series = estimates([Accuracy()], draws, ONE_HOT)["accuracy"].series
        errors.append(series.std() / math.sqrt(series.size))
        assert abs(series.mean() - expected) < 4 * errors[-1]
    assert errors[1] < errors[0]
    right = f.argmax(axis=-1) == ONE_HOT.argmax(axis=1)
    series = estimates([Accuracy()], Draws(f, np.zeros_like(f)), ONE_HOT)["accuracy"].series
    np.testing.assert_allclose(series, right.mean(axis=-1))


def mean_estimate(f, y_test):
    one = estimates([Accuracy()], Draws(f, np.zeros_like(f)), y_test)["accuracy_mean"]
    assert not one.watched and not one.series.any()
    return one.offset, one.noise


@pytest.mark.parametrize(
    ("n_outputs", "common"),
    [
        pytest.param(1, 0.0, marks=pytest.mark.slow),
        (1, 0.9),
        pytest.param(3, 0.0, marks=pytest.mark.slow),
        (3, 0.9),
    ],
)
def test_error_of_the_mean_s_accuracy_is_calibrated(n_outputs, common):
    """Over problems whose margins are as often near a boundary as the MCSE says nothing of.

    Points that share their noise (`common`) are wrong together; the mean square error of the
    estimate is what the run states, on average.
    """
    squares, stated = [], []
    n_points = 6
    for seed in range(60):
        rng = np.random.default_rng(seed)
        shape = (n_points,) if n_outputs == 1 else (n_points, n_outputs)
        truth = rng.uniform(-0.5, 0.5, shape)
        size = math.prod(shape)
        noise = math.sqrt(1 - common) * ar1(rng, 2, 100, size, 0.5)
        noise = noise + math.sqrt(common) * ar1(rng, 2, 100, n_outputs, 0.5).repeat(n_points, 2)
        if n_outputs > 1:
            noise = noise.reshape(2, 100, n_outputs, n_points).swapaxes(2, 3)
        f = truth + noise.reshape(2, 100, *shape)
        if n_outputs == 1:
            y_test = np.where(np.arange(n_points) % 2, 1.0, -1.0)
            exact = np.mean(truth * y_test > 0)
        else:
            y_test = np.eye(n_outputs)[np.arange(n_points) % n_outputs]
            exact = np.mean(truth.argmax(axis=1) == y_test.argmax(axis=1))
        value, error = mean_estimate(f, y_test)
        squares.append((value - exact) ** 2)
        stated.append(error**2)
    squares, stated = np.array(squares), np.array(stated)
    assert np.mean(squares) > 1e-4, "otherwise this test shows nothing"
    scatter = np.std(squares - stated) / math.sqrt(len(squares))
    # MCSEs of 200 draws are known to a tenth or so
    assert abs(np.mean(squares - stated)) < 4 * scatter + 0.15 * np.mean(stated)


def test_points_far_from_a_boundary_or_fixed_make_no_noise():
    f = 3.0 + 0.1 * RNG.normal(size=(2, 100, 4))
    y_test = np.array([1.0, -1.0, 1.0, 1.0])
    assert mean_estimate(f, y_test) == (0.75, 0.0)
    f[..., 3] = 0.0  # always a guess
    assert mean_estimate(f, y_test) == (0.625, 0.0)


def test_many_points_at_the_boundary_have_a_bound(monkeypatch):
    f = ar1(np.random.default_rng(0), 2, 100, 12, 0.3)
    y_test = np.tile([1.0, -1.0], 6)
    from finwidth._observables import accuracy

    value, error = mean_estimate(f, y_test)
    monkeypatch.setattr(accuracy, "_POINTS", 5)
    same, bound = mean_estimate(f, y_test)
    assert same == value and error < bound < 1


# --- theories, mixtures, runs --------------------------------------------------------------------

X, Y = RNG.normal(size=(12, 5)), np.sign(RNG.normal(size=12))
X_TEST, Y_TEST = RNG.normal(size=(9, 5)), np.tile([1.0, -1.0, 1.0], 3)


def test_scores_of_a_theory():
    solution = fw.solve(fw.Network((7,), "erf"), X, Y, temperature=0.3)
    found, prediction = solution.scores(X_TEST, Y_TEST), solution.predict(X_TEST)
    assert list(found) == ["error", "bias2", "variance", "accuracy", "accuracy_mean"]
    for name, value in solution.generalization_error(X_TEST, Y_TEST).items():
        assert float(found[name]) == float(value)
    expected = ndtr(Y_TEST * prediction.mean / np.sqrt(prediction.variance)).mean()
    assert float(found.accuracy) == pytest.approx(expected, rel=1e-14)
    assert found.attrs["error_baseline"] == pytest.approx(np.mean((Y_TEST - Y.mean()) ** 2))
    majority = np.sign(Y.sum())
    assert found.attrs["accuracy_baseline"] == np.mean(majority == Y_TEST)
    assert list(solution.scores(X_TEST, 0.5 * Y_TEST)) == ["error", "bias2", "variance"]


def test_baselines_of_one_hot_labels():
    y = np.eye(3)[[0, 1, 1, 2]]
    found = baselines(y, ONE_HOT)
    assert found["accuracy"] == found["accuracy_mean"] == pytest.approx(1 / 3)
    assert found["error"] == pytest.approx(np.mean((ONE_HOT - [0.25, 0.5, 0.25]) ** 2))
    shares = np.log([0.25, 0.5, 0.25])
    assert found["log_loss"] == pytest.approx(-np.mean(ONE_HOT @ shares))
    two = baselines(np.array([1.0, 1.0, -1.0, 1.0]), np.array([1.0, -1.0]))
    assert two["log_loss"] == pytest.approx(-np.mean(np.log([0.75, 0.25])))
    tied = baselines(np.eye(3)[[0, 1]], ONE_HOT)
    assert tied["accuracy"] == pytest.approx((4 / 6) / 2)
    assert tied["log_loss"] == math.inf  # a class without a pattern


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_accuracy_of_the_mixture_is_an_integral_over_its_law(activation):
    """Of Φ over Q̄, and with a mean term over the projection of the readout, in their quantiles."""
    width, temperature, n = 4, 0.3, len(Y)
    result = fw.mixture(fw.Network((width,), activation), X, Y, temperature=temperature)
    everything = np.concatenate([X, X_TEST])
    second, m = reference.layer(activation, everything @ everything.T / 5)
    if activation == "erf":
        points = [(q, 0.0, w) for q, w in zip(*reference.gamma_nodes(width, 120, 30), strict=True)]
    else:
        chi, log_weight = reference.gamma_nodes(width - 1, 60, 20)
        z, w = np.polynomial.legendre.leggauss(50)
        points = [
            (
                (3 * r + (8 * a) ** 2) / width,
                8 * a,
                lr + np.log(8 * w_a * scipy.stats.norm.pdf(8 * a)),
            )
            for r, lr in zip(chi, log_weight, strict=True)
            for a, w_a in zip(z, w, strict=True)
        ]
    logs, right = [], []
    for q_bar, a, log_w in points:
        kernel, mean = q_bar * (second - np.outer(m, m)), a * m
        log_z, f, variance = reference.conditional(
            kernel[:n, :n] + temperature * np.eye(n),
            Y - mean[:n],
            kernel[n:, :n],
            np.diag(kernel)[n:],
        )
        logs.append(log_z + log_w)
        right.append(np.mean(ndtr(Y_TEST * (f + mean[n:]) / np.sqrt(variance))))
    weights = np.exp(np.array(logs) - max(logs))
    expected = weights @ np.array(right) / weights.sum()
    found = result.scores(X_TEST, Y_TEST)
    assert float(found.accuracy) == pytest.approx(expected, abs=1e-6)
    prediction = result.predict(X_TEST)
    moments = ndtr(Y_TEST * prediction.mean / np.sqrt(prediction.variance)).mean()
    assert abs(float(found.accuracy) - moments) > 1e-4, "otherwise this test shows nothing"
    law = result.predictive_law(X_TEST)
    parts = law.components
    assert parts is not None
    np.testing.assert_array_equal(law.mean, prediction.mean)
    np.testing.assert_allclose(parts.weights @ parts.mean, prediction.mean, atol=1e-8)


@pytest.mark.parametrize("width", [1, 2])
def test_the_law_of_the_narrowest_mixtures_has_the_moments_of_the_prediction(width):
    result = fw.mixture(fw.Network((width,), "relu"), X, Y, temperature=0.5)
    law = result.predictive_law(X_TEST[:2])
    parts = law.components
    assert parts is not None and parts.weights.sum() == pytest.approx(1, abs=1e-12)
    mean = parts.weights @ parts.mean
    np.testing.assert_allclose(mean, law.mean, atol=1e-8)
    second = parts.weights @ (parts.variance + (parts.mean - mean) ** 2)
    np.testing.assert_allclose(second, law.variance, rtol=1e-8)


@pytest.mark.parametrize("nu", [2.2, 7.0, 1e6])
def test_accuracy_of_the_student_t_process_is_a_student_t_probability(nu):
    result = fw.student_t_process(
        fw.Network((7,), "erf"), X, Y, temperature=0.3, degrees_of_freedom=nu
    )
    prediction, freedom = result.predict(X_TEST), nu + len(Y)
    scale = np.sqrt(prediction.variance * (freedom - 2) / freedom)
    expected = scipy.stats.t.cdf(Y_TEST * prediction.mean / scale, freedom).mean()
    assert float(result.scores(X_TEST, Y_TEST).accuracy) == pytest.approx(expected, abs=1e-12)


def test_scores_of_draws_are_those_of_the_comparison():
    tree = make_tree()
    report, found = compare(FakeTheory(), tree), fw.scores(tree)
    assert "error_baseline" not in found.attrs  # the tree has no training labels
    assert np.isnan(report.baseline).all()
    names = [str(name) for name in report["quantity"].values]
    assert set(found) == {*names, *(f"{name}_mcse" for name in names)}
    for name in names:
        one = report.sel(quantity=name)
        assert float(found[name]) == float(one.exact)
        assert float(found[f"{name}_mcse"]) == float(one.mcse)
    tree["observed_data"] = xr.DataTree(xr.Dataset({"y": ("pattern", [1.0, 1.0, -1.0])}))
    assert fw.scores(tree).attrs["accuracy_baseline"] == 0.5
    assert float(compare(FakeTheory(), tree).baseline.sel(quantity="accuracy")) == 0.5


def test_a_theory_that_puts_a_point_elsewhere_is_told():
    mean = FakeTheory().mean.copy()
    mean[3] = -0.3  # of 0.3 ± 0.25/√3000
    report = compare(FakeTheory(mean=mean), make_tree())
    one = report.sel(quantity="accuracy_mean")
    assert (float(one.theory), float(one.exact)) == (pytest.approx(5 / 6), 1.0)
    assert float(one.z) < -4
    assert "accuracy_mean 0.83" in report.attrs["verdict"]
    assert "0.17 too low" in report.attrs["verdict"]


# --- several outputs -----------------------------------------------------------------------------

NETWORK = fw.Network((20,), "erf", outputs=3)
MEAN, COVARIANCE, _ = gaussians(6, 3, seed=5)
COVARIANCE = 0.05 * COVARIANCE


class SeveralOutputs(FakeTheory):
    """A theory that says N(MEAN, COVARIANCE) at the test points."""

    def __init__(self, scale=1.0, shift=0.0):
        super().__init__(mean=MEAN + shift * ONE_HOT, network=NETWORK)
        object.__setattr__(self, "covariance", scale * COVARIANCE)

    def predict(self, X_test, full_covariance=False):
        return Prediction(self.mean, variances(self.covariance), None, self.covariance)


def several_outputs(conditional, seed=0, n_draws=800):
    """A run whose draws of f are N(MEAN, COVARIANCE); or half of that given a draw."""
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(COVARIANCE)
    noise = ar1(rng, 4, n_draws, 18, 0.3).reshape(4, n_draws, 6, 3)
    noise = np.einsum("nij,csnj->csni", root, noise)
    dims = ("chain", "draw", "test_pattern", "output")
    tree = make_tree(y_test=None)
    if conditional:
        f = MEAN + noise / math.sqrt(2)
        given = np.broadcast_to(COVARIANCE / 2, (*f.shape, 3))
        variables = {
            "f_mean": (dims, f),
            "f_variance": (dims, variances(given)),
            "f_covariance": ((*dims, "output_"), given.copy()),
        }
    else:
        variables = {"f": (dims, MEAN + noise)}
    tree["predictions"] = xr.DataTree(xr.Dataset(variables))
    flags = (("chain", "draw"), np.zeros((4, n_draws), bool))
    tree["sample_stats"] = xr.DataTree(xr.Dataset({"diverging": flags}))
    constant = tree["predictions_constant_data"].to_dataset()
    constant["y_test"] = (("test_pattern", "output"), ONE_HOT)
    tree["predictions_constant_data"] = xr.DataTree(constant)
    labels = {"y": (("pattern", "output"), np.eye(3)[[0, 0, 1, 2]])}
    tree["observed_data"] = xr.DataTree(xr.Dataset(labels))
    record = json.loads(tree.attrs["provenance"]) | {"network": NETWORK.record()}
    record["network"]["activation_digest"] = None
    tree.attrs["provenance"] = json.dumps(record)
    return tree


@pytest.mark.parametrize("conditional", [False, True])
def test_several_outputs_are_compared(conditional):
    report = compare(SeveralOutputs(), several_outputs(conditional))
    assert report.attrs["outcome"] == "no disagreement", report.attrs["verdict"]
    assert "the means at all 18 outputs at test patterns" in report.attrs["verdict"]
    assert report.mean_theory.dims == report.y_test.dims == ("test_pattern", "output")
    assert report["output"].values.tolist() == [0, 1, 2]
    assert report["quantity"].values.tolist() == [
        "error", "bias2", "variance", "accuracy", "accuracy_mean"
    ]  # fmt: skip
    error = report.sel(quantity="error")
    expected = np.mean((ONE_HOT - MEAN) ** 2 + variances(COVARIANCE))
    assert float(error.theory) == pytest.approx(expected, rel=1e-12)
    assert float(report.baseline.sel(quantity="accuracy")) == pytest.approx(1 / 3)


@pytest.mark.parametrize("n_runs", [8, pytest.param(40, marks=pytest.mark.slow)])
def test_z_of_the_true_scores_of_several_outputs_is_standard_normal(n_runs):
    moving = ["error", "bias2", "variance", "accuracy"]
    z = np.array(
        [
            compare(SeveralOutputs(), several_outputs(bool(seed % 2), seed, 200))
            .z.sel(quantity=moving)
            .values
            for seed in range(n_runs)
        ]
    )
    assert np.all(np.abs(z.mean(axis=0)) < 4 / math.sqrt(n_runs))
    assert np.all(np.abs((z**2).mean(axis=0) - 1) < 4 * math.sqrt(2 / n_runs))


def test_a_wrong_theory_of_several_outputs_is_named():
    report = compare(SeveralOutputs(scale=1.5), several_outputs(True))
    assert report.attrs["outcome"] == "disagreement"
    theory = SeveralOutputs()
    object.__setattr__(
        theory, "predict", lambda X: Prediction(MEAN + 0.2 * ONE_HOT, 0 * MEAN + 0.1)
    )
    sentence = compare(theory, several_outputs(True)).attrs["verdict"]
    assert "the mean differs at 6 of 18 outputs at test patterns" in sentence
    assert ", output " in sentence


def test_several_outputs_are_attached():
    tree = attach(several_outputs(True), SeveralOutputs())
    group = tree["theory/nested"]
    assert group["f_mean"].dims == ("test_pattern", "output")
    assert group["f_covariance"].dims == ("test_pattern", "output", "output_")
    found = fw.scores(tree)
    assert abs(float(group["accuracy"]) - float(found.accuracy)) < 5 * float(found.accuracy_mcse)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.rename(f="g"), r"f \(chain, draw, test_pattern, output\) .*, got \['g'\]"),
        (lambda f: f.isel(output=0), r"got f with dimensions \('chain', 'draw', 'test_pattern'\)"),
        (lambda f: f.isel(output=[0, 1]), r"3 outputs each, got shape \(6, 2\)"),
        (lambda f: f.isel(test_pattern=[0, 1]), r"the 6 patterns .*, got shape \(2, 3\)"),
    ],
)
def test_a_tree_of_another_shape_is_refused(change, message):
    tree = several_outputs(False)
    tree["predictions"] = xr.DataTree(change(tree["predictions"].to_dataset()))
    with pytest.raises(fw.InputError, match=message):
        fw.scores(tree)
