"""`FiniteWidthClassifier`: a network of finite width as a scikit-learn classifier."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from .._basics.errors import InputError
from .._likelihoods import GAUSSIAN, Likelihood, choose_likelihood
from .._numerics.largest import largest, positive
from .._observables import Prediction
from .._observables._prediction import average
from ._base import FiniteWidth
from ._draws import Draws
from ._inputs import refusals, training_set

__all__ = ["FiniteWidthClassifier"]


class FiniteWidthClassifier(ClassifierMixin, FiniteWidth):
    """Classification with a Bayesian network of finite width, by theory or by exact sampling.

    A scikit-learn estimator: it works in pipelines, cross-validation and searches over its
    parameters. Parameters are looked at by `fit`.

    Parameters
    ----------
    widths
        N_1 … N_L, as of `finwidth.Network`.
    activation
        Name of an activation, or a `finwidth.Activation`.
    temperature
        T; "evidence": the T for which the theory's evidence is largest, with the Gaussian
        likelihood. Default: that, and 1 with other likelihoods.
    theory
        A theory out of `finwidth.list_theories`, or a `finwidth.theories.Theory`; "sample": the
        exact posterior, by `finwidth.sample` (where T is to be found, at the one that "nested"
        finds).
    likelihood
        "gaussian": labels are numbers, −1 and +1 of two classes, one-hot rows of more; "logit" or
        "probit", of two classes; "softmax", with an output for each class; or a likelihood of your
        own.
    approximation
        With "logit" and "probit", as of `finwidth.solve`.
    weight_precision, bias_precision
        Precisions of the priors, as of `finwidth.Network`.
    layers
        The hidden layers themselves, in place of `widths`.
    readout_precision
        With temperature="evidence", "evidence" chooses λ_L with T.
    standardise_X
        Whether each column of X is centred and scaled by its standard deviation in training;
        columns that are constant there are centred.
    sampling
        With theory="sample", further arguments of `finwidth.sample`, such as
        ``{"num_samples": 500}``.
    random_state
        Of the sampler; the same number gives the same draws. Theories draw nothing.

    Attributes
    ----------
    classes_
        The labels, sorted.
    network_
        The `finwidth.Network`.
    temperature_
        T.
    log_evidence_
        log p(y), at the order of the theory; None where no theory was solved. Between likelihoods
        of numbers and of classes it is not to be compared.
    posterior_
        What `finwidth.solve` returned, or with theory="sample" what `finwidth.sample` did.
    X_mean_, X_scale_
        What inputs were centred and scaled by.
    n_features_in_, feature_names_in_
        As scikit-learn has them.

    References
    ----------
    theory.md, sections 2 to 4, 9, 14 and 15.
    """

    def __init__(
        self,
        widths: Any = (50,),
        activation: Any = "erf",
        *,
        temperature: Any = None,
        theory: Any = "nested",
        likelihood: Any = "gaussian",
        approximation: Any = None,
        weight_precision: Any = 1.0,
        bias_precision: Any = None,
        layers: Any = None,
        readout_precision: Any = None,
        standardise_X: Any = True,
        sampling: Any = None,
        random_state: Any = 0,
    ) -> None:
        self.widths = widths
        self.activation = activation
        self.temperature = temperature
        self.theory = theory
        self.likelihood = likelihood
        self.approximation = approximation
        self.weight_precision = weight_precision
        self.bias_precision = bias_precision
        self.layers = layers
        self.readout_precision = readout_precision
        self.standardise_X = standardise_X
        self.sampling = sampling
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "FiniteWidthClassifier":
        """Solve the theory, or sample, for a training set.

        Parameters
        ----------
        X
            Inputs, shape (pattern, input).
        y
            Labels of at least two classes, numbers or words, shape (pattern,).

        Returns
        -------
        FiniteWidthClassifier
            The estimator.

        Raises
        ------
        InputError
            If an argument or a parameter is not as described.
        ConvergenceError
            If the theory has no solution.
        """
        X, y = training_set(self, X, y)
        with refusals("y"):
            check_classification_targets(y)
            classes, numbers = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise InputError(f"expected y = labels of at least two classes, got {len(classes)}")
        likelihood = choose_likelihood(self.likelihood, self.approximation)
        targets, outputs = _targets(numbers, len(classes), likelihood)
        temperature = self.temperature
        if temperature is None and likelihood == GAUSSIAN:
            temperature = "evidence"
        self._learn(X, targets, self._network(outputs), likelihood, temperature)
        self.classes_ = classes
        return self

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class at some points.

        Parameters
        ----------
        X
            Inputs, shape (point, input).

        Returns
        -------
        numpy.ndarray
            Shape (point, class), in the order of `classes_`. Of a likelihood of classes E p(c|f).
            With the Gaussian likelihood the probability that a label drawn anew, f and its noise
            of variance T, is positive, or the largest of all outputs.

        Raises
        ------
        InputError
            If X is not like the inputs of the training set.
        """
        law = self._predictive(X)
        if self._likelihood.probabilities(np.zeros(2), np.zeros(2)) is None:
            return _of_numbers(law, self.temperature_)
        if not isinstance(self._law, Draws):
            return law.probabilities
        # of a draw's f, whose variance is zero, each
        likelihood: Any = self._likelihood
        return average(law, lambda mean, variance, _: likelihood.probabilities(mean, variance))

    def predict(self, X: Any) -> Any:
        """Return the most probable class at some points.

        Parameters
        ----------
        X
            Inputs, shape (point, input).

        Returns
        -------
        numpy.ndarray
            Labels out of `classes_`, shape (point,).

        Raises
        ------
        InputError
            If X is not like the inputs of the training set.
        """
        probabilities = self.predict_proba(X)
        return self.classes_[np.argmax(probabilities, axis=1)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of patterns whose most probable class is their label's.

        Parameters
        ----------
        X, y
            A test set, shapes as for `fit`.
        sample_weight
            Weights of the patterns, shape (pattern,), or None for equal ones.

        Returns
        -------
        float
            The accuracy, between 0 and 1.

        Raises
        ------
        InputError
            If an argument is not as described.
        """
        with refusals("X, y and sample_weight"):
            return super().score(X, y, sample_weight)


def _targets(
    numbers: Int[np.ndarray, " pattern"], n_classes: int, likelihood: Likelihood
) -> tuple[Float[np.ndarray, " pattern"] | Float[np.ndarray, "pattern output"], int]:
    """Return the labels as the likelihood takes them, and the number of outputs."""
    if likelihood.one_label:
        return numbers.astype(np.float64), n_classes
    if n_classes == 2:
        return np.where(numbers == 1, 1.0, -1.0), 1
    if likelihood != GAUSSIAN:
        raise InputError(
            f"expected likelihood = 'gaussian' or 'softmax' with {n_classes} classes, got "
            f"{likelihood.name!r}"
        )
    return np.eye(n_classes)[numbers], n_classes


def _of_numbers(law: Prediction, temperature: float) -> Float[np.ndarray, "point label"]:
    """Return the probabilities that f with its noise is positive, or that an output is largest."""
    if law.mean.ndim == 1:
        plus = average(law, lambda mean, variance, _: positive(mean, variance + temperature))
        return np.stack([1.0 - plus, plus], axis=1)
    points, outputs = law.mean.shape

    def of(index: int) -> np.ndarray:
        def probability(mean: np.ndarray, variance: np.ndarray, covariance: Any) -> np.ndarray:
            noisy = None if covariance is None else covariance + temperature * np.eye(outputs)
            return largest(mean, variance + temperature, noisy, np.full(points, index))

        return average(law, probability)

    values = np.stack([of(index) for index in range(outputs)], axis=1)
    return values / values.sum(axis=1, keepdims=True)  # four and more are worked out one by one
