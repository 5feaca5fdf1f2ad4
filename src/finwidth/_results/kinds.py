"""Results that commands or users have left on disk: what a file or a folder holds."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._basics.checks import check_path
from .._basics.errors import InputError
from .attached import attached_theories, compare_attached
from .files import load, shown_error
from .map_summary import is_map
from .sweeps import as_curves, is_sweep

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["SCORES", "Result", "read_result"]

WANTED = (
    "a file or folder that finwidth wrote: of a run, a comparison, a map, a learning curve or a "
    "sweep"
)
SCORES = ("error", "accuracy", "log_loss")  # a curve has one of these
_MEANS = {"theory", "exact", "mcse", "quantity", "outcome"}


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What was found at a path.

    Attributes
    ----------
    kind
        "run", "comparison", "map" or "curve" (a learning curve or a sweep).
    path
        Where it was found.
    runs
        Runs, by the name of their file.
    reports
        What `finwidth.compare` says of them, or what a file holds of it: one of each theory and
        width, sorted.
    dataset
        Of a map or a curve.
    """

    kind: str
    path: Path
    runs: dict[str, "xr.DataTree"] = dataclasses.field(default_factory=dict)
    reports: "list[xr.Dataset]" = dataclasses.field(default_factory=list)
    dataset: "xr.Dataset | None" = None


def read_result(path: Any) -> Result:
    """Read what is at a path: a netCDF file, a Zarr store, or a folder with netCDF files.

    A folder may hold one map or curve, or the runs or comparisons of several widths.

    Raises
    ------
    InputError
        If there is nothing, or something else.
    """
    found = check_path("PATH", path, WANTED)
    try:
        if not found.exists():
            raise InputError(f"expected PATH = {WANTED}, got {str(path)!r}, which does not exist")
        if not found.is_dir():
            return _of_tree(found, load(found))
        if any((found / name).exists() for name in ("zarr.json", ".zgroup")):
            return _of_tree(found, _zarr(found))
        files = sorted(file for file in found.iterdir() if file.suffix == ".nc")
    except OSError as error:
        raise InputError(
            f"expected PATH = {WANTED}, got {str(path)!r} ({error.strerror})"
        ) from None
    if not files:
        inside = sorted(file.name for file in found.iterdir())[:5]
        raise InputError(
            f"expected PATH = {WANTED}, got the folder {str(path)!r} without a .nc file ({inside})"
        )
    return _joined(found, [_of_tree(file, load(file)) for file in files])


def _zarr(path: Path) -> "xr.DataTree":
    import xarray as xr

    try:
        with xr.open_dataset(path, engine="zarr", chunks=None, consolidated=False) as opened:
            return xr.DataTree(opened.load())
    except Exception as error:  # whatever zarr makes of a damaged store
        raise InputError(
            f"expected PATH = {WANTED}, got {str(path)!r} ({shown_error(error)})"
        ) from error


def _of_tree(path: Path, tree: "xr.DataTree") -> Result:
    if "predictions" in tree.children or "posterior" in tree.children:
        return Result("run", path, {path.name: tree}, _attached(tree))
    dataset = tree.to_dataset(inherit=False)
    names = set(map(str, dataset.variables))
    if names >= _MEANS and "theory_name" in names:
        return Result("comparison", path, reports=_separate(dataset))
    if is_map(dataset):
        return Result("map", path, dataset=dataset)
    if is_sweep(dataset):
        return Result("curve", path, dataset=as_curves(dataset))
    if any(name in dataset and dataset[name].ndim for name in SCORES):
        return Result("curve", path, dataset=dataset)
    held = sorted(names | set(map(str, tree.children)))[:8]
    raise InputError(f"expected PATH = {WANTED}, got {str(path)!r} with {held}")


def _attached(tree: "xr.DataTree") -> "list[xr.Dataset]":
    constants = tree.children.get("predictions_constant_data")
    if constants is None or "y_test" not in constants.data_vars:
        return []
    return [compare_attached(tree, name) for name in attached_theories(tree)]


def _separate(dataset: "xr.Dataset") -> "list[xr.Dataset]":
    """Return the reports of a Dataset that `xarray.concat` may have made of several."""
    if "width" not in dataset.dims:
        return [dataset]
    return [dataset.isel(width=i) for i in range(dataset.sizes["width"])]


def _joined(folder: Path, results: list[Result]) -> Result:
    """Return what the files of a folder are together."""
    kinds = {one.kind for one in results}
    if len(results) == 1:
        return dataclasses.replace(results[0], path=folder)
    if not kinds <= {"run", "comparison"}:
        names = [f"{one.path.name} (a {one.kind})" for one in results]
        raise InputError(
            f"expected PATH = a folder of runs and comparisons, or with one file, got {names}: "
            "name one of the files"
        )
    runs = {name: tree for one in results for name, tree in one.runs.items()}
    reports: dict[tuple[str, int], xr.Dataset] = {}
    for one in results:
        for report in one.reports:
            key = (str(report["theory_name"].values), int(report["width"].values))
            reports.setdefault(key, report)
    ordered = [reports[key] for key in sorted(reports, key=lambda key: key[1])]
    return Result("run" if len(runs) == 1 else "comparison", folder, runs, ordered)
