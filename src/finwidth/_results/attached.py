"""The theories that a run carries, compared with its draws without solving them anew."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from .._basics.checks import check_tree
from .._basics.errors import InputError
from .._observables._observable import Observable, estimates, observables
from .compare import Predicted, report_of
from .provenance import read_provenance
from .scores import TestRun, read_test_run
from .verdict import Limits

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["attached_theories", "compare_attached"]

_LIMITS = Limits(r_hat=1.01, ess_per_chain=100.0, z=4.0)  # those of `compare`


def attached_theories(tree: "xr.DataTree") -> list[str]:
    """Return the names of the theories that `attach` put into a run."""
    group = tree.children.get("theory")
    names = [] if group is None else list(map(str, group.children))
    return sorted(names, key=lambda name: name == "infinite")  # the reference last


def compare_attached(tree: "xr.DataTree", name: str) -> "xr.Dataset":
    """Return what `finwidth.compare` does for a theory that is attached to a run.

    Raises
    ------
    InputError
        If the tree has no such theory, or lacks predictions, X_test or y_test.
    """
    check_tree(tree)
    names = attached_theories(tree)
    if name not in names:
        raise InputError(
            f"expected a theory that is attached to the run = one of {names}, got {name!r}"
        )
    record, run = read_provenance(tree), read_test_run(tree)
    group = tree["theory"][name]
    expected = f"expected group 'theory/{name}' as finwidth.attach writes it"
    try:
        network, temperature = json.loads(group.attrs["network"]), float(group.attrs["temperature"])
        mean = np.asarray(group["f_mean"].values, dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{expected}, got {error}") from None
    if mean.shape != run.y_test.shape or not isinstance(network, dict) or not network.get("widths"):
        raise InputError(f"{expected}, got f_mean of shape {mean.shape}, network {network!r}")
    chosen, scores = _known(run, group)
    said = Predicted(name, network, temperature, mean, scores, converged=True)
    return report_of(said, tree, run, chosen, record, _LIMITS)


def _known(run: TestRun, group: Any) -> tuple[list[Observable], dict[str, float]]:
    """Return the observables that both the theory and the draws have, and the theory's scores."""
    chosen, scores = [], {}
    for one in observables(run.y_test):
        if one.covers(run.draws, run.y_test):
            names = list(estimates([one], run.draws, run.y_test))
            if all(name in group.data_vars for name in names):
                chosen.append(one)
                scores |= {name: float(group[name]) for name in names}
    return chosen, scores
