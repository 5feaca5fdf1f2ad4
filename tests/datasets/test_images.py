"""Images: grayscale, size, the standard files in whatever form, damage in one line, duplicates."""

import gzip
import io
import pickle
import tarfile

import numpy as np
import pytest

from finwidth._basics.errors import InputError
from finwidth.datasets import load_dataset
from finwidth.datasets._images import Images

from .test_files import _binary, _cifar, _pickled, _write_cifar, _write_mnist

RNG = np.random.default_rng(0)


def resized(images, size, grayscale=False):
    rows, shape = Images(grayscale, size).apply(images.reshape(len(images), -1), images.shape[1:])
    return rows.reshape(len(images), *shape)


# What resizing keeps


def test_resizing_to_the_own_size_changes_nothing():
    images = RNG.normal(size=(2, 7, 7))
    np.testing.assert_allclose(resized(images, 7), images, rtol=1e-14)


@pytest.mark.parametrize("size", [3, 8, 20])
def test_an_even_image_stays_even_and_a_slope_stays_a_slope(size):
    np.testing.assert_allclose(resized(np.full((1, 9, 9), 3.0), size), 3.0)
    slope = np.broadcast_to((np.arange(40.0) + 0.5) / 40, (1, 40, 40))
    places = (np.arange(size) + 0.5) / size
    inside = slice(1, -1)  # at the edges there is nothing beyond to average with
    np.testing.assert_allclose(resized(slope, size)[0, 0, inside], places[inside], atol=1e-12)


def test_a_pattern_finer_than_the_new_pixels_becomes_grey():
    board = np.indices((32, 32)).sum(axis=0)[None] % 2.0
    assert np.abs(resized(board, 8)[0, 1:-1, 1:-1] - 0.5).max() < 0.01


def test_resizing_treats_both_sides_and_all_channels_alike():
    images = RNG.normal(size=(3, 10, 10, 2))
    both = resized(images, 6)
    np.testing.assert_allclose(both[..., 1], resized(images[..., 1], 6))
    np.testing.assert_allclose(resized(images.swapaxes(1, 2), 6), both.swapaxes(1, 2))


def test_grayscale_leaves_grey_images_and_weighs_green_most():
    grey = RNG.normal(size=(2, 4, 4))
    colours = np.repeat(grey[..., None], 3, axis=3)
    np.testing.assert_allclose(resized(colours, None, grayscale=True), grey)
    one = np.eye(3).reshape(3, 1, 1, 3)  # an image of each colour
    red, green, blue = resized(one, None, grayscale=True).ravel()
    assert green > red > blue > 0 and red + green + blue == pytest.approx(1)


# Data sets


def test_cifar_as_in_the_article(tmp_path):
    folder = _write_cifar(tmp_path / "c", _binary)
    data = load_dataset("cifar10", path=folder, n_train=10, n_test=2, grayscale=True, size=28)
    assert data.X_train.shape == (10, 784) and data.attrs["image_shape"] == [28, 28]
    assert data.attrs["images"] == {"grayscale": True, "size": 28}
    assert data.X_train.mean() == pytest.approx(0, abs=1e-12)
    assert data.X_train.std() == pytest.approx(1)
    colours = load_dataset("cifar10", path=folder, n_train=10, n_test=2)
    scale = colours.attrs["standardisation"]
    raw = (colours.X_test * scale["std"] + scale["mean"]).reshape(2, 32, 32, 3)
    want, scale = resized(raw, 28, grayscale=True), data.attrs["standardisation"]
    np.testing.assert_allclose(data.X_test, (want.reshape(2, -1) - scale["mean"]) / scale["std"])


@pytest.mark.parametrize("version", ["binary", "python"])
def test_cifar_from_its_tar_file_and_from_the_folder_in_it(tmp_path, version):
    inner = {"binary": "cifar-10-batches-bin", "python": "cifar-10-batches-py"}[version]
    write = {"binary": _binary, "python": _pickled}[version]
    folder = _write_cifar(tmp_path / inner, write)
    with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as archive:
        archive.add(folder, inner)
    expected = load_dataset("cifar10", path=folder, n_train=10, n_test=2)
    for path in (tmp_path, tmp_path / "cifar.tar.gz"):
        found = load_dataset("cifar10", path=path, n_train=10, n_test=2)
        np.testing.assert_array_equal(found.X_train, expected.X_train)
        np.testing.assert_array_equal(found.y_test, expected.y_test)


def two_classes(side):
    """Return six training and four test images of two classes."""
    return {
        "x_train": RNG.integers(0, 256, (6, side, side)),
        "y_train": np.arange(6) % 2,
        "x_test": RNG.integers(0, 256, (4, side, side)),
        "y_test": np.arange(4) % 2,
    }


def test_mnist_in_the_folder_where_others_put_it_and_smaller(tmp_path):
    arrays = two_classes(28)
    (tmp_path / "MNIST").mkdir()
    _write_mnist(tmp_path / "MNIST" / "raw", arrays, gzip.open, ".gz")
    data = load_dataset("mnist", path=tmp_path, n_train=6, n_test=4, size=7)
    assert data.X_test.shape == (4, 49) and data.attrs["image_shape"] == [7, 7]


WRONG = [
    ({"size": 0}, "expected size = an int of at least 1, got 0"),
    ({"size": 5000}, "expected size = at most 1024 pixels a side, got 5000"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_options_of_images(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        load_dataset("cifar10", path=_write_cifar(tmp_path / "c", _binary), **options)


def test_what_is_no_image_has_no_size_and_what_is_grey_no_colours(tmp_path):
    y = np.arange(8) % 2
    np.savez(tmp_path / "rows.npz", X=RNG.normal(size=(8, 5)), y=y)
    np.savez(tmp_path / "grey.npz", X=RNG.normal(size=(8, 5, 5)), y=y)
    sizes = {"n_train": 4, "n_test": 4}
    with pytest.raises(InputError, match=r"\(height, width\) and channels .* size=…, got rows of"):
        load_dataset("cifar10", path=tmp_path / "rows.npz", size=3, **sizes)
    with pytest.raises(InputError, match=r"\(height, width, 3\) .* got shape \(5, 5\)"):
        load_dataset("cifar10", path=tmp_path / "grey.npz", grayscale=True, **sizes)


# Damage: one line that names the file


@pytest.fixture
def mnist(tmp_path):
    arrays = two_classes(3)
    return _write_mnist(tmp_path / "m", arrays)


MNIST_DAMAGE = [
    ("train-images-idx3-ubyte", lambda raw: raw[:-7], r"shape \(6, 3, 3\), got 47 .*: cut short"),
    ("train-images-idx3-ubyte", lambda raw: raw + b"x", r"got 55 bytes .*: too long"),
    ("train-images-idx3-ubyte", lambda raw: raw[:9], "= an idx file of unsigned bytes with 3 axes"),
    ("t10k-labels-idx1-ubyte", lambda raw: b"\0\0\r\1" + raw[4:], "start with 00 00 0d 01"),
    ("t10k-labels-idx1-ubyte", lambda raw: b"", "got 0 bytes"),
    (
        "t10k-labels-idx1-ubyte",
        lambda raw: raw[:4] + (3).to_bytes(4, "big") + raw[8:11],
        "t10k-labels = one label for each of the 4 images of t10k-images, got 3",
    ),
]


@pytest.mark.parametrize(("file", "damage", "message"), MNIST_DAMAGE)
def test_damaged_mnist(mnist, file, damage, message):
    (mnist / file).write_bytes(damage((mnist / file).read_bytes()))
    with pytest.raises(InputError, match=message) as raised:
        load_dataset("mnist", path=mnist, n_train=4, n_test=4)
    assert file.split("-idx")[0] in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("damage", [lambda raw: raw[:-9], lambda raw: b"plain" + raw])
def test_damaged_gzip(mnist, damage):
    file = mnist / "train-images-idx3-ubyte"
    file.with_name(f"{file.name}.gz").write_bytes(damage(gzip.compress(file.read_bytes())))
    file.unlink()
    with pytest.raises(InputError, match=f"expected {file.name}.gz = a gzip file, got"):
        load_dataset("mnist", path=mnist, n_train=4, n_test=4)


def pickled(**entries):
    X, y = _cifar(2, 0)
    batch = {"data": X, "labels": y.tolist()} | entries
    return pickle.dumps({key.encode(): value for key, value in batch.items()}, protocol=2)


CIFAR_DAMAGE = {
    "cut short": (pickled()[:-40], "a batch of the Python version"),
    "no labels": (pickle.dumps({b"data": 1, b"fine_labels": []}), "got .*fine_labels"),
    "a list": (pickle.dumps([1, 2]), "with data and labels, got 'list'"),
    "floats": (pickled(data=np.ones((2, 3072))), "with data of bytes of shape"),
    "another size": (pickled(data=np.ones((2, 12), np.uint8)), r"3072\), got \(2, 12\)"),
    "too few labels": (pickled(labels=[1]), r"as labels \(2\), got 1 entries"),
    "labels of words": (pickled(labels=["a", "b"]), r"as labels \(2\)"),
    "another set's labels": (pickled(labels=[3, 17]), "labels 0 to 9, .* got 3 to 17"),
    "nothing": (b"", "Ran out of input"),
}


@pytest.mark.parametrize("case", CIFAR_DAMAGE)
def test_damaged_batch(tmp_path, case):
    content, message = CIFAR_DAMAGE[case]
    folder = _write_cifar(tmp_path / "c", _pickled)
    (folder / "data_batch_3").write_bytes(content)
    with pytest.raises(InputError, match=f"expected data_batch_3 = .*{message}") as raised:
        load_dataset("cifar10", path=folder)
    assert "\n" not in str(raised.value)


def test_batches_of_another_set_are_refused_by_their_labels(tmp_path):
    folder = _write_cifar(tmp_path / "c", _binary)
    _binary(folder, "test_batch", _cifar(2, 0)[0], np.array([3, 40]))
    with pytest.raises(InputError, match="expected test_batch.bin = labels 0 to 9"):
        load_dataset("cifar10", path=folder)


@pytest.mark.parametrize("cut", [100, -100])
def test_tar_file_that_is_cut_short(tmp_path, cut):
    folder = _write_cifar(tmp_path / "c", _binary)
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
        archive.add(folder, "c")
    path = tmp_path / "c.tar.gz"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"expected path = .*c\.tar\.gz' \(") as raised:
        load_dataset("cifar10", path=path)
    assert "\n" not in str(raised.value)


def test_tar_file_of_something_else(tmp_path):
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("notes.txt"), io.BytesIO())
    with pytest.raises(InputError, match=r"without data_batch_1\[.bin\]"):
        load_dataset("cifar10", path=tmp_path / "other.tar")


# Duplicates


def test_rows_that_occur_twice_are_counted(tmp_path):
    X, y = RNG.normal(size=(40, 3)), np.arange(40) % 2
    X[1] = X[0]  # twice in training
    X[39] = X[5]  # in both
    np.savez(tmp_path / "d.npz", X=X, y=y)
    data = load_dataset("npz", path=tmp_path / "d.npz", n_train=20, n_test=20)
    assert data.attrs["duplicates"] == {"train": 1, "test_in_train": 1}
    X[38] = X[5]
    np.savez(tmp_path / "d.npz", X=X, y=y)
    with pytest.warns(UserWarning, match="'npz' .* got 2 of 20 that are, the first .* row 18"):
        data = load_dataset("npz", path=tmp_path / "d.npz", n_train=20, n_test=20)
    assert data.attrs["duplicates"] == {"train": 1, "test_in_train": 2}
