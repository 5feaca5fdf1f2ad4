"""From blocks of draws to the DataTree that users see."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from .provenance import provenance

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["build_tree"]

_FIRST = {"layer": 1}  # coordinate of the first entry; 0 elsewhere


def build_tree(
    posterior: Any,
    blocks: list[dict[str, np.ndarray]],
    keep: tuple[str, ...],
    more: dict[str, dict[str, tuple[tuple[str, ...], np.ndarray]]],
    settings: dict,
) -> "xr.DataTree":
    """Assemble the DataTree.

    Parameters
    ----------
    posterior
        What was sampled: its network, temperature, X, y, X_test, y_test, sites, derived and
        predicted.
    blocks
        Draws, as they came.
    keep
        What of the sites (and derived values) to show.
    more
        Variables of further groups, as (dims, values).
    settings
        What else the provenance tells of the run.
    """
    import xarray as xr

    draws = {name: np.concatenate([block[name] for block in blocks], axis=1) for name in blocks[0]}
    n_chains, n_draws = draws["stats:lp"].shape
    lead, sites = ("chain", "draw"), {**posterior.sites, **posterior.derived}

    def group(prefix: str, dims: dict[str, tuple[str, ...]]) -> "xr.Dataset":
        return _indexed(
            {name: (lead + own, draws[f"{prefix}{name}"]) for name, own in dims.items()}
        )

    statistics = [name.removeprefix("stats:") for name in draws if name.startswith("stats:")]
    X, y, X_test, y_test = posterior.X, posterior.y, posterior.X_test, posterior.y_test
    groups = {
        "posterior": group("site:", {name: sites[name].dims for name in keep}),
        "sample_stats": group("stats:", dict.fromkeys(statistics, ())),
        "observed_data": _indexed({"y": (_label_dims("pattern", y), y)}),
        "constant_data": _indexed({"X": (_pattern_dims("pattern", X), X)}),
    }
    if X_test is not None:
        groups["predictions"] = _indexed(
            {name: ((*lead, *site.dims), draws[name]) for name, site in posterior.predicted.items()}
        )
        likelihood, f = getattr(posterior, "likelihood", None), draws["f"]
        p = None if likelihood is None else likelihood.probabilities(f, np.zeros_like(f))
        if p is not None:  # of the class +1, or of each class
            outputs = ("output",) if f.ndim == 4 else ()
            p = p if outputs else p[..., 1]
            groups["predictions"]["p"] = ((*lead, "test_pattern", *outputs), p)
        constants: dict[str, Any] = {"X_test": (_pattern_dims("test_pattern", X_test), X_test)}
        if y_test is not None:
            constants["y_test"] = (_label_dims("test_pattern", y_test), y_test)
        groups["predictions_constant_data"] = _indexed(constants)
    groups |= {name: _indexed(variables) for name, variables in more.items()}
    record = provenance(posterior.network, temperature=posterior.temperature, **settings)
    for name in ("posterior", "sample_stats", "predictions", *more):
        if name in groups:
            groups[name].attrs |= {
                "inference_library": "finwidth",
                "inference_library_version": record["versions"]["finwidth"],
                "created_at": record["created"],
            }
    tree = xr.DataTree.from_dict(groups)
    tree.attrs["provenance"] = json.dumps(record)
    return tree


def _pattern_dims(pattern: str, X: np.ndarray) -> tuple[str, ...]:
    """Return the dimensions of flat patterns, or of images with or without channels."""
    if X.ndim == 2:
        return pattern, "input"
    return (pattern, *("channel", "row", "column")[4 - X.ndim :])


def _label_dims(pattern: str, labels: np.ndarray) -> tuple[str, ...]:
    return (pattern,) if labels.ndim == 1 else (pattern, "output")


def _indexed(variables: dict[str, tuple[tuple[str, ...], np.ndarray]]) -> "xr.Dataset":
    """Return a Dataset of variables, given as (dims, values), with a coordinate for each dim."""
    import xarray as xr

    sizes: dict[str, int] = {}
    for names, value in variables.values():
        sizes |= dict(zip(names, value.shape, strict=True))
    return xr.Dataset(
        variables,
        coords={name: _FIRST.get(name, 0) + np.arange(n) for name, n in sizes.items()},
    )
