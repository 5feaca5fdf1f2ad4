"""From blocks of draws to the DataTree that users see."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .provenance import provenance

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["build_tree"]

_FIRST = {"layer": 1}  # coordinate of the first entry; 0 elsewhere


def build_tree(
    posterior: Any, blocks: list[dict[str, np.ndarray]], settings: dict
) -> "xr.DataTree":
    """Assemble the DataTree.

    Parameters
    ----------
    posterior
        What was sampled: its network, temperature, X, y, X_test, y_test, sites and predictions.
    blocks
        Draws, as they came.
    settings
        What else the provenance tells of the run.
    """
    import xarray as xr

    draws = {name: np.concatenate([block[name] for block in blocks], axis=1) for name in blocks[0]}
    n_chains, n_draws = draws["stats:lp"].shape
    lead, sites = ("chain", "draw"), posterior.sites

    def group(prefix: str, dims: Callable[[str], tuple[str, ...]]) -> "xr.Dataset":
        variables = {
            name.removeprefix(prefix): (lead + dims(name.removeprefix(prefix)), value)
            for name, value in draws.items()
            if name.startswith(prefix)
        }
        sizes: dict[str, int] = {}
        for names, value in variables.values():
            sizes |= dict(zip(names, value.shape, strict=True))
        return xr.Dataset(
            variables,
            coords={name: _FIRST.get(name, 0) + np.arange(n) for name, n in sizes.items()},
        )

    X, y, X_test, y_test = posterior.X, posterior.y, posterior.X_test, posterior.y_test
    groups = {
        "posterior": group("site:", lambda name: sites[name].dims),
        "sample_stats": group("stats:", lambda name: ()),
        "observed_data": xr.Dataset({"y": ("pattern", y)}, coords={"pattern": np.arange(y.size)}),
        "constant_data": xr.Dataset(
            {"X": (("pattern", "input"), X)},
            coords={
                "pattern": np.arange(y.size),
                "input": np.arange(X.shape[1]),
            },
        ),
    }
    if X_test is not None:
        points = np.arange(X_test.shape[0])
        coords = {"chain": np.arange(n_chains), "draw": np.arange(n_draws), "test_pattern": points}
        groups["predictions"] = xr.Dataset(
            {name: ((*lead, "test_pattern"), draws[name]) for name in posterior.predictions},
            coords=coords,
        )
        likelihood, f = getattr(posterior, "likelihood", None), draws["f"]
        p = None if likelihood is None else likelihood.probabilities(f, np.zeros_like(f))
        if p is not None:  # of the class +1, or of each class
            outputs = ("output",) if f.ndim == 4 else ()
            p = p if outputs else p[..., 1]
            groups["predictions"]["p"] = ((*lead, "test_pattern", *outputs), p)
        constants: dict[str, Any] = {"X_test": (("test_pattern", "input"), X_test)}
        if y_test is not None:
            constants["y_test"] = ("test_pattern", y_test)
        groups["predictions_constant_data"] = xr.Dataset(
            constants,
            coords={"test_pattern": points, "input": np.arange(X_test.shape[1])},
        )
    record = provenance(posterior.network, temperature=posterior.temperature, **settings)
    for name in ("posterior", "sample_stats", "predictions"):
        if name in groups:
            groups[name].attrs |= {
                "inference_library": "finwidth",
                "inference_library_version": record["versions"]["finwidth"],
                "created_at": record["created"],
            }
    tree = xr.DataTree.from_dict(groups)
    tree.attrs["provenance"] = json.dumps(record)
    return tree
