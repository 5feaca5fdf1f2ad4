"""Predictions of the theories for which f is a Gaussian process with a renormalised kernel."""

import abc
import functools
from typing import Any

import numpy as np
from jaxtyping import Float

from .._layers.covariance import Covariance
from .._numerics.factor import Factorization
from .._numerics.precision import float64
from .._observables._prediction import Prediction
from ._solution import Solution

__all__ = ["GaussianProcessSolution"]


class GaussianProcessSolution(Solution):
    """A theory's Gaussian process: its kernel, and the moments that follow.

    A theory's own solution supplies the kernel and `factor`.

    Attributes
    ----------
    factor
        Factorisation of A = T·1 + K_R on the training set.
    """

    factor: Factorization

    @abc.abstractmethod
    def kernel_between(self, A: np.ndarray, B: np.ndarray) -> Covariance:
        """Return K_R between two sets of patterns."""

    @functools.cached_property
    def weights(self) -> Float[np.ndarray, " pattern"]:
        """A⁻¹y, shape (pattern,)."""
        return self.factor.solve(self.problem.y)

    def _whiten(self, b: np.ndarray) -> np.ndarray:
        """Return W b with WᵀW = A⁻¹."""
        return self.factor.whiten(b)

    @functools.cached_property
    def renormalized_kernel(self) -> Float[np.ndarray, "pattern pattern"]:
        """K_R on the training set."""
        with float64():
            return np.asarray(self.kernel_between(self.problem.X, self.problem.X).cross)

    def _predict_block(self, X_test: np.ndarray, full_covariance: bool) -> Prediction:
        block = self.kernel_between(X_test, self.problem.X)
        square = self.kernel_between(X_test, X_test).cross if full_covariance else None
        return self.predict_from(block, square)

    def predict_from(self, block: Covariance, square: Any = None) -> Prediction:
        """Mean κA⁻¹y, variance κ_0 − diag(κA⁻¹κᵀ).

        Parameters
        ----------
        block
            K_R between test points and the training set.
        square
            K_R between the test points, where their covariance is wanted.
        """
        kappa = np.asarray(block.cross)
        half = self._whiten(kappa.T)
        variance = np.asarray(block.diag_a) - np.einsum("ij,ij->j", half, half)
        covariance = None if square is None else np.asarray(square) - half.T @ half
        return Prediction(kappa @ self.weights, variance, covariance)
