"""The directions of several outputs: a one-output problem each, with its saddle point."""

import dataclasses
import functools
from typing import Any

import numpy as np
from jaxtyping import Float

from ..._numerics.factor import Factorization
from ..._problem.problem import Problem
from .action import training_kernel
from .point import SaddlePoint

__all__ = ["Direction", "Directions", "pairs"]

_STEP = 1e-5  # of the central differences of kernels; only the speed depends on it


@dataclasses.dataclass(frozen=True, eq=False)
class Direction:
    """One direction of the outputs: its one-output problem, saddle point and factorisation.

    Attributes
    ----------
    problem, point
        The labels Y o, and the saddle point with them.
    factor
        Of A = T·1 + K_R.
    solved
        A⁻¹ Y O, shape (pattern, output), in the basis of the theory's `form` where there is one.
    """

    problem: Problem
    point: SaddlePoint
    factor: Factorization
    solved: np.ndarray

    def tangents(self, rule: Any, v: np.ndarray) -> np.ndarray:
        """Return (∂A/∂θ_i) v for every coordinate, shape (pattern, unknown)."""
        theta, order = self.point.theta, self.point.order
        form = rule.form(self.problem)
        if form is not None:
            scaled = form.kernel.times(form.scale(order), v[:, None])
            terms = form.kernel.columns[:, : form.mean_terms]
            weights = form.weights(order)[: form.mean_terms]
            depth = self.problem.network.depth
            return np.hstack([np.repeat(scaled, depth, axis=1), terms * weights * (terms.T @ v)])

        def product(theta: np.ndarray) -> np.ndarray:
            order = self.point.chart.value(theta)
            return training_kernel(self.problem, rule.kernel, self.problem.stack, order) @ v

        columns = [
            (product(theta + step) - product(theta - step)) / (2 * _STEP)
            for step in _STEP * np.eye(theta.size)
        ]
        return np.stack(columns, axis=1)

    @functools.cached_property
    def hessian(self) -> np.ndarray:
        """∂²𝒮/∂θ², shape (unknown, unknown)."""
        equations, theta = self.point.equations, self.point.theta
        assert equations is not None
        gradient, hessian = equations.prior(theta)
        rows = self.point.chart.widths() + self.problem.n_patterns
        return rows[:, None] * (hessian + equations.data_jacobian(theta, -gradient))

    @property
    def action(self) -> float:
        """𝒮 of the one-output problem."""
        quadratic = self.factor.quadratic(self.problem.y)
        return self.point.prior_term + self.factor.logdet + quadratic


@dataclasses.dataclass(frozen=True, eq=False)
class Directions:
    """A rotation of the outputs with the one-output problem of each direction; a `Place`.

    Attributes
    ----------
    rotation
        O, shape (output, direction).
    parts
        The directions.
    products
        (YO)ᵀA_k⁻¹(YO) for each k, shape (direction, direction, direction).
    trouble
        Why the search for O ended elsewhere than at a minimum, if it did.
    """

    rotation: Float[np.ndarray, "output direction"]
    parts: tuple[Direction, ...]
    products: Float[np.ndarray, "direction direction direction"]
    trouble: str = ""

    @property
    def rows(self) -> float:
        """N + P of the narrowest layer, the size of the terms that cancel in an equation."""
        widths = self.parts[0].point.chart.widths()
        return float(np.min(widths, initial=np.inf, where=widths > 0)) + (
            self.parts[0].problem.n_patterns
        )

    @functools.cached_property
    def slopes(self) -> np.ndarray:
        """2 O^⊤YᵀA_k⁻¹Y o_k, columns k: ∂F/∂(YO) between directions."""
        return 2.0 * np.einsum("kik->ik", self.products)

    @property
    def gradient(self) -> np.ndarray:
        """∂F/∂Ω_kl for k < l, of O exp(Ω)."""
        return pairs(self.slopes)

    @property
    def residual(self) -> float:
        """Largest |o_kᵀYᵀ(A_k⁻¹ − A_l⁻¹)Y o_l|/(N + P)."""
        return 0.5 * float(np.max(np.abs(self.gradient), initial=0.0)) / self.rows

    @functools.cached_property
    def _value(self) -> float:
        return sum(part.action for part in self.parts)

    @property
    def value(self) -> float:
        """F(O)."""
        return self._value

    @property
    def noise(self) -> float:
        """Rounding error of F."""
        return 1e-14 * (abs(self.value) + len(self.parts) * self.rows)

    @property
    def converged(self) -> bool:
        """Whether the saddle point of every direction was reached."""
        return all(part.point.converged for part in self.parts)

    @property
    def message(self) -> str:
        """Why one, or the rotation, was not reached."""
        reasons = (part.point.message for part in self.parts if not part.point.converged)
        trouble = self.trouble and f"rotation of the outputs: {self.trouble}"
        return next(reasons, trouble)

    @property
    def thetas(self) -> list[np.ndarray]:
        """θ of every direction."""
        return [part.point.theta for part in self.parts]

    def ordered(self) -> "Directions":
        """Return the same with falling order parameters."""
        places = np.argsort([-float(np.sum(theta)) for theta in self.thetas], kind="stable")
        parts = tuple(
            dataclasses.replace(self.parts[k], solved=self.parts[k].solved[:, places])
            for k in places
        )
        return Directions(
            self.rotation[:, places], parts, self.products[np.ix_(places, places, places)]
        )


def pairs(matrix: np.ndarray) -> np.ndarray:
    """Return M_kl − M_lk for k < l."""
    return (matrix - matrix.T)[np.triu_indices(matrix.shape[0], 1)]
