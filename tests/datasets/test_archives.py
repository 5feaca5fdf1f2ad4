"""NumPy archives: what is in them is used or named, and damage of any kind is one line."""

import io
import os
import struct
import warnings
import zipfile

import numpy as np
import pytest

from finwidth._basics.errors import InputError
from finwidth.datasets import load_dataset

X = np.random.default_rng(0).normal(size=(12, 3))
Y = X[:, 0] + 1.0


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


GOOD = {"X.npy": npy(X), "y.npy": npy(Y)}


@pytest.fixture
def write(tmp_path):
    def write(members, compression=zipfile.ZIP_STORED, damage=None):
        path = tmp_path / "data.npz"
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        content = bytearray(path.read_bytes())
        path.write_bytes(damage(content) if damage else content)
        return path

    return write


def load(path):
    return load_dataset("npz", path=path, classes=None, standardise_y=False, n_train=4, n_test=4)


@pytest.mark.parametrize("method", ["STORED", "DEFLATED", "BZIP2", "LZMA"])
def test_every_compression_of_zip_files_is_read(write, method):
    data = load(write(GOOD, getattr(zipfile, f"ZIP_{method}")))
    np.testing.assert_array_equal(data.y_train, Y[:4])


@pytest.mark.parametrize("names", [("X", "y"), ("x_TRAIN", "Y_train")])
def test_a_test_set_beside_the_training_set_is_used(write, names):
    x_name, y_name = names
    test = {"X_test.npy": npy(X[::-1]), "y_test.npy": npy(Y[::-1])}
    data = load(write({f"{x_name}.npy": npy(X), f"{y_name}.npy": npy(Y)} | test))
    scale = data.attrs["standardisation"]
    raw = data.X_test * np.array(scale["std"]) + np.array(scale["mean"])
    np.testing.assert_allclose(raw, X[::-1][:4])
    np.testing.assert_array_equal(data.y_test, Y[::-1][:4])


def test_arrays_that_are_not_used_are_named(write):
    path = write(GOOD | {"weights.npy": npy(Y), "readme.txt": b"hello"})
    with pytest.warns(UserWarning, match=r"\['weights', 'readme.txt'\] too, which are ignored"):
        load(path)


def flip(content):
    for place in (90, len(content) // 3):
        content[place] ^= 255
    return content


def field(local, central, value):
    """Damage that writes a value into the headers of the first member."""

    def damage(content):
        start = content.find(b"PK\1\2")
        content[local : local + 2] = struct.pack("<H", value)
        content[start + central : start + central + 2] = struct.pack("<H", value)
        return content

    return damage


HUGE = GOOD["X.npy"].replace(b"(12, 3)", b"(9999999999999, 3)")
REFUSED = {
    "encrypted": (GOOD, field(6, 8, 1), "encrypted"),
    "another compression": (GOOD, field(8, 10, 9), "not supported"),
    "cut short": (GOOD, lambda content: content[:-30], "not a zip file"),
    "nothing": (GOOD, lambda content: b"", r"expected path = an \.npz archive"),
    "one array": (GOOD, lambda content: GOOD["X.npy"], "got one array"),
    "a pickle": (GOOD, lambda content: b"\x80\x04].", "pickled"),
    "no members": ({}, None, r"got the arrays \[\]"),
    "objects": (GOOD | {"X.npy": npy(X.astype(object))}, None, "Object arrays cannot be loaded"),
    "no array": ({"X": b"raw", "y.npy": GOOD["y.npy"]}, None, "'X', which is not an array"),
    "a size beyond memory": (GOOD | {"X.npy": HUGE}, None, r"expected path = an \.npz archive"),
    "half a test set": (GOOD | {"X_test.npy": npy(X)}, None, "got the arrays .*'X_test'"),
    "two training sets": (
        {f"{name}.npy": npy(X) for name in ("X", "y", "X_train", "y_train", "X_test", "y_test")},
        None,
        "which are to train on",
    ),
    "two spellings": (GOOD | {"x.npy": npy(X)}, None, "both 'X' and 'x'"),
    "integers beyond float64": (
        GOOD | {"X.npy": npy(np.arange(36).reshape(12, 3) + 2**53)},
        None,
        "numbers that float64 holds exactly, got 9007199254740993",
    ),
    "labels beyond float64": (
        GOOD | {"y.npy": npy(np.arange(12) + 2**53)},
        None,
        "expected y = numbers that float64 holds exactly, got 9007199254740993",
    ),
    "raw bytes": (GOOD | {"X.npy": npy(np.zeros((12, 3), "V2"))}, None, "expected X = a real"),
    "records": (GOOD | {"X.npy": npy(np.zeros(12, [("a", float)]))}, None, "expected X = a real"),
    "times": (GOOD | {"y.npy": npy(np.zeros(12, "M8[s]"))}, None, "expected y = "),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_such_archive_is_refused_in_one_line(write, kind):
    members, damage, message = REFUSED[kind]
    with pytest.raises(InputError, match=message) as raised:
        load(write(members, damage=damage))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("method", ["STORED", "DEFLATED", "BZIP2", "LZMA"])
def test_corrupt_members_are_refused(write, method):
    with pytest.raises(InputError, match=r"expected path = an \.npz archive"):
        load(write(GOOD, getattr(zipfile, f"ZIP_{method}"), flip))


def test_a_member_that_comes_twice_is_refused(tmp_path):
    path = tmp_path / "data.npz"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # zipfile warns of the name
        for name, content in [*GOOD.items(), *GOOD.items()]:
            archive.writestr(name, content)
    with pytest.raises(InputError, match="both 'X' and 'X'"):
        load(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["npz", "csv", "mnist", "cifar10"])
def test_reading_does_not_wait_for_a_pipe(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        load_dataset(name, path=tmp_path / "pipe")
