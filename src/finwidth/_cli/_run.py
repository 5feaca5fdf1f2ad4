"""The steps that several commands take: solve, sample, compare, and the rows of their tables."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._options import Extent, Sampling, Setting

if TYPE_CHECKING:
    import xarray as xr

    from .._problem.network import Network
    from ..datasets import Dataset
    from ..theories._solution import Solution

__all__ = ["comparison_rows", "diagnostics_rows", "sample_and_compare", "solve_theory"]


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

    from ..models._names import posterior_kind
    from ..models._posterior import extras

    usual = "marginal" if setting.likelihood == "gaussian" else "network"
    model = sampling.model or usual
    takes_theory = "theory" in extras(posterior_kind(model))
    tree = fw.sample(
        network,
        data.X_train,
        data.y_train,
        temperature=setting.temperature,
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
    for solution in solutions:
        tree = fw.attach(tree, solution)
    return tree, [fw.compare(solution, tree) for solution in solutions]


def diagnostics_rows(report: "xr.Dataset") -> list[tuple[str, str]]:
    """Return the rows of a table of the posterior's error and of the chains' diagnostics."""
    error = report.sel(quantity="error")
    return [
        ("test error", f"{float(error.exact):.6f} ± {float(error.mcse):.6f}"),
        ("R-hat, largest", f"{report.r_hat_max.item():.4f}"),
        ("bulk ESS, smallest", f"{report.ess_bulk_min.item():.0f}"),
        ("divergences", f"{report.divergences.item()}"),
        ("chains × draws", f"{report.n_chains.item()} × {report.n_draws.item()}"),
    ]


def comparison_rows(report: "xr.Dataset") -> list[tuple[str, str, str, str]]:
    """Return the rows (quantity, theory, exact ± MCSE, z) of a comparison's table."""
    return [
        (
            str(name),
            f"{float(row.theory):.6f}",
            f"{float(row.exact):.6f} ± {float(row.mcse):.6f}",
            f"{float(row.z):+.1f}",
        )
        for name, row in ((q, report.sel(quantity=q)) for q in report["quantity"].values)
    ]
