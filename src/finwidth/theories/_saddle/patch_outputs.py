"""A convolution with several outputs: a matrix over (patch, output), patches slow.

K_R[(μd),(νe)] = Σ_ab Q̄_(ad),(be) B_ab[μν] + …, outputs slow. Blocks with d ≠ e are not symmetric in
the patterns, so that B_ab of all pairs is needed, and held. The action and its search are those of
one output.

Source: theory.md sections 14 and 16.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..._basics.errors import InputError
from ..._layers.covariance import Covariance
from ..._layers.dense import input_covariance
from ..._layers.patches import Patches
from ..._layers.stack import layer_rules
from ..._numerics.precision import float64
from ..._observables._prediction import Prediction
from ..._problem.network import Network
from ..._problem.problem import Problem
from .outputs import refuse_likelihood
from .patch_kernels import DEFAULT_LIMIT, Square, Tile, centred_kernels
from .patches import PatchSolution, patch_coordinates, search

__all__ = ["OutputKernels", "PatchOutputsSolution", "solve_patch_outputs"]

_ENTRIES = 2**22  # of the kernels of all pairs of patches that are made at once
_EVERY = slice(None)


def solve_patch_outputs(rule: Any, problem: Problem, start: Any = None) -> "PatchOutputsSolution":
    """Return the saddle point of a convolution without pooling that has several outputs.

    `start` is the solution of a nearby problem, or Q̄; None: infinite width.
    """
    refuse_likelihood(problem)
    ((found, conditioned),) = search([problem], OutputKernels(problem), start)
    return PatchOutputsSolution(problem, rule, found, conditioned)


class OutputKernels:
    """B_ab of all pairs of patches on a training set, as `DataTerm` takes them.

    Parameters
    ----------
    problem
        A network whose first and only layer is a convolution without pooling, and its training
        set.

    Attributes
    ----------
    patches
        Size of the matrices over (patch, output), A D.
    mean
        m_a/√(λ_1 A) for each output, shape (output·pattern, patch·output), or None for an odd
        activation.
    """

    def __init__(self, problem: Problem) -> None:
        network, X = problem.network, problem.X
        layer, self._outputs = network.layers[0], network.outputs
        count = layer.size(X.shape[1:]) // layer.width
        n, self.patches = problem.n_patterns, count * self._outputs
        needed = 8 * (count**2 * n**2 + 3 * _ENTRIES + 4 * (n * self._outputs) ** 2)
        limit = DEFAULT_LIMIT if problem.memory_limit is None else problem.memory_limit
        if limit < needed:
            raise InputError(
                f"expected memory_limit = at least {needed} bytes, for the kernels of {count} × "
                f"{count} patches and matrices of {self._outputs} outputs, got {limit}"
            )
        self._blocks = _kernels(network, X, X)
        self.mean = _spread(_means(network, X), self._outputs)
        apart = np.kron(np.eye(count), np.ones((self._outputs,) * 2))
        self._counted = None if _patches(network, X).shared else apart

    def assemble(self, weights: Square, means: Square | None = None) -> np.ndarray:
        """Return Σ Q̄_(ad),(be) B_ab + M u Mᵀ, square, patterns fast, in Fortran order."""
        matrix = _sum(self._blocks, weights, self._outputs)
        if means is not None and self.mean is not None:
            matrix += self.mean @ means @ self.mean.T
        return np.asfortranarray(0.5 * (matrix + matrix.T))

    def contract(self, tile_of: Tile) -> Square:
        """Return Σ_μν C[(μd),(νe)] B_ab[μν] of a symmetric C, given its lower triangle."""
        lower, outputs = np.tril(tile_of(_EVERY, _EVERY)), self._outputs
        full = lower + np.tril(lower, -1).T
        n, count = len(full) // outputs, self._blocks.shape[0]
        parts = full.reshape(outputs, n, outputs, n).swapaxes(1, 2).reshape(outputs**2, n**2)
        found = (parts @ self._blocks.reshape(count**2, n**2).T).reshape(*(outputs,) * 2, count, -1)
        matrix = found.transpose(2, 0, 3, 1).reshape(self.patches, self.patches)
        return self.counted(0.5 * (matrix + matrix.T))

    def assemble_each(self, sums: Sequence[tuple[Square, Square | None]]) -> list[np.ndarray]:
        """Return `assemble` of several."""
        return [self.assemble(*one) for one in sums]

    def contract_each(self, cotangents: Sequence[Tile]) -> list[Square]:
        """Return `contract` of several."""
        return [self.contract(one) for one in cotangents]

    def counted(self, gradient: Square) -> Square:
        """Return a gradient in Q̄ or R, 0 between patches that share no weights."""
        return gradient if self._counted is None else self._counted * gradient


def _sum(blocks: np.ndarray, weights: Square, outputs: int) -> np.ndarray:
    """Return Σ_ab w_(ad),(be) B_ab between two sets of patterns, shape (output·a, output·b)."""
    count, _, n, m = blocks.shape
    packed = weights.reshape(count, outputs, count, outputs).transpose(1, 3, 0, 2)
    found = packed.reshape(outputs**2, count**2) @ blocks.reshape(count**2, n * m)
    return found.reshape(outputs, outputs, n, m).swapaxes(1, 2).reshape(outputs * n, outputs * m)


def _spread(mean: np.ndarray | None, outputs: int) -> np.ndarray | None:
    """Return M ⊗ 1 over outputs, shape (output·pattern, patch·output)."""
    if mean is None:
        return None
    n, count = mean.shape
    return np.einsum("na,de->dnae", mean, np.eye(outputs)).reshape(outputs * n, count * outputs)


def _patches(network: Network, A: np.ndarray, B: np.ndarray | None = None) -> Patches:
    found = input_covariance(network, A, B)
    assert isinstance(found, Patches)
    return found


def _scale(network: Network, patches: int) -> float:
    return 1.0 / (network.weight_precision[1] * patches)


def _rule(network: Network, *X: np.ndarray) -> Any:
    variances = [np.asarray(_patches(network, one).diag_a) for one in X]
    return layer_rules(network, np.concatenate(variances))[0]


def _means(network: Network, X: np.ndarray) -> np.ndarray | None:
    """Return m_a/√(λ_1 A), shape (pattern, patch), or None."""
    sigma = network.activations[0]
    if sigma.parity == "odd":
        return None
    mean = np.asarray(_patches(network, X).means(sigma, _rule(network, X))[0])
    return mean * np.sqrt(_scale(network, mean.shape[1]))


def _kernels(network: Network, A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return B_ab between two sets of patterns, shape (patch, patch, a, b)."""
    found, rule = _patches(network, A, B), _rule(network, A, B)
    count, scale = found.a.shape[1], _scale(network, found.a.shape[1])
    make = functools.partial(centred_kernels, network.activations[0], rule=rule)
    size = max(1, min(len(A), _ENTRIES // (count**2 * len(B))))
    missing = -len(A) % size  # images of zeros, so that all parts have one shape
    a = np.pad(np.asarray(found.a), ((0, missing), (0, 0), (0, 0)))
    kernels = np.zeros((count, count, len(A), len(B)))
    own = np.arange(count)
    for start in range(0, len(A), size):
        part = scale * np.asarray(make(a[start : start + size], found.b, shared=found.shared))
        part, rows = part[..., : len(A) - start, :], slice(start, start + size)
        if found.shared:
            kernels[:, :, rows] = part
        else:
            kernels[own, own, rows] = part
    return kernels


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PatchOutputsSolution(PatchSolution):
    """The saddle point in Q̄ (and R) over (patch, output), and the process that it makes of f.

    Attributes
    ----------
    problem
        Network, training set and temperature.
    rule
        The theory.
    found
        The saddle point.
    conditioned
        f on the training set given the labels, outputs slow.
    """

    @functools.cached_property
    def order_parameters(self) -> xr.Dataset:
        """`q_bar` and `q`, dimensions (layer, patch, output, ``patch_``, ``output_``).

        (layer, patch, output, ``output_``) where patches do not share their weights.
        """
        outputs, layer = self.network.outputs, self.layer
        q = self.found.q
        shape = (-1, outputs, len(q) // outputs, outputs)
        dims: tuple[str, ...] = ("layer", "patch", "output", "patch_", "output_")
        values = {"q_bar": self.found.q_bar.reshape(shape), "q": q.reshape(shape)}
        if not layer.shared:
            dims = ("layer", "patch", "output", "output_")
            values = {name: np.einsum("adae->ade", one) for name, one in values.items()}
        number = np.arange(outputs)
        coords = {"layer": [1], "output": number, "output_": number}
        coords |= patch_coordinates(layer, self.problem.X.shape[1:])
        return xr.Dataset({name: (dims, one[None]) for name, one in values.items()}, coords=coords)

    def _between(self, A: np.ndarray, B: np.ndarray) -> np.ndarray:
        """Return K_R between two sets of patterns, shape (output·a, output·b)."""
        network, (q_bar, r) = self.network, self.found[:2]
        outputs, bias = network.outputs, self.problem.output_bias
        matrix = _sum(_kernels(network, A, B), q_bar, outputs)
        left, right = (_spread(_means(network, one), outputs) for one in (A, B))
        if left is not None and right is not None:
            matrix += left @ r @ right.T
        return matrix + np.kron(np.eye(outputs), np.full((len(A), len(B)), bias))

    def kernel_between(self, A: np.ndarray, B: np.ndarray, output_bias: bool = True) -> Covariance:
        """Refuse: K_R is a matrix over outputs, too."""
        raise InputError(f"expected outputs = 1 for a kernel of f, got {self.network.outputs}")

    @functools.cached_property
    def renormalized_kernel(self) -> Float[np.ndarray, "pattern output pattern output"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """K_R on the training set, shape (pattern, output, pattern, output)."""
        with float64():
            return self._split(self._between(self.problem.X, self.problem.X))

    def _split(self, matrix: np.ndarray) -> np.ndarray:
        """Return a matrix over (output, pattern) as (pattern, output, pattern, output)."""
        outputs = self.network.outputs
        n, m = (size // outputs for size in matrix.shape)
        return matrix.reshape(outputs, n, outputs, m).transpose(1, 0, 3, 2)

    def _predict_block(self, X_test: np.ndarray, full_covariance: bool) -> Prediction:
        outputs, X = self.network.outputs, self.problem.X
        kappa = self._between(X_test, X)
        mean = (kappa @ self.weights).reshape(outputs, -1).T
        half = self._whiten(kappa.T)
        if full_covariance:
            covariance = self._split(self._between(X_test, X_test) - half.T @ half)
            own = np.einsum("ndne->nde", covariance).copy()
        else:
            covariance = None
            prior = [self._between(one[None], one[None]) for one in X_test]
            parts = half.reshape(len(half), outputs, -1)
            own = np.array(prior) - np.einsum("pdn,pen->nde", parts, parts)
        return Prediction(mean, np.einsum("ndd->nd", own).copy(), covariance, own)
