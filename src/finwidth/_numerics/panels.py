"""Nodes in z for Gaussian moments: panels that are refined towards 0."""

import functools
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

__all__ = ["FINE", "Panels", "SMOOTH", "USED", "gather", "hermite", "nodes"]


class Panels(NamedTuple):
    """A composite Gauss-Legendre rule for z > 0, and so for z < 0.

    Panels double from 2^smallest to `width` and keep that width to `reach`.
    """

    reach: float
    smallest: int
    width: float
    points: int


USED = Panels(12.0, -7, 0.5, 16)

SMOOTH = Panels(11.0, -1, 1.0, 16)  # for what is smooth: 2.5 times fewer nodes

FINE = Panels(30.0, -10, 0.25, 20)  # the rule that the first is judged by


def _composite(edges: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.legendre.leggauss(points)
    half = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + half * (1 + x)).ravel(), (half * w).ravel()


def _first_panel(panels: Panels, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the panel next to 0, halved `levels` times towards 0."""
    edges = 2.0 ** np.arange(panels.smallest - levels, panels.smallest + 1)
    return _composite(np.concatenate([[0.0], edges]), panels.points)


@functools.lru_cache(maxsize=32)
def nodes(levels: int, panels: Panels = USED) -> tuple[np.ndarray, np.ndarray]:
    """Nodes z and weights on the line, with the panels next to 0 halved `levels` times."""
    reach, smallest, width, points = panels
    graded = 2.0 ** np.arange(smallest, math.log2(width))
    edges = np.concatenate([graded, np.arange(width, reach + width / 2, width)])
    z, weight = map(
        np.concatenate,
        zip(_first_panel(panels, levels), _composite(edges, points), strict=True),
    )
    return np.concatenate([-z[::-1], z]), np.concatenate([weight[::-1], weight])


@functools.lru_cache(maxsize=32)
def _projection(levels: int, panels: Panels) -> np.ndarray:
    """Matrix from values on the halved panel to those of a polynomial at the nodes of the whole.

    It is the polynomial closest to the function, so that its moments are the function's.
    """
    z, weight = _first_panel(panels, levels)
    scale = 2.0 / 2.0**panels.smallest
    points = panels.points
    x, _ = np.polynomial.legendre.leggauss(points)
    norm = np.sqrt(np.arange(points) + 0.5)
    legendre = lambda x: norm * np.polynomial.legendre.legvander(x, points - 1)  # noqa: E731
    return legendre(x) @ (legendre(scale * z - 1).T * (scale * weight))


def gather(values: Any, levels: int, panels: Panels = USED) -> Any:
    """Turn values at `nodes(levels)` (last axis) into values at `nodes(0)` that count the same.

    Hermite functions of the orders in use are polynomials, to rounding, on the panels next to 0.
    """
    if not levels:
        return values
    xp = jnp if isinstance(values, Array) else np
    matrix = xp.asarray(_projection(levels, panels), values.dtype)
    inner = panels.points * (levels + 1)
    middle = values.shape[-1] // 2
    left, right = values[..., middle - inner : middle], values[..., middle : middle + inner]
    parts = [
        values[..., : middle - inner],
        left @ matrix[::-1, ::-1].T,
        right @ matrix.T,
        values[..., middle + inner :],
    ]
    return xp.concatenate(parts, axis=-1)


@functools.lru_cache(maxsize=32)
def hermite(terms: int, panels: Panels = USED) -> np.ndarray:
    """Matrix (terms, nodes) that maps values σ(√c z) at `nodes(0)` to the coefficients a_n(c)."""
    z, weight = nodes(0, panels)
    root = np.exp(-(z**2) / 4) / (2 * np.pi) ** 0.25  # square root of the Gaussian density
    functions = np.empty((terms, z.size))
    functions[0] = root
    functions[1:2] = z * root
    for n in range(1, terms - 1):
        functions[n + 1] = (z * functions[n] - math.sqrt(n) * functions[n - 1]) / math.sqrt(n + 1)
    return functions * (weight * root)
