"""What both paths answer: observables, one file each.

An observable is an `Observable`: numbers that a prediction has on a test set, and the series of
them over the draws of a run. A module of this package, named like the observable, has a function
``finwidth_register_observables`` as a plugin has; adding one touches no other file.
"""

from ._observable import (
    SHELF as SHELF,
    Draws as Draws,
    Estimate as Estimate,
    Observable as Observable,
)
from ._prediction import Components as Components, Prediction as Prediction

__all__ = ["SHELF", "Components", "Draws", "Estimate", "Observable", "Prediction"]
