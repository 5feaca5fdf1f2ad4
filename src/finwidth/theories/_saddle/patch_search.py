"""Where a convolution's action is stationary: symmetric positive definite matrices over patches.

Without mean terms 𝒮(Q̄) is minimised. The coordinates at a point are S with Q̄ ← Q̄^½ exp(S) Q̄^½, in
which the prior's part of the Hessian is N_c times the unit matrix: conjugate gradients then take
few products. With a mean term the point is a saddle in Q̄ and R = (1 + Q)⁻¹, which Newton's method
finds with GMRES, its equations multiplied by the inverse of the prior's part.

Source: theory.md sections 14 and 16.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import aslinearoperator, gmres

from ..._numerics.trust_region import minimise
from .patch_action import DataTerm
from .patch_kernels import Square, upper

__all__ = [
    "GOAL",
    "TOLERANCE",
    "Found",
    "find_minimum",
    "find_saddle",
    "function",
    "symmetric",
]

TOLERANCE, GOAL = 1e-9, 1e-12  # of the equations, relative to N_c + P
_STEPS = 60  # of Newton's method
_LONGEST = 1.0  # step in the logarithms of the matrices


class Found(NamedTuple):
    """A stationary point.

    Attributes
    ----------
    q_bar, r
        Q̄ and R, equal without a mean term.
    residual
        Largest entry of the gradient in the logarithms of both, relative to N_c + P.
    converged, message
        Whether it is small enough, and if not, why.
    """

    q_bar: Square
    r: Square
    residual: float
    converged: bool
    message: str

    @property
    def q(self) -> Square:
        """Q = R⁻¹ − 1."""
        return np.linalg.inv(self.r) - np.eye(len(self.r))


def function(matrix: Square, of: Callable[[np.ndarray], np.ndarray]) -> Square:
    """Return a function of a symmetric matrix, given that of numbers."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * of(values)) @ vectors.T


def symmetric(matrix: np.ndarray) -> np.ndarray:
    """Return the symmetric part of a matrix, or of each of a stack."""
    return 0.5 * (matrix + np.swapaxes(matrix, -1, -2))


@dataclasses.dataclass(frozen=True, eq=False)
class _Place:
    """Q̄, with 𝒮 and its gradient in S."""

    q_bar: Square
    root: Square
    slope: Square
    value: float
    rows: float

    @property
    def gradient(self) -> np.ndarray:
        return _packed(self.slope)

    @property
    def residual(self) -> float:
        return float(np.max(np.abs(self.slope))) / self.rows

    @property
    def noise(self) -> float:
        return 1e-14 * (abs(self.value) + self.rows)


def _packed(matrix: Square) -> np.ndarray:
    """Return a symmetric matrix as a vector of the same norm."""
    first, second = upper(len(matrix))
    return np.where(first == second, 1.0, np.sqrt(2.0)) * matrix[first, second]


def _unpacked(vector: np.ndarray, size: int) -> Square:
    first, second = upper(size)
    matrix = np.zeros((size, size))
    matrix[first, second] = vector / np.where(first == second, 1.0, np.sqrt(2.0))
    return matrix + np.triu(matrix, 1).T


class _Landscape:
    """𝒮 on the positive definite matrices, as `minimise` takes it."""

    def __init__(self, data: DataTerm, width: float) -> None:
        self._data, self._width = data, width

    def at(self, q_bar: Square) -> _Place | None:
        """Return what is known at Q̄, None where 𝒮 is not defined."""
        values, vectors = np.linalg.eigh(q_bar)
        if not values[0] > 0:
            return None
        data = self._data.at(q_bar)
        if data is None:
            return None
        root, size, width = (vectors * np.sqrt(values)) @ vectors.T, len(values), self._width
        value = width * float(np.sum(values - np.log(values) - 1.0)) + data.value
        slope = width * (q_bar - np.eye(size)) + root @ data.d_q_bar @ root
        return _Place(q_bar, root, symmetric(slope), value, width + self._data.problem.n_patterns)

    def move(self, point: _Place, step: np.ndarray) -> _Place | None:
        """Return the point Q̄^½ exp(S) Q̄^½."""
        factor = function(_unpacked(step, len(point.q_bar)), np.exp)
        return self.at(symmetric(point.root @ factor @ point.root))

    def hessian(self, point: _Place) -> Callable[[np.ndarray], np.ndarray]:
        """Return the product with ∂²𝒮/∂S²."""
        bend = self._data.bend(point.q_bar)

        def product(step: np.ndarray) -> np.ndarray:
            s, root = _unpacked(step, len(point.q_bar)), point.root
            bent = root @ bend(root @ s @ root, None)[0] @ root
            return _packed(self._width * s + symmetric(s @ point.slope + bent))

        return product


def find_minimum(data: DataTerm, start: Square | None) -> Found | None:
    """Return the minimum of 𝒮 without mean terms next to `start`, None where 𝒮 is not defined.

    None: the search starts from infinite width, Q̄ = 1.
    """
    landscape = _Landscape(data, float(data.problem.network.widths[0]))
    place = landscape.at(np.eye(data.kernels.patches) if start is None else start)
    if place is None:
        return None
    minimum = minimise(landscape, place, tolerance=TOLERANCE, goal=GOAL)
    point = minimum.point
    return Found(point.q_bar, point.q_bar, point.residual, minimum.converged, minimum.message)


# --- with a mean term ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class _Pair:
    """Q̄ and R with the gradients of 𝒮 in both."""

    q_bar: Square
    r: Square
    d_q_bar: Square
    d_r: Square
    residual: float


def _at(data: DataTerm, width: float, q_bar: Square, r: Square) -> _Pair | None:
    """Return the gradients N(1 − R⁻¹) + 𝒢 and N(R⁻¹Q̄R⁻¹ − R⁻¹) + 𝒢_m."""
    found = data.at(q_bar, r)
    if found is None or found.d_r is None:
        return None
    inverse = function(r, np.reciprocal)
    d_q_bar = width * (np.eye(len(r)) - inverse) + found.d_q_bar
    d_r = width * (inverse @ q_bar @ inverse - inverse) + found.d_r
    roots = function(q_bar, np.sqrt), function(r, np.sqrt)
    sizes = [
        float(np.max(np.abs(root @ slope @ root)))
        for root, slope in zip(roots, (d_q_bar, d_r), strict=True)
    ]
    residual = max(sizes) / (width + data.problem.n_patterns)
    return _Pair(q_bar, r, d_q_bar, d_r, residual)


def _newton(data: DataTerm, width: float, q_bar: Square, r: Square) -> _Pair | None:
    """Return where Newton's method leads from a pair of matrices; its residual tells how far."""
    pair = _at(data, width, q_bar, r)
    for _ in range(_STEPS):
        if pair is None or pair.residual <= GOAL:
            break
        dq, dr = _newton_step(data, width, pair)
        size = max(
            float(np.max(np.abs(np.linalg.eigvals(np.linalg.solve(matrix, change)))))
            for matrix, change in ((pair.q_bar, dq), (pair.r, dr))
        )
        length = min(1.0, _LONGEST / size) if size > 0 else 1.0
        best = None
        while length > 1e-3:
            moved = _moved(pair.q_bar, length * dq), _moved(pair.r, length * dr)
            best = _at(data, width, *moved)
            if best is not None and best.residual < pair.residual:
                break
            best, length = None, 0.5 * length
        if best is None:
            break
        pair = best
    return pair


def _moved(matrix: Square, change: Square) -> Square:
    """Return M^½ exp(M^−½ dM M^−½) M^½, positive definite for any step."""
    root = function(matrix, np.sqrt)
    inverse = function(matrix, lambda values: values**-0.5)
    return symmetric(root @ function(symmetric(inverse @ change @ inverse), np.exp) @ root)


class _Product(NamedTuple):
    """A matrix that is known by its products, as SciPy takes it."""

    matvec: Callable[[np.ndarray], np.ndarray]
    size: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.size, self.size

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float64)


def _newton_step(data: DataTerm, width: float, pair: _Pair) -> tuple[Square, Square]:
    """Return (dQ̄, dR) by GMRES on 1 + P⁻¹𝒢′, P being the prior's part of the Jacobian."""
    q_bar, r, size = pair.q_bar, pair.r, len(pair.r)
    ratio = function(r, np.reciprocal) @ q_bar
    bend = data.bend(q_bar, r)

    def divided(a: Square, b: Square) -> np.ndarray:
        dr = r @ a @ r / width
        dq = r @ b @ r / width + dr @ ratio + ratio.T @ dr - dr
        return np.concatenate([_packed(symmetric(dq)), _packed(symmetric(dr))])

    def parts(vector: np.ndarray) -> tuple[Square, Square]:
        one, other = np.split(vector, 2)
        return _unpacked(one, size), _unpacked(other, size)

    def product(vector: np.ndarray) -> np.ndarray:
        a, b = bend(*parts(vector))
        assert b is not None
        return vector + divided(a, b)

    right = -divided(pair.d_q_bar, pair.d_r)
    operator = aslinearoperator(_Product(product, right.size))
    accuracy = max(min(1e-2, pair.residual), 1e-6)
    step, _ = gmres(operator, right, rtol=accuracy, restart=80, maxiter=2)
    return parts(step)


def find_saddle(data: DataTerm, start: tuple[Square, Square] | None) -> Found | None:
    """Return the saddle point with mean terms, None where 𝒮 is not defined at the start.

    From Q̄ = R = 1, or from `start`; where that does not lead to it, it is followed from wider
    networks, whose saddle point is closer to that.
    """
    width = float(data.problem.network.widths[0])
    one = np.eye(data.kernels.patches)
    pair = _newton(data, width, *(start or (one, one)))
    if pair is None:
        return None
    if not pair.residual <= TOLERANCE:
        matrices = one, one
        for factor in 2.0 ** np.arange(8, -1, -1):
            found = _newton(data, factor * width, *matrices)
            if found is None or not found.residual <= TOLERANCE:
                break
            matrices = found.q_bar, found.r
            pair = found if factor == 1.0 else pair
    converged = pair.residual <= TOLERANCE
    message = "" if converged else "Newton's method does not arrive at a saddle point"
    return Found(pair.q_bar, pair.r, pair.residual, converged, message)
