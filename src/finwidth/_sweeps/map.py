"""`error_map`: every theory against exact sampling over a grid of problems, resumable."""

import dataclasses
import importlib.metadata
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._basics.checks import check_flag, check_iterable, check_path, check_seed
from .._basics.errors import InputError
from .._observables.accuracy import QUANTITIES as ACCURACIES
from .._observables.squared_error import QUANTITIES as ERRORS
from ..theories import Theory
from .labels import kind_text, layers_text
from .point import EXACT, R_HAT_LIMIT, Effort, MapPoint, ask, check_theories, theory_name
from .run import run

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["QUANTITIES", "MapPoint", "error_map"]

QUANTITIES = (*ERRORS, *ACCURACIES)  # what a map holds of every point; accuracies of classes


def error_map(
    points: Iterable[MapPoint],
    *,
    theories: Sequence[str | Theory] | None = None,
    folder: str | os.PathLike[str] | None = None,
    relative_mcse: float = 0.01,
    target_ess: float = 1000.0,
    max_draws: int = 10_000,
    seed: int = 0,
    scheduler: str | None = None,
    progress: bool = True,
) -> "xr.Dataset":
    """Compare the test errors of theories with exact sampling, point by point.

    Parameters
    ----------
    points
        The problems.
    theories
        Names of theories (`finwidth.list_theories`), "fluctuations" (`finwidth.fluctuations` of
        theory="nested"), or `finwidth.theories.Theory` objects. Default: all but those that say
        they are slow (none of finwidth's own).
    folder
        Where results are kept, as those of `finwidth.sweep`. The same call continues a map that
        was stopped, draw by draw; exact results are kept when theories are added. Activations are
        told apart by their values, theories by their `record`; one without is solved every time.
        None: nothing is kept.
    relative_mcse
        Wanted Monte Carlo standard error of the test error, relative to it.
    target_ess
        Effective draws of the test error to ask for at first; more are drawn until R-hat ≤ 1.01.
    max_draws
        Most draws of each of the four chains.
    seed
        Seed of the sampler.
    scheduler
        As for `finwidth.sweep`.
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
        MCSE; ``seconds``, and ``cpu_seconds`` of all cores, with compilation at the first point
        that needs it. Of the posterior: ``exact_error``, ``exact_mcse`` and the same of the
        others; ``r_hat``, the largest over f(x_test), error, variance and accuracy; ``ess``, the
        smallest effective sample size; ``n_draws``, ``divergences``, ``exact_seconds``,
        ``exact_cpu_seconds``; ``counted``, whether r_hat ≤ 1.01. Times are NaN where a result was
        stored without them. Coordinates of a point: data, activation, width (N_1), widths, depth,
        network (what it is apart from widths and depth: "dense", "convolution patch=3"), layers
        (as ``--layer`` takes them), n_patterns, n_inputs, load (P/N_1), temperature.

    Raises
    ------
    InputError
        If an argument is not as described; before any sampling.

    Warns
    -----
    AccuracyWarning
        If a point does not reach R-hat and MCSE within `max_draws`, or cannot be sampled. It stays
        in the map.
    """
    points = check_iterable("points", points, "MapPoint objects, at least one")
    check_flag("progress", progress)
    if folder is not None:
        folder = check_path("folder", folder, "a folder that is writable or can be made")
    if not points or not all(isinstance(point, MapPoint) for point in points):
        raise InputError("expected points = MapPoint objects, at least one, got something else")
    chosen = check_theories(theories)
    effort = Effort(relative_mcse, target_ess, max_draws)
    seed = check_seed(seed)
    asked = [
        one
        for point in points
        for one in (*(ask(point, theory) for theory in chosen), ask(point, EXACT, seed))
    ]

    def told(number: int, result: dict[str, Any]) -> str:
        point = number // (len(chosen) + 1)
        if not asked[number].sampled or result["state"] == "failed":
            return ""
        mark = "" if result["r_hat"] <= R_HAT_LIMIT else ", not counted"
        return (
            f"{point + 1}/{len(points)} {points[point]}: exact {result['error']:.4g} ± "
            f"{result['error_mcse']:.1g}, R-hat {result['r_hat']:.4f}{mark} "
            f"({result['seconds']:.0f} s)"
        )

    results = run(
        asked, effort, folder, name="folder", scheduler=scheduler, progress=progress, told=told
    )
    names = [*(theory_name(theory) for theory in chosen), EXACT]
    rows = [
        dict(zip(names, results[begin : begin + len(names)], strict=True))
        for begin in range(0, len(results), len(names))
    ]
    return _dataset(points, chosen, effort, seed, rows)


def _dataset(
    points: tuple[MapPoint, ...],
    theories: tuple[str | Theory, ...],
    effort: Effort,
    seed: int,
    rows: list[dict[str, Any]],
) -> "xr.Dataset":
    """Put results in one Dataset."""
    import xarray as xr

    names = [theory_name(theory) for theory in theories]
    exact = [row["exact"] for row in rows]
    variables: dict[str, Any] = {}
    for name in (*QUANTITIES, "seconds", "cpu_seconds"):
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
    for name, absent in (("r_hat", np.nan), ("ess", np.nan), ("n_draws", 0), ("divergences", -1)):
        variables[name] = ("point", np.array([one.get(name, absent) for one in exact]))
    for name in ("seconds", "cpu_seconds"):
        values = np.array([one.get(name) for one in exact], dtype=np.float64)
        variables[f"exact_{name}"] = ("point", values)
    result = xr.Dataset(variables)
    result["counted"] = result["r_hat"] <= R_HAT_LIMIT
    result["relative_error"] = result["error"] / result["exact_error"] - 1.0
    result["z"] = (result["error"] - result["exact_error"]) / result["exact_mcse"]
    return result.assign_coords(_coordinates(points) | {"theory": names}).assign_attrs(
        finwidth=importlib.metadata.version("finwidth"),
        r_hat_limit=R_HAT_LIMIT,
        **dataclasses.asdict(effort),
        seed=seed,
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
        "network": np.array([kind_text(net) for net in nets]),
        "layers": np.array([layers_text(net) for net in nets]),
        "n_patterns": n_patterns,
        "n_inputs": np.array([point.data.n_inputs for point in points]),
        "load": n_patterns / width,
        "temperature": np.array([point.temperature for point in points]),
    }
    return {name: ("point", values) for name, values in columns.items()}
