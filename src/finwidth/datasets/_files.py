"""Reading files that users name: paths and NumPy archives, without pickles."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .._errors import InputError
from ._base import Pool

__all__ = ["check_path", "read_npz"]


def check_path(path: Any, what: str) -> Path:
    """Return `path` as an existing Path, or raise InputError that says what it should be."""
    if not isinstance(path, (str, Path)) or not str(path):
        raise InputError(f"expected path = {what}, got {path!r}")
    found = Path(path).expanduser()
    if not found.exists():
        raise InputError(f"expected path = {what}, got {str(path)!r}, which does not exist")
    return found


def read_npz(path: Path) -> tuple[Pool, Pool | None]:
    """Read arrays ``X_train, y_train, X_test, y_test`` or ``X, y`` from an .npz archive.

    Capitals do not matter. Arrays of Python objects are refused, as they are pickles.

    Returns
    -------
    tuple
        Training rows and, where the archive has them, test rows.
    """
    wanted = "an .npz archive with the arrays X_train, y_train, X_test, y_test, or X, y"
    try:
        with np.load(path, allow_pickle=False) as archive:
            if isinstance(archive, np.ndarray):
                raise InputError(f"expected path = {wanted}, got one array in {str(path)!r}")
            names = {name.lower(): name for name in archive.files}
            if {"x_train", "y_train", "x_test", "y_test"} <= names.keys():
                keys = [("x_train", "y_train"), ("x_test", "y_test")]
            elif {"x", "y"} <= names.keys():
                keys = [("x", "y")]
            else:
                raise InputError(
                    f"expected path = {wanted}, got the arrays {sorted(archive.files)}"
                )
            pools = [Pool(archive[names[x]], archive[names[y]]) for x, y in keys]
    except InputError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"expected path = {wanted}, got {str(path)!r} ({reason})") from None
    return pools[0], pools[1] if len(pools) == 2 else None
