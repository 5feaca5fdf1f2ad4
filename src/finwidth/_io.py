"""Files: a run and the theory attached to it, written whole or not at all."""

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._errors import InputError
from ._inputs import check_path, shown
from ._provenance import (
    network_record,
    provenance,
    read_provenance,
    require_same_run,
    require_theory,
    require_tree,
)

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


# Of the system, not of what is written: no space, a quota, a limit on sizes, a device that fails
_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
_WRITABLE = "a file in an existing, writable folder"


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
    expected = f"expected path = {_WRITABLE}"
    given = check_path("path", path, _WRITABLE)
    try:
        target = given.resolve()
        mode, parent = _mode(target), _mode(target.parent)
    except (OSError, RuntimeError) as error:  # a name too long, a circle of links
        raise InputError(f"{expected}, got {str(path)!r} ({_reason(error)})") from None
    if mode is not None and not stat.S_ISREG(mode):
        raise InputError(f"{expected}, got the {_file_kind(mode)} {str(path)!r}")
    if parent is None or not stat.S_ISDIR(parent):
        raise InputError(f"{expected}, got {str(path)!r} (no folder {str(target.parent)!r})")
    # of the stem so much that the name does not become too long for the system
    temporary = target.with_name(f".{target.stem[:40]}.{secrets.token_hex(4)}.tmp{target.suffix}")
    try:
        # Not tempfile: the file must get the permissions that the user's umask gives.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise InputError(f"{expected}, got {str(path)!r} ({error.strerror})") from error
    written = False
    try:
        yield temporary
        written = True
        _flush(temporary)
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and (written or error.errno in _CANNOT_WRITE):
            raise InputError(
                f"expected path = a file that can be written, got {str(path)!r} "
                f"({_reason(error)}); what was there before is unchanged"
            ) from error
        raise
    _flush(target.parent)


def _mode(path: Path) -> int | None:
    """Return what kind of file there is, links followed; None if there is none."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _file_kind(mode: int) -> str:
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
        If `tree` is not a DataTree, the folder does not exist or is not writable, `path` is a
        device or a pipe, or netCDF cannot hold a coordinate, variable or attribute as it is (a
        MultiIndex, an interval, an object; a bool, None or dict as attribute): the message names
        it. If the disk is full. Nothing is left behind, and an older file stays as it was.

    Notes
    -----
    `load` gives back the same values, dimensions, coordinates, types, attributes and groups;
    only an attribute that is a list of one entry comes back as that entry, as netCDF does not
    tell the two apart, and categories come back as the values that they name.
    ``arviz.from_netcdf`` opens the file as well.
    """
    import xarray as xr

    if not isinstance(tree, xr.DataTree):
        raise InputError(f"expected tree = an xarray.DataTree, got {type(tree).__name__}")
    target = check_path("path", path, _WRITABLE)
    with atomic_path(target) as temporary:
        temporary.write_bytes(_netcdf(tree))
    return target.resolve()


def _netcdf(tree: "xr.DataTree") -> memoryview:
    """Return a tree as the content of a netCDF file, read back and found the same.

    In memory, since HDF5 crashes the process if a write to a file fails (a full disk, a limit on
    the size of files). This costs as much memory as the tree takes, and while it compares, that
    of one variable more.
    """
    import xarray as xr

    # paths from this node down, for a tree that is part of another
    groups = {
        path: _storable("/" if path == "." else f"/{path}", node)
        for path, node in tree.subtree_with_keys
    }
    clean = xr.DataTree.from_dict(groups, name=tree.name)
    expected = "expected tree = data that netCDF can hold"
    try:
        content = clean.to_netcdf(None, engine=_ENGINE)
        assert isinstance(content, memoryview)
        with xr.open_datatree(content, engine=_ENGINE, cache=False) as opened:  # pyright: ignore
            again = {
                path: node.to_dataset(inherit=False) for path, node in opened.subtree_with_keys
            }
            for path, dataset in groups.items():
                _require_same("/" if path == "." else f"/{path}", dataset, again[path])
    except InputError:
        raise
    except Exception as error:  # of h5py, h5netcdf or xarray: what they cannot write
        raise InputError(f"{expected}, got {_blame(groups)}{shown_error(error)}") from error
    return content


def _blame(groups: Mapping[str, "xr.Dataset"]) -> str:
    """Say which variable cannot be written even alone, as its library's errors do not."""
    import xarray as xr

    for path, dataset in groups.items():
        for name, variable in dataset.variables.items():
            alone = xr.Dataset({name: variable.to_base_variable()})
            try:
                content = alone.to_netcdf(None, engine=_ENGINE)
                xr.open_dataset(content, engine=_ENGINE).close()  # pyright: ignore
            except Exception:
                kind = "coordinate" if name in dataset.coords else "variable"
                where = f"{path.strip('/.')}/{name}".lstrip("/")
                return f"the {kind} /{where} of {variable.dtype}, or its attributes: "
    return ""


def shown_error(error: BaseException) -> str:
    """Return what another library says went wrong, short enough for one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 240 else f"{text[:239]}…"


def _storable(path: str, node: "xr.DataTree") -> "xr.Dataset":
    """Return a group's own Dataset with NumPy arrays and without storage settings."""
    # what this node inherits from above is its own where it becomes the top
    dataset = node.to_dataset(inherit=path == "/").drop_encoding()
    _require_storable_attrs(path, dataset.attrs)
    for name in dataset.dims:
        if not isinstance(name, str) or not name:
            raise InputError(
                f"expected tree = strings as names of dimensions, got {name!r} in {path}: rename it"
            )
    arrays = {}
    for name, variable in dataset.variables.items():
        if not isinstance(name, str) or not name:
            raise InputError(
                f"expected tree = strings as names of variables, got {name!r} in {path}: rename it"
            )
        where = f"{path.rstrip('/')}/{name}"
        _require_storable_attrs(where, variable.attrs)
        _require_storable(where, name, dataset)
        if name not in dataset.xindexes and not isinstance(variable.data, np.ndarray):
            arrays[name] = variable.copy(data=_numpy(where, variable.data))
    return dataset.assign(arrays)


def _numpy(where: str, data: Any) -> np.ndarray:
    try:
        return np.asarray(data)
    except Exception as error:  # an array type that becomes no NumPy array by itself
        raise InputError(
            f"expected {where} = an array that NumPy can hold, got {type(data).__name__} "
            f"({shown_error(error)})"
        ) from error


def _require_storable(where: str, name: str, dataset: "xr.Dataset") -> None:
    """Raise InputError if netCDF has no type for a variable; the message says what to do."""
    from xarray.indexes import PandasMultiIndex

    kind = "coordinate" if name in dataset.coords else "variable"
    expected = "expected tree = data that netCDF can hold"
    index = dataset.xindexes.get(name)
    if isinstance(index, PandasMultiIndex):
        raise InputError(
            f"{expected}, got a MultiIndex as coordinate {where}: reset_index({index.dim!r}) makes "
            "plain coordinates of its levels"
        )
    dtype = dataset.variables[name].dtype
    if type(dtype).__name__ in ("IntervalDtype", "PeriodDtype", "DatetimeTZDtype"):
        raise InputError(f"{expected}, got {dtype} as {kind} {where}: {_TEXT}")
    if getattr(dtype, "kind", "O") == "O" and not type(dtype).__module__.startswith("pandas"):
        entries = dataset.variables[name].values.ravel()
        strange = [entry for entry in entries if not isinstance(entry, str)]
        if strange and not _are_dates(strange):
            one = strange[0]
            missing = one is None or type(one).__name__ in ("NAType", "float")
            what = f"a missing entry ({one})" if missing else f"objects of type {_type(one)}"
            hint = "an empty string in its place is kept" if missing else _TEXT
            raise InputError(f"{expected}, got {what} in {kind} {where}: {hint}")


_TEXT = "astype(str) keeps them as text, or drop_vars leaves them out"


def _type(value: Any) -> str:
    return type(value).__name__


def _are_dates(entries: list[Any]) -> bool:
    """Say whether these are dates of cftime's, which xarray writes by itself."""
    return all(type(entry).__module__.startswith("cftime") for entry in entries)


def _require_storable_attrs(where: str, attrs: Mapping[Any, Any]) -> None:
    for name, value in attrs.items():
        if not isinstance(name, str) or not name:
            raise InputError(f"expected attributes of {where} = strings as names, got {name!r}")
        if not _is_storable_attr(value):
            raise InputError(
                f"expected attributes of {where} = strings, numbers of up to 64 bits or lists of "
                f"them (JSON in a string for the rest), got {name} = {shown(value)}"
            )


def _is_storable_attr(value: Any) -> bool:
    if isinstance(value, str):
        return True
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.number, np.ndarray, list, tuple)
    ):
        return False
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        return False
    kinds = "iufSU" if isinstance(value, np.ndarray) else "iufU"
    # of what is larger than 64 bits NumPy makes objects, which are none of these kinds
    return array.dtype.kind in kinds


def _require_same(path: str, ours: "xr.Dataset", theirs: "xr.Dataset") -> None:
    """Raise InputError if a group read from a file is not the one that was written to it."""

    def refuse(what: str, change: str) -> InputError:
        return InputError(f"expected tree = data that netCDF keeps as they are, got {what}{change}")

    for name, variable in ours.variables.items():
        where = f"{path.rstrip('/')}/{name}"
        kind = "coordinate" if name in ours.coords else "variable"
        other = theirs.variables.get(name)
        if other is None or (name in ours.coords) != (name in theirs.coords):
            raise refuse(f"the {kind} {where}", ", which comes back as something else: rename it")
        if not variable.to_base_variable().equals(other.to_base_variable()):
            raise refuse(
                f"the {kind} {where} of {variable.dtype}",
                f", which comes back with other values ({other.dtype}): convert it with astype, "
                "or rename its attributes, which may say how to decode it",
            )
        _require_same_attrs(where, variable.attrs, other.attrs, refuse)
    _require_same_attrs(path, ours.attrs, theirs.attrs, refuse)
    if dict(ours.sizes) != dict(theirs.sizes) or set(ours.variables) != set(theirs.variables):
        raise refuse(f"the group {path}", ", whose dimensions or variables come back changed")


def _require_same_attrs(where: str, ours: Any, theirs: Any, refuse: Any) -> None:
    for name in [*ours, *theirs]:
        same = name in ours and name in theirs
        if same:
            one, other = (np.atleast_1d(np.asarray(attrs[name])) for attrs in (ours, theirs))
            number = one.dtype.kind in "iuf"
            same = one.shape == other.shape and np.array_equal(one, other, equal_nan=number)
        if not same:
            raise refuse(
                f"the attribute {name} of {where}", ", which comes back changed: rename it"
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

    wanted = "a netCDF file as finwidth.save writes it"
    expected = f"expected path = {wanted}"
    source = check_path("path", path, wanted)
    try:
        mode = _mode(source)
    except OSError as error:
        raise InputError(f"{expected}, got {str(path)!r} ({_reason(error)})") from None
    if mode is None:
        raise InputError(f"{expected}, got {str(path)!r} (no such file)")
    if not stat.S_ISREG(mode):
        raise InputError(f"{expected}, got {str(path)!r} (a {_file_kind(mode)})")
    try:
        with xr.open_datatree(source, engine=_ENGINE) as opened:
            groups = {node.path: node.to_dataset(inherit=False).load() for node in opened.subtree}
            name = opened.name
    except Exception as error:  # whatever h5py, h5netcdf and xarray make of a damaged file
        raise InputError(f"{expected}, got {str(path)!r} ({shown_error(error)})") from error
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

    require_tree(tree)
    require_theory(theory)
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
            "network": json.dumps(network_record(theory.network)),
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
