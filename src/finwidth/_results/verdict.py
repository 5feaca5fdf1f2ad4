"""The verdict of a comparison: one sentence that says no more than the run can bear."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._basics.checks import check_number
from .._observables.accuracy import QUANTITIES as ACCURACIES

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Limits", "point_name", "verdict"]

_FALSE_ALARMS = 0.01  # expected number of test patterns beyond the limit by chance alone
_SMALL = 0.01  # relative difference below which a disagreement is called small
_LOW_POWER = 0.1  # relative difference that a run should at least be able to see


@dataclasses.dataclass(frozen=True)
class Limits:
    """When chains count as mixed and a difference counts as one.

    Parameters
    ----------
    r_hat
        Largest R-hat, above 1.
    ess_per_chain
        Smallest bulk ESS for each chain.
    z
        Smallest |z| of a disagreement.
    """

    r_hat: float
    ess_per_chain: float
    z: float

    def __post_init__(self) -> None:
        for name, value, least in (
            ("r_hat_limit", self.r_hat, 1.0),
            ("ess_per_chain", self.ess_per_chain, 0.0),
            ("z_limit", self.z, 0.0),
        ):
            check_number(name, value, least)

    def for_patterns(self, n_test: int) -> float:
        """Return the limit on |z| for `n_test` patterns (Bonferroni, never below `z`)."""
        tail = _FALSE_ALARMS / (2.0 * n_test)
        return max(self.z, -statistics.NormalDist().inv_cdf(tail))


def verdict(
    report: "xr.Dataset", watched: Mapping[str, tuple[float, float]], converged: bool
) -> tuple[str, str]:
    """Return the outcome and one sentence about a comparison.

    Parameters
    ----------
    report
        What `finwidth.compare` has put together so far.
    watched
        R-hat and bulk ESS of every series that tells whether the chains have mixed, by what it is
        called in the sentence.
    converged
        Whether the theory's solver reached its tolerance.

    Returns
    -------
    outcome
        "disagreement", "no disagreement" or "not judged".
    sentence
        The verdict.
    """
    name = str(report.theory_name.values)
    notes = _notes(report)
    reason = _obstacle(report, watched, converged)
    if reason is not None:
        return "not judged", f"Not judged: {reason}{notes}."
    beyond = np.abs(report.z.values) > report.attrs["z_limit"]
    n_beyond = int(np.sum(np.abs(report.mean_z.values) > report.attrs["pattern_z_limit"]))
    if beyond.any() or n_beyond:
        return "disagreement", _disagreement(report, name, beyond, n_beyond) + f"{notes}."
    return "no disagreement", _agreement(report, name) + f"{notes}."


def _obstacle(
    report: "xr.Dataset", watched: Mapping[str, tuple[float, float]], converged: bool
) -> str | None:
    """Return why nothing can be concluded, None if something can."""
    if not converged:
        return f"the theory {report.theory_name.values!s} has not converged"
    bad = np.argwhere(~np.isfinite(report.mean_theory.values))
    if bad.size:
        return f"the theory is not finite at {len(bad)} {_points(report)}, first {_point(bad[0])}"
    bad = _names(report, ~np.isfinite(report.theory.values))
    if bad:
        return f"the theory's {' and '.join(bad)} {'is' if len(bad) == 1 else 'are'} not finite"
    bad = np.argwhere(np.isnan(report.mean_exact.values))
    if bad.size:
        return f"the chains hold non-finite values of {point_name(report, bad[0])}" + (
            f" and {len(bad) - 1} further {_points(report)}" if len(bad) > 1 else ""
        )
    n_chains, n_draws = int(report.n_chains), int(report.n_draws)
    if n_chains < 2:
        return "one chain cannot show that it has mixed; run at least 2, better 4"
    if n_draws < 4:
        return f"{n_draws} draws in each chain are too few for any diagnostic; run longer"
    bad = _names(report, ~np.isfinite(report.exact.values))
    if bad:
        return f"the chains hold non-finite values of the {' or the '.join(reversed(bad))}"
    labels = list(watched)
    r_hat, ess = np.array(list(watched.values())).T
    if np.isnan(float(report.ess_bulk_error)):
        return "the error is the same in every draw, so the chains have not moved"
    worst = int(np.nanargmax(r_hat))
    if r_hat[worst] > report.attrs["r_hat_limit"]:
        return (
            f"the chains have not mixed (R-hat {_plain(r_hat[worst], 3)} for {labels[worst]}, "
            f"limit {report.attrs['r_hat_limit']:g}); run longer"
        )
    fewest = int(np.nanargmin(ess))
    if ess[fewest] < report.attrs["ess_limit"]:
        return (
            f"too few effective draws (bulk ESS {ess[fewest]:.0f} for {labels[fewest]}, at least "
            f"{report.attrs['ess_limit']:.0f} wanted); run longer"
        )
    return None


def _disagreement(report: "xr.Dataset", name: str, beyond: np.ndarray, n_beyond: int) -> str:
    found = [_difference(report, name, index) for index in range(beyond.size) if beyond[index]]
    if n_beyond:
        z = np.abs(report.mean_z.values)
        worst = np.unravel_index(np.argmax(z), z.shape)
        found.append(
            f"the mean differs at {n_beyond} of {z.size} {_points(report)} "
            f"(|z| > {report.attrs['pattern_z_limit']:.2g}, largest "
            f"{_plain(z[worst], 2)} at {_point(worst)})"
        )
    agreeing = _names(report, ~beyond & ~np.isnan(report.z.values))
    tail = ""
    if agreeing:
        tail = f", while {' and '.join(agreeing)} agree{'s' if len(agreeing) == 1 else ''} within"
        tail += f" {report.attrs['z_limit']:g} MCSE"
    return f"Theory and posterior disagree: {'; '.join(found)}{tail}"


def _difference(report: "xr.Dataset", name: str, index: int) -> str:
    relative = float(report.relative_difference[index])
    sign = "high" if float(report.z[index]) > 0 else "low"
    if float(report.exact[index]) <= float(report.mcse[index]):  # no scale to compare with
        return f"{_numbers(report, name, index)}, too {sign}"
    small = ", small but beyond the noise" if abs(relative) < _SMALL else ""
    size = _percent(relative)
    if (
        str(report["quantity"].values[index]) in ACCURACIES
    ):  # of which a percentage has two meanings
        size = _plain(abs(float(report.theory[index] - report.exact[index])), 2)
    return f"{_numbers(report, name, index)}, {size} too {sign}{small}"


def _agreement(report: "xr.Dataset", name: str) -> str:
    limit = report.attrs["z_limit"]
    power = limit * float(report.mcse[0]) / abs(float(report.exact[0]))
    low = ", so the run has little power" if power > _LOW_POWER else ""
    others = _names(report, ~np.isnan(report.z.values))[1:]
    return (
        f"No disagreement found: {_numbers(report, name, 0)}; {', '.join(others)} and the means at "
        f"all {report.mean_z.size} {_points(report)} are within their limits too; this run "
        f"could have seen a difference in {report['quantity'].values[0]} of {_percent(power)} or "
        f"more ({limit:g} MCSE){low}"
    )


def point_name(report: "xr.Dataset", index: Sequence[Any] | np.ndarray) -> str:
    """Return the variable whose chains were looked at, and the test pattern and output."""
    variable = "f" if report.attrs["estimator"] == "draws of f" else "f_mean"
    return f"{variable} at {_point(index)}"


def _point(index: Sequence[Any] | np.ndarray) -> str:
    point, *output = index
    return f"x_test[{point}]{''.join(f', output {d}' for d in output)}"


def _points(report: "xr.Dataset") -> str:
    """Return of what there is one mean."""
    return "outputs at test patterns" if report.mean_z.ndim > 1 else "test patterns"


def _names(report: "xr.Dataset", chosen: np.ndarray) -> list[str]:
    return [str(name) for name in report["quantity"].values[chosen]]


def _numbers(report: "xr.Dataset", name: str, index: int) -> str:
    """Return 'error 0.0632 (nested) against 0.0367 ± 0.0004 (exact), z = 66'."""
    theory, exact, mcse, z = (
        float(report[variable][index]) for variable in ("theory", "exact", "mcse", "z")
    )
    # two digits of the MCSE, and as many decimals of the numbers
    smallest = mcse if mcse > 0 else 1e-4 * max(abs(theory), abs(exact), 1e-300)
    decimals = min(max(1 - math.floor(math.log10(smallest)), 0), 12)
    return (
        f"{report['quantity'].values[index]} {theory:.{decimals}f} ({name}) against "
        f"{exact:.{decimals}f} ± {mcse:.{decimals}f} ({report.attrs['posterior']}), "
        f"z = {_plain(z, 2)}"
    )


def _notes(report: "xr.Dataset") -> str:
    divergences = int(report.divergences)
    if divergences > 0:
        total = int(report.n_chains) * int(report.n_draws)
        return (
            f" ({divergences} of {total} transitions diverged, so the chains may miss part of "
            "the posterior)"
        )
    return ""


def _percent(fraction: float) -> str:
    return f"{_plain(100 * abs(fraction), 2)} %"


def _plain(value: float, digits: int) -> str:
    """Return `value` to `digits` significant digits, without an exponent where it is readable."""
    if not math.isfinite(value) or value == 0 or not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits}g}"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, decimals):.{max(decimals, 0)}f}"
