"""`advise`: which theory to use for a problem, how far to trust it, and when to sample instead."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .._basics.arrays import shown
from .._basics.checks import check_count, check_number
from .._basics.errors import InputError
from .._likelihoods import Likelihood, choose_likelihood
from .._problem.network import Network
from .._problem.problem import Problem, make_problem
from .._results.map_summary import is_map
from ..theories._theory import SHELF, check_covered
from .features import FEATURES, of_problem, said
from .nearest import UNKNOWN, Known, Measured, trust
from .outside import LeftOut, leave_one_out
from .shipped import load_error_map
from .tested import check_test_set, on_test_set
from .words import ACCIDENT, verdict

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["advise"]

_SAME = 0.01  # errors that differ by less are told apart by cost
_TRUSTED = ("measured", "near", "far")
_OF_POINTS = ("data", "activation", "network", "widths", "depth", "n_patterns", "load")
_NO_VALUE = {"U": "", "i": -1, "f": np.nan}


def advise(
    net: Network,
    X: Any,
    y: Any,
    *,
    temperature: float | None = None,
    likelihood: str | Likelihood = "gaussian",
    X_test: Any = None,
    y_test: Any = None,
    tolerance: float = 0.1,
    neighbours: int = 3,
    error_map: Any = None,
) -> "xr.Dataset":
    """Say which theory to use for a problem, what error to expect of it, and what it costs.

    The problem is compared with the points of an error map, at which every theory stands beside
    exact sampling; how near the nearest points are, in which respects, and what was measured there
    is in the result. Where nothing near was measured, it says so.

    Parameters
    ----------
    net
        The network.
    X, y
        Training set, as for `finwidth.solve`.
    temperature
        T, as for `finwidth.solve`.
    likelihood
        As for `finwidth.solve`.
    X_test, y_test
        A test set, for the scores of a quick theory ("nested" where it has a solution): what
        error and accuracy to expect.
    tolerance
        By how much the test error of a theory may be off, relative to the exact one. Where none is
        expected to be as good, sampling is advised.
    neighbours
        How many points of the map are shown of each theory.
    error_map
        What `finwidth.error_map` returned, in place of the map that comes with the package
        (`finwidth.load_error_map`).

    Returns
    -------
    xarray.Dataset
        Dimension theory: those that are defined for the problem, the best known first.
        ``expected_error`` is the mean of |theory/exact − 1| of the test error over the nearest
        points, weighted by 1/distance², and at least the noise of the exact errors (NaN where the
        theory has no solution at most of them); ``largest_error`` the largest at all points that
        are shown; ``likely_error``, what it is likely to stay below: twice the root of
        ``expected_error``² and the square of the median difference between two points of the map
        that are as far apart (of the points of the shipped map, each predicted from the others,
        five in six are below it); ``accuracy_error`` the mean of |accuracy − exact|;
        ``cancelled`` that of how far bias² and variance are off in opposite directions, in units of
        the exact error (a theory with more than 0.1 is right by accident, and comes after all
        others); ``share_solved``; ``trust``: "measured" (a point with the same features is in
        the map), "near", "far", or "none", more than three steps away; ``seconds`` (of all cores
        where the map has them) at the nearest point, with ``seconds_patterns`` patterns: at large P
        they grow as P³. Dimensions (theory, neighbour), nearest first: ``distance``,
        ``relative_error`` (signed), ``z``, ``exact_error``, and which point it is; with feature,
        ``difference``: by how many steps point and problem differ (distance² is the sum of
        squares).

        A step is a factor of two in P/N_1, of four in P, of √10 in T (in units of the labels' mean
        square), or a layer; one for another activation of the same parity, several outputs,
        precisions that are not 1; one and a half from labels that the inputs explain to such that
        they explain in part, and on to such that they do not; two for another parity or kind of
        layer; four, too far, for another likelihood.

        Attributes: ``recommended``, a theory or "sample"; ``verdict``, sentences; ``labels``, how
        far the inputs explain them, by ``loo_error``, the leave-one-out error of infinite width in
        units of the labels' variance; ``loo_accuracy`` (with ``loo_accuracy_se``) where labels are
        classes, NaN elsewhere, both for patterns like those of training; with a test set
        ``test_theory`` and its ``test_error``, ``test_accuracy`` (of a draw) and
        ``test_accuracy_mean``, as `Solution.scores` has them, of ``test_patterns`` patterns;
        ``sampling_seconds`` at the nearest point; ``tolerance``.

    Raises
    ------
    InputError
        If an argument is not as described, or the infinite-width kernel is singular to working
        precision.

    References
    ----------
    The page "Where does the theory hold?" of the documentation.
    """
    import xarray as xr

    chosen = choose_likelihood(likelihood)
    problem = make_problem(net, X, y, temperature, chosen)
    tolerance = check_number("tolerance", tolerance, 0.0)
    neighbours = check_count("neighbours", neighbours)
    tested = check_test_set(problem, X_test, y_test)
    dataset = load_error_map() if error_map is None else _checked_map(error_map)
    outside = leave_one_out(problem)
    size = float(np.mean(problem.y**2)) if chosen.homogeneous else 1.0
    features = of_problem(
        net,
        problem.n_patterns,
        problem.temperature / size if size > 0 else math.inf,
        chosen,
        math.nan if outside is None else outside.error,
    )
    measured = Measured(dataset, features)
    if not measured.distance.size:
        raise InputError("expected error_map = a map with a point of R-hat ≤ 1.01, got none")
    known = {
        name: measured.near(name, neighbours) if _like_the_map(problem, name) else UNKNOWN
        for name in _defined(problem)
    }
    known = {name: known[name] for name in sorted(known, key=lambda name: _rank(known[name]))}
    result = xr.Dataset(
        _by_theory(known) | _by_neighbour(measured, known, neighbours),
        coords={"theory": list(known), "feature": list(FEATURES)},
    )
    test = on_test_set(problem, X_test, y_test) if tested else {}
    best = _best(result)
    good = best is not None and _good(result.sel(theory=best), tolerance)
    seconds, nearest = measured.sampling_seconds()
    return result.assign_attrs(
        recommended=best if good else "sample",
        verdict=verdict(result, measured, best, good, tolerance, outside, features, test),
        labels=said(features) if outside is not None else "not known",
        sampling_seconds=seconds,
        tolerance=tolerance,
        nearest_distance=float(measured.distance[nearest]),
        **_outside(outside),
        **test,
    )


def _checked_map(error_map: Any) -> "xr.Dataset":
    needed = {"load", "n_patterns", "temperature", "depth", "activation", "widths", "data"}
    missing = sorted(needed - {str(name) for name in getattr(error_map, "coords", ())})
    if missing or not is_map(error_map):
        raise InputError(
            "expected error_map = a Dataset as finwidth.error_map returns it, got "
            f"{shown(error_map)}"
        )
    return error_map


def _defined(problem: Problem) -> list[str]:
    """Return the names of the theories that are defined for the problem, by their own checks."""
    found = []
    for name, theory in SHELF.items().items():
        try:
            check_covered(problem, theory)
        except InputError:
            continue
        found.append(name)
    return found


def _like_the_map(problem: Problem, name: str) -> bool:
    """Return whether points of the map, which have one output, say something of the problem."""
    return problem.network.outputs == 1 or SHELF.get(name).outputs_alike


def _rank(known: Known) -> tuple[Any, ...]:
    error = known.expected_error
    nearest = float(known.distance.min(initial=math.inf))
    accident = known.cancelled > ACCIDENT
    return (trust(nearest) == "none", not math.isfinite(error), accident, error, known.seconds)


def _good(row: "xr.Dataset", tolerance: float) -> bool:
    """Return whether a theory is within the tolerance, and not by accident."""
    return float(row["expected_error"]) <= tolerance and not float(row["cancelled"]) > ACCIDENT


def _best(result: "xr.Dataset") -> str | None:
    """Return the cheapest of the theories that are as good as the best, None if none is known."""
    trusted = np.isin(result["trust"].values, _TRUSTED)
    errors = np.where(trusted, result["expected_error"].values, np.nan)
    by_merit = np.where(result["cancelled"].values > ACCIDENT, np.nan, errors)
    errors = by_merit if np.any(np.isfinite(by_merit)) else errors
    if not np.any(np.isfinite(errors)):
        return None
    as_good = errors <= np.nanmin(errors) + _SAME
    # below a second nobody waits; among equals the theory that is defined for most networks
    cost = np.maximum(np.nan_to_num(result["seconds"].values, nan=np.inf), 1.0)
    names = result["theory"].values
    order = np.lexsort((names, names != "nested", np.round(errors, 2), cost, ~as_good))
    return str(names[order[0]])


def _by_theory(known: dict[str, Known]) -> dict[str, Any]:
    rows = [
        (
            one.expected_error,
            one.largest_error,
            one.likely_error,
            one.accuracy_error,
            one.cancelled,
            trust(float(one.distance.min(initial=math.inf))),
            one.share_solved,
            one.seconds,
            one.seconds_patterns,
        )
        for one in known.values()
    ]
    names = (
        "expected_error",
        "largest_error",
        "likely_error",
        "accuracy_error",
        "cancelled",
        "trust",
        "share_solved",
        "seconds",
        "seconds_patterns",
    )
    return {name: ("theory", np.array([row[i] for row in rows])) for i, name in enumerate(names)}


def _by_neighbour(measured: Measured, known: dict[str, Known], neighbours: int) -> dict[str, Any]:
    """Return the nearest points of each theory, filled up where there are fewer."""
    shape = len(known), neighbours
    index = np.full(shape, -1)
    for row, one in zip(index, known.values(), strict=True):
        row[: len(one.points)] = one.points
    there, dims = index >= 0, ("theory", "neighbour")

    def taken(values: np.ndarray) -> np.ndarray:
        filled = values[index]
        filled[~there] = _NO_VALUE[filled.dtype.kind]
        return filled

    of_theory = {name: np.full(shape, np.nan) for name in ("relative_error", "z")}
    for name, values in of_theory.items():
        for row, (theory, one) in zip(values, known.items(), strict=True):
            if one.points.size:
                row[: len(one.points)] = measured.of(name, theory)[one.points]
    points = {
        name: measured.dataset[name].values
        for name in _OF_POINTS
        if name in measured.dataset.coords
    }
    points |= {
        "point_temperature": measured.dataset["temperature"].values,
        "exact_error": measured.dataset["exact_error"].values,
        "distance": measured.distance,
    }
    difference = measured.differences[index]
    difference[~there] = np.nan
    return (
        {name: (dims, values) for name, values in of_theory.items()}
        | {name: (dims, taken(values)) for name, values in points.items()}
        | {"difference": ((*dims, "feature"), difference)}
    )


def _outside(outside: LeftOut | None) -> dict[str, float]:
    if outside is None:
        return dict.fromkeys(("loo_error", "loo_accuracy", "loo_accuracy_se"), math.nan)
    return {
        "loo_error": outside.error,
        "loo_accuracy": outside.accuracy,
        "loo_accuracy_se": outside.accuracy_se,
    }
