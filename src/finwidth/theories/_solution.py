"""What every theory gives back: order parameters, evidence, and predictions from them."""

import abc
import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from .._basics.arrays import check_labels
from .._basics.checks import check_flag
from .._basics.errors import InputError
from .._numerics.factor import Factor
from .._numerics.precision import float64, in_float64
from .._observables._baseline import baselines
from .._observables._labels import as_rows
from .._observables._observable import Observable, observables, predictions
from .._observables._prediction import Prediction
from .._observables.squared_error import SquaredError
from .._problem.network import Network
from .._problem.problem import Problem

__all__ = ["Solution"]


@dataclasses.dataclass(frozen=True, eq=False)
class Solution(abc.ABC):
    """What a theory says about one network, training set and temperature.

    Made by `finwidth.solve` and `finwidth.mixture`. Attributes and methods are the public
    interface; the constructor is not. A theory's own solution supplies the abstract properties
    and `_predict_block`.

    Attributes
    ----------
    problem
        Network, training set and temperature.
    evidence_curve
        log_evidence by temperature where that was chosen by it, else None.
    """

    block = 2048  # test patterns predicted at a time

    problem: Problem
    evidence_curve: xr.Dataset | None = dataclasses.field(default=None, kw_only=True, repr=False)

    @property
    @abc.abstractmethod
    def theory(self) -> str:
        """Name of the theory."""

    @property
    @abc.abstractmethod
    def order_parameters(self) -> xr.Dataset:
        """Order parameters, with dimension layer (1 … L)."""

    @property
    @abc.abstractmethod
    def action(self) -> float:
        """The effective action 𝒮 at the solution."""

    @property
    @abc.abstractmethod
    def residual(self) -> float:
        """By how much the equations of the theory are missed."""

    @property
    @abc.abstractmethod
    def converged(self) -> bool:
        """Whether the residual is as small as the theory promises."""

    @property
    def message(self) -> str:
        """Why the solution has not converged, if it has not."""
        return ""

    @property
    def n_roots(self) -> int:
        """Number of distinct solutions found from many starts (this one included)."""
        return 1

    @abc.abstractmethod
    def _predict_block(self, X_test: np.ndarray, full_covariance: bool) -> Prediction:
        """Predict at checked test points; all at once with `full_covariance`."""

    def _scores(
        self, X_test: np.ndarray, y_test: np.ndarray, chosen: Sequence[Observable]
    ) -> xr.Dataset:
        """Return the quantities of some observables on a checked test set."""
        return xr.Dataset(predictions(chosen, self.predictive_law(X_test), y_test))

    def _blocks(self, X_test: np.ndarray) -> list[np.ndarray]:
        """Return the test points in blocks of at most `block`."""
        return [X_test[i : i + self.block] for i in range(0, X_test.shape[0], self.block)]

    @property
    def network(self) -> Network:
        """The network."""
        return self.problem.network

    @property
    def temperature(self) -> float:
        """T."""
        return self.problem.temperature

    @property
    def log_evidence(self) -> float:
        """log p(y) = −½(𝒮 + PD log 2π), at the order of the theory."""
        return -0.5 * (self.action + self.problem.y.size * math.log(2 * math.pi))

    @functools.cached_property
    def criterion(self) -> float | Float[np.ndarray, " output"]:
        """yᵀK⁻¹y/P with the infinite-width kernel K (1/λ_L included) at T = 0.

        For one hidden layer this is λ_1 yᵀK⁻¹y/P of theory.md, section 2: below one where finite
        width lowers the error at T = 0, above one where it raises it. Infinite where the kernel
        is singular, since no noiseless fit exists. With several outputs the falling eigenvalues of
        YᵀK⁻¹Y/P (section 14), one for each direction of the outputs, shape (output,).
        """
        y = self.problem.y
        with float64():
            kernel = self.problem.nngp
        try:
            solved = Factor(kernel, 0.0).solve(y)
        except InputError:
            return math.inf if y.ndim == 1 else np.full(y.shape[1], math.inf)
        if y.ndim == 1:
            return float(y @ solved) / y.size
        return np.linalg.eigvalsh(y.T @ solved)[::-1] / y.shape[0]

    @in_float64
    def predict(self, X_test: Any, full_covariance: bool = False) -> Prediction:
        """Return mean and variance of the latent f at test points.

        Parameters
        ----------
        X_test
            Patterns, shape (test_pattern, input).
        full_covariance
            Whether to compute the covariance between test points as well.

        Returns
        -------
        Prediction
            mean and variance, shape (test_pattern,), or (test_pattern, output) with several
            outputs and then `output_covariance` too, and the covariance if asked for; T is not
            added. With a likelihood of classes also their probabilities.

        Raises
        ------
        InputError
            If X_test is not a finite array with as many inputs as the training set.

        References
        ----------
        theory.md, section 3; Pacelli et al. (2023), eqs. 11-13.
        """
        X_test = self.problem.test_inputs(X_test)
        if check_flag("full_covariance", full_covariance):
            prediction = self._predict_block(X_test, True)
        else:
            blocks = [self._predict_block(block, False) for block in self._blocks(X_test)]
            prediction = type(blocks[0]).join(blocks)
        if prediction.probabilities is not None:
            return prediction
        probabilities = self.problem.likelihood.probabilities(prediction.mean, prediction.variance)
        return dataclasses.replace(prediction, probabilities=probabilities)

    def predictive_law(self, X_test: Any) -> Prediction:
        """Return `predict` with all that is known of the law of f at each test point.

        Parameters
        ----------
        X_test
            Patterns, shape (test_pattern, input).

        Returns
        -------
        Prediction
            With `components` where the law of f is a mixture of Gaussians; elsewhere it is taken
            as Gaussian.

        Raises
        ------
        InputError
            If X_test is not a finite array with as many inputs as the training set.
        """
        return self.predict(X_test)

    def _test_set(self, X_test: Any, y_test: Any) -> tuple[np.ndarray, np.ndarray]:
        X_test = self.problem.test_inputs(X_test)
        index, outputs = self.problem.likelihood.one_label, self.network.outputs
        n = X_test.shape[0]
        y_test = check_labels(y_test, n, "y_test", "X_test", 1 if index else outputs)
        return X_test, as_rows(y_test, outputs) if index else y_test

    @in_float64
    def scores(self, X_test: Any, y_test: Any) -> xr.Dataset:
        """Return every score that is defined for the labels of a test set.

        Parameters
        ----------
        X_test
            Patterns, shape (test_pattern, input).
        y_test
            Labels, shape (test_pattern,), or (test_pattern, output) for several outputs.

        Returns
        -------
        xarray.Dataset
            Scalars: error = bias2 + variance, as of `generalization_error`, where the likelihood
            is one of numbers; for labels −1 and +1, for one-hot rows and for class indices
            ``accuracy``, the expected accuracy of a draw of the posterior, and ``accuracy_mean``,
            that of the posterior mean (both between 0 and 1); ``log_loss`` of the predictive where
            the likelihood is one of classes; and what plugins' observables give. Attributes say
            what a constant guess scores: ``error_baseline``, of predicting the mean of the training
            labels; ``accuracy_baseline`` and ``accuracy_mean_baseline``, of naming the class that
            has most of them.

        Raises
        ------
        InputError
            If the test set is not as described.
        PluginError
            If an observable of a plugin gives no numbers.

        References
        ----------
        theory.md, sections 3 and 14.
        """
        X_test, y_test = self._test_set(X_test, y_test)
        result = self._scores(X_test, y_test, observables(y_test))
        guess = baselines(self.problem.y, y_test)
        return result.assign_attrs({f"{k}_baseline": v for k, v in guess.items() if k in result})

    @in_float64
    def generalization_error(self, X_test: Any, y_test: Any) -> xr.Dataset:
        """Return the expected squared error on a test set and its two parts.

        Parameters
        ----------
        X_test
            Patterns, shape (test_pattern, input).
        y_test
            Labels, shape (test_pattern,), or (test_pattern, output) for several outputs.

        Returns
        -------
        xarray.Dataset
            Scalars error = bias2 + variance, bias2 = mean (y − mean)², variance: means over the
            test patterns and outputs. Further scores: `scores`.

        Raises
        ------
        InputError
            If the test set is not as described, or the likelihood is one of classes.

        References
        ----------
        theory.md, section 3.
        """
        likelihood, zero = self.problem.likelihood, np.zeros(self.network.outputs)
        if likelihood.probabilities(zero, zero) is not None:
            raise InputError(
                "expected a likelihood of numbers for a squared error (scores(X_test, y_test) has "
                f"those of classes), got likelihood={likelihood.name!r}"
            )
        X_test, y_test = self._test_set(X_test, y_test)
        return self._scores(X_test, y_test, [SquaredError()])

    def __repr__(self) -> str:
        values = ""
        if "q_bar" in self.order_parameters:
            q_bar = self.order_parameters["q_bar"].values
            values = f"q_bar=[{', '.join(f'{value:.6g}' for value in q_bar)}], "
        return (
            f"{type(self).__name__}(theory={self.theory!r}, temperature={self.temperature:g}, "
            f"{values}residual={self.residual:.1e}, converged={self.converged})"
        )
