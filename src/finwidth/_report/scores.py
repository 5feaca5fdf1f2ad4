"""What a page says of theory and posterior: verdicts, scores, how well the chains have mixed."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .._results.kinds import Result
from .._results.map_summary import summarize_error_map
from .table import Table, beside, plain

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["diagnostics", "numbers", "verdicts"]

_NAMES = {
    "error": "test error",
    "bias2": "bias²",
    "accuracy": "accuracy of a draw",
    "accuracy_mean": "accuracy of the mean",
    "log_loss": "log loss",
}
_ROWS = 300  # of a learning curve; more are in the file


def verdicts(reports: "Sequence[xr.Dataset]") -> list[tuple[str, str, str]]:
    """Return (of what, outcome, sentence) of each comparison."""
    found = []
    for report in reports:
        name, width = str(report["theory_name"].values), int(report["width"].values)
        what = f"{name}, N₁ = {width}"
        found.append((what, str(report["outcome"].values), str(report["verdict"].values)))
    return found


def numbers(result: Result) -> list[Table]:
    """Return the tables of theory and posterior."""
    if result.kind == "map":
        return [_map_summary(result.dataset), _map_points(result.dataset)]
    if result.kind == "curve":
        return [_curve(result.dataset)]
    return [_scores(result.reports)] if result.reports else []


def _scores(reports: "Sequence[xr.Dataset]") -> Table:
    theories = list(dict.fromkeys(str(report["theory_name"].values) for report in reports))
    widths = sorted({int(report["width"].values) for report in reports})
    rows = []
    for width in widths:
        here = {
            str(report["theory_name"].values): report
            for report in reports
            if int(report["width"].values) == width
        }
        first = next(iter(here.values()))
        for quantity in map(str, first["quantity"].values):
            one = first.sel(quantity=quantity)
            exact, mcse = float(one["exact"]), float(one["mcse"])
            cells = []
            for name in theories:
                report = here.get(name)
                if report is None or quantity not in report["quantity"].values:
                    cells.append("")
                    continue
                picked = report.sel(quantity=quantity)
                z = float(picked["z"])
                cells.append(f"{beside(float(picked['theory']), mcse)} (z {_signed(z)})")
            guess = float(one["baseline"]) if "baseline" in first else math.nan
            rows.append(
                (
                    str(width),
                    _NAMES.get(quantity, quantity.replace("_", " ")),
                    f"{beside(exact, mcse)} ± {beside(mcse, mcse)}",
                    *cells,
                    "" if math.isnan(guess) else f"{guess:.4g}",
                )
            )
    return Table(
        "Scores: posterior and theories",
        ("N₁", "score", "posterior ± MCSE", *theories, "constant guess"),
        rows,
        "z is the difference from the posterior in Monte Carlo standard errors (MCSE). A constant "
        "guess is the mean of the training labels, and their most frequent class.",
        heads=2,
    )


def diagnostics(reports: "Sequence[xr.Dataset]") -> Table | None:
    """Return how well the chains have mixed, one row a width."""
    rows, seen = [], set()
    for report in reports:
        width = int(report["width"].values)
        if width in seen or "r_hat_max" not in report:
            continue
        seen.add(width)
        divergences = int(report["divergences"])
        rows.append(
            (
                str(width),
                f"{float(report['r_hat_max']):.4f}",
                f"{float(report['ess_bulk_min']):.0f}",
                f"{float(report['ess_bulk_error']):.0f}",
                "not recorded" if divergences < 0 else str(divergences),
                f"{int(report['n_chains'])} × {int(report['n_draws'])}",
            )
        )
    if not rows:
        return None
    limit = float(reports[0].attrs.get("r_hat_limit", 1.01))
    least = float(reports[0].attrs.get("ess_limit", math.nan))
    columns = ("N₁", "R-hat, largest", "bulk ESS, smallest", "bulk ESS of the error", "divergences")
    note = f"Chains count as mixed with R-hat ≤ {limit:g}"
    note += "." if math.isnan(least) else f" and a bulk ESS of at least {least:.0f}."
    return Table("Diagnostics of the chains", (*columns, "chains × draws"), rows, note)


def _map_summary(dataset: "xr.Dataset | None") -> Table:
    assert dataset is not None
    theories = list(map(str, dataset["theory"].values))
    rows: list[tuple[str, ...]] = []
    if bool(dataset["counted"].any()):
        summary = summarize_error_map(dataset)
        for i in range(summary.sizes["regime"]):
            row = summary.isel(regime=i)
            where = f"{row['data'].item()}, {row['activation'].item()}, L = {row['depth'].item()}"
            where += f", T = {row['temperature'].item():g}"
            cells = [_regime(row.sel(theory=name)) for name in theories]
            rows.append((where, str(int(row["n_points"])), *cells))
    left = int((~dataset["counted"]).sum())
    note = (
        "Median of |theory / posterior − 1| over the points of a regime; in brackets at how many "
        "of them no theory is closer to the posterior. A dash: no solution."
    )
    note += f" {left} point(s) whose chains have not mixed are left out." if left else ""
    return Table("Relative errors of the theories", ("regime", "points", *theories), rows, note)


def _regime(one: "xr.Dataset") -> str:
    median = float(one["median"])
    if math.isnan(median):
        return "–"
    size = 100 * median
    return (
        f"{size:.0f} % ({int(one['n_closest'])})"
        if size >= 10
        else (f"{size:.2g} % ({int(one['n_closest'])})")
    )


def _map_points(dataset: "xr.Dataset | None") -> Table:
    assert dataset is not None
    theories = list(map(str, dataset["theory"].values))
    rows = []
    for i in range(dataset.sizes["point"]):
        row = dataset.isel(point=i)
        mcse = row["exact_mcse"].item()
        cells = [beside(row["error"].sel(theory=name).item(), mcse) for name in theories]
        rows.append(
            (
                f"{row['data'].item()}, {row['activation'].item()}, N = "
                f"{str(row['widths'].item()).replace(',', '-') if 'widths' in row else ''}, "
                f"T = {row['temperature'].item():g}",
                f"{beside(row['exact_error'].item(), mcse)} ± {beside(mcse, mcse)}",
                f"{row['r_hat'].item():.3f}" if "r_hat" in row else "",
                *cells,
            )
        )
    columns = ("point", "posterior ± MCSE", "R-hat", *theories)
    return Table("Test error at every point", columns, rows)


def _curve(dataset: "xr.Dataset | None") -> Table:
    """Return scores over the grid, one row a point, one column a theory where there are several."""
    assert dataset is not None
    scores = [
        name for name in ("error", "accuracy", "accuracy_mean", "log_loss") if name in dataset
    ]
    exact = [f"exact_{name}" for name in scores if f"exact_{name}" in dataset]
    theories = list(map(str, dataset["theory"].values)) if "theory" in dataset.dims else [""]
    first = dataset[scores[0]]
    dims = [str(d) for d, n in first.sizes.items() if d != "theory" and n > 1]
    sizes = [first.sizes[d] for d in dims]
    rows = []
    for index in list(np.ndindex(*sizes))[:_ROWS]:
        part = dataset.isel(dict(zip(dims, index, strict=True)))
        cells = [
            plain(part[d].item() if d in part.coords else i)
            for d, i in zip(dims, index, strict=True)
        ]
        for name in exact:
            mcse = _scalar(part, f"{name}_mcse", "exact_mcse" if name == "exact_error" else "")
            value = _scalar(part, name)
            bar = "" if math.isnan(mcse) else f" ± {beside(mcse, mcse)}"
            cells.append("" if math.isnan(value) else beside(value, mcse) + bar)
        for score in scores:
            for theory in theories:
                one = part.sel(theory=theory) if theory else part
                value = _scalar(one, score)
                cells.append("" if math.isnan(value) else f"{value:.5g}")
        rows.append(tuple(cells))
    named = [f"{score} {theory}".strip() for score in scores for theory in theories]
    columns = (*dims, *(f"posterior {name.removeprefix('exact_')}" for name in exact), *named)
    total = int(np.prod(sizes, dtype=np.int64))
    note = f"The first {_ROWS} of {total} points." if total > _ROWS else ""
    return Table("Scores at every point", columns, rows, note, heads=max(len(dims), 1))


def _scalar(part: "xr.Dataset", *names: str) -> float:
    for name in names:
        if name in part and part[name].size == 1:
            return float(part[name].values.ravel()[0])
    return math.nan


def _signed(z: float) -> str:
    return "–" if math.isnan(z) else f"{z:+.1f}"
