"""The log loss of the predictive, where the likelihood is one of classes.

Source: theory.md, section 15.
"""

from typing import Any

import numpy as np

from .._numerics.chains import summarize
from .._plugins.hooks import hookimpl
from ._observable import Draws, Estimate, Labels, Observable

__all__ = ["LogLoss"]


class LogLoss(Observable):
    """−⟨log p(y|x)⟩ with p(y|x) = E p(y|f): of the predictive, not the mean of −log p(y|f)."""

    name = "log_loss"
    quantities = ("log_loss",)

    def defined(self, y_test: Labels) -> bool:
        """Return whether all labels are −1 or +1, or rows of a one and zeros."""
        if y_test.ndim == 1:
            return bool(np.all(np.abs(y_test) == 1.0))
        known = (y_test == 0) | (y_test == 1)
        return bool(np.all(known) and np.all(np.sum(y_test, axis=1) == 1))

    def covers(self, given: Any, y_test: np.ndarray) -> bool:
        """Return whether there are probabilities of classes."""
        return getattr(given, "probabilities", None) is not None

    def of_prediction(self, prediction: Any, y_test: Labels) -> dict[str, float]:
        """Return the log loss."""
        return {"log_loss": -float(np.mean(np.log(_of_labels(prediction.probabilities, y_test))))}

    def of_draws(self, draws: Draws, y_test: Labels) -> dict[str, Estimate]:
        """Return the log loss of the mean of p over all draws.

        The noise of that mean raises −log by half its relative square, which is taken off.
        """
        p = _of_labels(draws.probabilities, y_test)
        patterns = summarize(p)
        mean = patterns.mean
        series = np.mean((mean - p) / mean, axis=-1)
        correction = 0.5 * float(np.mean((patterns.mcse / mean) ** 2))
        value = -float(np.mean(np.log(mean))) - correction
        noise = np.sqrt(2.0) * correction
        return {"log_loss": Estimate(series, value, noise, watched=False)}


def _of_labels(probabilities: Any, y_test: np.ndarray) -> np.ndarray:
    """Return the probability of each label, shape (…, test_pattern); −1 is the first of two."""
    index = np.maximum(y_test, 0.0).astype(int) if y_test.ndim == 1 else y_test.argmax(axis=1)
    return probabilities[..., np.arange(len(y_test)), index]


@hookimpl
def finwidth_register_observables() -> list[Observable]:
    """Register the observable."""
    return [LogLoss()]
