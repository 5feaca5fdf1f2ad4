"""Several outputs that decouple: one rotation of the outputs, and a one-output problem for each.

Without mean terms the order parameters of all layers commute (theory.md, section 14). In their
common basis O = (o_1 … o_D) the problem is D one-output problems of labels Y o_k, and

    o_kᵀYᵀ(A_k⁻¹ − A_l⁻¹)Y o_l = 0   for k ≠ l

fixes the basis: the stationary point of F(O) = Σ_k 𝒮(Y o_k), each 𝒮 at its own saddle point.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg

from ..._basics.errors import InputError
from ..._layers.stack import infinite_width
from ..._likelihoods.gaussian import GaussianConditioned
from ..._numerics.factor import Factorization
from ..._numerics.newton import TrackResult, newton
from ..._numerics.tridiagonal import TridiagonalFactor
from ..._numerics.trust_region import minimise
from ..._problem.problem import Problem
from .action import training_kernel
from .directions import Direction, Directions, pairs
from .point import SaddlePoint

__all__ = ["find_rotation"]

_TOLERANCE = 1e-9  # of the equations, relative to N + P
_FINE = 1e-13  # what Newton's method reaches where rounding lets it
_NEGATIVE = 1e-6  # curvature, relative to N + P, that tells a false stationary point
_KICK = 0.3  # angle by which one is left


def find_rotation(
    rule: Any,
    problem: Problem,
    start: tuple[np.ndarray, list[np.ndarray] | None] | None = None,
) -> Directions:
    """Return the directions that decouple the outputs.

    Parameters
    ----------
    rule
        A `SaddleTheory`.
    problem
        Network of several outputs, training set and temperature.
    start
        O and, where known, the θ of its directions, of a nearby problem; None: the search starts
        from the eigenvectors of aᵀK_R a with a = A⁻¹Y at infinite width. At T = 0 without an
        output bias these are those of YᵀK⁻¹Y, the solution.

    Returns
    -------
    Directions
        Not converged where a saddle point was not reached or F has no minimum nearby.
    """
    landscape = _Landscape(rule, problem)
    if start is None:
        rotation, thetas = _first_basis(rule, problem), None
    else:
        rotation, thetas = start
    place = landscape.at(rotation, thetas)
    if not place.converged or place.parts[0].point.equations is None:
        return place
    message = ""
    for _ in range(rotation.shape[0] ** 2):
        minimum = minimise(landscape, place, tolerance=_TOLERANCE, goal=_FINE)
        place, message = minimum.point, minimum.message
        kick = landscape.escape(place) if minimum.converged else None
        moved = None if kick is None else landscape.move(place, kick)
        if moved is None:
            break
        place = moved
    return dataclasses.replace(place.ordered(), trouble=message)


def _first_basis(rule: Any, problem: Problem) -> np.ndarray:
    """Return the basis at infinite width, to first order in 1/N."""
    infinite = infinite_width(problem.network)
    factor = _factor(rule, problem.along(np.eye(problem.network.outputs)[0]), infinite)
    form = rule.form(problem)
    if form is not None and isinstance(factor, TridiagonalFactor):
        a = factor.solve_rotated(form.kernel.y)
        matrix = a.T @ form.kernel.times(form.scale(infinite), a)
    else:
        a = factor.solve(problem.y)
        stack = problem.stack.unbiased()
        matrix = a.T @ (training_kernel(problem, rule.kernel, stack, infinite) @ a)
    vectors = np.linalg.eigh(matrix)[1][:, ::-1]
    largest = np.argmax(np.abs(vectors), axis=0)
    return vectors * np.where(vectors[largest, np.arange(largest.size)] < 0, -1.0, 1.0)


def _factor(rule: Any, problem: Problem, order: Any) -> Factorization:
    conditioned = rule.condition(problem, order)
    if not isinstance(conditioned, GaussianConditioned):
        raise InputError(
            "expected likelihood = 'gaussian' with several outputs, got "
            f"{problem.likelihood.name!r}"
        )
    return conditioned.factor


class _Landscape:
    """F on the rotations, as `minimise` takes it."""

    def __init__(self, rule: Any, problem: Problem) -> None:
        self._rule, self._problem = rule, problem
        form = rule.form(problem)  # the reduction is made here, with the labels of all outputs
        self._scaled = form is not None
        self._labels = problem.y if form is None else form.kernel.y

    def at(self, rotation: np.ndarray, thetas: list[np.ndarray] | None) -> Directions:
        """Solve all directions, from `thetas` where they are given."""
        labels = self._labels @ rotation
        factors: dict[bytes, Factorization] = {}
        parts = []
        for k, direction in enumerate(rotation.T):
            problem = self._problem.along(direction)
            point = self._point(problem, None if thetas is None else thetas[k])
            key = point.theta.tobytes()
            if key not in factors:  # all are alike at infinite width
                factors[key] = _factor(self._rule, problem, point.order)
            factor = factors[key]
            if self._scaled and isinstance(factor, TridiagonalFactor):
                solved = factor.solve_rotated(labels)
            else:
                solved = factor.solve(labels)
            parts.append(Direction(problem, point, factor, solved))
        products = np.array([labels.T @ part.solved for part in parts])
        return Directions(rotation, tuple(parts), products)

    def _point(self, problem: Problem, theta: np.ndarray | None) -> SaddlePoint:
        point = self._rule.order_parameters(problem, theta)
        if point.converged and point.equations is not None and point.residual > _FINE:
            found, residual, _ = newton(point.equations, point.theta, 6)
            if residual < point.residual:
                result = TrackResult(found, residual, True, "")
                return self._rule.point(problem, point.equations, found, result)
        return point

    def move(self, point: Directions, step: np.ndarray) -> Directions | None:
        """Return the directions O exp(Ω), None where their saddle points are lost."""
        size = point.rotation.shape[0]
        rotation = point.rotation @ scipy.linalg.expm(_antisymmetric(step, size))
        try:
            place = self.at(rotation, point.thetas)
        except InputError:  # A is singular to working precision there
            return None
        return place if place.converged else None

    def escape(self, point: Directions) -> np.ndarray | None:
        """Return a step away from a stationary point that is none of the matrix action, or None.

        Where two directions have the same order parameters by chance, F is stationary under their
        rotation whatever the labels; its curvature there is negative.
        """
        curvatures, slopes = _curvatures(self._rule, point), np.diag(point.slopes)
        one = np.einsum("kll->kl", curvatures)
        bends = one + one.T - slopes[:, None] - slopes[None, :]
        bends = bends[np.triu_indices(slopes.size, 1)]
        if bends.size == 0 or np.min(bends) > -_NEGATIVE * point.rows:
            return None
        return np.where(np.arange(bends.size) == np.argmin(bends), _KICK, 0.0)

    def hessian(self, point: Directions) -> Callable[[np.ndarray], np.ndarray]:
        """Return the product with ∂²F/∂Ω²."""
        curvatures, slopes = _curvatures(self._rule, point), point.slopes

        def product(step: np.ndarray) -> np.ndarray:
            omega = _antisymmetric(step, slopes.shape[0])
            bent = np.einsum("kij,jk->ik", curvatures, omega)
            return pairs(bent - 0.5 * (slopes @ omega + omega @ slopes))

        return product


def _antisymmetric(step: np.ndarray, size: int) -> np.ndarray:
    omega = np.zeros((size, size))
    omega[np.triu_indices(size, 1)] = step
    return omega - omega.T


def _curvatures(rule: Any, place: Directions) -> np.ndarray:
    """Return (YO)-derivatives of each 𝒮 to second order, shape (direction, D, D).

    2A⁻¹ − Γ(∂²𝒮/∂θ²)⁻¹Γᵀ with Γ_i = −2A⁻¹(∂A/∂θ_i)A⁻¹y, since θ follows the labels.
    """
    result = []
    for k, part in enumerate(place.parts):
        gamma = -2.0 * part.solved.T @ part.tangents(rule, part.solved[:, k])
        follows = gamma @ np.linalg.pinv(part.hessian) @ gamma.T
        result.append(2.0 * place.products[k] - follows)
    return np.array(result)
