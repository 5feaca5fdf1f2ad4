"""K_0, its columns U, and both between training and test patterns, by tiles."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..._layers.dense import input_covariance, input_variances
from ..._layers.order import Chart, OrderParameters
from ..._layers.stack import layer_rules
from ..._numerics.precision import float64
from ..._numerics.tiled import TiledMatrix
from ..._problem.problem import Problem
from .._saddle.action import ScaledParts, tile_slope, training_tile
from .plan import Plan

__all__ = ["Block", "LargeKernel"]

_ROWS = 1024  # training patterns at a time, against a block of test patterns


class Block(NamedTuple):
    """K_R between training and test patterns.

    Attributes
    ----------
    cross
        Shape (pattern, test_pattern).
    diagonal
        At the test patterns, shape (test_pattern,).
    columns
        U diag(√w) there, shape (test_pattern, term).
    square
        K_R between the test patterns where it was asked for, else None.
    """

    cross: np.ndarray
    diagonal: np.ndarray
    columns: np.ndarray
    square: np.ndarray | None


class _Whole(ScaledParts):
    """K_R itself, at fixed order parameters."""

    __slots__ = ()

    def scale(self, order: OrderParameters) -> float:
        return 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class LargeKernel:
    """K_R = s·K_0 + U diag(w) Uᵀ of a theory, of which no P × P matrix is held.

    Attributes
    ----------
    rule
        The `SaddleTheory`.
    problem
        Network, training set and temperature.
    plan
        Memory for tiles, threads.
    theta
        Order parameters where K_0 is K_R at these; None where it is the theory's fixed kernel.
    """

    rule: Any
    problem: Problem
    plan: Plan
    theta: np.ndarray | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave out the tiles."""
        return type(self), (self.rule, self.problem, self.plan, self.theta)

    @functools.cached_property
    def chart(self) -> Chart:
        """The unknowns of the theory."""
        return self.rule.chart(self.problem.network)

    @functools.cached_property
    def parts(self) -> ScaledParts:
        """What the theory says of K_R."""
        if self.theta is None:
            return self.rule.scaled_parts(self.problem)

        def columns(X: np.ndarray) -> np.ndarray:
            return np.zeros((X.shape[0], 0))

        order = self.chart.value(self.theta)
        return _Whole(self.problem.stack, order, columns, 1.0, np.zeros(0))

    @functools.cached_property
    def columns(self) -> np.ndarray:
        """U, shape (pattern, term)."""
        return self.parts.columns(self.problem.X)

    @functools.cached_property
    def matrix(self) -> TiledMatrix:
        """K_0."""
        problem, parts = self.problem, self.parts

        def tile(rows: slice, columns: slice) -> np.ndarray:
            with float64():  # of this thread
                c = input_covariance(problem.network, problem.X[rows], problem.X[columns])
                return training_tile(self.rule.kernel, parts.stack, parts.order, c)

        return TiledMatrix(problem.n_patterns, tile, self.plan.kept, self.plan.workers)

    def slope(self, unknown: int) -> TiledMatrix:
        """Return ∂K_0/∂θ where K_0 is K_R at `theta`; none of its tiles is kept."""
        problem = self.problem

        def tile(rows: slice, columns: slice) -> np.ndarray:
            with float64():
                c = input_covariance(problem.network, problem.X[rows], problem.X[columns])
                return np.asarray(self._slope(unknown, problem.stack, c).cross)

        return TiledMatrix(problem.n_patterns, tile, 0.0, self.plan.workers)

    def _slope(self, unknown: int, stack: Any, covariance: Any) -> Any:
        assert self.theta is not None
        unit = np.eye(self.chart.size)[unknown]
        return tile_slope(self.rule.kernel, stack, covariance, self.chart, self.theta, unit)

    def at(self, X_test: np.ndarray, order: OrderParameters, square: bool) -> Block:
        """Return K_R between the training patterns and a block of test patterns."""
        parts, network, X = self.parts, self.problem.network, self.problem.X
        stack = self._stack_at(X_test)

        def kernel(A: np.ndarray) -> Any:
            return self.rule.kernel(stack, input_covariance(network, A, X_test), parts.order)

        scale, weights = parts.scale(order), np.sqrt(parts.weights(order))
        columns = parts.columns(X_test) * weights
        cross = np.empty((X.shape[0], X_test.shape[0]))
        for rows in _rows(X.shape[0]):
            cross[rows] = np.asarray(kernel(X[rows]).cross)
        cross *= scale
        if weights.size:
            cross += (self.columns * weights) @ columns.T
        own = scale * np.asarray(kernel(X[:1]).diag_b) + np.sum(columns**2, axis=1)
        whole = scale * np.asarray(kernel(X_test).cross) + columns @ columns.T if square else None
        return Block(cross, own, columns, whole)

    def slope_at(self, X_test: np.ndarray, unknown: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ∂/∂θ of `Block.cross` and `Block.diagonal`, where K_0 is K_R at `theta`."""
        network, X, stack = self.problem.network, self.problem.X, self._stack_at(X_test)
        cross, own = np.empty((X.shape[0], X_test.shape[0])), np.empty(0)
        for rows in _rows(X.shape[0]):
            found = self._slope(unknown, stack, input_covariance(network, X[rows], X_test))
            cross[rows], own = np.asarray(found.cross), np.asarray(found.diag_b)
        return cross, own

    def _stack_at(self, X_test: np.ndarray) -> Any:
        """Return the layers with quadrature rules for all patterns."""
        network, parts = self.problem.network, self.parts
        ends = np.concatenate([input_variances(network, X_test), self.problem.input_variances])
        scales = None if self.theta is None else self.rule.variance_scales(parts.order)
        return parts.stack.replace(rules=layer_rules(network, ends, scales))


def _rows(n: int) -> Iterator[slice]:
    """Return slices that cover n rows, all of one size; the last may overlap."""
    size = min(n, _ROWS)
    for start in range(0, n, size):
        start = min(start, n - size)
        yield slice(start, start + size)
