"""What `advise` says in sentences."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .features import FEATURES, Features, said
from .nearest import FAR, Measured
from .outside import LeftOut

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ACCIDENT", "point_text", "verdict"]

ACCIDENT = 0.1  # of the error that cancels between bias² and variance: nothing to rely on

_SHOWN = {
    "load": "P/N",
    "n_patterns": "P",
    "temperature": "T",
    "network": "kind of layers",
    "outputs": "number of outputs",
    "prior": "precisions",
    "labels": "how far inputs explain labels",
}


def verdict(
    result: "xr.Dataset",
    measured: Measured,
    best: str | None,
    good: bool,
    tolerance: float,
    outside: LeftOut | None,
    features: Features,
    test: Mapping[str, Any],
) -> str:
    """Return the advice.

    Parameters
    ----------
    result
        What `advise` returns.
    measured
        The map.
    best
        The theory that is best, or None.
    good
        Whether it is good enough.
    tolerance
        By how much it may be off.
    outside
        Of infinite width.
    features
        Of the problem.
    test
        What a quick theory says of the test set; empty without one.
    """
    if best is None:
        parts = _nothing(result, measured)
    else:
        parts = _best(result, best, good, tolerance, features) + _by_accident(result, best)
    seconds, nearest = measured.sampling_seconds()
    if not good and math.isfinite(seconds):
        patterns = int(measured.dataset["n_patterns"][nearest])
        parts.append(f"Sampling took {seconds:.0f} s at the nearest point, of {patterns} patterns.")
    if outside is not None:
        parts.append(
            f"Labels are {said(features)} by the inputs: the leave-one-out error of infinite width "
            f"is {outside.error:.2g} of their variance."
        )
        if math.isfinite(outside.accuracy) and not test:
            parts.append(
                f"Accuracy to expect of a draw: {100 * outside.accuracy:.1f} ± "
                f"{100 * outside.accuracy_se:.1f} % (leave-one-out at infinite width), on patterns "
                "like those of training."
            )
    if test:
        parts.append(_of_test(test, result, features.n_patterns))
    return " ".join(parts)


def _of_test(test: Mapping[str, Any], result: "xr.Dataset", n_train: int) -> str:
    """Return what to expect on the test set, and what it says of other patterns."""
    known, others = [], ""
    name, n_test = test["test_theory"], test["test_patterns"]
    if "test_accuracy" in test:
        right = test["test_accuracy"]
        known.append(
            f"an accuracy of {100 * right:.1f} % of a draw and "
            f"{100 * test['test_accuracy_mean']:.1f} % of the mean"
        )
        error = 100 * math.sqrt(max(right * (1.0 - right), 0.0) / n_test)
        others = (
            f" A test set of {n_test} leaves ±{error:.1f} points of accuracy, and another split "
            "has another one (seed of load_dataset, --data-seed)."
        )
    if "test_error" in test:
        known.append(f"an error of {test['test_error']:.3g}")
    if "test_log_loss" in test:
        known.append(f"a log loss of {test['test_log_loss']:.3g}")
    row = result.sel(theory=name)
    off = math.nan if str(row["trust"].values) == "none" else float(row["expected_error"])
    own = f" (its error: expect {_percent(off)} off)" if math.isfinite(off) else ""
    return (
        f"Quick estimate by theory={name!r}{own} for these {n_train} training and {n_test} test "
        f"patterns: {', '.join(known)}.{others}"
    )


def _nothing(result: "xr.Dataset", measured: Measured) -> list[str]:
    place = int(measured.distance.argmin())
    point = measured.dataset.isel(point=place)
    text = point_text(point, float(point["temperature"]))
    defined = ", ".join(map(str, result["theory"].values)) or "none"
    return [
        f"Nothing near was measured (within {FAR:g} steps, with a solution); the nearest point of "
        f"the map is {float(measured.distance[place]):.1f} steps away: {text}. Sample; "
        "finwidth.compare then says how far a theory is off.",
        f"Theories that are defined here: {defined}.",
    ]


def _best(
    result: "xr.Dataset", best: str, good: bool, tolerance: float, features: Features
) -> list[str]:
    row = result.sel(theory=best)
    error, largest = float(row["expected_error"]), float(row["largest_error"])
    likely = float(row["likely_error"])
    beyond = f", most likely less than {_percent(likely)}" if math.isfinite(likely) else ""
    if not good:
        parts = [
            f"Only sampling will do to {_percent(tolerance)}: of theory={best!r}, as good as any "
            f"here, expect a test error that is {_percent(error)} off."
        ]
    elif features.deep_means:
        parts = [
            f"No theory is right here (deep, and its activation is not odd), but theory={best!r} "
            f"may do to {_percent(tolerance)}: expect its test error to be {_percent(error)} off"
            f"{beyond}."
        ]
    elif largest > tolerance:
        parts = [
            f"With care theory={best!r} will do: expect its test error to be {_percent(error)} off"
            f"{beyond}."
        ]
    else:
        parts = [f"Use theory={best!r}: expect its test error to be {_percent(error)} off{beyond}."]
    parts.append(_source(row))
    accuracy = float(row["accuracy_error"])
    if math.isfinite(accuracy):
        parts.append(f"There its accuracy was {100 * accuracy:.2g} points off.")
    if largest > 2 * error and largest > tolerance:
        worst = int(np.nanargmax(np.abs(row["relative_error"].values)))
        steps = float(row["distance"][worst])
        parts.append(
            f"At another point shown, {steps:.1f} steps away, it is {_percent(largest)} off."
        )
    if str(row["trust"].values) == "far":
        parts.append("That is far: sample one such problem before you rely on it.")
    return parts


def _by_accident(result: "xr.Dataset", best: str) -> list[str]:
    """Return what to say of theories that are nearer than the best, by cancellation alone."""
    error = float(result["expected_error"].sel(theory=best))
    found = []
    for name in map(str, result["theory"].values):
        row = result.sel(theory=name)
        nearer = name == best or float(row["expected_error"]) < error
        if nearer and float(row["cancelled"]) > ACCIDENT and str(row["trust"].values) != "none":
            found.append(
                f"theory={name!r} is {_percent(float(row['expected_error']))} off by accident: "
                f"{_percent(float(row['cancelled']))} of the error cancel between its bias² and "
                "variance: use neither."
            )
    return found


def _percent(value: float) -> str:
    return f"{100 * value:.2g} %" if value < 0.995 else f"{100 * value:.0f} %"


def _source(row: "xr.Dataset") -> str:
    """Return where an expected error comes from: the nearest point, and in what it differs."""
    first = row.isel(neighbour=0)
    relative, distance = float(first["relative_error"]), float(first["distance"])
    there = f"{100 * relative:+.1f} %" if math.isfinite(relative) else "no solution"
    text = point_text(first, float(first["point_temperature"]))
    if distance == 0:
        return f"Measured at the same P/N, P, T, depth and activation: {there} ({text})."
    apart = [
        f"{_SHOWN.get(name, name)} {float(value):.1f}"
        for name, value in zip(FEATURES, first["difference"].values, strict=True)
        if value > 0
    ]
    return (
        f"The nearest point is {distance:.1f} steps away (in {', '.join(apart)}): {there} ({text})."
    )


def point_text(point: "xr.Dataset", temperature: float) -> str:
    """Return what a point of a map is, in a few words."""
    kind = str(point["network"].values) if "network" in point else "dense"
    more = "" if kind == "dense" else f"{kind}, "
    return (
        f"{point['data'].item()}, {point['activation'].item()}, {more}widths "
        f"{point['widths'].item()}, P = {int(point['n_patterns'])}, T = {temperature:g}"
    )
