"""Files: a run and the theory attached to it, written whole or not at all."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._basics.arrays import shown
from .._basics.checks import check_path, check_tree
from .._basics.errors import InputError
from .._basics.files import atomic_path, check_target, file_kind, file_mode, reason

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["load", "save"]

_ENGINE = "h5netcdf"


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
    check_tree(tree)
    target = check_target(path)
    content = _netcdf(tree)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return target


def _netcdf(tree: "xr.DataTree") -> bytes:
    """Return a tree as the content of a netCDF file, read back and found the same.

    In memory, since HDF5 crashes the process if a write to a file fails (a full disk, a limit on
    the size of files). This costs as much memory as the tree takes, twice that for a moment, and
    while it compares, that of one variable more.
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
        content = _content(clean)
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


def _content(data: "xr.DataTree | xr.Dataset") -> bytes:
    """Return the content of a netCDF file, of which no view is left.

    Python 3.12.1 crashes where the garbage collector meets a view of a BytesIO, as in the frames of
    an error that somebody keeps.
    """
    view = data.to_netcdf(None, engine=_ENGINE)
    assert isinstance(view, memoryview)
    with view:
        return bytes(view)


def _blame(groups: Mapping[str, "xr.Dataset"]) -> str:
    """Say which variable cannot be written even alone, as its library's errors do not."""
    import xarray as xr

    for path, dataset in groups.items():
        for name, variable in dataset.variables.items():
            alone = xr.Dataset({name: variable.to_base_variable()})
            try:
                xr.open_dataset(_content(alone), engine=_ENGINE).close()  # pyright: ignore
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
        mode = file_mode(source)
    except OSError as error:
        raise InputError(f"{expected}, got {str(path)!r} ({reason(error)})") from None
    if mode is None:
        raise InputError(f"{expected}, got {str(path)!r} (no such file)")
    if not stat.S_ISREG(mode):
        raise InputError(f"{expected}, got {str(path)!r} (a {file_kind(mode)})")
    try:
        with xr.open_datatree(source, engine=_ENGINE) as opened:
            groups = {node.path: node.to_dataset(inherit=False).load() for node in opened.subtree}
            name = opened.name
    except Exception as error:  # whatever h5py, h5netcdf and xarray make of a damaged file
        raise InputError(f"{expected}, got {str(path)!r} ({shown_error(error)})") from error
    return xr.DataTree.from_dict(groups, name=name)
