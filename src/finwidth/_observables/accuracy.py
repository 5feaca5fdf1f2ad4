"""The accuracy of a draw of the posterior and that of the posterior mean, where labels are classes.

Source: theory.md, section 14.
"""

from typing import Any

import numpy as np
from scipy.special import ndtr

from .._numerics.chains import summarize
from .._numerics.largest import bivariate, largest, positive
from .._plugins.hooks import hookimpl
from ._observable import Draws, Estimate, Labels, Observable
from ._prediction import average

__all__ = ["QUANTITIES", "Accuracy", "class_index"]

QUANTITIES = ("accuracy", "accuracy_mean")

_POINTS = 1000  # close to a boundary, of which all pairs are looked at


def class_index(y_test: Labels) -> np.ndarray | None:
    """Return the class of each label, or None where the labels are no classes.

    Classes are −1 and +1 for one output (index 0 and 1), and for several outputs one-hot rows: a
    one and zeros. Labels of one class only are none.
    """
    if y_test.ndim == 1:
        known, index = np.abs(y_test) == 1, (y_test > 0).astype(int)
    else:
        known = ((y_test == 0) | (y_test == 1)).all(axis=1) & (y_test.sum(axis=1) == 1)
        index = y_test.argmax(axis=1)
    return index if known.all() and np.unique(index).size > 1 else None


class Accuracy(Observable):
    """Shares of test points that a draw of f, and the mean of f, put into their class.

    ``accuracy`` is P(y f > 0) for labels ±1 and P(the largest output is the label's) for one-hot
    labels, averaged over the test points: of a draw, the expected accuracy of a network from the
    posterior. ``accuracy_mean`` is that of the classifier sign E f, or argmax E f. f = 0, and
    outputs of the same size, count as a guess among them: half for two.
    """

    name = "accuracy"
    quantities = QUANTITIES

    def defined(self, y_test: Labels) -> bool:
        """Return whether all labels are ±1, or all rows one-hot, and of two classes at least."""
        return class_index(y_test) is not None

    def of_prediction(self, prediction: Any, y_test: Labels) -> dict[str, float]:
        """Return both; of a mixture of Gaussians the average over its components, not moments."""

        def given(mean: np.ndarray, variance: np.ndarray, covariance: Any) -> np.ndarray:
            return _right(mean, variance, covariance, y_test)

        certain = _right(prediction.mean, np.zeros_like(prediction.mean), None, y_test)
        return {
            "accuracy": float(np.mean(average(prediction, given))),
            "accuracy_mean": float(np.mean(certain)),
        }

    def of_draws(self, draws: Draws, y_test: Labels) -> dict[str, np.ndarray | Estimate]:
        """Return the accuracy of every draw, and that of the mean over all draws."""
        right = _right(draws.mean, draws.variance, draws.output_covariance, y_test)
        mean = draws.patterns.mean
        value = float(np.mean(_right(mean, np.zeros_like(mean), None, y_test)))
        series = np.zeros(draws.mean.shape[:2])
        noise = _noise(draws, y_test)
        return {
            "accuracy": np.mean(right, axis=-1),
            "accuracy_mean": Estimate(series, value, noise, watched=False),
        }


def _right(mean: np.ndarray, variance: np.ndarray, covariance: Any, y_test: Labels) -> np.ndarray:
    """Return the probability that Gaussian f is right, shape (…, test_pattern)."""
    if y_test.ndim == 1:
        return positive(y_test * mean, variance)
    return largest(mean, variance, covariance, y_test.argmax(axis=1))


def _margins(draws: Draws, y_test: Labels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return by how much the posterior mean is right, its MCSE, and the same of every draw.

    With several outputs: by how much the label's output exceeds the largest of the others.
    """
    mean = draws.patterns.mean
    if y_test.ndim == 1:
        return y_test * mean, draws.patterns.mcse, y_test * draws.mean
    rows, index = np.arange(len(y_test)), y_test.argmax(axis=1)
    rival = np.where(y_test == 1, -np.inf, mean).argmax(axis=1)
    series = draws.mean[..., rows, index] - draws.mean[..., rows, rival]
    return mean[rows, index] - mean[rows, rival], summarize(series).mcse, series


def _noise(draws: Draws, y_test: Labels) -> float:
    """Return the root mean square error of accuracy_mean that the noise of the mean m̄ makes.

    The accuracy is a step function of m̄, of which a slope says nothing. With a margin M_t of MCSE
    s_t the true margin has, for all that the run tells, the law N(M_t, s_t²). The point is on the
    other side with probability p_t = Φ(−|M_t|/s_t), and the accuracy then off by −sign(M_t)/n. The
    mean square of the sum is Σ_tu sign(M_t M_u) P(t and u are on the other side)/n². Its terms
    t = u are p_t and not p_t(1 − p_t), as what is reported is a side and not the probability of
    it. Points share the draws, so the errors of their means are about as correlated as their
    draws; the joint probability is a bivariate normal one.
    """
    margin, mcse, series = _margins(draws, y_test)
    if np.isnan(mcse).any():
        return float("nan")
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.where(mcse > 0, np.abs(margin) / mcse, np.inf)
    close = np.flatnonzero(distance < 8)  # the others have p < 1e-15
    distance, side = distance[close], np.where(margin[close] < 0, -1.0, 1.0)
    if not close.size:
        return 0.0
    if close.size > _POINTS:  # the bound of Cauchy and Schwarz
        return float(np.sum(np.sqrt(ndtr(-distance)))) / margin.size
    deviation = (series[..., close] - margin[close]).reshape(-1, close.size)
    deviation = deviation * side / np.sqrt(np.mean(deviation**2, axis=0))
    correlation = deviation.T @ deviation / len(deviation)
    np.fill_diagonal(correlation, 1.0)
    joint = bivariate(-distance[:, None], -distance[None, :], correlation)
    return float(np.sqrt(max(side @ joint @ side, 0.0))) / margin.size


@hookimpl
def finwidth_register_observables() -> list[Observable]:
    """Register the observable."""
    return [Accuracy()]
