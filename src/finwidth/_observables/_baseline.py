"""What a guess scores that knows the training labels alone: beside it every score stands."""

import numpy as np

from ._labels import as_rows
from ._observable import Labels
from ._prediction import Prediction
from .accuracy import Accuracy
from .squared_error import SquaredError

__all__ = ["baselines"]


def baselines(y: np.ndarray, y_test: Labels) -> dict[str, float]:
    """Return the error and, where labels are classes, accuracy and log loss of a constant guess.

    Parameters
    ----------
    y, y_test
        Labels of the training and the test set; those of training may be class indices where
        those of the test set are rows.

    Returns
    -------
    dict
        error, of predicting the mean of the training labels; accuracy and accuracy_mean, of always
        naming the class that has most of them (ties share); log_loss, of their frequencies.
    """
    if y.ndim < y_test.ndim:  # class indices
        y = as_rows(y, y_test.shape[1], "y")
    mean = np.broadcast_to(np.mean(y, axis=0), y_test.shape)
    guess = Prediction(mean, np.zeros(y_test.shape))
    found = {"error": SquaredError().of_prediction(guess, y_test)["error"]}
    if Accuracy().defined(y_test):
        found |= Accuracy().of_prediction(guess, y_test)
        # of labels ±1, and of rows with one 1
        share = 0.5 * (1 + y_test * mean) if y_test.ndim == 1 else np.sum(y_test * mean, axis=1)
        with np.errstate(divide="ignore"):  # a class that has no pattern
            found["log_loss"] = -float(np.mean(np.log(np.clip(share, 0.0, 1.0))))
    return found
