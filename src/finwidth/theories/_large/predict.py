"""Mean and variance of f at test points by linear solves with tiles, and their errors."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from ..._basics.errors import ConvergenceError
from ..._basics.progress import Progress
from ..._numerics.deflation import Deflation, Solved
from ..._observables._prediction import Prediction
from ..._problem.problem import Problem
from .fit import Fit
from .kernel import Block

__all__ = ["LargePrediction", "Moments", "Predictor"]

_VARIANCE = 1e-3  # wanted relative error of a variance by its linear solve
_ROUNDING = 1e-12  # of the prior variance: what is not asked for
_MOST = 300  # products of a solve
_EXPECTED = 10  # for the progress bar


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
class Moments:
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

    def prediction(self, covariance: np.ndarray | None) -> LargePrediction:
        """Return them with their errors."""
        mean_error, variance_error = self.errors
        return LargePrediction(
            self.mean,
            self.variance,
            covariance,
            standard_error=mean_error,
            variance_error=variance_error,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Predictor:
    """Predictions of a fit.

    Attributes
    ----------
    problem
        Network, training set and temperature.
    fit
        The saddle point, the kernel and block Lanczos.
    progress
        Whether progress is shown on stderr.
    """

    problem: Problem
    fit: Fit
    progress: bool

    @functools.cached_property
    def _columns(self) -> np.ndarray:
        """U diag(√w) on the training set."""
        return self.fit.kernel.columns * np.sqrt(
            self.fit.kernel.parts.weights(self.fit.point.order)
        )

    @functools.cached_property
    def _deflation(self) -> Deflation:
        scale = self.fit.kernel.parts.scale(self.fit.point.order)
        return Deflation(self.fit.run, scale, self._columns, self.problem.temperature)

    @functools.cached_property
    def _dual(self) -> tuple[np.ndarray, np.ndarray]:
        """A⁻¹y within the basis, and its residual."""
        x, residual = self._deflation.galerkin(self.problem.y[:, None])
        return x[:, 0], residual[:, 0]

    def moments(self, X_test: np.ndarray, full: bool) -> tuple[Moments, np.ndarray | None]:
        """Return moments at a block of test patterns, and the covariance if asked for."""
        kernel, temperature = self.fit.kernel, self.problem.temperature
        block = kernel.at(X_test, self.fit.point.order, full)
        kappa = block.cross

        def tolerance(explained: np.ndarray) -> np.ndarray:
            # rᵀA⁻¹r ≤ |r|²/T is what is missing of the variance that the labels explain
            left = _VARIANCE * (block.diagonal - explained)
            return temperature * np.maximum(left, _ROUNDING * block.diagonal)

        solved = self._solved(kappa, tolerance)
        w, residual = solved.x, solved.residual
        explained = np.einsum("ij,ij->j", kappa + residual, w)
        variance = block.diagonal - explained
        bound = np.einsum("ij,ij->j", residual, residual) / temperature
        a, rest = self._dual
        mean = kappa.T @ a + w.T @ rest
        found = Moments(
            mean,
            variance,
            *self._moves(X_test, block, mean, variance, w),
            np.sqrt(bound * self.fit.errors.energy),
            bound,
        )
        if np.any(bound > 1.01 * tolerance(explained) / temperature):
            raise ConvergenceError(
                f"expected the solves at X_test to converge within {_MOST} products with the "
                f"kernel, got a variance to within {float(np.max(bound)):.1e}; what there is is "
                "in .best",
                found.prediction(None),
            )
        covariance = None
        if block.square is not None:
            inner = (kappa + residual).T @ w
            covariance = block.square - 0.5 * (inner + inner.T)
        return found, covariance

    def _solved(self, kappa: np.ndarray, tolerance: Callable[[np.ndarray], np.ndarray]) -> Solved:
        """Return A⁻¹κ; progress is shown where there is something to wait for."""
        matrix, bars, taken = self.fit.kernel.matrix, [], 0
        with contextlib.ExitStack() as stack:

            def product(v: np.ndarray) -> np.ndarray:
                nonlocal taken
                if not bars:
                    note = f"variance at {kappa.shape[1]} patterns"
                    bar = Progress("predict", note, _EXPECTED * matrix.count, self.progress)
                    bars.append(stack.enter_context(bar))
                taken += 1
                if taken > _EXPECTED:
                    bars[0].skip(-matrix.count)
                return matrix.times(v, lambda steps: bars[0].update(steps, f"product {taken}"))

            solved = self._deflation.solve(product, kappa, tolerance, _MOST)
            for bar in bars:
                bar.skip(matrix.count * max(0, _EXPECTED - taken))
        return solved

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
            none = np.zeros((0, mean.size))
            return none, none
        if self.fit.kernel.theta is None:
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
        a, temperature = self._dual[0], self.problem.temperature
        beside = columns - w.T @ self._columns
        inside = self._columns.T @ a
        of_scale = (
            temperature * (w.T @ a) - beside @ inside,
            variance - temperature * np.einsum("ij,ij->j", w, w) - np.sum(beside**2, axis=1),
        )
        of_weights = [
            (beside[:, term] * inside[term], beside[:, term] ** 2)
            for term in range(self.fit.kernel.parts.mean_terms)
        ]
        return [of_scale] * self.problem.network.depth + of_weights

    def _slopes(self, X_test: np.ndarray, w: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return derivatives in each θ, for which K_R's own is multiplied by W and a."""
        a = self._dual[0]
        slopes = []
        for unknown in range(self.fit.kernel.chart.size):
            cross, own = self.fit.kernel.slope_at(X_test, unknown)
            image = self.fit.kernel.slope(unknown).times(np.column_stack([w, a]))
            inner = np.einsum("ij,ij->j", w, image[:, :-1] - 2.0 * cross)
            slopes.append((cross.T @ a - w.T @ image[:, -1], own + inner))
        return slopes
