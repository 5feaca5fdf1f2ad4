"""Minimisation by Newton's method with conjugate gradients in a trust region.

Steihaug's method (Nocedal and Wright, Numerical Optimization, algorithms 4.1 and 7.2): the
quadratic model is minimised by conjugate gradients until it is good enough, leaves the trust
region, or meets negative curvature. Once the model's decrease is below the rounding error of the
function, steps are judged by the gradient, so that the last digits are reached.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np

__all__ = ["Landscape", "Minimum", "Place", "minimise"]

Vector = np.ndarray


@runtime_checkable
class Place(Protocol):
    """A point with the function's value and derivatives."""

    @property
    def value(self) -> float:
        """The function."""
        ...

    @property
    def gradient(self) -> Vector:
        """Its gradient."""
        ...

    @property
    def residual(self) -> float:
        """Size of the gradient in the units of the tolerance."""
        ...

    @property
    def noise(self) -> float:
        """Rounding error of the value."""
        ...


@runtime_checkable
class Landscape[P: Place](Protocol):
    """A function on a manifold."""

    def hessian(self, point: P) -> Callable[[Vector], Vector]:
        """Return the product with the Hessian at `point`."""
        ...

    def move(self, point: P, step: Vector) -> P | None:
        """Return the point a step away, None where the function is not defined."""
        ...


@dataclasses.dataclass(frozen=True)
class Minimum[P: Place]:
    """The best point, the number of steps and Hessian products, and why the search ended."""

    point: P
    steps: int
    products: int
    converged: bool
    message: str


def minimise[P: Place](
    landscape: Landscape[P],
    start: P,
    *,
    tolerance: float = 1e-9,
    goal: float = 1e-12,
    max_steps: int = 200,
    max_products: int = 400,
) -> Minimum[P]:
    """Minimise from `start`.

    Parameters
    ----------
    landscape
        The function.
    start
        Where to begin.
    tolerance
        Residual at which the point counts as a minimum.
    goal
        Residual at which to stop at once; between the two, steps go on while they help.
    max_steps
        Bound on the number of Newton steps.
    max_products
        Bound on the Hessian products of one step.
    """
    point, radius, products = start, 1.0, 0
    message = f"no minimum within {max_steps} Newton steps"
    steps = 0
    hessian = landscape.hessian(point)
    while steps < max_steps:
        if point.residual <= goal:
            break
        steps += 1
        norm = float(np.linalg.norm(point.gradient))
        # never to more digits than the goal asks for, or than rounding leaves to the products
        forcing = max(min(0.1, point.residual**0.5), 1e-4, 0.1 * goal / point.residual)
        step, decrease, edge, used = _steihaug(
            hessian, point.gradient, radius, forcing * norm, max_products
        )
        products += used
        new = landscape.move(point, step)
        if decrease > 10 * point.noise:
            gain = -1.0 if new is None else (point.value - new.value) / decrease
            accept = gain > 1e-4
        else:  # the value is all rounding
            accept = new is not None and new.residual < point.residual
            gain = 1.0 if accept else -1.0
            if not accept and point.residual <= tolerance:
                break
        length = float(np.linalg.norm(step))
        if gain < 0.25:
            radius = 0.25 * length
        elif gain > 0.75 and edge:
            radius = min(2.0 * radius, 16.0)
        if accept and new is not None:
            point = new
            hessian = landscape.hessian(point)
        elif radius < 1e-12:
            message = "no step lowers the action"
            break
    converged = point.residual <= tolerance
    return Minimum(point, steps, products, converged, "" if converged else message)


def _steihaug(
    product: Callable[[Vector], Vector],
    gradient: Vector,
    radius: float,
    stop: float,
    max_products: int,
) -> tuple[Vector, float, bool, int]:
    """Minimise the model in the ball: step, the model's decrease, whether at the edge, products."""
    step, applied = np.zeros_like(gradient), np.zeros_like(gradient)
    residual = gradient.copy()
    direction = -residual
    squared = float(residual @ residual)
    used = 0
    edge = False
    while used < max_products and squared > stop * stop:
        image = product(direction)
        used += 1
        curvature = float(direction @ image)
        alpha = squared / curvature if curvature > 0 else np.inf
        if curvature <= 0 or np.linalg.norm(step + alpha * direction) >= radius:
            alpha, edge = _to_edge(step, direction, radius), True
        step = step + alpha * direction
        applied = applied + alpha * image
        if edge:
            break
        residual = residual + alpha * image
        new = float(residual @ residual)
        direction = -residual + (new / squared) * direction
        squared = new
    return step, -float(gradient @ step + 0.5 * step @ applied), edge, used


def _to_edge(step: Vector, direction: Vector, radius: float) -> float:
    """Return the α > 0 with |step + α direction| = radius."""
    a, b = float(direction @ direction), float(step @ direction)
    c = float(step @ step) - radius**2
    root = float(np.sqrt(max(b * b - a * c, 0.0)))
    return -c / (b + root) if b > 0 else (root - b) / a
