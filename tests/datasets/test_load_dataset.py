"""The contract of `load_dataset`: choice of classes, order, split, standardisation, errors."""

import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.datasets import load_digits

from finwidth._basics.errors import InputError
from finwidth.datasets import Dataset, list_datasets, load_dataset
from finwidth.datasets._base import Request


@pytest.fixture(scope="module")
def zeros_and_ones():
    digits = load_digits()
    keep = np.isin(digits.target, (0, 1))
    return digits.data[keep], digits.target[keep]


def test_digits_keep_file_order(zeros_and_ones):
    X, labels = zeros_and_ones
    data = load_dataset("digits")
    mean, std = X[:100].mean(), X[:100].std()
    np.testing.assert_allclose(data.X_train, (X[:100] - mean) / std, atol=1e-14)
    np.testing.assert_allclose(data.X_test, (X[100:200] - mean) / std, atol=1e-14)
    np.testing.assert_array_equal(data.y_train, 2.0 * labels[:100] - 1)
    np.testing.assert_array_equal(data.y_test, 2.0 * labels[100:200] - 1)


def test_training_entries_are_standardised_by_two_scalars():
    data = load_dataset("digits", n_train=37, seed=3)
    assert data.X_train.mean() == pytest.approx(0.0, abs=1e-14)
    assert data.X_train.std() == pytest.approx(1.0, abs=1e-14)
    raw = data.X_test * data.attrs["standardisation"]["std"] + data.attrs["standardisation"]["mean"]
    np.testing.assert_allclose(raw, np.round(raw), atol=1e-12)  # the pixels are small ints


def test_classes_set_the_sign():
    forward, backward = load_dataset("digits"), load_dataset("digits", classes=(1, 0))
    np.testing.assert_array_equal(forward.y_train, -backward.y_train)
    np.testing.assert_array_equal(forward.X_train, backward.X_train)


def test_no_classes_keeps_labels_as_numbers():
    data = load_dataset("digits", classes=None, standardise_y=False)
    np.testing.assert_array_equal(data.y_train, load_digits().target[:100])


def test_seed_permutes_reproducibly(zeros_and_ones):
    one, again, other = (load_dataset("digits", seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.X_train, again.X_train)
    assert not np.array_equal(one.X_train, other.X_train)
    order = np.random.default_rng(1).permutation(len(zeros_and_ones[1]))
    np.testing.assert_array_equal(one.y_train, 2.0 * zeros_and_ones[1][order[:100]] - 1)


@given(n_train=st.integers(1, 180), n_test=st.integers(1, 180), seed=st.none() | st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_sizes_and_disjoint_splits(n_train, n_test, seed):
    data = load_dataset("random", n_train=n_train, n_test=n_test, seed=seed, n_inputs=3)
    assert data.X_train.shape == (n_train, 3) and data.y_train.shape == (n_train,)
    assert data.X_test.shape == (n_test, 3) and data.y_test.shape == (n_test,)
    both = np.concatenate([data.X_train, data.X_test])
    assert len(np.unique(both, axis=0)) == n_train + n_test
    assert set(np.unique(data.y_train)) <= {-1.0, 1.0}


def test_attrs_are_json_and_say_how_the_data_were_made():
    attrs = load_dataset("random", n_train=8, n_test=4).attrs
    assert json.loads(json.dumps(attrs)) == attrs
    assert attrs["seed"] == 0
    assert attrs["sizes"] == {"n_train": 8, "n_test": 4, "n_inputs": 50}


def test_every_module_without_underscore_is_a_data_set():
    assert {"digits", "random", "teacher", "mnist", "cifar10", "npz", "csv"} <= set(list_datasets())


def test_arrays_are_read_only_copies():
    X = np.ones((2, 1))
    data = Dataset(X, np.ones(2), X, np.ones(2))
    X[0] = 5.0
    assert data.X_train[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        data.X_train[0, 0] = 2.0


BAD = [
    ({"name": "digit"}, r"expected data set = one of \[.*'digits'.*\], got 'digit' .*'digits'"),
    ({"name": "../digits"}, "expected data set = one of"),
    ({"name": "_base"}, "expected data set = one of"),
    ({"classes": (0, 12)}, r"expected classes = labels .*\(0, 1, .*9\), got 12"),
    ({"classes": (1, 1)}, r"expected classes = two different labels .*, got \(1, 1\)"),
    ({"classes": (1,)}, "expected classes = two different labels"),
    ({"classes": (0, 1, 1)}, "expected classes = two different labels"),
    ({"classes": (0, 1, 12)}, r"expected classes = labels .*got 12"),
    ({"classes": (0, 1, 2, 3), "n_train": 3}, "expected classes = at most 3, .* 4 classes"),
    ({"outputs": "one-hot"}, r"expected outputs = one of .*, got 'one-hot' .*'onehot'"),
    ({"outputs": "onehot", "classes": None}, "expected outputs = None or 'index' where classes"),
    ({"classes": "01"}, "expected classes = two different labels"),
    ({"classes": (0, [1])}, "expected classes = two different labels"),
    ({"n_train": 400}, r"expected n_train \+ n_test = at most 360, .*, got 500"),
    ({"n_train": 0}, "expected n_train = an int of at least 1, got 0"),
    ({"n_test": 0}, "expected n_test = an int of at least 1, got 0"),
    ({"seed": -1}, "expected seed = an int of at least 0, got -1"),
    ({"n_inputs": 3}, "expected options of data set 'digits' = none, got 'n_inputs'"),
    ({"name": "random", "n_input": 3}, r"= one of \['n_inputs'\], got 'n_input' .*'n_inputs'"),
    ({"name": "random", "n_inputs": 0}, "expected n_inputs = an int of at least 1, got 0"),
    ({"name": "random", "classes": (2, 3)}, r"expected classes = labels .*\(0, 1\), got 2"),
    ({"name": "teacher", "noise": -1.0}, "expected noise = a finite float ≥ 0, got -1.0"),
    ({"name": "teacher", "teacher_width": 0}, "expected widths = .*, got 0"),
    ({"name": "mnist"}, "expected path = a folder with the four MNIST idx files .*, got None"),
    ({"name": "cifar10", "path": "absent"}, "expected path = .*'absent', which does not exist"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[str(a) for a, _ in BAD])
def test_bad_input_is_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as raised:
        load_dataset(**({"name": "digits"} | arguments))
    assert "\n" not in str(raised.value)


WRONG_TYPES = [
    ({"classes": 3}, "expected classes = two different labels"),
    ({"n_train": 10.0}, "expected n_train = an int of at least 1, got 10.0"),
    ({"n_test": True}, "expected n_test = an int"),
    ({"seed": 0.5}, "expected seed = an int"),
    ({"outputs": 3}, "expected outputs = one of"),
    ({"standardise_y": 1}, "expected standardise_y = True or False, got 1"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG_TYPES)
def test_wrong_types(arguments, message):
    good = {"classes": (0, 1), "n_train": 2, "n_test": 2, "seed": None}
    with pytest.raises(InputError, match=message):
        Request(**(good | arguments))


BAD_ARRAYS = [
    ({"X_train": np.ones(4)}, r"expected X_train = an array of shape \(pattern, input\)"),
    ({"X_train": np.full((4, 2), np.nan)}, "expected X_train = finite values only, got 8 NaN"),
    ({"X_train": np.ones((4, 2), complex)}, "expected X_train = a real numeric array"),
    ({"y_train": np.ones(3)}, r"expected y_train = an array of shape \(4,\).*got shape \(3,\)"),
    ({"y_train": np.ones((4, 1))}, r"expected y_train = .*got shape \(4, 1\)"),
    ({"y_test": [1.0, np.inf]}, "expected y_test = finite values only"),
    ({"X_test": np.ones((2, 3))}, r"expected X_test = an array of shape \(pattern, 2\)"),
]


@pytest.mark.parametrize(("arrays", "message"), BAD_ARRAYS)
def test_bad_arrays(arrays, message):
    good = {
        "X_train": np.ones((4, 2)),
        "y_train": np.ones(4),
        "X_test": np.ones((2, 2)),
        "y_test": np.ones(2),
    }
    with pytest.raises(InputError, match=message):
        Dataset(**(good | arrays))
