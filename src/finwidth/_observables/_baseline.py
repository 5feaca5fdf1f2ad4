"""What a guess scores that knows the training labels alone: beside it every score stands."""

import numpy as np

from ._observable import Labels
from ._prediction import Prediction
from .accuracy import Accuracy
from .squared_error import SquaredError

__all__ = ["baselines"]


def baselines(y: np.ndarray, y_test: Labels) -> dict[str, float]:
    """Return the error and, where labels are classes, the accuracy of a constant guess.

    Parameters
    ----------
    y, y_test
        Labels of the training and the test set.

    Returns
    -------
    dict
        error, of predicting the mean of the training labels; accuracy and accuracy_mean, of always
        naming the class that has most of them (ties share).
    """
    mean = np.broadcast_to(np.mean(y, axis=0), y_test.shape)
    guess = Prediction(mean, np.zeros(y_test.shape))
    found = {"error": SquaredError().of_prediction(guess, y_test)["error"]}
    if Accuracy().defined(y_test):
        found |= Accuracy().of_prediction(guess, y_test)
    return found
