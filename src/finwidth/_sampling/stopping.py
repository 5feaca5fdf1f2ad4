"""When to stop: a warm-up that has settled, and draws that are enough.

Source: Vehtari et al., Bayesian Analysis 16, 667 (2021) (rank-normalised R-hat, effective sample
sizes, Monte Carlo standard errors).
"""

import dataclasses
import math
from typing import Any

import numpy as np

from .._basics.arrays import as_number, shown
from .._basics.errors import InputError
from .._numerics.chains import array_stats

__all__ = ["Target", "settled", "stuck"]

# The chains must agree on the log density to this R-hat over the last half of the warm-up.
_SETTLED_R_HAT = 1.05
_SHORTEST_WARMUP = 125
# Chains adapt by themselves between one pooling and the next: from one of the last two quarters to
# the other, the log step size changes by less than the first over root n on average over n chains,
# or than the second, and in each of them by less than the third.
_STEADY, _STEADY_MANY, _STEADY_EACH = 0.2, 0.05, 0.5
# Chains that have moved by less than this part of their distance from 0 have not moved.
_STILL = 1e-3


def settled(log_density: np.ndarray, step_sizes: np.ndarray) -> bool:
    """Say whether the warm-up so far has reached the typical set with a stable step size.

    Parameters
    ----------
    log_density, step_sizes
        Of all transitions so far, shape (chain, transition).
    """
    statistics = array_stats()

    n = log_density.shape[1]
    if n < _SHORTEST_WARMUP:
        return False
    half = log_density[:, n // 2 :]
    if not np.all(np.isfinite(half)) or np.any(np.ptp(half, axis=1) == 0):
        return False
    quarters = np.log(step_sizes[:, -2 * (n // 4) :]).reshape(len(step_sizes), 2, -1).mean(axis=2)
    change = quarters[:, 1] - quarters[:, 0]
    if abs(np.mean(change)) > max(_STEADY / math.sqrt(len(change)), _STEADY_MANY):
        return False
    if np.max(np.abs(change)) > _STEADY_EACH:
        return False
    if len(half) == 1:  # of a chain alone, its halves are compared
        half = half[:, : n // 4 * 2].reshape(2, -1)
    r_hat = statistics.rhat(half, chain_axis=0, draw_axis=1, method="rank")
    return bool(r_hat < _SETTLED_R_HAT)


def stuck(
    start: np.ndarray,
    end: np.ndarray,
    steps: np.ndarray,
    max_num_steps: int | None,
    *,
    everywhere: bool = False,
) -> str:
    """Say how chains fail to move: they stay put, or trajectories are cut short; else return "".

    Parameters
    ----------
    start, end
        Positions before and after some draws, shape (chain, coordinate).
    steps
        Steps of each trajectory, shape (chain, draw).
    max_num_steps
        The most that a trajectory may take, where there is such a bound.
    everywhere
        Whether one chain that moves is enough.
    """
    moved = np.linalg.norm(end - start, axis=1)
    still = int(np.sum(~(moved > _STILL * np.linalg.norm(start, axis=1))))
    if still == len(start) or (still and not everywhere):
        draws = steps.shape[1]
        return (
            f"{still} of {len(start)} chains that moved by less than {_STILL:.1%} in {draws} draws"
        )
    if max_num_steps is not None:
        cut = float(np.mean(steps >= max_num_steps))
        if cut > 0.5:
            return f"{cut:.0%} of the trajectories cut short at {max_num_steps} steps"
    return ""


@dataclasses.dataclass(frozen=True)
class Target:
    """What the draws must reach before a run may stop early.

    Parameters
    ----------
    mcse
        Monte Carlo standard error of the test error, or None.
    ess
        Bulk effective sample size of the test error, or None.
    """

    mcse: float | None = None
    ess: float | None = None

    def __post_init__(self) -> None:
        for name in ("mcse", "ess"):
            value = getattr(self, name)
            if value is not None and not 0 < as_number(value) < math.inf:
                raise InputError(f"expected target_{name} = a positive float, got {shown(value)}")

    @property
    def active(self) -> bool:
        """Whether there is a target at all."""
        return self.mcse is not None or self.ess is not None

    def reached(self, errors: np.ndarray) -> tuple[bool, dict[str, Any]]:
        """Return whether the draws suffice, and the numbers behind it.

        Parameters
        ----------
        errors
            Test error of every draw, shape (chain, draw). With several chains R-hat must be at
            most 1.01, too.
        """
        statistics = array_stats()

        if errors.shape[1] < 4 or not np.all(np.isfinite(errors)):
            return False, {}
        axes = {"chain_axis": 0, "draw_axis": 1}
        mcse = float(statistics.mcse(errors, method="mean", **axes))
        ess = float(statistics.ess(errors, method="bulk", **axes))
        r_hat = 1.0
        if errors.shape[0] > 1:
            r_hat = float(statistics.rhat(errors, method="rank", **axes))
        enough = (self.mcse is None or mcse <= self.mcse) and (self.ess is None or ess >= self.ess)
        return bool(enough and r_hat <= 1.01), {"mcse": mcse, "ess": ess, "r_hat": r_hat}
