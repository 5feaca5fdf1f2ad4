"""Statistics of chains of draws: Monte Carlo standard errors, R-hat, effective sample sizes."""

from typing import Any, NamedTuple

import numpy as np

__all__ = ["Series", "array_stats", "summarize"]


def array_stats() -> Any:
    """Return ArviZ's statistics of arrays, imported late because ArviZ takes seconds."""
    import arviz_stats.base

    return arviz_stats.base.array_stats  # pyright: ignore[reportPrivateImportUsage]


class Series(NamedTuple):
    """Estimates, their MCSE and convergence diagnostics; one entry for each series."""

    mean: np.ndarray
    mcse: np.ndarray
    r_hat: np.ndarray
    ess_bulk: np.ndarray


def summarize(values: np.ndarray) -> Series:
    """Mean over all draws, MCSE, R-hat and bulk ESS of series with axes (chain, draw, series).

    A series that never changes has MCSE 0 and no R-hat or ESS (NaN); one with non-finite
    entries has NaN everywhere.
    """
    statistics = array_stats()
    n_series = values.shape[-1]
    finite = np.isfinite(values).all(axis=(0, 1))
    constant = (values == values[0, 0]).all(axis=(0, 1))
    result = Series(*(np.full(n_series, np.nan) for _ in Series._fields))
    result.mean[finite] = values[..., finite].mean(axis=(0, 1))
    result.mean[constant] = values[0, 0, constant]
    result.mcse[constant & finite] = 0.0
    n_chains, n_draws = values.shape[:2]
    moving = finite & ~constant
    if n_draws < 4 or not moving.any():  # split chains of one draw have no variance
        return result
    chosen = values[..., moving]
    result.mcse[moving] = statistics.mcse(chosen, chain_axis=0, draw_axis=1, method="mean")
    result.ess_bulk[moving] = statistics.ess(chosen, chain_axis=0, draw_axis=1, method="bulk")
    if n_chains > 1:
        with np.errstate(divide="ignore", invalid="ignore"):
            r_hat = statistics.rhat(chosen, chain_axis=0, draw_axis=1, method="rank")
        result.r_hat[moving] = np.where(np.isnan(r_hat), np.inf, r_hat)  # chains that stand still
    return result
