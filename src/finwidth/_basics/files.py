"""Files that appear whole or not at all, locks, and digests of arrays."""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .checks import check_path
from .errors import InputError

__all__ = [
    "WRITABLE",
    "atomic_path",
    "check_target",
    "digest",
    "file_kind",
    "file_mode",
    "lock",
    "reason",
]

# Of the system, not of what is written: no space, a quota, a limit on sizes, a device that fails
_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}

WRITABLE = "a file in an existing, writable folder"


def check_target(path: str | os.PathLike[str]) -> Path:
    """Return where a file of this path would be, links followed, or raise InputError.

    Raises
    ------
    InputError
        If the folder does not exist, or `path` is a folder, a pipe, a socket or a device.
    """
    expected = f"expected path = {WRITABLE}"
    given = check_path("path", path, WRITABLE)
    try:
        target = given.resolve()
        mode, parent = file_mode(target), file_mode(target.parent)
    except (OSError, RuntimeError) as error:  # a name too long, a circle of links
        raise InputError(f"{expected}, got {str(path)!r} ({reason(error)})") from None
    if mode is not None and not stat.S_ISREG(mode):
        raise InputError(f"{expected}, got the {file_kind(mode)} {str(path)!r}")
    if parent is None or not stat.S_ISDIR(parent):
        raise InputError(f"{expected}, got {str(path)!r} (no folder {str(target.parent)!r})")
    return target


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path that becomes `path` when the block ends well.

    The temporary file lies in the same folder and ends in the same suffix, so that writers
    that look at the suffix choose the same format. At the end it is flushed to disk and takes
    the place of `path` in one step; if the block fails or is interrupted it is removed and
    whatever was at `path` stays as it was.

    Parameters
    ----------
    path
        The file to write; its folder must exist.

    Yields
    ------
    Path
        An empty file to write to.

    Raises
    ------
    InputError
        If the folder does not exist or is not writable, or `path` is a folder, a pipe, a socket
        or a device: on entry, before the block runs. If the disk is full, or a limit on the size
        of files is reached.
    """
    target = check_target(path)
    # of the stem so much that the name does not become too long for the system
    temporary = target.with_name(f".{target.stem[:40]}.{secrets.token_hex(4)}.tmp{target.suffix}")
    try:
        # Not tempfile: the file must get the permissions that the user's umask gives.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise InputError(
            f"expected path = {WRITABLE}, got {str(path)!r} ({error.strerror})"
        ) from error
    written = False
    try:
        yield temporary
        written = True
        _flush(temporary)
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):  # a disk that fails; what is raised says so
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and (written or error.errno in _CANNOT_WRITE):
            raise InputError(
                f"expected path = a file that can be written, got {str(path)!r} "
                f"({reason(error)}); what was there before is unchanged"
            ) from error
        raise
    with contextlib.suppress(OSError):  # of file systems that cannot: the file is whole and named
        _flush(target.parent)


def file_mode(path: Path) -> int | None:
    """Return what kind of file there is, links followed; None if there is none."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def file_kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "folder",
        stat.S_IFIFO: "pipe",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "device",
        stat.S_IFBLK: "device",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")


def _flush(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to disk."""
    # Windows flushes only what is open for writing
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(path: Path) -> Any:
    """Return a lock on a file, held until its ``release()``, or None if somebody else holds it.

    The system lets go of it when the process ends, however that happens.
    """
    import filelock

    held = filelock.FileLock(path, timeout=0, thread_local=False)
    try:
        held.acquire()
    except filelock.Timeout:
        return None
    return held


def digest(*arrays: np.ndarray | None) -> str:
    """Return a digest of the shapes and values of some arrays."""
    total = hashlib.sha256()
    for array in arrays:
        if array is None:
            total.update(b"none;")
        else:
            total.update(f"{array.dtype}{array.shape};".encode())
            total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]
