"""Tables and regressions: columns and labels are standardised, and come back in their units."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import StandardScaler

import finwidth as fw
from finwidth import InputError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 4)) * [1.0, 1e3, 1e-3, 5.0] + [0.0, 50.0, 1.0, -1e4]
Y = 100.0 + 25.0 * RNG.normal(size=30)


def load(folder, X=X, y=Y, **options):
    np.savez(folder / "t.npz", X=X, y=y)
    given = {"classes": None, "n_train": 20, "n_test": 10}
    return fw.load_dataset("npz", path=folder / "t.npz", **(given | options))


def test_columns_are_standardised_as_scikit_learn_does(tmp_path):
    data, scaler = load(tmp_path), StandardScaler().fit(X[:20])
    np.testing.assert_allclose(data.X_train, scaler.transform(X[:20]), atol=1e-12)
    np.testing.assert_allclose(data.X_test, scaler.transform(X[20:]), rtol=1e-9)
    assert data.attrs["standardisation"]["constant"] == []


def test_units_of_columns_do_not_matter(tmp_path):
    one, other = load(tmp_path), load(tmp_path, X=X * [3.0, 1e-4, 7.0, 0.2] + 1.0)
    np.testing.assert_allclose(one.X_test, other.X_test, atol=1e-9)


def test_constant_columns_are_centred_and_named(tmp_path):
    table = np.column_stack([X, np.full(30, 0.1), Y])
    table[25, 4] = 0.3
    np.savetxt(tmp_path / "t.csv", table, delimiter=",", header="a,b,c,d,same,y", comments="")
    data = fw.load_dataset("csv", path=tmp_path / "t.csv", classes=None, n_train=20, n_test=10)
    assert data.attrs["standardisation"]["constant"] == ["same"]
    assert np.all(data.X_train[:, 4] == 0.0)
    np.testing.assert_allclose(data.X_test[:, 4], table[20:, 4] - 0.1)
    numbered = load(tmp_path, X=table[:, :5])
    assert numbered.attrs["standardisation"]["constant"] == [4]
    np.testing.assert_allclose(numbered.X_train, data.X_train, atol=1e-9)


def test_a_table_that_does_not_vary_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected X_train = entries that vary"):
        load(tmp_path, X=np.tile([1.0, 2.0], (30, 1)))


def test_images_keep_one_scale_and_their_shape(tmp_path):
    images = RNG.integers(0, 256, (30, 2, 3))
    data = load(tmp_path, X=images)
    flat = images.reshape(30, 6)
    np.testing.assert_allclose(
        data.X_test, (flat[20:] - flat[:20].mean()) / flat[:20].std(), rtol=1e-12
    )
    assert data.attrs["image_shape"] == [2, 3]
    assert "image_shape" not in load(tmp_path).attrs


def test_digits_are_images_of_eight_by_eight():
    assert fw.load_dataset("digits").attrs["image_shape"] == [8, 8]


def test_labels_of_a_regression_are_centred_and_scaled_by_the_training_rows(tmp_path):
    data, raw = load(tmp_path), load(tmp_path, standardise_y=False)
    assert (data.y_mean, data.y_scale) == pytest.approx((Y[:20].mean(), Y[:20].std()), rel=1e-12)
    assert data.attrs["labels"] == {"mean": data.y_mean, "scale": data.y_scale}
    np.testing.assert_allclose(data.y_mean + data.y_scale * data.y_test, Y[20:], rtol=1e-12)
    np.testing.assert_array_equal(raw.y_train, Y[:20])
    assert (raw.y_mean, raw.y_scale) == (0.0, 1.0)
    np.testing.assert_array_equal(data.X_train, raw.X_train)
    error = np.mean((Y[20:] - Y[:20].mean()) ** 2)
    assert raw.attrs["constant_guess"]["error"] == pytest.approx(error, rel=1e-12)
    guess = data.attrs["constant_guess"]["error"]
    assert guess * data.y_scale**2 == pytest.approx(error, rel=1e-12)


@pytest.mark.parametrize("size", [1e-200, 1e-5, 1e150])
def test_labels_of_any_size_are_scaled(tmp_path, size):
    small, plain = load(tmp_path, y=size * Y), load(tmp_path)
    np.testing.assert_allclose(small.y_train, plain.y_train, rtol=1e-9, atol=1e-9)


def test_labels_that_are_the_same_are_only_centred(tmp_path):
    data = load(tmp_path, y=np.full(30, 0.1))
    assert np.all(data.y_train == 0.0) and (data.y_mean, data.y_scale) == (0.1, 1.0)


def test_several_outputs_are_scaled_one_by_one(tmp_path):
    several = np.column_stack([Y, -1e-3 * Y**2, X[:, 1]])
    data, scaler = load(tmp_path, y=several), StandardScaler().fit(several[:20])
    np.testing.assert_allclose(data.y_test, scaler.transform(several[20:]), rtol=1e-9)
    np.testing.assert_allclose(data.y_scale, scaler.scale_, rtol=1e-12)
    copy = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(copy.y_scale, data.y_scale)
    with pytest.raises(ValueError, match="read-only"):
        copy.y_mean[0] = 0.0


def test_generated_labels_keep_their_scale_unless_asked():
    raw = fw.load_dataset("teacher", classes=None)
    assert raw.y_scale == 1.0
    asked = fw.load_dataset("teacher", classes=None, standardise_y=True)
    np.testing.assert_allclose(asked.y_mean + asked.y_scale * asked.y_train, raw.y_train)
    assert asked.y_train.std() == pytest.approx(1.0)


def test_predictions_come_back_in_the_users_units(tmp_path):
    """The Gaussian process is linear in the labels and its variances scale with prior and T."""
    data, scale = load(tmp_path), float(np.std(Y[:20]))
    net = fw.Network((10,), "erf")
    found = fw.solve(net, data.X_train, data.y_train, temperature=0.1, theory="infinite")
    prediction = data.in_units(found.predict(data.X_test, full_covariance=True))
    wide = net.replace(weight_precision=(1.0, 1.0 / scale**2))
    direct = fw.solve(
        wide, data.X_train, Y[:20] - data.y_mean, temperature=0.1 * scale**2, theory="infinite"
    ).predict(data.X_test, full_covariance=True)
    np.testing.assert_allclose(prediction.mean, direct.mean + data.y_mean, rtol=1e-8)
    np.testing.assert_allclose(prediction.variance, direct.variance, rtol=1e-8)
    np.testing.assert_allclose(prediction.covariance, direct.covariance, rtol=1e-6, atol=1e-6)


def test_predictions_of_several_outputs_scale_output_by_output():
    mean, scale = np.array([1.0, -2.0, 0.5]), np.array([2.0, 3.0, 10.0])
    y = RNG.normal(size=(5, 3))
    data = fw.Dataset(X[:5], y, X[:5], y, y_mean=mean, y_scale=scale)
    draws = RNG.normal(size=(400, 4, 3))
    covariance = np.einsum("snd,sme->ndme", draws, draws) / 400
    of_outputs = np.einsum("snd,sne->nde", draws, draws) / 400
    given = fw.Prediction(
        draws.mean(0), np.einsum("snd,snd->nd", draws, draws) / 400, covariance, of_outputs
    )
    found = data.in_units(given)
    draws = draws * scale
    np.testing.assert_allclose(found.mean, mean + draws.mean(0))
    np.testing.assert_allclose(found.variance, np.einsum("snd,snd->nd", draws, draws) / 400)
    np.testing.assert_allclose(found.covariance, np.einsum("snd,sme->ndme", draws, draws) / 400)
    np.testing.assert_allclose(
        found.output_covariance, np.einsum("snd,sne->nde", draws, draws) / 400
    )


WRONG = [
    ({"y_scale": 0.0}, "expected y_scale = a finite float > 0, got 0.0"),
    ({"y_scale": [1.0, 2.0]}, r"expected y_scale = a finite float > 0, got \[1.0, 2.0\]"),
    ({"y_mean": np.inf}, "expected y_mean = a finite float, got inf"),
    ({"y_mean": "1"}, "expected y_mean = a real numeric array"),
    ({"y_train": np.ones((5, 2))}, r"expected y_test = an array of shape \(5, 2\)"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_units_are_refused(arguments, message):
    good = {"X_train": X[:5], "y_train": Y[:5], "X_test": X[:5], "y_test": Y[:5]}
    with pytest.raises(InputError, match=message):
        fw.Dataset(**(good | arguments))


def test_what_is_no_prediction_of_this_data_is_refused(tmp_path, unchecked_types):
    data = load(tmp_path)
    with pytest.raises(InputError, match="expected prediction = a finwidth.Prediction, got n"):
        data.in_units(np.ones(3))
    with pytest.raises(InputError, match=r"a mean of shape .*got shape \(4, 2\)"):
        data.in_units(fw.Prediction(np.ones((4, 2)), np.ones((4, 2))))


def diabetes(folder):
    """Scikit-learn's table as people have it: unscaled, the label last."""
    table = load_diabetes(scaled=False)
    names = ",".join([*table.feature_names, "progression"])
    rows = np.column_stack([table.data, table.target])
    np.savetxt(folder / "diabetes.csv", rows, delimiter=",", header=names, comments="")
    return folder / "diabetes.csv"


def test_an_unscaled_table_is_learnt_better_than_by_its_mean(tmp_path):
    data = fw.load_dataset(
        "csv", path=diabetes(tmp_path), target="progression", classes=None, n_train=200, n_test=200
    )
    net = fw.Network((100,), "erf")
    solution = fw.solve(net, data.X_train, data.y_train, temperature=0.5)
    errors = solution.generalization_error(data.X_test, data.y_test)
    bias2 = np.mean((data.in_units(solution.predict(data.X_test)).mean - TARGETS[200:400]) ** 2)
    assert float(errors["error"]) < data.attrs["constant_guess"]["error"]
    assert float(errors["bias2"]) * data.y_scale**2 == pytest.approx(bias2, rel=1e-9)
    assert bias2 < 0.7 * np.mean((TARGETS[200:400] - TARGETS[:200].mean()) ** 2)


TARGETS = load_diabetes().target
