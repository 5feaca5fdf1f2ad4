"""What is known of f where no P × P matrix was made, with error bars."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..._basics.blas import blas_threads
from ..._basics.errors import ConvergenceError
from ..._basics.progress import Progress
from ..._numerics.deflation import Deflation
from ..._numerics.precision import float64
from ..._observables._observable import Observable, predictions
from ..._observables._prediction import Prediction
from .._solution import Solution
from .fit import Fit
from .kernel import Block, LargeKernel

__all__ = ["LargePrediction", "LargeSolution"]

_VARIANCE = 1e-3  # wanted relative error of a variance by its linear solve
_MOST = 300  # products of a solve


@dataclasses.dataclass(frozen=True, eq=False)
class LargePrediction(Prediction):
    """Moments of the latent f with their errors.

    Attributes
    ----------
    standard_error, variance_error
        Errors of `mean` and `variance`, shape (test_pattern,): the standard error that they take
        from the order parameters, and the bound of what the linear solves leave.
    """

    standard_error: Float[np.ndarray, " test_pattern"] | None = None
    variance_error: Float[np.ndarray, " test_pattern"] | None = None


@dataclasses.dataclass(frozen=True)
class _Moments:
    """Mean and variance with what solves leave; their changes by independent errors of θ.

    The changes have shape (direction, test_pattern).
    """

    mean: np.ndarray
    variance: np.ndarray
    mean_moves: np.ndarray
    variance_moves: np.ndarray
    mean_bound: np.ndarray
    variance_bound: np.ndarray

    @property
    def errors(self) -> tuple[np.ndarray, np.ndarray]:
        return (
            np.sqrt(np.sum(self.mean_moves**2, axis=0)) + self.mean_bound,
            np.sqrt(np.sum(self.variance_moves**2, axis=0)) + self.variance_bound,
        )


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

    criterion = math.nan

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
    def _columns(self) -> np.ndarray:
        """U diag(√w) on the training set."""
        return self.kernel.columns * np.sqrt(self.kernel.parts.weights(self.fit.point.order))

    @functools.cached_property
    def _deflation(self) -> Deflation:
        scale = self.kernel.parts.scale(self.fit.point.order)
        return Deflation(self.fit.run, scale, self._columns, self.temperature)

    @functools.cached_property
    def _dual(self) -> tuple[np.ndarray, np.ndarray]:
        """A⁻¹y within the basis, and its residual."""
        x, residual = self._deflation.galerkin(self.problem.y[:, None])
        return x[:, 0], residual[:, 0]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made when it is needed."""
        fields = {field.name for field in dataclasses.fields(self)}
        return {name: value for name, value in self.__dict__.items() if name in fields}

    def _moments(self, X_test: np.ndarray, full: bool) -> tuple[_Moments, np.ndarray | None]:
        """Return moments at a block of test patterns, and the covariance if asked for."""
        kernel, temperature, matrix = self.kernel, self.temperature, self.kernel.matrix
        block = kernel.at(X_test, self.fit.point.order, full)
        kappa = block.cross

        def tolerance(explained: np.ndarray) -> np.ndarray:
            # rᵀA⁻¹r ≤ |r|²/T is what is missing of the variance that the labels explain
            return temperature * _VARIANCE * np.maximum(block.diagonal - explained, 0.0)

        note = f"variance at {X_test.shape[0]} patterns"
        with Progress("predict", note, 10 * matrix.count, self.progress) as bar:
            solved = self._deflation.solve(
                lambda v: matrix.times(v, lambda n: bar.update(n, "")), kappa, tolerance, _MOST
            )
            bar.skip(matrix.count * max(0, 10 - solved.products))
        w, residual = solved.x, solved.residual
        explained = np.einsum("ij,ij->j", kappa + residual, w)
        variance = block.diagonal - explained
        bound = np.einsum("ij,ij->j", residual, residual) / temperature
        a, rest = self._dual
        mean = kappa.T @ a + w.T @ rest
        found = _Moments(
            mean,
            variance,
            *self._moves(X_test, block, mean, variance, w),
            np.sqrt(bound * self.fit.errors.energy),
            bound,
        )
        if np.any(bound > tolerance(explained) / temperature * 1.01 + 1e-14 * block.diagonal):
            raise ConvergenceError(
                f"expected the solves at X_test to converge within {_MOST} products with the "
                f"kernel, got a variance to within {float(np.max(bound)):.1e}; what there is is "
                "in .best",
                self._prediction(found, None),
            )
        covariance = None
        if block.square is not None:
            inner = (kappa + residual).T @ w
            covariance = block.square - 0.5 * (inner + inner.T)
        return found, covariance

    def _moves(
        self,
        X_test: np.ndarray,
        block: Block,
        mean: np.ndarray,
        variance: np.ndarray,
        w: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the changes of mean and variance by errors of θ, shapes (direction, point).

        With W = A⁻¹κ and a = A⁻¹y, d mean = dκᵀa − WᵀdA a and d variance = dκ_0 − 2dκᵀW + WᵀdA W.
        """
        moves = self.fit.errors.moves
        if not moves.size:
            return (np.zeros((0, mean.size)),) * 2
        if self.kernel.theta is None:
            slopes = self._scaled_slopes(block.columns, variance, w)
        else:
            slopes = self._slopes(X_test, w)
        of_mean, of_variance = (np.array(part) for part in zip(*slopes, strict=True))
        return moves @ of_mean, moves @ of_variance

    def _scaled_slopes(
        self, columns: np.ndarray, variance: np.ndarray, w: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return derivatives in each θ for A = T + s·K_0 + U Uᵀ, u being U at a test point.

        To log s these are T Wᵀa − (u − UᵀW)·Uᵀa and variance − T|W|² − |u − UᵀW|², to the
        logarithm of a column's weight (u − UᵀW)(Uᵀa) and (u − UᵀW)².
        """
        a, temperature = self._dual[0], self.temperature
        beside = columns - w.T @ self._columns
        inside = self._columns.T @ a
        of_scale = (
            temperature * (w.T @ a) - beside @ inside,
            variance - temperature * np.einsum("ij,ij->j", w, w) - np.sum(beside**2, axis=1),
        )
        of_weights = [
            (beside[:, term] * inside[term], beside[:, term] ** 2)
            for term in range(self.kernel.parts.mean_terms)
        ]
        return [of_scale] * self.network.depth + of_weights

    def _slopes(self, X_test: np.ndarray, w: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return derivatives in each θ, for which K_R's own is multiplied by W and a."""
        a = self._dual[0]
        slopes = []
        for unknown in range(self.kernel.chart.size):
            cross, own = self.kernel.slope_at(X_test, unknown)
            image = self.kernel.slope(unknown).times(np.column_stack([w, a]))
            inner = np.einsum("ij,ij->j", w, image[:, :-1] - 2.0 * cross)
            slopes.append((cross.T @ a - w.T @ image[:, -1], own + inner))
        return slopes

    def _prediction(self, found: _Moments, covariance: np.ndarray | None) -> LargePrediction:
        mean_error, variance_error = found.errors
        return LargePrediction(
            found.mean,
            found.variance,
            covariance,
            standard_error=mean_error,
            variance_error=variance_error,
        )

    def _predict_block(self, X_test: np.ndarray, full_covariance: bool) -> LargePrediction:
        with blas_threads(1):
            return self._prediction(*self._moments(X_test, full_covariance))

    def _scores(
        self, X_test: np.ndarray, y_test: np.ndarray, chosen: Sequence[Observable]
    ) -> xr.Dataset:
        """Return the quantities and their standard errors `error_se` and so on."""
        with blas_threads(1):
            parts = [self._moments(block, False)[0] for block in self._blocks(X_test)]
        arrays = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts], axis=-1)
            for field in dataclasses.fields(_Moments)
        }
        found = _Moments(**arrays)

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
