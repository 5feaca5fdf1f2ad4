"""Data sets read from files: archives, tables, and the standard files of MNIST and CIFAR-10."""

import gzip
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from finwidth._basics.errors import InputError
from finwidth.datasets import load_dataset

SMALL = {"n_train": 4, "n_test": 2}


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (12, 4, 4), dtype=np.uint8)
    return {
        "x_train": X[:8],
        "y_train": np.arange(8) % 2,
        "x_test": X[8:],
        "y_test": np.arange(4) % 2,
    }


def _write_mnist(folder, arrays, opened=open, suffix=""):
    folder.mkdir()
    for split, stem in (("train", "train"), ("test", "t10k")):
        for key, kind in (("x", "images-idx3"), ("y", "labels-idx1")):
            values = np.asarray(arrays[f"{key}_{split}"], dtype=np.uint8)
            header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
            with opened(folder / f"{stem}-{kind}-ubyte{suffix}", "wb") as file:
                file.write(header + values.tobytes())
    return folder


def _cifar(n, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 3072), dtype=np.uint8), np.arange(n) % 2


def _write_cifar(folder, write, names=None):
    folder.mkdir()
    for i, name in enumerate([f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]):
        write(folder, name, *_cifar(2, i))
    return folder


def _binary(folder, name, X, y):
    rows = np.concatenate([y[:, None].astype(np.uint8), X], axis=1)
    (folder / f"{name}.bin").write_bytes(rows.tobytes())


def _pickled(folder, name, X, y):
    batch = {b"data": X, b"labels": y.tolist(), b"batch_label": b"batch"}
    (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


def _same(one, other):
    for field in ("X_train", "y_train", "X_test", "y_test"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def test_npz_test_rows_come_from_its_test_split(tmp_path, arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    data = load_dataset("npz", path=tmp_path / "data.npz", **SMALL)
    scale = data.attrs["standardisation"]
    raw = data.X_test * scale["std"] + scale["mean"]
    np.testing.assert_allclose(raw, arrays["x_test"][:2].reshape(2, -1), atol=1e-11)
    shuffled = load_dataset("npz", path=tmp_path / "data.npz", n_train=8, n_test=4, seed=1)
    assert shuffled.X_train.shape == (8, 16) and shuffled.X_test.shape == (4, 16)


def test_npz_with_one_pool_splits_it(tmp_path, arrays):
    X, y = arrays["x_train"].reshape(8, 16), arrays["y_train"]
    np.savez(tmp_path / "data.npz", X=X, y=y)
    data = load_dataset("npz", path=str(tmp_path / "data.npz"), n_train=5, n_test=3)
    np.testing.assert_array_equal(data.y_test, 2.0 * y[5:8] - 1)


def test_mnist_idx_files_and_archive_agree(tmp_path, arrays):
    np.savez(tmp_path / "mnist.npz", **arrays)
    plain = _write_mnist(tmp_path / "plain", arrays)
    packed = _write_mnist(tmp_path / "packed", arrays, gzip.open, ".gz")
    expected = load_dataset("mnist", path=tmp_path / "mnist.npz", **SMALL)
    _same(load_dataset("mnist", path=plain, **SMALL), expected)
    _same(load_dataset("mnist", path=packed, **SMALL), expected)
    assert expected.attrs["image_shape"] == [4, 4]


def test_flat_rows_of_mnist_have_its_shape(tmp_path):
    X = np.random.default_rng(0).integers(0, 256, (6, 784))
    np.savez(tmp_path / "flat.npz", X=X, y=np.arange(6) % 2)
    data = load_dataset("mnist", path=tmp_path / "flat.npz", **SMALL)
    assert data.attrs["image_shape"] == [28, 28]
    np.testing.assert_allclose(data.X_train, (X[:4] - X[:4].mean()) / X[:4].std(), atol=1e-12)


def test_cifar_binary_and_python_batches_agree_with_an_archive(tmp_path):
    parts = [_cifar(2, i) for i in range(6)]
    images = [X.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for X, _ in parts]
    labels = [y for _, y in parts]
    np.savez(
        tmp_path / "cifar.npz",
        x_train=np.concatenate(images[:5]),
        y_train=np.concatenate(labels[:5]),
        x_test=images[5],
        y_test=labels[5],
    )
    expected = load_dataset("cifar10", path=tmp_path / "cifar.npz", n_train=10, n_test=2)
    for name, write in (("binary", _binary), ("pickled", _pickled)):
        folder = _write_cifar(tmp_path / name, write)
        found = load_dataset("cifar10", path=folder, n_train=10, n_test=2)
        _same(found, expected)
        assert found.attrs["image_shape"] == [32, 32, 3]


class _Harmful:
    def __reduce__(self):
        return (os.mkdir, ("harm",))


def test_cifar_unpickler_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = _write_cifar(tmp_path / "batches", _pickled)
    (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": _Harmful(), b"labels": []}))
    with pytest.raises(InputError, match="expected data_batch_1 = .* mkdir is not allowed|mkdir"):
        load_dataset("cifar10", path=folder)
    assert not (tmp_path / "harm").exists()


def test_npz_refuses_pickled_objects(tmp_path):
    X = np.array([[1, _Harmful()]], dtype=object)
    np.savez(tmp_path / "objects.npz", X=X, y=np.ones(1))
    with pytest.raises(InputError, match="expected path = an .npz archive"):
        load_dataset("npz", path=tmp_path / "objects.npz")


CSV = "a,b,kind\n1,2,cat\n3,4,dog\n5,6,cat\n7,8,dog\n"


def test_csv_with_names_and_words(tmp_path):
    (tmp_path / "t.csv").write_text(CSV)
    data = load_dataset(
        "csv", path=tmp_path / "t.csv", target="kind", classes=("cat", "dog"), n_train=2, n_test=2
    )
    np.testing.assert_array_equal(data.y_train, [-1, 1])
    np.testing.assert_allclose(data.X_train, [[-1, -1], [1, 1]])
    np.testing.assert_allclose(data.X_test, [[3, 3], [5, 5]])


def test_csv_target_can_be_any_column_and_names_are_optional(tmp_path):
    (tmp_path / "named.csv").write_text("y,a\n0,1\n1,2\n")
    (tmp_path / "bare.csv").write_text("1,0\n2,1\n")
    sizes = {"n_train": 1, "n_test": 1}
    with pytest.raises(InputError, match="expected X_train = entries that vary"):
        load_dataset("csv", path=tmp_path / "bare.csv", **sizes)
    (tmp_path / "named.csv").write_text("y,a,b\n0,1,2\n1,2,5\n1,4,1\n")
    (tmp_path / "bare.csv").write_text("1,2,0\n2,5,1\n4,1,1\n")
    sizes = {"n_train": 2, "n_test": 1}
    _same(
        load_dataset("csv", path=tmp_path / "named.csv", target="y", **sizes),
        load_dataset("csv", path=tmp_path / "bare.csv", **sizes),
    )


BAD_FILES = [
    ("csv", "t.csv", CSV.encode(), {}, r"expected classes = labels .*'cat', 'dog'\), got 0"),
    ("csv", "t.csv", CSV.encode(), {"target": "x"}, r"one of the columns \['a', 'b', 'kind'\]"),
    ("csv", "t.csv", b"1,2,0\n3,x,1\n", {}, "expected a number in row 2 of the table, got 'x'"),
    ("csv", "t.csv", b"1,2,0\n3,1\n", {}, "expected 3 columns in row 2 of the table, got 2"),
    ("csv", "t.csv", b"1,2,0\n3,nan,1\n", {}, "expected X = finite values only, got nan"),
    ("csv", "t.csv", b"1,2,0\n3,4,nan\n", {}, "expected y = finite values only, got nan"),
    ("csv", "t.csv", b"", {}, "expected path = a .csv table with at least two columns"),
    ("csv", "t.csv", b"a,b\n", {}, "expected path = a .csv table with at least one row"),
    ("csv", "t.csv", b"\xff\xfe\x00", {}, "expected path = a .csv file"),
    ("npz", "t.npz", b"not a zip file", {}, "expected path = an .npz archive"),
    ("mnist", "t.npz", b"", {}, "expected path = an .npz archive"),
]


@pytest.mark.parametrize(("name", "file", "content", "options", "message"), BAD_FILES)
def test_bad_files(tmp_path, name, file, content, options, message):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        load_dataset(name, path=tmp_path / file, n_train=1, n_test=1, **options)
    assert "\n" not in str(raised.value)


BAD_ARCHIVES = [
    ({"X": np.ones(3), "y": np.ones(3)}, r"expected X = a real numeric array of shape"),
    ({"X": np.ones((3, 2)), "y": np.ones(4)}, r"expected y = an array of shape \(3,\)"),
    ({"X": np.ones((3, 2)), "y": np.ones((3, 1))}, r"expected y = .*got shape \(3, 1\)"),
    ({"X": np.full((3, 2), np.inf), "y": np.ones(3)}, "expected X = finite values only, got inf"),
    ({"X": np.ones((3, 2))}, r"expected path = .*got the arrays \['X'\]"),
    ({"X": np.eye(3), "y": np.array([0, 1, 1])}, "expected n_train . n_test = at most 3,"),
]


@pytest.mark.parametrize(("arrays", "message"), BAD_ARCHIVES)
def test_bad_archives(tmp_path, arrays, message):
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(InputError, match=message):
        load_dataset("npz", path=tmp_path / "t.npz")


def test_mnist_folder_without_its_files(tmp_path, arrays):
    with pytest.raises(InputError, match="without train-images-idx3-ubyte"):
        load_dataset("mnist", path=tmp_path)
    folder = _write_mnist(tmp_path / "cut", arrays)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x05ab")
    with pytest.raises(InputError, match="expected t10k-labels-idx1-ubyte = an idx file"):
        load_dataset("mnist", path=folder)


def test_cifar_folder_without_its_files(tmp_path):
    with pytest.raises(InputError, match=r"without data_batch_1\[.bin\]"):
        load_dataset("cifar10", path=tmp_path)
    (tmp_path / "data_batch_1.bin").write_bytes(b"short")
    with pytest.raises(InputError, match="expected data_batch_1.bin = records of 3073 bytes"):
        load_dataset("cifar10", path=tmp_path)


@pytest.fixture(scope="module")
def data_folder():
    here = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("FINWIDTH_DATA", here.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no data files: set FINWIDTH_DATA to the folder with the image archives")
    return folder


@pytest.mark.parametrize(
    ("name", "file", "n_inputs"),
    [("mnist", "mnist01.npz", 784), ("cifar10", "cifar_cars_planes.npz", 3072)],
)
def test_image_archives_load(data_folder, name, file, n_inputs):
    if not (data_folder / file).is_file():
        pytest.skip(f"no {file} among the data files")
    data = load_dataset(name, path=data_folder / file, n_train=200, n_test=50)
    assert data.X_train.shape == (200, n_inputs)
    assert set(np.unique(data.y_train)) == {-1.0, 1.0}
    with np.load(data_folder / file) as archive:
        np.testing.assert_array_equal(data.y_test, 2.0 * archive["y_test"][:50] - 1)
