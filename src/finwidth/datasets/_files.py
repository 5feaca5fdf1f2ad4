"""Reading files that users name: paths, folders and archives, without pickles."""

import tarfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from .._basics.arrays import shown
from .._basics.checks import check_path
from .._basics.errors import InputError, warn
from ._base import Pool

__all__ = [
    "Members",
    "check_existing",
    "check_file",
    "folder_members",
    "read_bytes",
    "read_npz",
    "tar_members",
]

#: The content of a file of this name, None where there is none.
type Members = Callable[[str], bytes | None]

_WANTED = (
    "an .npz archive with the arrays X_train, y_train, X_test, y_test, or X, y, X_test, y_test, or "
    "X, y"
)
_KNOWN = {"x", "y", "x_train", "y_train", "x_test", "y_test"}


def check_existing(path: Any, what: str) -> Path:
    """Return `path` as an existing Path, or raise InputError that says what it should be."""
    found = check_path("path", path, what)
    try:
        exists = found.exists()
    except OSError as error:
        raise InputError(f"expected path = {what}, got {str(path)!r} ({error.strerror})") from None
    if not exists:
        raise InputError(f"expected path = {what}, got {str(path)!r}, which does not exist")
    return found


def check_file(path: Any, what: str) -> Path:
    """Return `path` as an existing file; reading from a pipe or a device would wait for ever."""
    found = check_existing(path, what)
    if not found.is_file():
        kind = "a folder" if found.is_dir() else "not a regular file"
        raise InputError(f"expected path = {what}, got {str(path)!r}, which is {kind}")
    return found


def read_bytes(file: Path) -> bytes:
    """Return the content of a file, or raise InputError."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(
            f"expected {file.name} = a file that can be read, got {error.strerror}"
        ) from None


def folder_members(folder: Path, inner: tuple[str, ...]) -> Members:
    """Return what reads the files of a folder, or of those named `inner` in it."""

    def read(name: str) -> bytes | None:
        for place in inner:
            file = folder / place / name
            if file.is_file():
                return read_bytes(file)
        return None

    return read


def tar_members(path: Path, names: Collection[str], what: str) -> Members | None:
    """Return what gives the files of these names in a tar archive; None if it is no archive.

    Nothing is written to disk, and what is no plain file is no member.
    """
    check_file(path, what)
    content: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for one in archive:
                name, file = Path(one.name).name, archive.extractfile(one) if one.isfile() else None
                if name in names and file is not None:
                    content[name] = file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        if path.name.endswith((".tar", ".tar.gz", ".tgz")):
            raise InputError(f"expected path = {what}, got {str(path)!r} ({error})") from None
        return None
    return content.get


def read_npz(path: Path) -> tuple[Pool, Pool | None]:
    """Read ``X_train, y_train, X_test, y_test`` or ``X, y`` (``X_test, y_test``) from an archive.

    Capitals do not matter. Arrays of Python objects are refused, as they are pickles. A warning
    names the arrays that are not used.

    Returns
    -------
    tuple
        Training rows and, where the archive has them, test rows.
    """
    check_file(path, _WANTED)
    try:
        with path.open("rb") as file:  # NumPy leaves a file open that is no archive
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise InputError(f"expected path = {_WANTED}, got one array in {str(path)!r}")
            names = _members(archive.files)
            pools = [Pool(_array(archive, x), _array(archive, y)) for x, y in names]
            used = {name for pair in names for name in pair}
            ignored = [name for name in archive.files if name not in used]
    except InputError:
        raise
    except Exception as error:  # damage shows anywhere: in zipfile, its codecs, NumPy's headers
        reason = shown(error) if not str(error) else " ".join(str(error).split())
        if "allow_pickle" in reason:
            reason += "; words are saved as y.astype(str)"
        raise InputError(f"expected path = {_WANTED}, got {str(path)!r} ({reason})") from None
    if ignored:
        warn(
            f"expected only {', '.join(sorted(used))} in {str(path)!r}, got {ignored} too, which "
            "are ignored",
            UserWarning,
        )
    return pools[0], pools[1] if len(pools) == 2 else None


def _members(files: list[str]) -> list[tuple[str, str]]:
    """Return the names of the arrays of each pool: (X, y) to train on, and perhaps to test."""
    names: dict[str, str] = {}
    for file in files:
        if file.lower() in names and file.lower() in _KNOWN:
            raise InputError(
                f"expected path = {_WANTED}, got both {names[file.lower()]!r} and {file!r}"
            )
        names[file.lower()] = file
    plain, split = {"x", "y"} & names.keys(), {"x_train", "y_train"} & names.keys()
    test = {"x_test", "y_test"} & names.keys()
    if plain and split:
        known = sorted(names[key] for key in plain | split)
        raise InputError(f"expected path = {_WANTED}, got {known}: which are to train on?")
    if len(plain) != 2 and len(split | test) != 4 or len(test) == 1:
        raise InputError(f"expected path = {_WANTED}, got the arrays {sorted(files)}")
    pairs = [("x", "y") if plain else ("x_train", "y_train")]
    if test:
        pairs.append(("x_test", "y_test"))
    return [(names[x], names[y]) for x, y in pairs]


def _array(archive: Any, name: str) -> np.ndarray:
    """Return one member, which may be a file that is not an array."""
    array = archive[name]
    if not isinstance(array, np.ndarray):
        raise InputError(f"expected path = {_WANTED}, got {name!r}, which is not an array")
    return array
