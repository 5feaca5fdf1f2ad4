"""CIFAR-10 from the standard batches, or from an archive that the user names; N_0 = 3072."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from .._basics.errors import InputError
from ._base import Dataset, Pool, Request, make_dataset
from ._files import check_existing, read_npz

__all__ = ["load"]

_WANTED = "a folder with the CIFAR-10 batches (binary or Python version), or an .npz file"
_SPLITS = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
_SHAPE = (3, 32, 32)


def load(request: Request, *, path: str | Path | None = None) -> Dataset:
    """Load CIFAR-10; training rows come from the training batches, test rows from the test batch.

    Parameters
    ----------
    request
        Sizes, classes (0 airplane, 1 automobile, 2 bird, 3 cat, 4 deer, 5 dog, 6 frog,
        7 horse, 8 ship, 9 truck) and seed.
    path
        Folder with data_batch_1 … data_batch_5 and test_batch, as .bin files (the binary
        version) or without suffix (the Python version: pickles, read by an unpickler that
        builds arrays and nothing else); or an .npz archive with the arrays x_train, y_train,
        x_test, y_test.
    """
    found = check_existing(path, _WANTED)
    if found.is_dir():
        train, test = (_batches(found, names) for names in _SPLITS.values())
    else:
        train, test = read_npz(found)
    return make_dataset(request, name="cifar10", source=str(path), train=train, test=test)


def _batches(folder: Path, names: list[str]) -> Pool:
    parts = [_batch(folder, name) for name in names]
    images = np.concatenate([images for images, _ in parts])
    # rows, columns, channels: the order of inputs that image archives have
    return Pool(images.transpose(0, 2, 3, 1), np.concatenate([labels for _, labels in parts]))


def _batch(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    for file, read in ((folder / f"{name}.bin", _read_binary), (folder / name, _read_python)):
        if file.is_file():
            return read(file)
    raise InputError(f"expected path = {_WANTED}, got {str(folder)!r} without {name}[.bin]")


def _read_binary(file: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        raw = np.fromfile(file, dtype=np.uint8)
    except OSError as error:
        raise InputError(f"expected {file.name} = a file that can be read, got {error}") from None
    record = 1 + int(np.prod(_SHAPE))
    if raw.size == 0 or raw.size % record:
        raise InputError(f"expected {file.name} = records of {record} bytes, got {raw.size} bytes")
    rows = raw.reshape(-1, record)
    return rows[:, 1:].reshape(-1, *_SHAPE), rows[:, 0]


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that can rebuild NumPy arrays of plain numbers and nothing else."""

    _ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is not allowed")
        # numpy.core is the name before NumPy 2
        return super().find_class(module_name.replace("numpy.core", "numpy._core"), global_name)


def _read_python(file: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with file.open("rb") as stream:
            batch = _ArraysOnly(stream, encoding="bytes").load()
        images = np.asarray(batch[b"data"], dtype=np.uint8).reshape(-1, *_SHAPE)
        labels = np.asarray(batch[b"labels"], dtype=np.int64)
    except Exception as error:  # what a damaged pickle can raise is endless
        raise InputError(
            f"expected {file.name} = a batch of the Python version of CIFAR-10, got {error}"
        ) from None
    return images, labels
