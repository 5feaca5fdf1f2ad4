"""Any number of classes: what stands for each, and what is said of them."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris

from finwidth._basics.errors import InputError
from finwidth.datasets import load_dataset

KEPT = np.isin(load_digits().target, (3, 5, 8))
NUMBER = np.searchsorted((3, 5, 8), load_digits().target[KEPT])


def digits(**options):
    return load_dataset("digits", **({"classes": (3, 5, 8)} | options))


def test_three_classes_are_one_hot_in_the_order_they_are_named():
    data, other = digits(), digits(classes=(8, 3, 5))
    np.testing.assert_array_equal(data.y_train, np.eye(3)[NUMBER[:100]])
    np.testing.assert_array_equal(data.y_test, np.eye(3)[NUMBER[100:200]])
    np.testing.assert_array_equal(other.y_train[:, [1, 2, 0]], data.y_train)
    np.testing.assert_array_equal(other.X_train, data.X_train)
    assert data.attrs["outputs"] == "onehot" and data.attrs["classes"] == [3, 5, 8]
    assert (data.y_mean, data.y_scale) == (0.0, 1.0)


@pytest.mark.parametrize("classes", [(3, 5, 8), (0, 1)])
def test_one_hot_and_index_say_the_same(classes):
    onehot, index = (digits(classes=classes, outputs=name, seed=2) for name in ("onehot", "index"))
    np.testing.assert_array_equal(np.argmax(onehot.y_train, axis=1), index.y_train)
    np.testing.assert_array_equal(np.argmax(onehot.y_test, axis=1), index.y_test)
    np.testing.assert_array_equal(onehot.y_train.sum(axis=1), 1.0)
    assert index.y_train.dtype == np.float64 and index.y_train.shape == (100,)


def test_two_classes_are_plus_and_minus_one_unless_asked():
    sign, index = digits(classes=(0, 1)), digits(classes=(0, 1), outputs="index")
    np.testing.assert_array_equal(sign.y_train, 2 * index.y_train - 1)
    assert sign.attrs["outputs"] == "sign"


@pytest.mark.parametrize("classes", [(3, 5, 8), (0, 1)])
def test_balance_and_a_constant_guess_are_counted(classes):
    data = digits(classes=classes, outputs="index", seed=1)
    for split, y in (("train", data.y_train), ("test", data.y_test)):
        counts = [int(np.sum(y == number)) for number in range(len(classes))]
        assert data.attrs["balance"][split] == counts
    larger = int(np.argmax(data.attrs["balance"]["train"]))
    assert data.attrs["constant_guess"] == {
        "class": classes[larger],
        "accuracy": np.mean(data.y_test == larger),
    }
    assert json.loads(json.dumps(data.attrs)) == data.attrs


def test_the_guess_is_made_on_the_training_rows(tmp_path):
    np.savez(tmp_path / "t.npz", X=np.arange(14.0).reshape(7, 2), y=[0, 0, 1, 1, 1, 1, 0])
    data = load_dataset("npz", path=tmp_path / "t.npz", n_train=3, n_test=4)
    assert data.attrs["balance"] == {"train": [2, 1], "test": [1, 3]}
    assert data.attrs["constant_guess"] == {"class": 0, "accuracy": 0.25}


@pytest.fixture(params=["csv", "npz", "bytes"])
def irises(request, tmp_path):
    """A file with the three irises by name."""
    iris = load_iris()
    words = iris.target_names[iris.target]
    if request.param == "csv":
        rows = (f"{','.join(map(str, x))},{word}" for x, word in zip(iris.data, words, strict=True))
        (tmp_path / "iris.csv").write_text("a,b,c,d,kind\n" + "\n".join(rows))
        return {"name": "csv", "path": tmp_path / "iris.csv", "target": "kind"}
    if request.param == "bytes":
        words = words.astype("S")
    np.savez(tmp_path / "iris.npz", X=iris.data, y=words)
    return {"name": "npz", "path": tmp_path / "iris.npz"}


def test_classes_by_name(irises):
    three = ("virginica", "setosa", "versicolor")
    data = load_dataset(**irises, classes=three, n_train=100, n_test=50, seed=0)
    assert data.attrs["classes"] == list(three)
    assert data.y_train.shape == (100, 3) and data.y_test.shape == (50, 3)
    np.testing.assert_array_equal(data.y_train.sum(0) + data.y_test.sum(0), 50)
    order = np.random.default_rng(0).permutation(150)
    setosa = load_iris().target[order][:100] == 0
    np.testing.assert_array_equal(data.y_train[:, 1], setosa)
    two = load_dataset(**irises, classes=("setosa", "virginica"), n_train=60, n_test=40)
    assert set(two.y_train) == {-1.0, 1.0} and set(two.y_test) == {1.0}
    with pytest.raises(InputError, match=r"'setosa', 'versicolor', 'virginica'\), got 0"):
        load_dataset(**irises)


def test_rows_in_the_order_of_classes_want_a_seed(irises):
    three = ("virginica", "setosa", "versicolor")
    with pytest.raises(InputError, match="none of 'virginica' among 100: a seed"):
        load_dataset(**irises, classes=three, n_train=100, n_test=50)


def write(folder, y):
    np.savez(folder / "t.npz", X=np.random.default_rng(0).normal(size=(len(y), 3)), y=y)
    return {"name": "npz", "path": folder / "t.npz", "n_train": 4, "n_test": 2}


def test_labels_that_are_numbers_of_classes_are_taken_as_they_are(tmp_path):
    arguments = write(tmp_path, np.array([2, 0, 1, 2, 0, 1]))
    data = load_dataset(**arguments, classes=None, outputs="index")
    np.testing.assert_array_equal(data.y_train, [2.0, 0.0, 1.0, 2.0])
    named = load_dataset(**arguments, classes=(0, 1, 2), outputs="index")
    np.testing.assert_array_equal(named.y_train, data.y_train)
    assert named.attrs == data.attrs


WRONG_NUMBERS = [
    [0.5, 0, 1, 2, 0, 1],
    [0, 0, 2, 2, 0, 2],
    [1, 2, 3, 1, 2, 3],
    [-1, 1, 1, -1, 1, 1],
    [0, 0, 0, 0, 0, 0],
    ["a", "b", "a", "b", "a", "b"],
    np.eye(6).tolist(),
]


@pytest.mark.parametrize("y", WRONG_NUMBERS)
def test_other_numbers_are_refused(tmp_path, y):
    with pytest.raises(InputError, match=r"expected y = .* with outputs='index', got") as raised:
        load_dataset(**write(tmp_path, np.array(y)), classes=None, outputs="index")
    assert "\n" not in str(raised.value) and "classes=" in str(raised.value)


def test_a_test_set_of_its_own_may_lack_a_class(tmp_path):
    X, y = np.random.default_rng(0).normal(size=(6, 3)), np.array([2, 0, 1, 2, 0, 1])
    arrays = {"X_train": X, "y_train": y, "X_test": X[1:3] + 1.0, "y_test": y[1:3]}
    np.savez(tmp_path / "t.npz", **arrays)
    given = {"name": "npz", "path": tmp_path / "t.npz", "n_train": 6, "n_test": 2}
    data = load_dataset(**given, classes=(0, 1, 2))
    np.testing.assert_array_equal(data.y_test, np.eye(3)[[0, 1]])
    assert data.attrs["balance"] == {"train": [2, 2, 2], "test": [1, 1, 0]}
    with pytest.raises(InputError, match="expected n_test = at most 1, "):
        load_dataset(**(given | {"n_train": 4}), classes=(0, 2))
    np.savez(tmp_path / "t.npz", **(arrays | {"y_test": np.ones((2, 2))}))
    for outputs in (None, "index"):
        with pytest.raises(InputError, match=r"as many labels .*\(2, 2\) and \(6,\)"):
            load_dataset(**given, classes=None, outputs=outputs)


def test_classes_of_several_labels_a_row_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected y = one label .*\(6, 2\) .*--classes none"):
        load_dataset(**write(tmp_path, np.ones((6, 2))))


def test_words_saved_as_objects_are_told_how_to_be_saved(tmp_path):
    arguments = write(tmp_path, np.array(["a", "b"] * 3, dtype=object))
    with pytest.raises(InputError, match=r"y\.astype\(str\)"):
        load_dataset(**arguments, classes=("a", "b"))


def test_words_that_are_no_utf_8_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected y = words in UTF-8"):
        load_dataset(**write(tmp_path, np.array([b"\xff", b"a"] * 3)), classes=("a", "b"))
