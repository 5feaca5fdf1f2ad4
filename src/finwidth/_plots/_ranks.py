"""Ranks of the draws, by ArviZ: chains that have mixed have all ranks equally often."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .._observables.squared_error import SquaredError
from .._results.scores import read_test_run

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["rank_figure", "slowest"]

# of chains: no theory's, and apart for the colour-blind
_CHAINS = ("#332288", "#117733", "#44AA99", "#88CCEE", "#DDCC77", "#CC6677", "#AA4499", "#882255")


def slowest(tree: "xr.DataTree", count: int = 3) -> list[tuple[int, ...]]:
    """Return the test points (and outputs) whose f has the largest R-hat, the largest first."""
    r_hat = read_test_run(tree).draws.patterns.r_hat
    order = np.argsort(-np.nan_to_num(r_hat, nan=-1.0), axis=None, kind="stable")[:count]
    return [tuple(int(i) for i in np.unravel_index(one, r_hat.shape)) for one in order]


def rank_figure(tree: "xr.DataTree") -> Any:
    """Return a figure of the ranks of the error and of f where it mixes worst.

    Parameters
    ----------
    tree
        What `finwidth.sample` returned with X_test and y_test.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import arviz_plots
    import xarray as xr

    run = read_test_run(tree)
    f = run.draws.mean
    series: dict[str, Any] = {"error": SquaredError().of_draws(run.draws, run.y_test)["error"]}
    for index in slowest(tree):
        name = "f" + "".join(f"_{one}" for one in index[1:]) + f"(x_test[{index[0]}])"
        series[name] = f[(slice(None), slice(None), *index)]
    posterior = xr.Dataset(
        {name: (("chain", "draw"), one) for name, one in series.items()},
        coords={"chain": np.arange(f.shape[0])},
    )
    drawn = arviz_plots.plot_rank(
        xr.DataTree.from_dict({"posterior": posterior}),
        backend="matplotlib",
        col_wrap=4,
        color=list(_CHAINS),
        figure_kwargs={"figsize": (2.6 * len(series) + 0.4, 3.4)},
        visuals={"title": {"fontsize": "medium"}},
    )
    figure = drawn.viz["figure"].item()
    figure.set_layout_engine("constrained")
    return figure
