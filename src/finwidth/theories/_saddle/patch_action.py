"""The data term of a convolution's action, and its derivatives in Q̄ and R = (1 + Q)⁻¹.

With C the gradient of the data term in K_R (A⁻¹ − A⁻¹y yᵀA⁻¹ where the likelihood is Gaussian) they
are G_ab = tr[C B_ab] and, of R, Mᵀ C M. One pass over the tiles of B_ab makes K_R and one contracts
C; a product with the Hessian takes as many. No more than two P × P matrices are held at a time.

Source: theory.md section 16.
"""

# SciPy makes the LAPACK wrappers at run time:
# pyright: reportAttributeAccessIssue=false
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy.linalg

from ..._basics.errors import InputError
from ..._likelihoods import Conditioned
from ..._likelihoods._likelihood import check_conditioned
from ..._numerics.factor import Factor
from ..._problem.problem import Problem
from .patch_kernels import Square, Tile

__all__ = ["DataTerm", "Evaluation", "Kernels", "evaluate"]

Bend = Callable[[Square, Square | None], tuple[Square, Square | None]]
_STEP = 1e-5  # of differences of gradients, relative; only the speed depends on it


@runtime_checkable
class Kernels(Protocol):
    """What the data term asks of the kernels of pairs of patches, or of patches and outputs.

    Attributes
    ----------
    patches
        Size of the matrices.
    mean
        M, or None for an odd activation.
    """

    patches: int
    mean: Any

    def assemble(self, weights: Square, means: Square | None = None) -> np.ndarray:
        """Return Σ_ab w_ab B_ab + M u Mᵀ on the training set."""
        ...

    def contract(self, tile_of: Tile) -> Square:
        """Return tr[C B_ab] for all pairs, of a symmetric C, given tiles of its lower triangle."""
        ...

    def assemble_each(self, sums: Sequence[tuple[Square, Square | None]]) -> Sequence[np.ndarray]:
        """Return `assemble` of several."""
        ...

    def contract_each(self, cotangents: Sequence[Tile]) -> Sequence[Square]:
        """Return `contract` of several."""
        ...

    def counted(self, gradient: Square) -> Square:
        """Return what counts of a gradient in R."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """The data term, and its gradients in Q̄ and, with a mean term, in R."""

    value: float
    d_q_bar: Square
    d_r: Square | None


@dataclasses.dataclass(frozen=True, eq=False)
class DataTerm:
    """−2 log p(y) given Q̄ and R.

    Parameters
    ----------
    problem
        Network, training set, temperature and likelihood.
    kernels
        B_ab on the training set.
    """

    problem: Problem
    kernels: Kernels

    @property
    def has_mean(self) -> bool:
        """Whether there is a mean term, so that R is an unknown of its own."""
        return self.kernels.mean is not None

    def kernel(self, q_bar: Square, r: Square | None) -> np.ndarray:
        """Return K_R on the training set."""
        return self._biased(self.kernels.assemble(q_bar, r))

    def _biased(self, matrix: np.ndarray) -> np.ndarray:
        n = self.problem.n_patterns
        if self.problem.output_bias:
            for rows in (slice(i, i + n) for i in range(0, len(matrix), n)):  # of each output
                matrix[rows, rows] += self.problem.output_bias
        return matrix

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Labels, output by output."""
        return self.problem.y.T.ravel()

    def condition(self, q_bar: Square, r: Square | None) -> Conditioned:
        """Return f on the training set given the labels, or raise InputError."""
        return self.conditioned(self.kernels.assemble(q_bar, r))

    def conditioned(self, assembled: np.ndarray) -> Conditioned:
        """Return the same, given the sum of the kernels, which may be overwritten."""
        problem, kernel = self.problem, self._biased(assembled)
        found = problem.likelihood.condition(kernel, self.labels, problem.temperature)
        return check_conditioned(found, problem.likelihood, self.labels.size)

    def at(self, q_bar: Square, r: Square | None = None) -> Evaluation | None:
        """Return value and gradients, None where K_R does not allow it."""
        return evaluate([self], [(q_bar, r)])[0]

    def slopes(self, assembled: np.ndarray) -> tuple[float, Tile, Square | None] | None:
        """Return the value, tiles of C and the gradient in R, given the sum of the kernels.

        None where K_R does not allow it. The sum is overwritten.
        """
        problem, mean = self.problem, self.kernels.mean
        try:
            if not problem.likelihood.homogeneous:
                conditioned = self.conditioned(assembled)
                gradient = conditioned.gradient()
                return conditioned.action, gradient, self._along_means(gradient)
            factor = Factor(self._biased(assembled), problem.temperature, overwrite=True)
        except InputError:
            return None
        dual = factor.solve(self.labels)
        value = factor.logdet + factor.quadratic(self.labels)
        d_r = None
        if mean is not None:
            half, along = factor.whiten(mean), mean.T @ dual
            d_r = self.kernels.counted(half.T @ half - np.outer(along, along))
        inverse, _ = scipy.linalg.lapack.dpotri(factor.lower, lower=1, overwrite_c=1)

        def tile(rows: slice, columns: slice) -> np.ndarray:
            return inverse[rows, columns] - np.outer(dual[rows], dual[columns])

        return value, tile, d_r

    def _along_means(self, tile: Callable[[slice, slice], np.ndarray]) -> Square | None:
        """Return Mᵀ C M, of a C whose lower triangle is given."""
        mean = self.kernels.mean
        if mean is None:
            return None
        every = slice(0, self.problem.n_patterns)
        lower = np.tril(tile(every, every))
        part = mean.T @ (lower @ mean)
        return self.kernels.counted(part + part.T - (mean.T * np.diag(lower)) @ mean)

    def bend(self, q_bar: Square, r: Square | None = None) -> Bend:
        """Return directions (dQ̄, dR) -> the changes of both gradients along them."""
        if not self.problem.likelihood.homogeneous:
            return self._differences(q_bar, r)
        found: list[tuple[np.ndarray, np.ndarray]] = []  # made when it is first needed

        def product(dq: Square, dr: Square | None = None) -> tuple[Square, Square | None]:
            problem, mean = self.problem, self.kernels.mean
            if not found:
                factor = Factor(self.kernel(q_bar, r), problem.temperature, overwrite=True)
                found.append((factor.lower, factor.solve(self.labels)))
            lower, dual = found[0]
            change = self.kernels.assemble(dq, dr)
            turned = scipy.linalg.cho_solve((lower, True), change @ dual)
            # A⁻¹ ∂K A⁻¹, in place
            for right, transposed in ((0, 0), (1, 1), (0, 1), (1, 0)):
                change = scipy.linalg.blas.dtrsm(
                    1.0, lower, change, side=right, lower=1, trans_a=transposed, overwrite_b=1
                )

            def tile(rows: slice, columns: slice) -> np.ndarray:
                outer = np.outer(turned[rows], dual[columns]) + np.outer(
                    dual[rows], turned[columns]
                )
                return outer - change[rows, columns]

            d_r = None
            if mean is not None:
                sides = np.outer(mean.T @ turned, mean.T @ dual)
                d_r = self.kernels.counted(sides + sides.T - mean.T @ (change @ mean))
            return self.kernels.contract(tile), d_r

        return product

    def _differences(self, q_bar: Square, r: Square | None) -> Bend:
        """Return `bend` by central differences of the gradients."""

        def product(dq: Square, dr: Square | None = None) -> tuple[Square, Square | None]:
            size = max(float(np.linalg.norm(one)) for one in (dq, dr) if one is not None)
            step = _STEP * float(np.linalg.norm(q_bar)) / max(size, np.finfo(float).tiny)
            ends = []
            for sign in (step, -step):
                place = q_bar + sign * dq, r if dr is None or r is None else r + sign * dr
                ends += [one for one in [self.at(*place)] if one is not None]
                if not ends:
                    self.condition(*place)  # refused in its own words
            d_q_bar = (ends[0].d_q_bar - ends[1].d_q_bar) / (2 * step)
            if ends[0].d_r is None or ends[1].d_r is None:
                return d_q_bar, None
            return d_q_bar, (ends[0].d_r - ends[1].d_r) / (2 * step)

        return product


def evaluate(
    terms: Sequence[DataTerm], points: Sequence[tuple[Square, Square | None]]
) -> list[Evaluation | None]:
    """Return value and gradients of data terms with the same kernels, each at its own point.

    Two passes over the kernels' tiles serve all. A P × P matrix is held for each.
    """
    kernels = terms[0].kernels
    matrices = list(kernels.assemble_each(points))[::-1]
    found = [data.slopes(matrices.pop()) for data in terms]
    gradients = iter(kernels.contract_each([one[1] for one in found if one is not None]))
    return [None if one is None else Evaluation(one[0], next(gradients), one[2]) for one in found]
