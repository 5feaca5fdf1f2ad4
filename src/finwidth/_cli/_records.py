"""Results as plain records, the same in every command's --json and files."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

    from .._problem.network import Network
    from ..datasets import Dataset
    from ..theories._solution import Solution

__all__ = ["comparison_record", "diagnostics_record", "mixed", "setting_record", "solution_record"]

_DIAGNOSTICS = (
    "r_hat_max",
    "r_hat_error",
    "ess_bulk_min",
    "ess_bulk_error",
    "divergences",
    "n_chains",
    "n_draws",
)


def setting_record(network: "Network", temperature: float, data: "Dataset") -> dict[str, Any]:
    """Return what was asked for: network, temperature, data."""
    return {
        "network": network.record(),
        "temperature": temperature,
        "data": {"name": data.name} | data.attrs,
    }


def solution_record(solution: "Solution", data: "Dataset", roots: bool = False) -> dict[str, Any]:
    """Return a theory's order parameters, evidence and scores; `roots` counts its solutions."""
    scores = solution.scores(data.X_test, data.y_test)
    record = {
        "theory": solution.theory,
        "order_parameters": {
            str(name): array.values for name, array in solution.order_parameters.items()
        },
        "action": solution.action,
        "log_evidence": solution.log_evidence,
        "residual": solution.residual,
        "converged": solution.converged,
        "criterion": solution.criterion,
    }
    if roots:
        record["n_roots"] = solution.n_roots
    record |= {str(name): float(value) for name, value in scores.items()}
    return record | {str(name): float(value) for name, value in scores.attrs.items()}


def diagnostics_record(report: "xr.Dataset") -> dict[str, Any]:
    """Return how well the chains of a comparison have mixed."""
    return {name: report[name].item() for name in _DIAGNOSTICS}


def comparison_record(report: "xr.Dataset") -> dict[str, Any]:
    """Return a comparison: every quantity's numbers, diagnostics, verdict."""
    columns = ("theory", "exact", "mcse", "z", "relative_difference")
    quantities = {
        str(name): {column: float(report[column].sel(quantity=name)) for column in columns}
        for name in report["quantity"].values
    }
    for name, one in quantities.items():
        baseline = float(report["baseline"].sel(quantity=name))
        if math.isfinite(baseline):
            one["baseline"] = baseline
    return {
        "theory": report.theory_name.item(),
        "quantities": quantities,
        "diagnostics": diagnostics_record(report),
        "outcome": report.attrs["outcome"],
        "verdict": report.attrs["verdict"],
    }


def mixed(report: "xr.Dataset") -> bool:
    """Return whether the largest R-hat is within its limit (NaN is not)."""
    return bool(report["r_hat_max"].item() <= report.attrs["r_hat_limit"])
