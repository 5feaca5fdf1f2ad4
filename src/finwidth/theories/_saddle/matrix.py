"""Several outputs whose order parameters do not commute: one hidden layer with a mean term."""

import dataclasses
import functools
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..._layers.dense import input_covariance
from ..._numerics.continuation import track
from ..._numerics.newton import StationarityEquations, TrackResult, newton
from ..._numerics.precision import float64
from ..._numerics.tridiagonal import TridiagonalFactor
from ..._observables._prediction import Prediction
from ..._problem.problem import Problem
from .matrix_equations import MatrixEquations, MatrixPoint, solve_core
from .outputs import ScaledBlock, order_dataset, refuse_likelihood
from .rotation import find_rotation
from .searched import Searched

__all__ = ["MatrixSolution", "solve_matrix"]

_TOLERANCE = 1e-9
_FAR = 1.5  # in the logarithms of the order parameters


def solve_matrix(rule: Any, problem: Problem, start: Any = None) -> "MatrixSolution":
    """Return the saddle point in Q̄ and R, and what it predicts.

    Newton's method starts at the point where one rotation serves both matrices, which is followed
    from infinite width; where that does not lead to it the matrices themselves are followed.
    """
    refuse_likelihood(problem)
    equations = MatrixEquations(rule, problem)
    form = equations.form
    stationarity = equations.equations()
    near = start.theta if isinstance(start, MatrixSolution) else _commuting(equations)
    found = None if near is None else _close(stationarity, near)
    if found is None:
        found = track(stationarity)
    theta = found.theta
    q_bar, r = equations.matrices(theta)
    no_columns = np.zeros(form.fixed_weights.size)
    factors = tuple(
        TridiagonalFactor(form.kernel, value / form.precision, no_columns, problem.temperature)
        for value in q_bar.values
    )
    solution = MatrixSolution(problem, rule, equations, found, q_bar, r, factors)
    if solution.converged:
        max(factors, key=lambda factor: factor.rounding).warn()
    return solution


def _commuting(equations: MatrixEquations) -> np.ndarray | None:
    """Return θ of the solution with one rotation; None if there is none."""
    directions = find_rotation(equations.rule, equations.problem)
    if not directions.converged:
        return None
    basis, thetas = directions.rotation, np.array(directions.thetas)
    q_bar, r = ((basis * column) @ basis.T for column in thetas.T)
    return equations.theta(q_bar, r)


def _close(stationarity: StationarityEquations, start: np.ndarray) -> TrackResult | None:
    """Return the solution next to `start`, None where Newton's method leads elsewhere."""
    theta, residual, _ = newton(stationarity, start, 40)
    if not residual <= _TOLERANCE or np.max(np.abs(theta - start)) > _FAR:
        return None
    return TrackResult(theta, residual, True, "")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class MatrixSolution(Searched):
    """The saddle point in the matrices Q̄ and R = (1 + Q)⁻¹, and the Gaussian process it makes of f.

    Attributes
    ----------
    problem
        Network, training set and temperature.
    rule
        The theory.
    equations
        The action and its equations.
    found
        Where the equations were solved: θ = (log Q̄, log R), the residual, and why they were not.
    q_bar, r
        Q̄ and R.
    factors
        Of T·1 + q_k K_0/λ_1, one for each eigenvalue q_k of Q̄.
    """

    rule: Any
    equations: MatrixEquations
    found: TrackResult
    q_bar: MatrixPoint
    r: MatrixPoint
    factors: tuple[TridiagonalFactor, ...]

    @property
    def theta(self) -> np.ndarray:
        """log Q̄ and log R, upper triangles."""
        return self.found.theta

    @functools.cached_property
    def order_parameters(self) -> xr.Dataset:
        """`q_bar` and `q` with dimensions (layer, output, ``output_``)."""
        q = self.r.inverse - np.eye(self.equations.outputs)
        return order_dataset(self.q_bar.matrix[None], q[None])

    @functools.cached_property
    def action(self) -> float:
        """𝒮 = N[−tr QQ̄ + logdet(1 + Q)] + logdet A + yᵀA⁻¹y."""
        return self.equations.action(self.theta)

    @functools.cached_property
    def renormalized_kernel(self) -> Float[np.ndarray, "pattern output pattern output"]:
        """K_R on the training set, shape (pattern, output, pattern, output)."""
        form, X = self.equations.form, self.problem.X
        with float64():
            covariance = input_covariance(self.problem.network, X)
            stack = form.stack.replace(rules=self.problem.rules)
            base = np.asarray(self.rule.kernel(stack, covariance, form.order).cross)
            columns = form.columns(X)
        kernel = np.einsum("op,mn->monp", self.q_bar.matrix / form.precision, base)
        for i, column in enumerate(columns.T):
            outputs = self.r.matrix if i < form.mean_terms else np.eye(self.equations.outputs)
            square = form.fixed_weights[i] * np.outer(column, column)
            kernel += np.einsum("op,mn->monp", outputs, square)
        return kernel

    @functools.cached_property
    def _coefficients(self) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray, np.ndarray]:
        """W_k U, W_k y_k, and covariance and mean of the coefficients z of U given the labels."""
        kernel, basis = self.equations.form.kernel, self.q_bar.vectors
        labels = kernel.y @ basis
        terms = [factor.whiten_rotated(kernel.columns) for factor in self.factors]
        fits = [
            factor.whiten_rotated(labels[:, k : k + 1])[:, 0]
            for k, factor in enumerate(self.factors)
        ]
        grams = np.array([one.T @ one for one in terms])
        core, _ = solve_core(self.equations.form, basis.T @ self.r.matrix @ basis, grams)
        along = np.array([one.T @ fit for one, fit in zip(terms, fits, strict=True)])
        return terms, fits, core, np.einsum("kild,ld->ki", core, along)

    def _predict_block(self, X_test: np.ndarray, full_covariance: bool) -> Prediction:
        """In the eigenbasis of Q̄, f_k = g_k + u·z_k: independent g_k, and z common to them all."""
        form = self.equations.form
        block = ScaledBlock.of(self.rule, self.problem, form, X_test, full_covariance)
        terms, fits, core, z = self._coefficients
        means, own, rests = [], [], []
        for k, factor in enumerate(self.factors):
            scale = self.q_bar.values[k] / form.precision
            half = factor.whiten_rotated(scale * block.rotated)
            rest = block.columns - half.T @ terms[k]
            means.append(half.T @ fits[k] + rest @ z[k])
            if block.square is None:
                own.append(scale * block.diagonal - np.einsum("ij,ij->j", half, half))
            else:
                own.append(scale * block.square - half.T @ half)
            rests.append(rest)
        basis, covariance = self.q_bar.vectors, None
        if full_covariance:
            covariance = np.einsum("kmi,kild,lnd->mknl", rests, core, rests, optimize=True)
            for k, one in enumerate(own):
                covariance[:, k, :, k] += one
            covariance = np.einsum("ok,mknl,pl->monp", basis, covariance, basis, optimize=True)
            outputs = np.einsum("momp->mop", covariance).copy()
        else:
            outputs = np.einsum("kni,kild,lnd->nkl", rests, core, rests, optimize=True)
            outputs[:, np.arange(len(own)), np.arange(len(own))] += np.transpose(own)
            outputs = np.einsum("ok,nkl,pl->nop", basis, outputs, basis, optimize=True)
        mean = np.stack(means, axis=1) @ basis.T
        return Prediction(mean, np.einsum("noo->no", outputs).copy(), covariance, outputs)

    def __repr__(self) -> str:
        values = ", ".join(f"{value:.6g}" for value in self.q_bar.values[::-1])
        return (
            f"{type(self).__name__}(theory={self.theory!r}, temperature={self.temperature:g}, "
            f"eigenvalues of q_bar=[{values}], residual={self.residual:.1e}, "
            f"converged={self.converged})"
        )
