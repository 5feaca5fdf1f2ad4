"""What an error map says: which theory is closest to the posterior, regime by regime."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._basics.checks import check_sequence
from .._basics.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["check_map", "is_map", "summarize_error_map", "with_network"]

_NEEDED = {"relative_error", "z", "exact_error", "exact_mcse", "counted"}
_WITHIN = 2.0  # MCSE


def is_map(dataset: Any) -> bool:
    """Return whether this is an error map."""
    import xarray as xr

    return isinstance(dataset, xr.Dataset) and set(dataset.data_vars) >= _NEEDED


def check_map(dataset: Any) -> "xr.Dataset":
    """Return `dataset` if it is an error map, or raise InputError."""
    if not is_map(dataset):
        raise InputError(
            "expected dataset = a Dataset as finwidth.error_map returns it, got "
            f"{sorted(map(str, getattr(dataset, 'data_vars', [])))}"
        )
    return dataset


def with_network(dataset: "xr.Dataset") -> "xr.Dataset":
    """Return a map that says of its points what networks they are, as maps once did not."""
    if "network" in dataset.coords:
        return dataset
    return dataset.assign_coords(network=("point", ["dense"] * dataset.sizes["point"]))


def summarize_error_map(
    dataset: "xr.Dataset",
    by: Sequence[str] = ("data", "network", "activation", "depth", "temperature"),
) -> "xr.Dataset":
    """Summarise an error map: which theory is closest to the exact error, and how close.

    Points whose chains have not mixed (``counted`` is False) are left out.

    Parameters
    ----------
    dataset
        What `finwidth.error_map` returned.
    by
        Coordinates of a point whose values make a regime; () for one regime of all points.

    Returns
    -------
    xarray.Dataset
        Dimensions (regime, theory). ``n_solved``, the number of points at which the theory has a
        solution; ``n_closest``, at how many of them no other theory is closer to the exact error
        by more than one MCSE; ``n_within``, at how many |z| ≤ 2;
        ``median`` and ``largest`` of |relative_error| over them; ``cpu_seconds``, the median over
        them, NaN where the map has no times. ``n_points`` (regime) counts all points, solved or
        not; ``exact_cpu_seconds`` (regime) is the median of sampling. The coordinates `by` name the
        regime.

    Raises
    ------
    InputError
        If `dataset` is no error map, has no point that counts, or no such coordinate.
    """
    import xarray as xr

    dataset = with_network(check_map(dataset))
    by = check_sequence("by", by, "names of coordinates")
    names = [str(name) for name in dataset.coords if dataset[name].dims == ("point",)]
    unknown = [name for name in by if not isinstance(name, str) or name not in names]
    if unknown:
        raise InputError(f"expected by = names out of {names}, got {by!r}")
    counted = dataset.isel(point=np.flatnonzero(dataset["counted"].values))
    if counted.sizes["point"] == 0:
        raise InputError("expected dataset = a map with a point of R-hat ≤ 1.01, got none")
    keys = list(zip(*(counted[name].values.tolist() for name in by), strict=True))
    keys = keys or [()] * counted.sizes["point"]
    regimes = sorted(set(keys))
    parts = [
        _summary(counted.isel(point=[i for i, key in enumerate(keys) if key == regime]))
        for regime in regimes
    ]
    result = xr.concat(parts, "regime")
    return result.assign_coords(
        {name: ("regime", [regime[i] for regime in regimes]) for i, name in enumerate(by)}
    )


def _summary(part: "xr.Dataset") -> "xr.Dataset":
    import xarray as xr

    size = np.abs(part["relative_error"].transpose("point", "theory").values)
    z = np.abs(part["z"].transpose("point", "theory").values)
    solved = np.isfinite(size)
    best = np.min(np.where(solved, size, np.inf), axis=1, keepdims=True)
    noise = (part["exact_mcse"] / np.abs(part["exact_error"])).values[:, None]
    known = [column[found] for column, found in zip(size.T, solved.T, strict=True)]
    columns = {
        "n_solved": solved.sum(axis=0),
        "n_closest": (solved & (size <= best + noise)).sum(axis=0),
        "n_within": (solved & (z <= _WITHIN)).sum(axis=0),
        "median": np.array([np.median(one) if one.size else np.nan for one in known]),
        "largest": np.array([one.max() if one.size else np.nan for one in known]),
        "cpu_seconds": np.array([_median(one[solved[:, i]]) for i, one in enumerate(_times(part))]),
    }
    exact = part.get("exact_cpu_seconds")
    return xr.Dataset(
        {name: ("theory", values) for name, values in columns.items()}
        | {"n_points": ((), part.sizes["point"])}
        | {"exact_cpu_seconds": ((), np.nan if exact is None else _median(exact.values))},
        coords={"theory": part["theory"].values},
    )


def _times(part: "xr.Dataset") -> np.ndarray:
    """Return the CPU seconds of each theory at each point, NaN where nothing says them."""
    times = part.get("cpu_seconds")
    if times is None:
        return np.full((part.sizes["theory"], part.sizes["point"]), np.nan)
    return times.transpose("theory", "point").values


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else np.nan
