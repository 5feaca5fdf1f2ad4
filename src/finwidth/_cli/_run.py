"""The steps that several commands take: solve, sample, compare, and the rows of their tables."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._app import command_line
from ._options import Extent, Sampling, Setting

if TYPE_CHECKING:
    import xarray as xr

    from .._problem.network import Network
    from ..datasets import Dataset
    from ..theories._solution import Solution

__all__ = [
    "SCORES",
    "comparison_rows",
    "diagnostics_rows",
    "sample_and_compare",
    "score_cells",
    "solve_theory",
]

SCORES = {
    "error": "test error",
    "bias2": "bias²",
    "variance": "variance",
    "accuracy": "accuracy of a draw",
    "accuracy_mean": "accuracy of the mean",
    "log_loss": "log loss",
}


def solve_theory(
    setting: Setting, network: "Network", data: "Dataset", theory: str | None = None
) -> "Solution":
    """Solve a theory (by default the one asked for) of the network's posterior."""
    import finwidth as fw

    return fw.solve(
        network,
        data.X_train,
        data.y_train,
        temperature=setting.temperature,
        theory=theory or setting.theory,
        likelihood=setting.likelihood,
    )


def sample_and_compare(
    setting: Setting,
    sampling: Sampling,
    network: "Network",
    data: "Dataset",
    solutions: Sequence["Solution"],
    keep: Sequence[str] | None = None,
    extent: Extent | None = None,
) -> tuple["xr.DataTree", list["xr.Dataset"]]:
    """Return the posterior with the solutions attached, and the comparison with each.

    Solutions come from outside, as they take a moment only: whatever is wrong with a theory
    is then said before the sampling starts. `keep` and the fields of `extent` are those
    of `finwidth.sample`.
    """
    import finwidth as fw

    from .._likelihoods import choose_likelihood
    from ..models._names import posterior_kind
    from ..models._posterior import extras

    usual = "marginal" if choose_likelihood(setting.likelihood).conjugate else "network"
    model = sampling.model or usual
    takes_theory = "theory" in extras(posterior_kind(model))
    tree = fw.sample(
        network,
        data.X_train,
        data.y_train,
        temperature=solutions[0].temperature,  # which the evidence may have chosen
        X_test=data.X_test,
        y_test=data.y_test,
        model=model,
        likelihood=setting.likelihood,
        sampler=sampling.sampler,
        theory=setting.theory if takes_theory else None,
        num_warmup=sampling.warmup,
        num_samples=sampling.draws,
        num_chains=sampling.chains,
        seed=setting.seed,
        keep=keep,
        data_name=data.name,
        **dataclasses.asdict(extent or Extent()),
    )
    tree.attrs["command"] = command_line()
    for solution in solutions:
        tree = fw.attach(tree, solution)
    return tree, [fw.compare(solution, tree) for solution in solutions]


def score_cells(report: "xr.Dataset", name: str, digits: int = 6) -> tuple[str, str, str, str]:
    """Return theory, exact ± MCSE, z and baseline of one quantity."""
    one = report.sel(quantity=name)
    baseline = float(one.baseline)
    return (
        f"{float(one.theory):.{digits}f}",
        f"{float(one.exact):.{digits}f} ± {float(one.mcse):.{digits}f}",
        f"{float(one.z):+.1f}",
        "" if math.isnan(baseline) else f"{baseline:.{digits}f}",
    )


def diagnostics_rows(report: "xr.Dataset") -> list[tuple[str, str, str, str]]:
    """Return the rows of a table of scores (theory, exact ± MCSE, baseline) and of diagnostics."""
    rows = []
    for name, label in SCORES.items():
        if name in report["quantity"].values and name not in ("bias2", "variance"):
            theory, exact, _, baseline = score_cells(report, name)
            rows.append((label, theory, exact, baseline))
    diagnostics = {
        "R-hat, largest": f"{report.r_hat_max.item():.4f}",
        "bulk ESS, smallest": f"{report.ess_bulk_min.item():.0f}",
        "divergences": f"{report.divergences.item()}",
        "chains × draws": f"{report.n_chains.item()} × {report.n_draws.item()}",
    }
    return rows + [(label, "", value, "") for label, value in diagnostics.items()]


def comparison_rows(report: "xr.Dataset") -> list[tuple[str, ...]]:
    """Return the rows (quantity, theory, exact ± MCSE, z, baseline) of a comparison's table."""
    return [(str(name), *score_cells(report, str(name))) for name in report["quantity"].values]
