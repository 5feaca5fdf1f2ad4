"""What `advise` says in sentences."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .features import FEATURES, Features, said
from .nearest import FAR, Measured
from .outside import LeftOut

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["point_text", "verdict"]

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
    tolerance
        By how much it may be off.
    outside
        Of infinite width.
    features
        Of the problem.
    test
        What a quick theory says of the test set; empty without one.
    """
    parts = _nothing(result, measured) if best is None else _best(result, best, tolerance)
    seconds, nearest = measured.sampling_seconds()
    good = best is not None and float(result["expected_error"].sel(theory=best)) <= tolerance
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
        parts.append(_of_test(test))
    return " ".join(parts)


def _of_test(test: Mapping[str, Any]) -> str:
    """Return what to expect on the test set."""
    known = []
    if "test_accuracy" in test:
        known.append(
            f"an accuracy of {100 * test['test_accuracy']:.1f} % of a draw and "
            f"{100 * test['test_accuracy_mean']:.1f} % of the mean"
        )
    if "test_error" in test:
        known.append(f"an error of {test['test_error']:.3g}")
    if "test_log_loss" in test:
        known.append(f"a log loss of {test['test_log_loss']:.3g}")
    return f"On the test set theory={test['test_theory']!r} says: {', '.join(known)}."


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


def _best(result: "xr.Dataset", best: str, tolerance: float) -> list[str]:
    row = result.sel(theory=best)
    error, largest = float(row["expected_error"]), float(row["largest_error"])
    likely = float(row["likely_error"])
    if error <= tolerance:
        beyond = f", most likely less than {_percent(likely)}" if math.isfinite(likely) else ""
        parts = [f"Use theory={best!r}: expect its test error to be {_percent(error)} off{beyond}."]
    else:
        parts = [
            f"Only sampling will do to {_percent(tolerance)}: of theory={best!r}, the best that is "
            f"known here, expect a test error that is {_percent(error)} off."
        ]
    parts.append(_source(row))
    if largest > 2 * error and largest > tolerance:
        parts.append(f"It is up to {_percent(largest)} off at the points shown.")
    accuracy = float(row["accuracy_error"])
    if math.isfinite(accuracy):
        parts.append(f"There its accuracy was {100 * accuracy:.2g} points off.")
    if str(row["trust"].values) == "far":
        parts.append("That is far: sample one such problem before you rely on it.")
    return parts


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
