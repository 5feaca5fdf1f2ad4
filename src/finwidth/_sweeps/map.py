"""`error_map`: every theory against exact sampling over a grid of problems, resumable.

Each result is one small file: the exact error of a point, or one theory's error at a point. A file
is found again by a digest of all that its numbers depend on, so that a map that was killed goes
on, and a changed map recomputes only what changed.
"""

import dataclasses
import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._basics.checks import check_flag, check_iterable, check_path
from .._basics.errors import InputError
from .._basics.progress import Patient
from ..theories import Theory
from .point import (
    QUANTITIES,
    R_HAT_LIMIT,
    Effort,
    MapPoint,
    check_theories,
    sample_point,
    solve_point,
    theory_name,
)
from .store import Store, exact_key, theory_key

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["MapPoint", "error_map"]


def _say(text: str, progress: bool) -> None:
    if progress and sys.stderr is not None:
        print(text, file=Patient(sys.stderr), flush=True)


def error_map(
    points: Iterable[MapPoint],
    *,
    theories: Sequence[str | Theory] | None = None,
    folder: str | os.PathLike[str] | None = None,
    relative_mcse: float = 0.01,
    target_ess: float = 1000.0,
    max_draws: int = 10_000,
    seed: int = 0,
    progress: bool = True,
) -> "xr.Dataset":
    """Compare the test errors of theories with exact sampling, point by point.

    Parameters
    ----------
    points
        The problems, in the order in which they are computed.
    theories
        Names of theories (`finwidth.list_theories`), "fluctuations" (`finwidth.fluctuations` of
        theory="nested"), or `finwidth.theories.Theory` objects. Default: all but those that are
        slow ("cavity" takes minutes a point).
    folder
        Where results are kept, one small file each. The same call continues a map that was
        stopped, draw by draw; exact results are kept when theories are added. Activations are told
        apart by their values, theories by their `record`; one without is solved every time. None:
        nothing is kept.
    relative_mcse
        Wanted Monte Carlo standard error of the test error, relative to it.
    target_ess
        Effective draws of the test error to ask for at first; more are drawn until R-hat ≤ 1.01.
    max_draws
        Most draws of each of the four chains.
    seed
        Seed of the sampler.
    progress
        Whether to say on stderr what was computed.

    Returns
    -------
    xarray.Dataset
        Dimensions (point, theory). Theory by theory: ``error``, ``bias2``, ``variance``, means
        over the test patterns, and for labels −1 and +1 ``accuracy`` (of a posterior draw) and
        ``accuracy_mean`` (of the posterior mean); NaN where the theory has no solution, or no
        law of f ("fluctuations" has no accuracy); ``state`` ("solved", "not defined", "not
        converged"); ``relative_error`` = error/exact − 1; ``z`` = (error − exact) in units of the
        MCSE; ``seconds``. Of the posterior: ``exact_error``, ``exact_mcse`` and the same of the
        others; ``r_hat``, the largest over f(x_test), error, variance and accuracy; ``ess``, the
        smallest effective sample size; ``n_draws``, ``divergences``, ``exact_seconds``;
        ``counted``, whether r_hat ≤ 1.01. Coordinates of a point: data, activation, width (N_1),
        widths, depth, n_patterns, n_inputs, load (P/N_1), temperature.

    Raises
    ------
    InputError
        If an argument is not as described; before any sampling.

    Warns
    -----
    AccuracyWarning
        If a point does not reach R-hat and MCSE within `max_draws`. It stays in the map.
    """
    points = check_iterable("points", points, "MapPoint objects, at least one")
    check_flag("progress", progress)
    if folder is not None:
        folder = check_path("folder", folder, "a folder that is writable or can be made")
    if not points or not all(isinstance(point, MapPoint) for point in points):
        raise InputError("expected points = MapPoint objects, at least one, got something else")
    chosen = check_theories(theories)
    effort = Effort(relative_mcse, target_ess, max_draws, seed)
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            rows = _rows(points, chosen, effort, Store(temporary), progress)
    else:
        rows = _rows(points, chosen, effort, Store(folder), progress)
    return _dataset(points, chosen, effort, rows)


def _rows(
    points: tuple[MapPoint, ...],
    theories: tuple[str | Theory, ...],
    effort: Effort,
    store: Store,
    progress: bool,
) -> list[dict[str, Any]]:
    """Return for each point the results of sampling ("exact") and of the theories."""
    rows: list[dict[str, Any]] = []
    for number, point in enumerate(points, start=1):
        row = {theory_name(theory): theory_result(point, theory, store) for theory in theories}
        row["exact"] = exact = exact_result(point, effort, store, progress)
        mark = "" if exact["r_hat"] <= R_HAT_LIMIT else ", not counted"
        _say(
            f"{number}/{len(points)} {point}: exact {exact['error']:.4g} ± "
            f"{exact['error_mcse']:.1g}, R-hat {exact['r_hat']:.4f}{mark} "
            f"({exact['seconds']:.0f} s)",
            progress,
        )
        rows.append(row)
    return rows


def exact_result(point: MapPoint, effort: Effort, store: Store, progress: bool) -> dict[str, Any]:
    """Return what sampling says at a point, from the store or by sampling."""
    key = exact_key(point, effort)
    result = store.read(key)
    if result is None:
        checkpoint = store.checkpoint(key)
        bar = progress and sys.stderr.isatty()
        result = sample_point(point, effort, checkpoint, bar)
        store.write(key, result)
        shutil.rmtree(checkpoint, ignore_errors=True)
    return result


def theory_result(point: MapPoint, theory: str | Theory, store: Store) -> dict[str, Any]:
    """Return what a theory says at a point, from the store or by solving it."""
    key = theory_key(point, theory)
    result = None if key is None else store.read(key)
    if result is None:
        result = solve_point(point, theory)
        if key is not None:
            store.write(key, result)
    return result


def _dataset(
    points: tuple[MapPoint, ...],
    theories: tuple[str | Theory, ...],
    effort: Effort,
    rows: list[dict[str, Any]],
) -> "xr.Dataset":
    """Put results in one Dataset."""
    import xarray as xr

    names = [theory_name(theory) for theory in theories]
    exact = [row["exact"] for row in rows]
    variables: dict[str, Any] = {}
    for name in (*QUANTITIES, "seconds"):
        values = [[row[theory].get(name) for theory in names] for row in rows]
        variables[name] = (("point", "theory"), np.array(values, dtype=np.float64))
    states = [[row[theory]["state"] for theory in names] for row in rows]
    variables["state"] = (("point", "theory"), np.array(states))
    for name in QUANTITIES:
        found, mcse = (
            np.array([one.get(key) for one in exact], dtype=np.float64)
            for key in (name, f"{name}_mcse")
        )
        variables[f"exact_{name}"] = ("point", found)
        variables["exact_mcse" if name == "error" else f"exact_{name}_mcse"] = ("point", mcse)
    for name in ("r_hat", "ess", "n_draws", "divergences"):
        variables[name] = ("point", np.array([one[name] for one in exact]))
    variables["exact_seconds"] = ("point", np.array([one["seconds"] for one in exact]))
    result = xr.Dataset(variables)
    result["counted"] = result["r_hat"] <= R_HAT_LIMIT
    result["relative_error"] = result["error"] / result["exact_error"] - 1.0
    result["z"] = (result["error"] - result["exact_error"]) / result["exact_mcse"]
    return result.assign_coords(_coordinates(points) | {"theory": names}).assign_attrs(
        finwidth=importlib.metadata.version("finwidth"),
        r_hat_limit=R_HAT_LIMIT,
        **dataclasses.asdict(effort),
    )


def _coordinates(points: tuple[MapPoint, ...]) -> dict[str, Any]:
    nets = [point.network for point in points]
    n_patterns = np.array([len(point.data.y_train) for point in points])
    width = np.array([net.widths[0] for net in nets])
    columns = {
        "data": np.array([point.data.name for point in points]),
        "activation": np.array([net.activation.name for net in nets]),
        "width": width,
        "widths": np.array([",".join(map(str, net.widths)) for net in nets]),
        "depth": np.array([net.depth for net in nets]),
        "n_patterns": n_patterns,
        "n_inputs": np.array([point.data.X_train.shape[1] for point in points]),
        "load": n_patterns / width,
        "temperature": np.array([point.temperature for point in points]),
    }
    return {name: ("point", values) for name, values in columns.items()}
