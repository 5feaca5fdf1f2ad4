"""What a run is to do."""

import dataclasses

import numpy as np

from .stopping import Target

__all__ = ["Plan"]


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What a run is to do.

    Parameters
    ----------
    num_warmup
        Transitions of the warm-up; the most, if it is adaptive.
    adaptive
        Whether the warm-up ends when it has settled.
    num_samples
        Draws per chain; the most, if there is a target.
    thin
        Transitions per draw.
    target
        What allows the run to stop early.
    y_test
        Labels of the test set, shape (test_pattern,), where there is a target.
    """

    num_warmup: int
    adaptive: bool
    num_samples: int
    thin: int
    target: Target
    y_test: np.ndarray | None
