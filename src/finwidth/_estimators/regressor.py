"""`FiniteWidthRegressor`: a network of finite width as a scikit-learn regressor."""

from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import MultiOutputMixin, RegressorMixin

from .._basics.checks import check_count, check_flag
from .._basics.errors import InputError
from .._likelihoods import GAUSSIAN
from .._numerics.standardise import label_scale
from ._base import FiniteWidth
from ._draws import Draws
from ._inputs import generator, refusals, training_set

__all__ = ["FiniteWidthRegressor"]

_ROUNDING = 1e-8  # of the largest eigenvalue of a covariance


class FiniteWidthRegressor(MultiOutputMixin, RegressorMixin, FiniteWidth):
    """Regression with a Bayesian network of finite width, by theory or by exact sampling.

    A scikit-learn estimator: it works in pipelines, cross-validation and searches over its
    parameters. Parameters are looked at by `fit`.

    Parameters
    ----------
    widths
        N_1 … N_L, as of `finwidth.Network`.
    activation
        Name of an activation, or a `finwidth.Activation`.
    temperature
        T, the variance of the labels' noise in units of their variance (where `standardise_y`);
        "evidence": the T for which the theory's evidence is largest.
    theory
        A theory out of `finwidth.list_theories`, or a `finwidth.theories.Theory`; "sample": the
        exact posterior, by `finwidth.sample` (with temperature="evidence" at the T that "nested"
        finds).
    weight_precision, bias_precision
        Precisions of the priors, as of `finwidth.Network`.
    layers
        The hidden layers themselves, in place of `widths`.
    readout_precision
        With temperature="evidence", "evidence" chooses λ_L with T.
    standardise_X
        Whether each column of X is centred and scaled by its standard deviation in training;
        columns that are constant there are centred.
    standardise_y
        Whether labels are, each output by itself. Predictions are in the labels' own units.
    sampling
        With theory="sample", further arguments of `finwidth.sample`, such as
        ``{"num_samples": 500}``.
    random_state
        Of the sampler; the same number gives the same draws. Theories draw nothing.

    Attributes
    ----------
    network_
        The `finwidth.Network`.
    temperature_
        T, in the units of the standardised labels.
    log_evidence_
        log p(y) of the labels as they were given, at the order of the theory; None where no theory
        was solved.
    posterior_
        What `finwidth.solve` returned, or with theory="sample" what `finwidth.sample` did, both of
        the standardised training set.
    X_mean_, X_scale_, y_mean_, y_scale_
        What inputs and labels were centred and scaled by.
    n_features_in_, feature_names_in_
        As scikit-learn has them.

    References
    ----------
    theory.md, sections 2 to 4 and 9.
    """

    def __init__(
        self,
        widths: Any = (50,),
        activation: Any = "erf",
        *,
        temperature: Any = "evidence",
        theory: Any = "nested",
        weight_precision: Any = 1.0,
        bias_precision: Any = None,
        layers: Any = None,
        readout_precision: Any = None,
        standardise_X: Any = True,
        standardise_y: Any = True,
        sampling: Any = None,
        random_state: Any = 0,
    ) -> None:
        self.widths = widths
        self.activation = activation
        self.temperature = temperature
        self.theory = theory
        self.weight_precision = weight_precision
        self.bias_precision = bias_precision
        self.layers = layers
        self.readout_precision = readout_precision
        self.standardise_X = standardise_X
        self.standardise_y = standardise_y
        self.sampling = sampling
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "FiniteWidthRegressor":
        """Solve the theory, or sample, for a training set.

        Parameters
        ----------
        X
            Inputs, shape (pattern, input).
        y
            Labels, shape (pattern,), or (pattern, output) for a network of several outputs.

        Returns
        -------
        FiniteWidthRegressor
            The estimator.

        Raises
        ------
        InputError
            If an argument or a parameter is not as described, or the labels are all the same.
        ConvergenceError
            If the theory has no solution.
        """
        X, y = training_set(self, X, y, multi_output=True, y_numeric=True)
        y = np.asarray(y, dtype=np.float64)
        shape = y.shape[1:]
        labels = y[:, 0] if shape == (1,) else y
        mean, scale = np.zeros(labels.shape[1:]), np.ones(labels.shape[1:])
        if check_flag("standardise_y", self.standardise_y):
            if np.any(np.ptp(labels, axis=0) == 0):
                raise InputError(
                    "expected y = labels that differ, with standardise_y = True, got the same in "
                    f"all {len(y)} rows"
                )
            mean, scale = (np.asarray(part) for part in label_scale(labels, type(self).__name__))
        network = self._network(labels.shape[1] if labels.ndim == 2 else 1)
        self._learn(X, (labels - mean) / scale, network, GAUSSIAN, self.temperature, scale)
        self.y_mean_, self.y_scale_ = mean, scale
        self._shape = shape
        return self

    def _shaped(self, values: np.ndarray) -> np.ndarray:
        """Return values of shape (…, point) or (…, point, output) as labels have it."""
        return values[..., None] if self._shape == (1,) else values

    def predict(self, X: Any, return_std: Any = False) -> Any:
        """Return the mean of f at some points, and its standard deviation if asked for.

        Parameters
        ----------
        X
            Inputs, shape (point, input).
        return_std
            Whether to return the standard deviation of f, too; the noise T is not in it.

        Returns
        -------
        numpy.ndarray or tuple
            Mean, shape (point,), or (point, output) if labels have outputs; with `return_std` a
            pair of such arrays.

        Raises
        ------
        InputError
            If X is not like the inputs of the training set.
        """
        return_std = check_flag("return_std", return_std)
        law = self._predictive(X)
        mean = self._shaped(self.y_mean_ + self.y_scale_ * law.mean)
        if not return_std:
            return mean
        # rounding can make the variance at a training point negative
        return mean, self._shaped(self.y_scale_ * np.sqrt(np.maximum(law.variance, 0.0)))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R², the coefficient of determination of the predicted means.

        Parameters
        ----------
        X, y
            A test set, shapes as for `fit`.
        sample_weight
            Weights of the patterns, shape (pattern,), or None for equal ones.

        Returns
        -------
        float
            1 − Σ(y − mean)²/Σ(y − ȳ)², for several outputs averaged over them.

        Raises
        ------
        InputError
            If an argument is not as described.
        """
        with refusals("X, y and sample_weight"):
            return super().score(X, y, sample_weight)

    def sample_y(self, X: Any, n_samples: Any = 1, random_state: Any = 0) -> Any:
        """Draw functions from the posterior of f, at some points together.

        Parameters
        ----------
        X
            Inputs, shape (point, input).
        n_samples
            Number of functions.
        random_state
            Seed, or a generator as scikit-learn takes it; None draws others at each call.

        Returns
        -------
        numpy.ndarray
            Values of f, shape (point, n_samples), or (point, output, n_samples) if labels have
            outputs. Of a theory from a Gaussian with its means and covariances; with
            theory="sample" of networks drawn from the posterior. The noise T is not in them.

        Raises
        ------
        InputError
            If an argument is not as described.
        """
        n_samples = check_count("n_samples", n_samples, 1, 2**31 - 1)
        random = generator(random_state)
        inputs, law = self._inputs(X), self._law
        if isinstance(law, Draws):
            f = law.sample(inputs, random.randint(law.number, size=n_samples))
        else:
            prediction = law.predict(inputs, full_covariance=True)
            f = _gaussian(prediction.mean, prediction.covariance, n_samples, random)
        return np.moveaxis(self._shaped(self.y_mean_ + self.y_scale_ * f), 0, -1)


def _gaussian(
    mean: Float[np.ndarray, "..."], covariance: Any, n_samples: int, random: Any
) -> Float[np.ndarray, "..."]:
    """Return draws of shape (draw, point) or (draw, point, output)."""
    matrix = np.asarray(covariance).reshape(mean.size, mean.size)
    values, vectors = np.linalg.eigh(matrix)
    if values[0] < -_ROUNDING * max(values[-1], np.finfo(float).tiny):
        raise InputError(
            "expected X = points at which the covariance of f is positive up to rounding, got an "
            f"eigenvalue of {values[0]:.1e}, the largest being {values[-1]:.1e}"
        )
    noise = random.standard_normal((n_samples, mean.size)) * np.sqrt(np.maximum(values, 0.0))
    return mean + (noise @ vectors.T).reshape(n_samples, *mean.shape)
