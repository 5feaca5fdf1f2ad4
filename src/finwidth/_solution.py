"""The solution of a theory: order parameters, evidence, and predictions from them."""

# SciPy makes the LAPACK wrappers at run time:
# pyright: reportAttributeAccessIssue=false

import dataclasses
import functools
import math
import warnings
from typing import Any

import numpy as np
import scipy.linalg
import xarray as xr
from jaxtyping import Float

from ._errors import AccuracyWarning, InputError
from ._inputs import check_inputs, check_labels
from ._kernels import Covariance, input_covariance, layer_rules
from ._network import Network
from ._precision import float64, in_float64
from .theories import OrderParameters, Problem, SaddlePoint, Theory

__all__ = ["Factor", "Prediction", "Solution", "expected_error"]

_BLOCK = 2048


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """Moments of the latent f at test points (T is not added).

    Attributes
    ----------
    mean, variance
        Shape (test_pattern,).
    covariance
        Shape (test_pattern, test_pattern) where it was asked for, else None.
    """

    mean: Float[np.ndarray, " test_pattern"]
    variance: Float[np.ndarray, " test_pattern"]
    covariance: Float[np.ndarray, "test_pattern test_pattern"] | None = None


def expected_error(prediction: Prediction, y_test: Float[np.ndarray, " n"]) -> xr.Dataset:
    """Return error = bias2 + variance of a prediction, means over the test patterns."""
    bias2 = float(np.mean((y_test - prediction.mean) ** 2))
    variance = float(np.mean(prediction.variance))
    return xr.Dataset({"error": bias2 + variance, "bias2": bias2, "variance": variance})


class Factor:
    """Cholesky factor of A = T·1 + K_R with its conditioning.

    Parameters
    ----------
    kernel
        K_R on the training set, shape (pattern, pattern).
    temperature
        T ≥ 0.

    Raises
    ------
    InputError
        If A is singular to working precision.
    """

    def __init__(self, kernel: Float[np.ndarray, "pattern pattern"], temperature: float) -> None:
        n = kernel.shape[0]
        a = np.array(kernel, order="F")
        a[np.diag_indices(n)] += temperature
        norm = float(np.max(np.sum(np.abs(a), axis=0)))
        lower, info = scipy.linalg.lapack.dpotrf(a, lower=1, overwrite_a=1, clean=0)
        rcond = 0.0
        if info == 0:
            rcond, _ = scipy.linalg.lapack.dpocon(lower, norm, uplo="L")
        self.lower = lower
        self.rounding = n * np.finfo(np.float64).eps / rcond if rcond > 0 else math.inf
        if self.rounding > 1e-2:
            raise InputError(
                "expected a larger temperature, or a kernel on the training set that is positive "
                f"definite to working precision, got temperature = {temperature:g} and reciprocal "
                f"condition number {rcond:.1e} (duplicate patterns, or more of them than the "
                "kernel's rank?)"
            )

    def warn(self) -> None:
        """Warn where rounding costs more than the eighth digit."""
        if self.rounding > 1e-8:
            warnings.warn(
                "expected a relative accuracy of 1e-8, got about "
                f"{self.rounding:.0e}: the kernel is ill-conditioned at this temperature",
                AccuracyWarning,
                stacklevel=5,
            )

    @property
    def logdet(self) -> float:
        """logdet A."""
        return 2.0 * float(np.sum(np.log(np.diag(self.lower))))

    def solve(self, b: np.ndarray) -> np.ndarray:
        """Return A⁻¹ b."""
        return scipy.linalg.cho_solve((self.lower, True), b)

    def whiten(self, b: np.ndarray) -> np.ndarray:
        """Return L⁻¹ b with A = L Lᵀ."""
        return scipy.linalg.solve_triangular(self.lower, b, lower=True)


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """What a theory says about one network, training set and temperature.

    Made by `finwidth.solve`. Attributes and methods are the public interface; the constructor is
    not.

    Attributes
    ----------
    problem
        Network, training set and temperature.
    rule
        The `Theory`.
    point
        The saddle point.
    factor
        Cholesky factor of A = T·1 + K_R.
    """

    problem: Problem
    rule: Theory
    point: SaddlePoint
    factor: Factor

    @property
    def network(self) -> Network:
        """The network."""
        return self.problem.network

    @property
    def temperature(self) -> float:
        """T."""
        return self.problem.temperature

    @property
    def theory(self) -> str:
        """Name of the theory."""
        return self.rule.name

    @property
    def converged(self) -> bool:
        """Whether the saddle point was reached."""
        return self.point.converged

    @property
    def residual(self) -> float:
        """Largest |∂𝒮/∂ log(order parameter)|, relative to N_ℓ + P, the terms that cancel in it."""
        return self.point.residual

    @functools.cached_property
    def n_roots(self) -> int:
        """Number of distinct saddle points found from many starts (this one included)."""
        with float64():
            return self.point.count_roots()

    @property
    def order_parameters(self) -> xr.Dataset:
        """Order parameters `q_bar` and `q` with dimension layer (1 … L)."""
        order = self.point.order
        return xr.Dataset(
            {
                "q_bar": ("layer", np.array(order.q_bar)),
                "q": ("layer", np.array(order.q)),
            },
            coords={"layer": np.arange(1, self.network.depth + 1)},
        )

    @functools.cached_property
    def weights(self) -> Float[np.ndarray, " pattern"]:
        """A⁻¹y, shape (pattern,)."""
        return self.factor.solve(self.problem.y)

    @functools.cached_property
    def action(self) -> float:
        """The effective action 𝒮 = Σ_ℓ N_ℓ[−Q_ℓ Q̄_ℓ + log(1 + Q_ℓ)] + logdet A + yᵀA⁻¹y."""
        return self.point.prior_term + self.factor.logdet + float(self.problem.y @ self.weights)

    @property
    def log_evidence(self) -> float:
        """log p(y) ≈ −½(𝒮 + P log 2π): exact at infinite width, leading order at finite width."""
        return -0.5 * (self.action + self.problem.n_patterns * math.log(2 * math.pi))

    @functools.cached_property
    def criterion(self) -> float:
        """yᵀK⁻¹y/P with the infinite-width kernel K (1/λ_L included) at T = 0.

        For one hidden layer this is λ_1 yᵀK⁻¹y/P of theory.md, section 2: below one where finite
        width lowers the error at T = 0, above one where it raises it. Infinite where the kernel
        is singular, since no noiseless fit exists.
        """
        from .theories import available

        y = self.problem.y
        ones = np.ones(self.network.depth)
        with float64():
            kernel = np.asarray(
                available()["infinite"]
                .kernel(
                    self.network.activation,
                    self.problem.constants,
                    self.problem.covariance,
                    OrderParameters(ones, ones),
                    self.problem.rules,
                )
                .cross
            )
        try:
            return float(y @ Factor(kernel, 0.0).solve(y)) / y.size
        except InputError:
            return math.inf

    def _kernel(self, A: np.ndarray, B: np.ndarray) -> Covariance:
        covariance = input_covariance(self.network, A, B)
        variances = np.concatenate([np.asarray(covariance.diag_a), np.asarray(covariance.diag_b)])
        order = self.point.order
        return self.rule.kernel(
            self.network.activation,
            self.problem.constants,
            covariance,
            order,
            layer_rules(self.network, variances, self.rule.variance_scales(order)),
        )

    @functools.cached_property
    def renormalized_kernel(self) -> Float[np.ndarray, "pattern pattern"]:
        """K_R on the training set."""
        with float64():
            return np.asarray(self._kernel(self.problem.X, self.problem.X).cross)

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
            mean κA⁻¹y, variance κ_0 − diag(κA⁻¹κᵀ), shape (test_pattern,); T is not added.

        Raises
        ------
        InputError
            If X_test is not a finite array with as many inputs as the training set.

        References
        ----------
        theory.md, section 3; Pacelli et al. (2023), eqs. 11-13.
        """
        X_test = check_inputs(X_test, name="X_test", n_inputs=self.problem.X.shape[1])
        means, variances, whitened = [], [], []
        for start in range(0, X_test.shape[0], _BLOCK):
            block = self._kernel(X_test[start : start + _BLOCK], self.problem.X)
            kappa = np.asarray(block.cross)
            half = self.factor.whiten(kappa.T)
            means.append(kappa @ self.weights)
            variances.append(np.asarray(block.diag_a) - np.einsum("ij,ij->j", half, half))
            if full_covariance:
                whitened.append(half)
        covariance = None
        if full_covariance:
            half = np.concatenate(whitened, axis=1)
            covariance = np.asarray(self._kernel(X_test, X_test).cross) - half.T @ half
        return Prediction(np.concatenate(means), np.concatenate(variances), covariance)

    def generalization_error(self, X_test: Any, y_test: Any) -> xr.Dataset:
        """Return the expected squared error on a test set and its two parts.

        Parameters
        ----------
        X_test
            Patterns, shape (test_pattern, input).
        y_test
            Labels, shape (test_pattern,).

        Returns
        -------
        xarray.Dataset
            Scalars error = bias2 + variance, bias2 = mean (y − mean)², variance: means over the
            test patterns.

        References
        ----------
        theory.md, section 3.
        """
        X_test = check_inputs(X_test, name="X_test", n_inputs=self.problem.X.shape[1])
        y_test = check_labels(y_test, X_test.shape[0], name="y_test", of="X_test")
        return expected_error(self.predict(X_test), y_test)

    def __repr__(self) -> str:
        q_bar = ", ".join(f"{value:.6g}" for value in self.point.order.q_bar)
        return (
            f"Solution(theory={self.theory!r}, temperature={self.temperature:g}, q_bar=[{q_bar}], "
            f"residual={self.residual:.1e}, converged={self.converged})"
        )
