"""`sweep`: a grid's points solved and sampled, in parallel, resumable, as one Dataset."""

import os
from typing import TYPE_CHECKING

from .._basics.checks import check_flag
from .._basics.errors import InputError
from .dataset import dataset
from .grid import Grid
from .point import Effort
from .run import run

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["sweep"]


def sweep(
    grid: Grid,
    *,
    store: str | os.PathLike[str] | None = None,
    scheduler: str | None = None,
    relative_mcse: float = 0.01,
    target_ess: float = 1000.0,
    max_draws: int = 10_000,
    progress: bool = True,
) -> "xr.Dataset":
    """Solve and sample all points of a grid.

    Parameters
    ----------
    grid
        What `finwidth.grid` returned, or a sum of such.
    store
        A folder where results are kept, found again by all that they depend on: data, network,
        temperature, likelihood, theory, settings. The same call continues a sweep that was
        stopped, sampling draw by draw, and a changed one does what has changed. Activations are
        told apart by their values, theories by their `record`; one without is solved every time.
        None: nothing is kept.
    scheduler
        Address of a dask scheduler that runs ("tcp://host:8786"), whose workers have this finwidth.
        None: this machine; where there is work for more than some seconds, with as many processes
        as there are cores.
    relative_mcse
        Wanted Monte Carlo standard error of the test error, relative to it, where the posterior is
        sampled.
    target_ess
        Effective draws of the test error to ask for at first; more are drawn until R-hat ≤ 1.01.
    max_draws
        Most draws of each of the four chains.
    progress
        Whether to show on stderr how far it is.

    Returns
    -------
    xarray.Dataset
        Dimensions data, net, temperature, likelihood, theory and seed, those of them that the grid
        has several values of or was given a list for; a sampled posterior is the theory "exact",
        and theories are the same for all seeds. Every score that is defined, error, bias2,
        variance, accuracy, accuracy_mean, log_loss, and plugins': means over the test patterns,
        NaN where there is none; and ``<score>_mcse``, the Monte Carlo standard error where it is
        sampled. ``state``: "solved", "sampled", "not defined" (the theory does not cover the
        problem), "not converged", "failed", or "not asked" in a sum of grids; ``reason``, in one
        line; ``converged``, whether it is solved, or sampled with R-hat ≤ 1.01; ``seconds`` and
        ``cpu_seconds``. Of theories action, log_evidence and residual; of chains ``r_hat``, the
        largest over f(x_test) and what is averaged over draws, ``ess``, the smallest, ``n_draws``,
        ``n_chains`` and ``divergences``. Coordinates of data n_patterns, n_inputs, n_test; of net
        activation, width (N_1), widths, depth, outputs, weight_precision, readout_precision;
        load = P/N_1. With ``.swap_dims(net="width")`` curves go over the width.

    Raises
    ------
    InputError
        If an argument is not as described, the store is of another version, or nothing answers at
        the scheduler's address; before any work.

    Warns
    -----
    AccuracyWarning
        If a sampled point does not reach R-hat and MCSE within `max_draws`, or rounding cost a
        theory accuracy. The point stays in the result.

    Notes
    -----
    A point that fails has its reason in the result and is tried again by the next call; the others
    go on. One whose worker is lost is tried once more. Ctrl-C keeps what is done.
    """
    if not isinstance(grid, Grid):
        raise InputError(f"expected grid = what finwidth.grid returned, got {type(grid).__name__}")
    if not len(grid):
        raise InputError("expected grid = at least one point, got none")
    effort = Effort(relative_mcse, target_ess, max_draws)
    check_flag("progress", progress)
    results = run(grid.points, effort, store, scheduler=scheduler, progress=progress)
    return dataset(grid, effort, results)
