"""MNIST from the standard idx files, or from an archive that the user names; N_0 = 784."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from .._basics.errors import InputError
from ._base import Dataset, Pool, Request, make_dataset
from ._files import check_existing, read_bytes, read_npz
from ._images import Images

__all__ = ["load"]

_WANTED = "a folder with the four MNIST idx files (.gz or not), or an .npz file"
_INNER = ("", "MNIST/raw", "raw")  # where programs that download them put them


def load(request: Request, *, path: str | Path | None = None, size: int | None = None) -> Dataset:
    """Load MNIST; training rows come from the training file, test rows from the test file.

    Parameters
    ----------
    request
        Sizes, classes (the digits 0 to 9) and seed.
    path
        Folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte
        and t10k-labels-idx1-ubyte, gzipped or not, itself or in MNIST/raw; or an .npz archive
        with the arrays x_train, y_train, x_test, y_test.
    size
        Pixels a side to resize the images to; None leaves 28.
    """
    images = Images(size=size)
    found = check_existing(path, _WANTED)
    if found.is_dir():
        train, test = (_split(found, split) for split in ("train", "t10k"))
    else:
        train, test = read_npz(found)
    return make_dataset(
        request,
        name="mnist",
        source=str(path),
        train=train,
        test=test,
        image_shape=(28, 28),
        images=images,
    )


def _split(folder: Path, split: str) -> Pool:
    images, labels = _idx(folder, f"{split}-images", 3), _idx(folder, f"{split}-labels", 1)
    if len(images) != len(labels):
        raise InputError(
            f"expected {split}-labels = one label for each of the {len(images)} images of "
            f"{split}-images, got {len(labels)}"
        )
    return Pool(images, labels)


def _idx(folder: Path, stem: str, ndim: int) -> np.ndarray:
    """Read one idx file: magic 00 00 08 ndim, big-endian sizes, then unsigned bytes."""
    for inner in _INNER:
        for separator in "-.":
            for suffix in ("", ".gz"):
                file = folder / inner / f"{stem}{separator}idx{ndim}-ubyte{suffix}"
                if file.is_file():
                    return _read_idx(file, ndim)
    raise InputError(
        f"expected path = {_WANTED}, got {str(folder)!r} without {stem}-idx{ndim}-ubyte"
    )


def _read_idx(file: Path, ndim: int) -> np.ndarray:
    raw = read_bytes(file)
    if file.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"expected {file.name} = a gzip file, got {error}") from None
    start = 4 + 4 * ndim
    sizes = np.frombuffer(raw[4:start].ljust(4 * ndim, b"\0"), dtype=">u4")
    shape = tuple(int(size) for size in sizes)
    if raw[:4] != bytes([0, 0, 8, ndim]) or len(raw) < start:
        raise InputError(
            f"expected {file.name} = an idx file of unsigned bytes with {ndim} axes, "
            f"got {len(raw)} bytes that start with {raw[:4].hex(' ')}"
        )
    if len(raw) - start != math.prod(shape):
        short = "cut short" if len(raw) - start < math.prod(shape) else "too long"
        raise InputError(
            f"expected {file.name} = an idx file of unsigned bytes of shape {shape}, got "
            f"{len(raw) - start} bytes for {math.prod(shape)} entries: {short}"
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)
