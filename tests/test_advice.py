"""Advice: what was measured is found again, what is not defined is not named, and what is far off
is said to be."""

import numpy as np
import pytest
import xarray as xr

import finwidth as fw
from finwidth._advice.advise import _defined
from finwidth._advice.features import FEATURES, of_map
from finwidth._advice.nearest import Measured
from finwidth._advice.spread import spread
from finwidth._problem.problem import make_problem

DIGITS = fw.load_dataset("digits", classes=(0, 1), n_train=100, n_test=100)
SMALL = fw.load_dataset("digits", classes=(0, 1), n_train=20, n_test=30)
ONE_LAYER = {"adaptive", "cavity", "corrected", "perturbative"}


def advice(widths, activation="erf", temperature=0.01, data=DIGITS, **options) -> xr.Dataset:
    net = fw.Network(widths, activation)
    return fw.advise(net, data.X_train, data.y_train, temperature=temperature, **options)


@pytest.fixture(scope="module")
def known() -> xr.Dataset:
    """A problem that the map has: digits, erf, width 50, T = 0.01."""
    return advice((50,), X_test=DIGITS.X_test, y_test=DIGITS.y_test)


def test_a_problem_of_the_map_is_found_at_distance_zero(known):
    there = fw.load_error_map()
    coordinates = there[
        ["data", "activation", "widths", "n_patterns", "temperature"]
    ].to_dataframe()
    (index,) = np.flatnonzero(
        (coordinates["data"] == "digits")
        & (coordinates["activation"] == "erf")
        & (coordinates["widths"] == "50")
        & (coordinates["n_patterns"] == 100)
        & (coordinates["temperature"] == 0.01)
    )
    point = there.isel(point=index)
    noise = float(point["exact_mcse"] / point["exact_error"])
    for theory in known["theory"].values:
        row = known.sel(theory=theory)
        first = row.isel(neighbour=0)
        assert float(first["distance"]) == 0 and not first["difference"].any()
        relative = float(point["relative_error"].sel(theory=theory))
        assert float(first["relative_error"]) == relative
        assert float(row["expected_error"]) == max(abs(relative), noise)
        assert str(row["trust"].values) == "measured"
    # that all but one are far off there, and it is known by how much
    assert known.attrs["recommended"] == "cavity" == known["theory"].values[0]
    assert "cavity" in known.attrs["verdict"] and "digits, erf, widths 50" in known.attrs["verdict"]
    # infinite width, in closed form, and what it says of the map's own test set
    assert known.attrs["labels"] == "explained"


def test_distances_are_those_of_the_features_that_are_shown(known):
    steps = known["difference"].transpose("theory", "neighbour", "feature").values
    np.testing.assert_allclose(known["distance"].values, np.sqrt(np.sum(steps**2, axis=2)))
    assert list(known["feature"].values) == list(FEATURES)
    assert np.all(np.diff(known["distance"].values, axis=1) >= 0)
    half = advice((25,), temperature=0.001, neighbours=1).sel(theory="infinite").isel(neighbour=0)
    found = dict(zip(FEATURES, half["difference"].values, strict=True))
    np.testing.assert_allclose([found["load"], found["temperature"]], [np.log2(5 / 4), 2.0])
    assert half["widths"].item() == "20"


def test_scores_of_the_test_set_are_a_theory_s(known):
    net = fw.Network((50,), "erf")
    nested = fw.solve(net, DIGITS.X_train, DIGITS.y_train, temperature=0.01)
    scores = nested.scores(DIGITS.X_test, DIGITS.y_test)
    assert known.attrs["test_theory"] == "nested" and known.attrs["test_patterns"] == 100
    right = float(scores["accuracy"])
    error = 100 * np.sqrt(right * (1 - right) / 100)
    assert f"A test set of 100 leaves ±{error:.1f} points" in known.attrs["verdict"]
    for name in ("error", "accuracy", "accuracy_mean"):
        assert known.attrs[f"test_{name}"] == pytest.approx(float(scores[name]), rel=1e-9)


def test_what_is_left_out_is_predicted_by_the_rest():
    """The closed form is a loop over the infinitely wide network without a pattern."""
    X, y = SMALL.X_train, SMALL.y_train
    net = fw.Network((10,), "erf")
    kernel, T = fw.nngp_kernel(net, X), 0.1
    errors, right = [], []
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        weights = np.linalg.solve(
            kernel[np.ix_(rest, rest)] + T * np.eye(len(y) - 1), kernel[rest, i]
        )
        mean, variance = weights @ y[rest], kernel[i, i] - weights @ kernel[rest, i]
        errors.append((y[i] - mean) ** 2 + variance)
        draws = np.random.default_rng(i).normal(mean, np.sqrt(variance), 20_000)
        right.append(np.mean(draws * y[i] > 0))
    found = advice((10,), temperature=T, data=SMALL).attrs
    np.testing.assert_allclose(found["loo_error"], np.mean(errors) / np.var(y), rtol=1e-8)
    np.testing.assert_allclose(found["loo_accuracy"], np.mean(right), atol=2e-3)


def test_theories_are_asked_where_they_are_defined():
    def defined(activation: str, **network) -> set[str]:
        net = fw.Network(activation=activation, **network)
        return set(_defined(make_problem(net, SMALL.X_train, SMALL.y_train, 0.1)))

    everywhere = {"nested", "infinite", "wishart"}
    assert defined("relu", widths=(5, 5, 5)) == everywhere
    assert defined("erf", widths=(5, 5)) == everywhere | {"mixture"}
    assert defined("relu", widths=(5,)) == everywhere | {"mixture"} | ONE_LAYER - {"corrected"}
    assert defined("erf", widths=(5,)) == everywhere | {"mixture"} | ONE_LAYER
    block = fw.Dense(5), fw.Residual(5)
    assert not defined("erf", layers=block) & (ONE_LAYER | {"wishart"})


def test_a_small_error_by_cancellation_is_no_reason_to_use_a_theory():
    """Deep ReLU: bias² of infinite width is far too high, and its variance as far too low."""
    found = advice((10, 10, 10), "relu", data=SMALL)
    row = found.sel(theory="infinite")
    assert float(row["expected_error"]) < found["expected_error"].min("theory") + 1e-9
    there = fw.load_error_map()
    place = (there["widths"] == "10,10,10") & (there["activation"] == "relu")
    point = there.isel(point=np.flatnonzero(place & (there["temperature"] == 0.01))[0])
    off = [
        float(point[name].sel(theory="infinite") - point[f"exact_{name}"])
        for name in ("bias2", "variance")
    ]
    assert off[1] < 0 < off[0]
    expected = min(np.abs(off)) / float(point["exact_error"])
    assert float(row["cancelled"]) == pytest.approx(expected)
    assert found.attrs["recommended"] == "sample" and found["theory"].values[-1] == "infinite"
    verdict = found.attrs["verdict"]
    assert verdict.startswith("Only sampling will do") and "by accident" in verdict


@pytest.mark.slow
def test_theories_that_are_not_defined_are_not_named():
    deep = advice((50, 50, 50), "relu")
    assert {"nested", "infinite", "wishart"} <= set(deep["theory"].values)
    assert not ONE_LAYER & set(deep["theory"].values)
    assert not any(name in deep.attrs["verdict"] for name in ONE_LAYER)
    even = advice((50,), "relu")
    assert "corrected" not in even["theory"].values and "cavity" in even["theory"].values


def test_where_nothing_near_was_measured_it_says_so():
    cold = advice((50,), temperature=0.0)
    assert cold.attrs["recommended"] == "sample"
    assert cold.attrs["verdict"].startswith("Nothing near was measured")
    assert set(cold["trust"].values) == {"none"}
    labels = (DIGITS.y_train + 1) / 2
    net = fw.Network((50,), "erf", outputs=2)
    classes = fw.advise(net, DIGITS.X_train, labels, likelihood="softmax")
    assert "Nothing near was measured" in classes.attrs["verdict"]
    assert np.isnan(classes.attrs["loo_accuracy"])


def test_one_output_says_nothing_of_several_where_the_equations_are_others():
    both = np.column_stack([DIGITS.y_train, -DIGITS.y_train])
    found = fw.advise(fw.Network((50,), "erf", outputs=2), DIGITS.X_train, both, temperature=0.01)
    trust = found["trust"].to_series()
    assert trust["cavity"] == "none" and trust["nested"] == "near"
    assert found.attrs["recommended"] != "cavity"


def test_errors_differ_more_between_points_further_apart():
    """A theory whose error is the distance to a point, and one that is always as far off."""
    line = np.arange(12.0)
    apart = np.abs(line[:, None] - line)
    assert [spread(apart, line, one) for one in (1.0, 3.0)] == [1.0, 3.0]
    assert spread(apart, np.full(12, 0.3), 2.0) == 0.0
    assert np.isnan(spread(apart, line, 50.0))


@pytest.mark.slow
def test_of_the_map_s_points_most_are_off_by_less_than_is_likely_by_the_others():
    dataset = fw.load_error_map()
    points = of_map(dataset)
    for theory in ("infinite", "nested", "cavity"):
        below = []
        for i, features in enumerate(points):
            found = Measured(dataset.drop_isel(point=i), features).near(theory, 3)
            own = abs(float(dataset["relative_error"].sel(theory=theory)[i]))
            if np.isfinite(own) and np.isfinite(found.likely_error):
                assert found.likely_error >= 2 * found.expected_error
                below.append(own <= found.likely_error)
        assert len(below) > 20
        assert np.mean(below) > 0.75, theory


def test_sampling_is_advised_where_no_theory_is_good_enough():
    """At the map's own points, with a tolerance on either side of what was measured."""
    known = advice((20,), "relu")
    best = float(known["expected_error"].min())
    assert 0.01 < best < 0.5
    strict, loose = (advice((20,), "relu", tolerance=best * f) for f in (0.9, 1.1))
    assert strict.attrs["recommended"] == "sample" != loose.attrs["recommended"]
    assert strict.attrs["verdict"].startswith("Only sampling will do")
    # a theory without a solution at the point itself is not expected to have one
    assert np.isnan(float(known["expected_error"].sel(theory="cavity")))
    assert loose.attrs["recommended"] != "cavity"


def test_a_map_of_one_s_own_and_one_that_lacks_what_came_later():
    shipped = fw.load_error_map()
    old = shipped.drop_vars(["state", "accuracy", "exact_accuracy", "seconds"], errors="ignore")
    old = old.drop_vars(["network", "layers", "cpu_seconds", "exact_cpu_seconds"], errors="ignore")
    found = advice((50,), error_map=old)
    assert float(found["distance"].min()) == 0
    assert np.isnan(found["seconds"]).all() and np.isnan(found["accuracy_error"]).all()
    residual = shipped.assign_coords(
        network=("point", ["residual skip=0.6"] * shipped.sizes["point"])
    )
    assert float(advice((50,), error_map=residual)["distance"].min()) == 2.0
    with pytest.raises(fw.InputError, match="error_map = a map with a point"):
        advice((50,), error_map=shipped.assign(counted=shipped["counted"] & False))
    with pytest.raises(fw.InputError, match="expected error_map = a Dataset as"):
        advice((50,), error_map=xr.Dataset())


def test_the_shipped_map_is_not_changed_by_who_reads_it():
    fw.load_error_map()["exact_error"][:] = 0.0
    assert float(fw.load_error_map()["exact_error"].min()) > 0


@pytest.mark.slow
def test_advice_is_kept_as_netcdf(tmp_path, known):
    fw.save(xr.DataTree(known), tmp_path / "advice.nc")
    kept = fw.load(tmp_path / "advice.nc").to_dataset()
    xr.testing.assert_identical(kept, known)


def test_half_a_test_set_is_refused():
    with pytest.raises(fw.InputError, match="X_test and y_test together"):
        advice((50,), X_test=DIGITS.X_test)
    with pytest.raises(fw.InputError, match="expected y_test = an array of shape"):
        advice((50,), X_test=DIGITS.X_test, y_test=DIGITS.y_test[:3])
