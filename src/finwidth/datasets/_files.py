"""Reading files that users name: paths and NumPy archives, without pickles."""

from pathlib import Path
from typing import Any

import numpy as np

from .. import _inputs
from .._errors import InputError, warn
from .._inputs import shown
from ._base import Pool

__all__ = ["check_file", "check_path", "read_npz"]


def check_path(path: Any, what: str) -> Path:
    """Return `path` as an existing Path, or raise InputError that says what it should be."""
    found = _inputs.check_path("path", path, what)
    try:
        found.stat()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "which does not exist" if missing else str(error.strerror)
        raise InputError(f"expected path = {what}, got {str(path)!r}, {reason}") from None
    return found


def check_file(path: Any, what: str) -> Path:
    """Return `path` as the Path of an existing file that can be read to its end."""
    found = check_path(path, what)
    if not found.is_file():
        raise InputError(f"expected path = {what}, got {str(path)!r}, which is no file")
    return found


# Each set of names: the arrays to train on and, if any, those to test on.
_SETS = (
    (("x_train", "y_train"), ("x_test", "y_test")),
    (("x", "y"), ("x_test", "y_test")),
    (("x", "y"),),
)


def read_npz(path: Path) -> tuple[Pool, Pool | None]:
    """Read arrays ``X_train, y_train, X_test, y_test`` or ``X, y`` from an .npz archive.

    ``X, y`` may come with ``X_test, y_test``. Capitals do not matter. Arrays of Python objects are
    refused, as they are pickles.

    Returns
    -------
    tuple
        Training rows and, where the archive has them, test rows.

    Warns
    -----
    UserWarning
        If the archive has further arrays: they are not used.
    """
    wanted = (
        "an .npz archive with the arrays X_train, y_train, X_test, y_test, or X, y (and X_test, "
        "y_test)"
    )
    if not path.is_file():
        raise InputError(f"expected path = {wanted}, got {str(path)!r}, which is no file")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if isinstance(archive, np.ndarray):
                raise InputError(f"expected path = {wanted}, got one array in {str(path)!r}")
            names = _names(archive.files, wanted)
            keys = [names[key] for pair in _chosen(names, archive.files, wanted) for key in pair]
            arrays = [archive[key] for key in keys]
    except InputError:
        raise
    except Exception as error:  # what a damaged archive or an odd compression can raise is endless
        text = shown(str(error).strip() or type(error).__name__)
        raise InputError(f"expected path = {wanted}, got {str(path)!r} ({text})") from None
    for key, array in zip(keys, arrays, strict=True):
        if not isinstance(array, np.ndarray):  # a member that is no .npy file
            raise InputError(f"expected path = {wanted}, got a {key} that is no array")
    pools = [Pool(*arrays[i : i + 2]) for i in range(0, len(arrays), 2)]
    ignored = sorted(set(archive.files) - set(keys))
    if ignored:
        warn(
            f"expected an .npz archive with the arrays {keys} alone, got {shown(ignored)} too, "
            "which are not used",
            UserWarning,
        )
    return pools[0], pools[1] if len(pools) == 2 else None


def _names(files: list[str], wanted: str) -> dict[str, str]:
    """Return the archive's own name of each array by its name in lower case."""
    names: dict[str, str] = {}
    for name in files:
        if names.setdefault(name.lower(), name) != name:
            raise InputError(
                f"expected path = {wanted}, got both {names[name.lower()]!r} and {name!r}"
            )
    return names


def _chosen(names: dict[str, str], files: list[str], wanted: str) -> tuple[tuple[str, str], ...]:
    """Return the first set of arrays that is there as a whole; half a test set is refused."""
    for chosen in _SETS:
        if names.keys() >= {key for pair in chosen for key in pair}:
            half = names.keys() & {"x_test", "y_test"}
            if len(chosen) == 1 and half:
                raise InputError(
                    f"expected path = {wanted}, got {names[half.pop()]!r} without its other half"
                )
            return chosen
    raise InputError(f"expected path = {wanted}, got the arrays {shown(sorted(files))}")
