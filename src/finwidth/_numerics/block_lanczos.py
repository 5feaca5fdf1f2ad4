"""Block Lanczos: what a symmetric matrix does to some vectors, from few products with all of them.

After m products with blocks that start at S there are an orthonormal basis V of the block Krylov
space and the projection VᵀKV. They know Sᵀf(K)S for every function f at once, exactly where f is a
polynomial of degree 2m − 1 (Golub and Meurant, Matrices, Moments and Quadrature, 2010, ch. 5): so
one run serves K at all scales and with any noise.
"""

from collections.abc import Callable

import numpy as np
import scipy.linalg
from jaxtyping import Float

__all__ = ["BlockLanczos", "Rule"]

_EPS = float(np.finfo(np.float64).eps)
_VISIBLE = 1e-10  # square of a direction beside the largest that a Gram matrix still tells
_ROUNDS = 6


class Rule:
    """Nodes θ and weights of the quadrature Sᵀf(K)S ≈ Cᵀ f(θ) C.

    Attributes
    ----------
    nodes
        Eigenvalues of VᵀKV, shape (node,).
    start
        C, components of the starting vectors, shape (node, vector).
    vectors
        Eigenvectors of VᵀKV, shape (basis, node).
    """

    def __init__(self, projection: np.ndarray, start: np.ndarray) -> None:
        nodes, self.vectors = scipy.linalg.eigh(projection)
        self.nodes = np.maximum(nodes, 0.0)  # K is positive semidefinite
        self.start = self.vectors[: start.shape[0]].T @ start


class BlockLanczos:
    """A run of block Lanczos with full reorthogonalisation, a product at a time.

    Directions that have become dependent are left out, so blocks may shrink. When none is left
    the space is invariant and the quadrature exact.

    Parameters
    ----------
    start
        S, shape (row, vector).
    largest
        Number of basis vectors to make room for.

    Attributes
    ----------
    start
        Vᵀ S of the first block, shape (block, vector).
    coupling
        B with K V = V VᵀKV + V_next B E_lastᵀ, shape (next, last).
    sizes
        Number of vectors in each block that K has been applied to.
    complete
        Whether the space is invariant.
    """

    def __init__(self, start: Float[np.ndarray, "row vector"], largest: int) -> None:
        rows, _ = start.shape
        self._basis = np.empty((rows, min(rows, largest)), order="F")
        self._projection = np.zeros((self._basis.shape[1],) * 2)
        lengths = np.linalg.norm(start, axis=0)
        lengths[lengths == 0] = 1.0
        self._next, unit = _orthonormal(start / lengths, 10 * _EPS * rows**0.5)
        self.start = unit * lengths
        self.coupling = np.zeros((0, 0))
        self.sizes: list[int] = []
        self._scale = 0.0

    @property
    def size(self) -> int:
        """Number of basis vectors that K has been applied to."""
        return sum(self.sizes)

    @property
    def complete(self) -> bool:
        """Whether the space is invariant."""
        return self._next.shape[1] == 0

    @property
    def full(self) -> bool:
        """Whether there is no room for the next block."""
        return self.size + self._next.shape[1] > self._basis.shape[1]

    @property
    def basis(self) -> Float[np.ndarray, "row basis"]:
        """V."""
        return self._basis[:, : self.size]

    @property
    def following(self) -> Float[np.ndarray, "row next"]:
        """V_next."""
        return self._next

    @property
    def projection(self) -> Float[np.ndarray, "basis basis"]:
        """VᵀKV."""
        return self._projection[: self.size, : self.size]

    def extend(self, product: Callable[[np.ndarray], np.ndarray]) -> None:
        """Apply K, given as `product`, to the next block."""
        block, old, n = self._next, self.size, self._next.shape[1]
        new = product(block)
        whole = self._basis[:, : old + n]
        whole[:, old:] = block
        if self.sizes:
            last = slice(old - self.sizes[-1], old)
            self._projection[old : old + n, last] = self.coupling
            self._projection[last, old : old + n] = self.coupling.T
        own = block.T @ new
        self._projection[old : old + n, old : old + n] = 0.5 * (own + own.T)
        scale = max(self._scale, float(np.max(np.abs(np.diag(own)))))
        rows = new.shape[0]
        following, coupling = _orthonormal(_against(whole, new), 10 * _EPS * rows**0.5 * scale)
        if old + n + following.shape[1] > rows:  # what is left is rounding
            following, coupling = following[:, :0], coupling[:0]
        if following.shape[1]:
            # where a remainder is small, rounding has turned it towards the basis
            following, turn = _orthonormal(_against(whole, following), 0.0)
            coupling = turn @ coupling
        # at once, so that what is interrupted before has not begun
        self.sizes, self._scale = [*self.sizes, n], scale
        self._next, self.coupling = following, coupling

    def rule(self) -> Rule:
        """Return Gauss's rule: below zᵀf(K)z for f = 1/(T + x)."""
        return Rule(self.projection, self.start)

    def radau_rule(self, rule: Rule) -> Rule:
        """Return the Gauss–Radau rule with a node at 0, below K: above zᵀf(K)z for 1/(T + x).

        `rule` is that of `rule`, whose eigenvectors are of use.
        """
        if self.complete:
            return rule
        last = self.size - self.sizes[-1]
        at = -_EPS * max(float(rule.nodes[-1]), np.finfo(np.float64).tiny)
        rows = rule.vectors[last:]
        inner = (rows / (rule.nodes - at)) @ rows.T
        corner = self.coupling @ inner @ self.coupling.T
        n = self.size + corner.shape[0]
        whole = np.zeros((n, n))
        whole[: self.size, : self.size] = self.projection
        whole[self.size :, last : self.size] = self.coupling
        whole[last : self.size, self.size :] = self.coupling.T
        whole[self.size :, self.size :] = 0.5 * (corner + corner.T)
        return Rule(whole, self.start)

    def residuals(self, rule: Rule) -> Float[np.ndarray, " node"]:
        """Return |K u − θ u| of the approximate eigenvectors u."""
        last = self.size - self.sizes[-1]
        return np.linalg.norm(self.coupling @ rule.vectors[last:], axis=0)


def _orthonormal(block: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Return Q with orthonormal columns and R with `block` = Q R but for what is negligible.

    By products of whole blocks: the Gram matrix tells all directions but the small ones, which
    are left for the next round, where nothing larger hides them.
    """
    size = float(np.max(np.abs(block), initial=0.0))
    if size == 0.0:
        return block[:, :0], np.zeros((0, block.shape[1]))
    rest, q = block / size, block[:, :0]
    for _ in range(_ROUNDS):
        squares, vectors = np.linalg.eigh(rest.T @ rest)
        kept = squares > max((tolerance / size) ** 2, _VISIBLE * squares[-1])
        if not kept.any():
            break
        new = _against(q, rest @ (vectors[:, kept] / np.sqrt(squares[kept])))
        squares, vectors = np.linalg.eigh(new.T @ new)
        q = np.column_stack([q, new @ ((vectors / np.sqrt(squares)) @ vectors.T)])
        if q.shape[1] == min(block.shape):
            break
        rest = _against(q, block / size)
    return q, q.T @ block


def _against(basis: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Return `block` without its components along the basis; twice is enough."""
    for _ in range(2):
        block = block - basis @ (basis.T @ block)
    return block
