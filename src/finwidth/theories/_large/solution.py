"""What is known of f where no P × P matrix was made, with error bars."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from ..._basics.blas import blas_threads
from ..._numerics.precision import float64
from ..._observables._observable import Observable, predictions
from ..._observables._prediction import Prediction
from .._solution import Solution
from .fit import Fit
from .kernel import LargeKernel
from .predict import LargePrediction, Moments, Predictor

__all__ = ["LargeSolution"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LargeSolution(Solution):
    """A saddle point found without a P × P matrix, with the error bars of how it was found.

    `order_parameters` has `q_bar_se` and `q_se`, `scores` a standard error `<name>_se` of each,
    `predict` returns a `LargePrediction`. `criterion` is not computed (NaN): it is of T = 0.

    Attributes
    ----------
    problem
        Network, training set and temperature.
    fit
        The saddle point, the kernel and the quadrature that it comes from.
    progress
        Whether predictions show their progress on stderr.
    reason
        Why it has not converged, if it has not.
    """

    fit: Fit
    progress: bool
    reason: str = ""

    @property
    def criterion(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Not computed: NaN."""
        return math.nan

    @property
    def kernel(self) -> LargeKernel:
        """K_R by tiles, and how much memory there is."""
        return self.fit.kernel

    @property
    def block(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Test patterns predicted at a time."""
        return self.kernel.plan.test

    @property
    def theory(self) -> str:
        """Name of the theory."""
        return self.kernel.rule.name

    @property
    def converged(self) -> bool:
        """Whether the saddle point was reached and truncation is below the standard errors."""
        return not self.message

    @property
    def message(self) -> str:
        """Why the solution has not converged, if it has not."""
        if self.reason:
            return self.reason
        if not self.fit.accurate:
            return (
                f"{self.fit.run.size} basis vectors leave the action an error of "
                f"{self.fit.errors.truncation:.1e}; more need a larger memory_limit"
            )
        return self.fit.point.message

    @property
    def residual(self) -> float:
        """Largest |∂𝒮/∂ log(order parameter)|, relative to N_ℓ + P; of 𝒮 as the probes have it."""
        return self.fit.point.residual

    @functools.cached_property
    def n_roots(self) -> int:
        """Number of distinct saddle points found from many starts (this one included)."""
        with float64():
            return len(self.fit.point.roots()[0])

    @property
    def order_parameters(self) -> xr.Dataset:
        """`q_bar` and `q` with their errors `q_bar_se` and `q_se`, dimension layer (1 … L)."""
        order, depth = self.fit.point.order, self.network.depth
        errors = np.zeros((depth, 1))
        if not self.kernel.rule.fixed:
            errors = self.fit.errors.theta.reshape(depth, -1)
        values = {
            "q_bar": order.q_bar,
            "q": order.q,
            "q_bar_se": order.q_bar * errors[:, 0],
            # the last coordinate of a layer is ∓log(1 + Q)
            "q_se": (1.0 + order.q) * errors[:, -1],
        }
        return xr.Dataset(
            {name: ("layer", array) for name, array in values.items()},
            coords={"layer": np.arange(1, depth + 1)},
        )

    @property
    def accuracy(self) -> xr.Dataset:
        """How it was found, and how well.

        Scalars `action_se` and `log_evidence_se`, standard errors by the probes; `truncation`, a
        bound on what too few products change of the action; `solve_error`, a bound on the error of
        A⁻¹y in the norm of A: times a prior standard deviation of f, of a mean. Attributes:
        method, seed, probes, products with the kernel, size of the basis, eigenvectors found.
        """
        errors, run = self.fit.errors, self.fit.run
        return xr.Dataset(
            {
                "action_se": errors.action,
                "log_evidence_se": 0.5 * errors.action,
                "truncation": errors.truncation,
                "solve_error": math.sqrt(errors.energy),
            },
            attrs={
                "method": "iterative",
                "seed": self.kernel.plan.seed,
                "probes": self.fit.term.probes,
                "products": len(run.sizes),
                "basis": run.size,
                "eigenvectors": int(np.sum(self.fit.term.known)),
            },
        )

    @functools.cached_property
    def action(self) -> float:
        """The effective action 𝒮, of which `accuracy` has the standard error."""
        parts, order = self.kernel.parts, self.fit.point.order
        value, _, _ = self.fit.term.data_term(
            parts.scale(order), parts.weights(order), self.temperature
        )
        return self.fit.point.prior_term + value

    @property
    def log_evidence_se(self) -> float:
        """Standard error of `log_evidence`."""
        return 0.5 * self.fit.errors.action

    @functools.cached_property
    def _predictor(self) -> Predictor:
        return Predictor(self.problem, self.fit, self.progress)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made when it is needed."""
        fields = {field.name for field in dataclasses.fields(self)}
        return {name: value for name, value in self.__dict__.items() if name in fields}

    def _predict_block(self, X_test: np.ndarray, full_covariance: bool) -> LargePrediction:
        with blas_threads(1):
            found, covariance = self._predictor.moments(X_test, full_covariance)
        return found.prediction(covariance)

    def _scores(
        self, X_test: np.ndarray, y_test: np.ndarray, chosen: Sequence[Observable]
    ) -> xr.Dataset:
        """Return the quantities and their standard errors `error_se` and so on."""
        with blas_threads(1):
            parts = [self._predictor.moments(block, False)[0] for block in self._blocks(X_test)]
        arrays = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts], axis=-1)
            for field in dataclasses.fields(Moments)
        }
        found = Moments(**arrays)

        def at(mean: np.ndarray, variance: np.ndarray) -> dict[str, float]:
            return predictions(chosen, Prediction(mean, np.maximum(variance, 0.0)), y_test)

        centre = predictions(chosen, Prediction(found.mean, found.variance), y_test)
        moved = [
            at(found.mean + mean, found.variance + variance)
            for mean, variance in zip(found.mean_moves, found.variance_moves, strict=True)
        ]
        left = at(found.mean + found.mean_bound, found.variance - found.variance_bound)
        result = xr.Dataset(centre)
        for name, value in centre.items():
            spread = math.hypot(*(float(one[name]) - float(value) for one in moved))
            result[f"{name}_se"] = spread + abs(float(left[name]) - float(value))
        return result
