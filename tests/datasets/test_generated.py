"""Generated data: random labels carry no signal, a teacher's labels carry its own."""

import numpy as np
import pytest

from finwidth.datasets import load_dataset


def test_random_inputs_are_standard_normal():
    X = load_dataset("random", n_train=4000, n_test=1, n_inputs=50).X_train
    covariance = X.T @ X / len(X)
    # each entry of the sample covariance has standard deviation of about 1/√n
    assert np.abs(covariance - np.eye(50)).max() < 6 * np.sqrt(2 / len(X))


def test_random_labels_are_balanced_and_independent_of_the_inputs():
    data = load_dataset("random", n_train=4000, n_test=1)
    assert abs(data.y_train.mean()) < 5 / np.sqrt(4000)
    assert np.abs(data.X_train.T @ data.y_train / 4000).max() < 5 / np.sqrt(4000)


def test_first_rows_do_not_depend_on_the_number_of_test_rows():
    few, many = (load_dataset("random", n_train=20, n_test=n) for n in (1, 50))
    np.testing.assert_array_equal(few.X_train, many.X_train)
    np.testing.assert_array_equal(few.y_train, many.y_train)


@pytest.mark.parametrize("name", ["random", "teacher"])
def test_seed_reproduces(name):
    sizes = {"n_train": 10, "n_test": 5}
    default, zero, one = (load_dataset(name, seed=s, **sizes) for s in (None, 0, 1))
    np.testing.assert_array_equal(default.X_test, zero.X_test)
    np.testing.assert_array_equal(default.y_train, zero.y_train)
    assert not np.array_equal(zero.X_train, one.X_train)


def test_identity_teacher_is_a_linear_map():
    data = load_dataset(
        "teacher", classes=None, activation="identity", n_inputs=5, teacher_width=(4, 3)
    )
    weights, *_ = np.linalg.lstsq(data.X_train, data.y_train, rcond=None)
    np.testing.assert_allclose(data.X_test @ weights, data.y_test, atol=1e-12)


def test_teacher_noise_has_its_standard_deviation():
    sizes = {"n_train": 4000, "n_test": 1, "classes": None}
    clean, noisy = (load_dataset("teacher", noise=s, **sizes) for s in (0.0, 0.3))
    assert np.std(noisy.y_train - clean.y_train) == pytest.approx(0.3, rel=5 / np.sqrt(8000))


def test_teacher_classes_are_the_sign_of_its_output():
    sign, output = (load_dataset("teacher", seed=4, classes=c) for c in ((0, 1), None))
    np.testing.assert_array_equal(sign.y_train, np.where(output.y_train > 0, 1.0, -1.0))
    np.testing.assert_array_equal(sign.X_train, output.X_train)
