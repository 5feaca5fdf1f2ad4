"""The Dataset of a sweep as learning curves: networks by their width, the posterior beside."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["CHAINS", "EXACT", "TEXTS", "TIMES", "as_curves", "is_sweep"]

EXACT = "exact"  # what sampling is called where theories have their names
TEXTS = ("state", "reason")
TIMES = ("seconds", "cpu_seconds")
CHAINS = ("r_hat", "ess", "n_draws", "n_chains", "divergences")
_KEPT = ("width", "theory")  # dimensions, however short
_NO_SCORES = {"action", "log_evidence", "residual", "converged", *TIMES, *TEXTS, *CHAINS}


def is_sweep(dataset: "xr.Dataset") -> bool:
    """Say whether `finwidth.sweep` made it."""
    names = set(map(str, dataset.variables))
    return names >= {"net", "width", "theory", "state", "reason", "converged"}


def as_curves(dataset: "xr.Dataset") -> "xr.Dataset":
    """Return the scores of a sweep over what it has several values of.

    The dimension net becomes the width, and network, if networks differ in more; what was sampled
    is ``exact_<score>`` with its ``exact_<score>_mcse`` and r_hat, not a theory.
    """
    names = [str(name) for name in dataset.data_vars if str(name) not in _NO_SCORES]
    scores = [name for name in names if not name.endswith("_mcse")]
    data = dataset[names + [name for name in ("r_hat",) if name in dataset]]
    if "net" in data.dims:
        data = _by_width(data)
    if "theory" not in data.dims:
        data = data.expand_dims("theory", -1)
    theories = [str(one) for one in data["theory"].values]
    solved = data.sel(theory=[one for one in theories if one != EXACT])
    result = solved[scores].assign_attrs(dataset.attrs)
    if EXACT in theories:
        sampled = data.sel(theory=EXACT, drop=True)
        result = result.merge(sampled.rename({name: f"{EXACT}_{name}" for name in names}))
    elif "seed" in result.dims:  # theories are the same for all
        result = result.isel(seed=0)
    single = [str(one) for one, n in result.sizes.items() if n == 1 and one not in _KEPT]
    return result.squeeze(single)


def _by_width(data: "xr.Dataset") -> "xr.Dataset":
    """Return what is over the networks over their widths, and over what else they differ in."""
    further = [
        str(name)
        for name in ("activation", "depth", "weight_precision", "outputs")
        if len(set(data[name].values.tolist())) > 1
    ]
    others = [
        " ".join(f"{name} {data[name].values[i]}" for name in further)
        for i in range(data.sizes["net"])
    ]
    over = [str(name) for name, one in data.coords.items() if "net" in one.dims]
    width = data["width"].values
    data = data.drop_vars(over)
    if len(set(zip(width.tolist(), others, strict=True))) < len(width):
        # widths of several layers, say: curves cannot be over one width
        return data.assign_coords(net=("net", list(range(len(width)))))
    data = data.assign_coords(width=("net", width), network=("net", others))
    if not further:
        return data.swap_dims(net="width").drop_vars("network").sortby("width")
    return data.set_index(net=["width", "network"]).unstack("net")
