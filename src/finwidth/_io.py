"""Files: a run and the theory attached to it, written whole or not at all."""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._errors import InputError
from ._inputs import check_path, check_solution, check_tree
from ._provenance import provenance, read_provenance, require_same_run

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "atomic_path",
    "attach",
    "load",
    "prediction_points",
    "provenance",
    "read_provenance",
    "save",
]

_ENGINE = "h5netcdf"


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
        If the folder does not exist or is not writable, or `path` is a folder. Raised on
        entry, before the block runs.
    """
    target = Path(path).expanduser().resolve()
    expected = "expected path = a file in an existing, writable folder"
    if target.is_dir():
        raise InputError(f"{expected}, got the folder {str(path)!r}")
    if not target.parent.is_dir():
        raise InputError(f"{expected}, got {str(path)!r} (no folder {str(target.parent)!r})")
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.tmp{target.suffix}")
    try:
        # Not tempfile: the file must get the permissions that the user's umask gives.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise InputError(f"{expected}, got {str(path)!r} ({error.strerror})") from error
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(target.parent)


def _flush(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():  # some systems cannot open a folder; its files are flushed all the same
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save(tree: "xr.DataTree", path: str | os.PathLike[str]) -> Path:
    """Write a run to a netCDF file, whole or not at all.

    Parameters
    ----------
    tree
        What `finwidth.sample` or `finwidth.attach` returned. JAX arrays are written as NumPy
        arrays.
    path
        The file to write; its folder must exist. A file that is already there is replaced
        only once the new one is complete.

    Returns
    -------
    Path
        Where the file is.

    Raises
    ------
    InputError
        If `tree` is not a DataTree, the folder does not exist or is not writable, or an
        attribute or variable is of a type that netCDF does not have (bool, None and dict
        attributes among them). Nothing is left behind.

    Notes
    -----
    `load` gives back the same values, dimensions, coordinates, types, attributes and groups;
    only an attribute that is a list of one entry comes back as that entry, as netCDF does not
    tell the two apart. ``arviz.from_netcdf`` opens the file as well.
    """
    import xarray as xr

    check_tree(tree)
    check_path("path", path, "a file in an existing, writable folder")
    groups = {node.path: _storable(node) for node in tree.subtree}
    clean = xr.DataTree.from_dict(groups, name=tree.name)
    with atomic_path(path) as temporary:
        try:
            clean.to_netcdf(temporary, mode="w", engine=_ENGINE)
        except (TypeError, ValueError) as error:
            raise InputError(f"expected tree = data that netCDF can hold, got {error}") from error
    return Path(path).expanduser().resolve()


def _storable(node: "xr.DataTree") -> "xr.Dataset":
    """Return a group's own Dataset with NumPy arrays and without storage settings."""
    dataset = node.to_dataset(inherit=False).drop_encoding()
    _require_storable_attrs(node.path, dataset.attrs)
    arrays = {}
    for name, variable in dataset.variables.items():
        _require_storable_attrs(f"{node.path.rstrip('/')}/{name}", variable.attrs)
        if name not in dataset.xindexes and not isinstance(variable.data, np.ndarray):
            arrays[name] = variable.copy(data=np.asarray(variable.data))
    return dataset.assign(arrays)


def _require_storable_attrs(where: str, attrs: Mapping[Any, Any]) -> None:
    for name, value in attrs.items():
        kind = np.asarray(value).dtype.kind if isinstance(value, (list, tuple)) else None
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        array = isinstance(value, np.ndarray) and value.dtype.kind in "iufSU"
        if not (number or array or isinstance(value, str) or (kind and kind in "iufU")):
            raise InputError(
                f"expected attributes of {where} = strings, numbers or arrays of them "
                f"(JSON in a string for the rest), got {name} = {value!r}"
            )


def load(path: str | os.PathLike[str]) -> "xr.DataTree":
    """Read a run that `save` wrote; the file is closed again.

    Parameters
    ----------
    path
        The netCDF file.

    Returns
    -------
    xarray.DataTree
        In memory.

    Raises
    ------
    InputError
        If the file does not exist, is cut short, or is not netCDF.
    """
    import xarray as xr

    expected = "expected path = a netCDF file as finwidth.save writes it"
    source = check_path("path", path, expected.removeprefix("expected path = "))
    if not source.is_file():
        reason = "a folder" if source.is_dir() else "no such file"
        raise InputError(f"{expected}, got {str(path)!r} ({reason})")
    try:
        with xr.open_datatree(source, engine=_ENGINE) as opened:
            groups = {node.path: node.to_dataset(inherit=False).load() for node in opened.subtree}
            name = opened.name
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{expected}, got {str(path)!r} ({error})") from error
    return xr.DataTree.from_dict(groups, name=name)


def prediction_points(tree: "xr.DataTree") -> tuple[np.ndarray, np.ndarray | None]:
    """Return X_test and, where known, y_test of a run.

    Parameters
    ----------
    tree
        What `finwidth.sample` returned.

    Returns
    -------
    X_test
        Shape (test_pattern, input).
    y_test
        Shape (test_pattern,), or None.

    Raises
    ------
    InputError
        If the tree has no X_test.
    """
    group = "predictions_constant_data"
    data = tree.children.get(group)
    if data is None or "X_test" not in data.data_vars:
        raise InputError(
            f"expected tree with X_test in group {group!r}, got none: sample with X_test=…"
        )
    x_test = data.data_vars["X_test"].transpose("test_pattern", ...).values
    return x_test, data.data_vars["y_test"].values if "y_test" in data.data_vars else None


def attach(tree: "xr.DataTree", theory: Any) -> "xr.DataTree":
    """Put a theory's prediction into the run, under ``theory/<name>``.

    Parameters
    ----------
    tree
        What `finwidth.sample` returned, with X_test. It gets the new group.
    theory
        What `finwidth.solve` or `finwidth.mixture` returned, for the same network and
        temperature.

    Returns
    -------
    xarray.DataTree
        The same tree. The group holds f_mean and f_variance (test_pattern), q_bar and q
        (layer), action, log_evidence and residual where the theory has them, and error, bias2
        and variance where the tree has y_test. A group of that name is replaced.

    Raises
    ------
    InputError
        If the tree has no X_test, or theory and tree differ in network or temperature.
    """
    import xarray as xr

    check_tree(tree)
    check_solution(theory, "theory")
    require_same_run(theory, tree)
    x_test, y_test = prediction_points(tree)
    prediction = theory.predict(x_test)
    dataset = xr.Dataset(
        {
            "f_mean": ("test_pattern", np.asarray(prediction.mean)),
            "f_variance": ("test_pattern", np.asarray(prediction.variance)),
        },
        attrs={
            "theory": str(theory.theory),
            "network": json.dumps(theory.network.record()),
            "temperature": float(theory.temperature),
        },
    )
    coordinate = tree["predictions_constant_data"].coords.get("test_pattern")
    if coordinate is not None:
        dataset = dataset.assign_coords(test_pattern=coordinate.values)
    order_parameters = getattr(theory, "order_parameters", None)
    if order_parameters is not None:
        dataset = dataset.merge(order_parameters.drop_attrs())
    for name in ("action", "log_evidence", "residual"):
        value = getattr(theory, name, None)
        if value is not None:
            dataset[name] = ((), float(value))
    if y_test is not None:
        errors = theory.generalization_error(x_test, y_test)
        for name in ("error", "bias2", "variance"):
            dataset[name] = ((), float(errors[name]))
    tree[f"theory/{theory.theory}"] = xr.DataTree(dataset=dataset)
    return tree
