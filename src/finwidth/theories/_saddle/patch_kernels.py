"""The kernels of all pairs of patches of a convolution, tile by tile of the training set.

B_ab = (K_ab − m_a m_bᵀ)/(λ_1 A) enters through K_R = Σ_ab Q̄_ab B_ab with a symmetric Q̄, so that its
symmetric part ½(B_ab + B_abᵀ) for a ≤ b, on the lower triangle of patterns, is all that is needed:
A(A + 1)/2 · P(P + 1)/2 numbers. Tiles of them are kept as long as the memory limit has room, and
made anew each time beyond it; either way the numbers are the same. Where patches do not share their
weights, B_ab = 0 for a ≠ b, and only the diagonals of matrices over patches matter.
"""

# SciPy makes the LAPACK wrappers at run time:
# pyright: reportAttributeAccessIssue=false
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Float

from ..._basics.errors import InputError
from ..._layers.dense import input_covariance
from ..._layers.patches import Patches
from ..._layers.stack import layer_rules
from ..._problem.problem import Problem
from ...activations import _moments

__all__ = [
    "DEFAULT_LIMIT",
    "PatchBlocks",
    "PatchKernels",
    "Square",
    "Tile",
    "centred_kernels",
    "patch_blocks",
    "upper",
]

DEFAULT_LIMIT = 4 * 2**30  # bytes
_TILE = 2**22  # entries of K_ab in one tile of patterns, all pairs of patches together
_FEWEST = 4  # patterns to a side of a tile

Square = Float[np.ndarray, "patch patch"]
Tile = Callable[[slice, slice], np.ndarray]


@functools.cache
def upper(patches: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the upper triangle."""
    return np.triu_indices(patches)


class PatchKernels:
    """B_ab on a training set, and the means of patches.

    Parameters
    ----------
    problem
        A network whose first and only layer is a convolution without pooling, and its training
        set.
    memory_limit
        Bytes that this may hold together with the two P × P matrices of an evaluation; None: 4 GiB.

    Attributes
    ----------
    patches
        A.
    shared
        Whether there are kernels of two patches.
    mean
        m_a/√(λ_1 A), shape (pattern, patch), or None for an odd activation.
    """

    def __init__(self, problem: Problem, memory_limit: int | None = None) -> None:
        covariance = input_covariance(problem.network, problem.X)
        assert isinstance(covariance, Patches)
        self._activation, self._rule = problem.network.activations[0], problem.rules[0]
        self.n_patterns, self.patches = covariance.a.shape[:2]
        self.shared = covariance.shared
        self._pairs = _pairs_of(self.patches, self.shared)
        self._scale = 1.0 / (float(problem.stack.precisions[0]) * self.patches)
        self.mean = None
        if self._activation.parity != "odd":
            first = covariance.means(self._activation, self._rule)[0]
            self.mean = np.asarray(first) * np.sqrt(self._scale)
        self._made = self.patches ** (2 if self.shared else 1)  # kernels to make for a tile
        size = max(_FEWEST, int((_TILE / self._made) ** 0.5))
        count = -(-self.n_patterns // min(size, self.n_patterns))
        self._side = -(-self.n_patterns // count)
        missing = count * self._side - self.n_patterns  # patterns of zeros fill the last tile
        self._z = jnp.pad(covariance.a, ((0, missing), (0, 0), (0, 0)))
        self._places = [(i, j) for i in range(count) for j in range(i + 1)]
        self._kept: dict[tuple[int, int], np.ndarray] = {}
        self._room = self._bytes_to_keep(DEFAULT_LIMIT if memory_limit is None else memory_limit)

    def _bytes_to_keep(self, limit: int) -> int:
        """Return what the limit leaves for tiles, or raise InputError where it has no room."""
        entries = self._side**2 * 8
        making = entries * (3 * self._made + self._pairs[0].size)
        needed = 2 * 8 * self.n_patterns**2 + making
        if limit < needed:
            raise InputError(
                f"expected memory_limit = at least {needed} bytes, for two matrices of "
                f"{self.n_patterns} × {self.n_patterns} patterns and one tile of the kernels of "
                f"{self.patches} × {self.patches} patches, got {limit}"
            )
        return limit - needed

    @property
    def kept(self) -> int:
        """Bytes of the tiles that are kept."""
        return sum(tile.nbytes for tile in self._kept.values())

    def _tile(self, place: tuple[int, int]) -> np.ndarray:
        """Return B_ab of one tile of patterns, shape (pair, entry)."""
        if place in self._kept:
            return self._kept[place]
        rows, columns = (self._z[i * self._side : (i + 1) * self._side] for i in place)
        made = _blocks(self._activation, rows, columns, self._rule, self._scale, self.shared)
        tile = np.asarray(made)
        if self.kept + tile.nbytes <= self._room:
            self._kept[place] = tile
        return tile

    def _tiles(self) -> Iterator[tuple[slice, slice, np.ndarray]]:
        n, side = self.n_patterns, self._side
        for i, j in self._places:
            rows, columns = (slice(k * side, min((k + 1) * side, n)) for k in (i, j))
            yield rows, columns, self._tile((i, j))

    def assemble(self, weights: Square, means: Square | None = None) -> np.ndarray:
        """Return Σ_ab w_ab B_ab + M u Mᵀ, shape (pattern, pattern), in Fortran order.

        Parameters
        ----------
        weights
            w, symmetric.
        means
            u, symmetric; None: no such term.
        """
        return self.assemble_each([(weights, means)])[0]

    def contract(self, tile_of: Tile) -> Square:
        """Return tr[C B_ab] for all pairs, of a symmetric C, given tiles of its lower triangle."""
        return self.contract_each([tile_of])[0]

    def counted(self, gradient: Square) -> Square:
        """Return a gradient in R, which like Q̄ is diagonal where patches share no weights."""
        return gradient if self.shared else np.diag(np.diag(gradient))

    def assemble_each(self, sums: Sequence[tuple[Square, Square | None]]) -> list[np.ndarray]:
        """Return `assemble` of several, in one pass over the tiles."""
        first, second = self._pairs
        packed = np.array([one[first, second] for one, _ in sums])
        packed *= np.where(first == second, 1.0, 2.0)
        matrices = [np.empty((self.n_patterns, self.n_patterns), order="F") for _ in sums]
        for rows, columns, tile in self._tiles():
            blocks = (packed @ tile).reshape(-1, self._side, self._side)
            blocks = blocks[:, : rows.stop - rows.start, : columns.stop - columns.start]
            for matrix, block in zip(matrices, blocks, strict=True):
                matrix[rows, columns] = block
                if rows != columns:
                    matrix[columns, rows] = block.T
        for k, (_, means) in enumerate(sums):
            if means is not None and self.mean is not None:  # in place
                matrices[k] = scipy.linalg.blas.dgemm(
                    1.0, self.mean @ means, self.mean, 1.0, matrices[k], trans_b=1, overwrite_c=1
                )
        return matrices

    def contract_each(self, cotangents: Sequence[Tile]) -> list[Square]:
        """Return `contract` of several, in one pass over the tiles."""
        totals = np.zeros((self._pairs[0].size, len(cotangents)))
        if cotangents:
            for rows, columns, tile in self._tiles():
                parts = [self._filled(one(rows, columns), rows == columns) for one in cotangents]
                totals += tile @ np.stack(parts, axis=1)
        return [self._unpacked(total) for total in totals.T]

    def _filled(self, block: np.ndarray, diagonal: bool) -> np.ndarray:
        """Return a tile of C with what its mirror image counts, as long as a tile of kernels."""
        part = np.zeros((self._side, self._side))
        if diagonal:  # only its lower triangle need be there
            lower = np.tril(block, -1)
            block = lower + lower.T + np.diag(np.diag(block))
        else:
            block = 2.0 * block
        part[: block.shape[0], : block.shape[1]] = block
        return part.ravel()

    def _unpacked(self, total: np.ndarray) -> Square:
        result = np.zeros((self.patches, self.patches))
        result[self._pairs] = total
        return result + np.triu(result, 1).T


@functools.cache
def _pairs_of(patches: int, shared: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of patches that have a kernel."""
    number = np.arange(patches)
    return upper(patches) if shared else (number, number)


@functools.partial(jax.jit, static_argnames=("activation", "shared"))
def centred_kernels(activation: Any, a: Any, b: Any, rule: Any, shared: bool) -> Any:
    """Return K_ab − m_a m_bᵀ on two sets of images z, shape (patch, patch, a, b).

    (patch, a, b) where patches share no weights: a = b alone.
    """
    ends = [jnp.sum(one**2, axis=-1).T for one in (a, b)]
    if shared:
        covariance = jnp.einsum("ias,jbs->abij", a, b)
        left, right = ends[0][:, None, :, None], ends[1][None, :, None, :]
    else:
        covariance = jnp.einsum("ias,jas->aij", a, b)
        left, right = ends[0][:, :, None], ends[1][:, None, :]
    kernel = _moments.kernel(activation, left, covariance, right, rule=rule)
    if activation.parity == "odd":
        return kernel
    means = [_moments.mean(activation, one, rule=rule) for one in (left, right)]
    return kernel - means[0] * means[1]


@functools.partial(jax.jit, static_argnames=("activation", "shared"))
def _blocks(activation: Any, a: Any, b: Any, rule: Any, scale: Any, shared: bool) -> Any:
    """Return ½(B_ab + B_ba) of pairs of patches on two sets of images, shape (pair, entry)."""
    kernel = centred_kernels(activation, a, b, rule, shared)
    if shared:
        kernel = (0.5 * scale) * (kernel + jnp.swapaxes(kernel, 0, 1))
        kernel = kernel[upper(a.shape[1])]
    else:
        kernel = scale * kernel
    return kernel.reshape(-1, a.shape[0] * b.shape[0])


@dataclasses.dataclass(frozen=True, eq=False)
class PatchBlocks:
    """B_ab between two sets of patterns, all pairs of patches at once: for few of them.

    Attributes
    ----------
    pairs
        ½(B_ab + B_ba) for a ≤ b, shape (pair, a, b).
    ends
        Those of each pattern of the first set with itself, shape (pair, a).
    mean_a
        m_a/√(λ_1 A) on the first set, shape (a, patch), or None for an odd activation.
    shared
        Whether patches share their weights; if not, pairs are a = b alone.
    """

    pairs: np.ndarray
    ends: np.ndarray
    mean_a: np.ndarray | None
    shared: bool

    def _packed(self, q_bar: np.ndarray) -> np.ndarray:
        first, second = _pairs_of(q_bar.shape[-1], self.shared)
        return np.where(first == second, 1.0, 2.0) * q_bar[:, first, second]

    def kernel(self, q_bar: Float[np.ndarray, "node patch patch"]) -> np.ndarray:
        """Return Σ_ab Q̄_ab B_ab at nodes, shape (node, a, b)."""
        return np.tensordot(self._packed(q_bar), self.pairs, 1)

    def diagonal(self, q_bar: Float[np.ndarray, "node patch patch"]) -> np.ndarray:
        """Return the variances on the first set, shape (node, a)."""
        return self._packed(q_bar) @ self.ends


def patch_blocks(problem: Problem, A: np.ndarray, B: np.ndarray | None = None) -> PatchBlocks:
    """Return B_ab between patterns, or raise InputError where the memory limit has no room."""
    network = problem.network
    covariance = input_covariance(network, A, B)
    assert isinstance(covariance, Patches)
    patches, shared = covariance.a.shape[1], covariance.shared
    made = patches ** (2 if shared else 1)
    size = 4 * 8 * made * covariance.a.shape[0] * covariance.b.shape[0]
    limit = DEFAULT_LIMIT if problem.memory_limit is None else problem.memory_limit
    if size > limit:
        raise InputError(
            f"expected memory_limit = at least {size} bytes, for the kernels of {patches} × "
            f"{patches} patches all at once, got {limit}"
        )
    variances = np.concatenate([np.asarray(covariance.diag_a), np.asarray(covariance.diag_b)])
    rule = layer_rules(network, variances)[0]
    scale = 1.0 / (network.weight_precision[1] * patches)
    pairs = _blocks(network.activations[0], covariance.a, covariance.b, rule, scale, shared)
    ends = [
        _blocks(network.activations[0], one[None], one[None], rule, scale, shared)[:, 0]
        for one in np.asarray(covariance.a)
    ]
    mean = None
    if network.activations[0].parity != "odd":
        mean = np.asarray(covariance.means(network.activations[0], rule)[0]) * np.sqrt(scale)
    shape = len(covariance.a), len(covariance.b)
    return PatchBlocks(np.asarray(pairs).reshape(-1, *shape), np.stack(ends, axis=1), mean, shared)
