"""CIFAR-10 from the standard batches, or from an archive that the user names; N_0 = 3072."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from .._basics.arrays import shown
from .._basics.errors import InputError
from ._base import Dataset, Pool, Request, make_dataset
from ._files import Members, check_existing, folder_members, read_npz, tar_members
from ._images import Images

__all__ = ["load"]

_WANTED = "a folder or tar archive with the CIFAR-10 batches (binary or Python), or an .npz file"
_INNER = ("", "cifar-10-batches-bin", "cifar-10-batches-py")
_SPLITS = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
_SHAPE = (3, 32, 32)
_CLASSES = 10


def load(
    request: Request,
    *,
    path: str | Path | None = None,
    grayscale: bool = False,
    size: int | None = None,
) -> Dataset:
    """Load CIFAR-10; training rows come from the training batches, test rows from the test batch.

    Parameters
    ----------
    request
        Sizes, classes (0 airplane, 1 automobile, 2 bird, 3 cat, 4 deer, 5 dog, 6 frog,
        7 horse, 8 ship, 9 truck) and seed.
    path
        Folder with data_batch_1 … data_batch_5 and test_batch, as .bin files (the binary
        version) or without suffix (the Python version: pickles, read by an unpickler that
        builds arrays and nothing else), or the .tar.gz file of either version; or an .npz archive
        with the arrays x_train, y_train, x_test, y_test.
    grayscale
        Whether the three colours become one brightness, 0.299 R + 0.587 G + 0.114 B: N_0 = 1024.
    size
        Pixels a side to resize the images to, with averages that do not alias; None leaves 32.
        With ``grayscale=True, size=28`` N_0 = 784, as in Pacelli et al., Nat. Mach. Intell. 5, 1497
        (2023).
    """
    images = Images(grayscale, size)
    found = check_existing(path, _WANTED)
    if found.is_dir():
        members = folder_members(found, _INNER)
    else:
        names = [one for split in _SPLITS.values() for one in split]
        members = tar_members(found, {*names, *(f"{one}.bin" for one in names)}, _WANTED)
    if members is None:
        train, test = read_npz(found)
    else:
        train, test = (_batches(members, found, names) for names in _SPLITS.values())
    return make_dataset(
        request, name="cifar10", source=str(path), train=train, test=test, images=images
    )


def _batches(members: Members, found: Path, names: list[str]) -> Pool:
    parts = [_batch(members, found, name) for name in names]
    images = np.concatenate([images for images, _ in parts])
    # rows, columns, channels: the order of inputs that image archives have
    return Pool(images.transpose(0, 2, 3, 1), np.concatenate([labels for _, labels in parts]))


def _batch(members: Members, found: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    for file, read in ((f"{name}.bin", _read_binary), (name, _read_python)):
        raw = members(file)
        if raw is not None:
            images, labels = read(file, raw)
            if labels.size and not (labels.min() >= 0 and labels.max() < _CLASSES):
                raise InputError(
                    f"expected {file} = labels 0 to {_CLASSES - 1}, as CIFAR-10 has, got "
                    f"{labels.min()} to {labels.max()}"
                )
            return images, labels
    raise InputError(f"expected path = {_WANTED}, got {str(found)!r} without {name}[.bin]")


def _read_binary(file: str, raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    record = 1 + int(np.prod(_SHAPE))
    if not raw or len(raw) % record:
        raise InputError(f"expected {file} = records of {record} bytes, got {len(raw)} bytes")
    rows = np.frombuffer(raw, dtype=np.uint8).reshape(-1, record)
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


def _read_python(file: str, raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    expected = f"expected {file} = a batch of the Python version of CIFAR-10"
    try:
        batch = _ArraysOnly(io.BytesIO(raw), encoding="bytes").load()
    except Exception as error:  # what a damaged pickle can raise is endless
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{expected}, got {shown(reason)}") from None
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
        found = sorted(map(str, batch)) if isinstance(batch, dict) else type(batch).__name__
        raise InputError(f"{expected}, with data and labels, got {shown(found)}")
    images, labels = batch[b"data"], batch[b"labels"]
    n_inputs = int(np.prod(_SHAPE))
    if not (
        isinstance(images, np.ndarray)
        and images.dtype == np.uint8
        and images.ndim == 2
        and images.shape[1] == n_inputs
    ):
        found = getattr(images, "shape", type(images).__name__)
        raise InputError(
            f"{expected}, with data of bytes of shape (row, {n_inputs}), got {shown(found)}"
        )
    whole = isinstance(labels, list) and all(type(one) is int for one in labels)
    if not whole or len(labels) != len(images):
        found = f"{len(labels)} entries" if isinstance(labels, list) else type(labels).__name__
        raise InputError(f"{expected}, with an int a row as labels ({len(images)}), got {found}")
    try:
        return images.reshape(-1, *_SHAPE), np.array(labels, dtype=np.int64)
    except OverflowError:
        raise InputError(f"{expected}, got labels that are no numbers of classes") from None
