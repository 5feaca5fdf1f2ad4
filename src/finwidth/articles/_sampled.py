"""The posteriors that figures sample: the same ones for all, so that the store holds each once."""

import dataclasses
from typing import TYPE_CHECKING, Any

from .._problem.network import Network
from .._sweeps.grid import Grid, grid
from ..datasets import Dataset

if TYPE_CHECKING:
    from ._study import Study

__all__ = ["SMALL", "Sampled", "network", "sampled_points", "sampled_size"]

SMALL = 1e-3  # stands for T → 0, since what is sampled needs T > 0


@dataclasses.dataclass(frozen=True)
class Sampled:
    """The networks of one hidden layer whose posterior is sampled.

    Parameters
    ----------
    n_train, n_test
        P and the number of test patterns.
    widths, precisions
        N_1 and λ_1, all combinations.
    effort
        Arguments of `finwidth.sweep` that say how well.
    """

    n_train: int
    n_test: int
    widths: tuple[int, ...]
    precisions: tuple[float, ...]
    effort: dict[str, Any]


_ROUGH = {"relative_mcse": 0.03, "target_ess": 200.0, "max_draws": 4000}
_FINE = {"relative_mcse": 0.01, "target_ess": 1000.0, "max_draws": 10_000}
_SHORT = {"relative_mcse": 0.02, "target_ess": 200.0, "max_draws": 600}
_SIZES = {
    "quick": Sampled(60, 200, (10, 50), (1.0, 4.0), _ROUGH),
    "default": Sampled(100, 200, (10, 20, 50, 200, 1000), (1.0, 4.0), _FINE),
    "paper": Sampled(500, 1000, (20, 100, 1000), (1.0, 4.0), _SHORT),
}


def sampled_size(study: "Study") -> Sampled:
    """Return what is sampled at a study's size."""
    return study.of(_SIZES)


def network(width: int, precision: float) -> Network:
    """Return the network of one hidden layer."""
    return Network((width,), "erf", (1.0, precision))


def sampled_points(
    data: Dataset, widths: tuple[int, ...], precision: float, temperatures: tuple[float, ...]
) -> Grid:
    """Return the points of one curve that are sampled."""
    nets = [network(width, precision) for width in widths]
    return grid(data=[data], net=nets, temperature=temperatures, theory=(), sample=True)
