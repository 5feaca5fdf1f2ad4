"""Solutions with several outputs, put together from one-output problems along a rotation."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from ..._basics.errors import InputError
from ..._layers.dense import input_covariance
from ..._layers.order import Scales
from ..._layers.stack import Stack, layer_rules
from ..._numerics.precision import float64
from ..._numerics.tridiagonal import TridiagonalFactor
from ..._observables._prediction import Prediction
from ..._problem.problem import Problem
from .._solution import Solution
from .action import ScaledForm
from .directions import Direction, Directions
from .rotation import find_rotation

__all__ = [
    "RotatedSolution",
    "ScaledBlock",
    "order_arrays",
    "order_dataset",
    "refuse_likelihood",
    "rotated_dataset",
    "solve_rotated",
]

_TOLERANCE = 1e-9
_VANISHING = 1e-5  # order parameters that are on their way to 0


def refuse_likelihood(problem: Problem) -> None:
    """Raise InputError where the likelihood of several outputs is not Gaussian."""
    if not problem.likelihood.homogeneous:
        raise InputError(
            "expected likelihood = 'gaussian' with several outputs, got "
            f"{problem.likelihood.name!r}"
        )


def solve_rotated(
    rule: Any, problem: Problem, start: Any = None, rotation: np.ndarray | None = None
) -> "RotatedSolution":
    """Return the solution of a `SaddleTheory` with one rotation of the outputs for all layers.

    The search begins at that of `start`, a solution of a nearby problem, or at `rotation`.
    """
    refuse_likelihood(problem)
    near = None if rotation is None else (rotation, None)
    if isinstance(start, RotatedSolution):
        near = start.directions.rotation, start.directions.thetas
    directions = find_rotation(rule, problem, near)
    solution = RotatedSolution(problem, rule, directions)
    if solution.converged:
        max((part.factor for part in directions.parts), key=lambda f: f.rounding).warn()
    return solution


def order_arrays(shown: dict[str, tuple[str, list[int], Any]], suffix: str = "") -> xr.Dataset:
    """Return `OrderParameters.shown` as a dataset."""
    found = xr.Dataset()
    for name, (dim, layers, values) in shown.items():
        array = xr.DataArray(values, {dim: layers}, (dim,))
        found = found.merge({f"{name}{suffix}": array}, join="outer")
    return found


def order_dataset(
    q_bar: Float[np.ndarray, "layer output output"], q: Float[np.ndarray, "layer output output"]
) -> xr.Dataset:
    """Return `q_bar` and `q` with their dimensions."""
    layers, outputs = np.arange(1, q.shape[0] + 1), np.arange(q.shape[1])
    dims = ("layer", "output", "output_")
    coords = {"layer": layers, "output": outputs, "output_": outputs}
    return xr.Dataset({"q_bar": (dims, q_bar), "q": (dims, q)}, coords=coords)


def rotated_dataset(
    rotation: Float[np.ndarray, "output direction"],
    q_bar: Float[np.ndarray, "layer direction"],
    q: Float[np.ndarray, "layer direction"],
) -> xr.Dataset:
    """Return `order_dataset` of commuting matrices, with their basis and their eigenvalues."""
    size = np.arange(rotation.shape[1])
    coords = {"output": np.arange(len(rotation)), "direction": size}
    basis = xr.Dataset({"rotation": (("output", "direction"), rotation)}, coords=coords)
    values = {"q_bar": q_bar, "q": q}
    matrices = [np.einsum("ok,lk,pk->lop", rotation, one, rotation) for one in values.values()]
    directions = {f"{name}_direction": (("layer", "direction"), values[name]) for name in values}
    return order_dataset(*matrices).merge(basis).assign(directions)


class ScaledBlock(NamedTuple):
    """K_0 and U between test and training patterns, where K_R = s·K_0 + U diag(w) Uᵀ.

    Attributes
    ----------
    rotated
        Hᵀ K_0, shape (pattern, test_pattern).
    diagonal
        K_0 at the test patterns, shape (test_pattern,).
    columns
        Rows of U for them, shape (test_pattern, term).
    square
        K_0 between the test patterns where it was asked for, else None.
    """

    rotated: np.ndarray
    diagonal: np.ndarray
    columns: np.ndarray
    square: np.ndarray | None

    @classmethod
    def of(
        cls, rule: Any, problem: Problem, form: ScaledForm, X_test: np.ndarray, full: bool
    ) -> "ScaledBlock":
        """Return that of a theory's form."""

        def kernel(A: np.ndarray, B: np.ndarray) -> Any:
            covariance = input_covariance(problem.network, A, B)
            ends = np.concatenate([np.asarray(covariance.diag_a), np.asarray(covariance.diag_b)])
            stack = form.stack.replace(rules=layer_rules(problem.network, ends))
            return rule.kernel(stack, covariance, form.order)

        block = kernel(X_test, problem.X)
        return cls(
            form.kernel.rotate(np.asarray(block.cross).T),
            np.asarray(block.diag_a),
            form.columns(X_test),
            np.asarray(kernel(X_test, X_test).cross) if full else None,
        )


class _Part(NamedTuple):
    """Prior and posterior of some directions at test points."""

    places: list[int]
    mean: np.ndarray
    variance: np.ndarray
    covariance: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class RotatedSolution(Solution):
    """Saddle points of one-output problems along the directions of a rotation of the outputs.

    Attributes
    ----------
    problem
        Network, training set and temperature.
    rule
        The `SaddleTheory`.
    directions
        The rotation, and what belongs to each direction.
    """

    block = 128  # test patterns at a time, whose kernels stay small beside a P × P one

    rule: Any  # a SaddleTheory, which stands above
    directions: Directions

    @property
    def theory(self) -> str:
        """Name of the theory."""
        return self.rule.name

    @property
    def residual(self) -> float:
        """Largest |∂𝒮/∂ log(order parameter)| or |o_kᵀYᵀ(A_k⁻¹ − A_l⁻¹)Y o_l|, over N + P."""
        points = (part.point.residual for part in self.directions.parts)
        return max(self._rotation_residual, *points)

    @property
    def _rotation_residual(self) -> float:
        alike = self.directions.parts[0].point.equations is None
        return 0.0 if alike else self.directions.residual

    @property
    def converged(self) -> bool:
        """Whether the saddle point of every direction, and the rotation, were reached."""
        return self.directions.converged and self._rotation_residual <= _TOLERANCE

    @property
    def message(self) -> str:
        """Why they were not reached, if they were not."""
        if self.converged:
            return ""
        smallest = min(float(np.exp(np.min(theta))) for theta in self.directions.thetas)
        hint = ""
        if self._scales and smallest < _VANISHING:
            hint = f"; an order parameter fell to {smallest:.0e}: labels that need no network there"
        return self.directions.message + hint

    @property
    def _scales(self) -> bool:
        """Whether every layer has scales, Q̄ and 1/(1 + Q), as its order parameters."""
        orders = (part.point.order for part in self.directions.parts)
        return all(isinstance(value, Scales) for order in orders for value in order.values)

    @functools.cached_property
    def action(self) -> float:
        """𝒮, the sum over the directions."""
        return self.directions.value

    @functools.cached_property
    def order_parameters(self) -> xr.Dataset:
        """Order parameters, which commute.

        `q_bar` and `q` with dimensions (layer, output, ``output_``); `rotation` (output,
        direction), in whose basis they are diagonal, and their eigenvalues `q_bar_direction` and
        `q_direction` (layer, direction). With residual blocks the eigenvalues alone, and
        `s_direction` and `r_direction` (block, direction); where a layer has order parameters of
        its own kind, `theta` (direction, unknown) instead.
        """
        rotation, parts = self.directions.rotation, self.directions.parts
        orders = [part.point.order for part in parts]
        if not self._scales:
            coords = {"output": np.arange(len(parts)), "direction": np.arange(len(parts))}
            basis = xr.Dataset({"rotation": (("output", "direction"), rotation)}, coords=coords)
            shown = [order.shown() for order in orders]
            known = [order_arrays(one, "_direction") for one in shown if one is not None]
            if len(known) == len(parts):
                return basis.merge(xr.concat(known, basis["direction"]).transpose(..., "direction"))
            theta = ("direction", "unknown"), np.array(self.directions.thetas)
            return basis.assign(theta=theta).assign_coords(unknown=parts[0].point.chart.names)
        q_bar = np.stack([order.q_bar for order in orders], axis=1)
        return rotated_dataset(rotation, q_bar, np.stack([order.q for order in orders], axis=1))

    @functools.cached_property
    def renormalized_kernel(self) -> Float[np.ndarray, "pattern output pattern output"]:
        """K_R on the training set, shape (pattern, output, pattern, output)."""
        basis, X = self.directions.rotation, self.problem.X
        with float64():
            blocks = [np.asarray(self._kernel(part, X, X).cross) for part in self.directions.parts]
        return np.einsum("ok,kmn,pk->monp", basis, np.array(blocks), basis)

    def _kernel(self, part: Direction, A: np.ndarray, B: np.ndarray) -> Any:
        """Return K_R of one direction between two sets of patterns."""
        network, order = part.problem.network, part.point.order
        covariance = input_covariance(network, A, B)
        variances = np.concatenate([np.asarray(covariance.diag_a), np.asarray(covariance.diag_b)])
        rules = layer_rules(network, variances, self.rule.variance_scales(order))
        return self.rule.kernel(Stack.of(network, rules), covariance, order)

    def _predict_block(self, X_test: np.ndarray, full_covariance: bool) -> Prediction:
        """Means Σ_k o_k mean_k, covariances Σ_k o_k o_kᵀ var_k."""
        basis, n = self.directions.rotation, X_test.shape[0]
        mean, variance = np.empty((n, basis.shape[1])), np.empty((n, basis.shape[1]))
        covariance = np.zeros((n, basis.shape[0], n, basis.shape[0])) if full_covariance else None
        for part in self._parts(X_test, full_covariance):
            mean[:, part.places] = part.mean
            variance[:, part.places] = part.variance[:, None]
            if covariance is not None and part.covariance is not None:
                projector = basis[:, part.places] @ basis[:, part.places].T
                covariance += np.einsum("op,mn->monp", projector, part.covariance)
        outputs = np.einsum("ok,nk,pk->nop", basis, variance, basis)
        return Prediction(mean @ basis.T, np.einsum("noo->no", outputs).copy(), covariance, outputs)

    def _parts(self, X_test: np.ndarray, full: bool) -> Iterator[_Part]:
        parts = self.directions.parts
        groups: dict[int, list[int]] = {}
        for k, part in enumerate(parts):
            groups.setdefault(id(part.factor), []).append(k)
        form, block = self.rule.form(self.problem), None
        for places in groups.values():
            part = parts[places[0]]
            solved = np.stack([parts[k].solved[:, k] for k in places], axis=1)
            if form is not None and isinstance(part.factor, TridiagonalFactor):
                if block is None:
                    block = ScaledBlock.of(self.rule, self.problem, form, X_test, full)
                yield _scaled(places, part, part.factor, form, block, solved)
            else:
                kernel = self._kernel(part, X_test, self.problem.X)
                kappa = np.asarray(kernel.cross)
                half = part.factor.whiten(kappa.T)
                variance = np.asarray(kernel.diag_a) - np.einsum("ij,ij->j", half, half)
                covariance = None
                if full:
                    square = np.asarray(self._kernel(part, X_test, X_test).cross)
                    covariance = square - half.T @ half
                yield _Part(places, kappa @ solved, variance, covariance)

    def __repr__(self) -> str:
        shown = ""
        if "q_bar_direction" in self.order_parameters:
            values = self.order_parameters["q_bar_direction"].values
            rows = (f"[{', '.join(f'{value:.6g}' for value in row)}]" for row in values)
            shown = f"q_bar_direction=[{', '.join(rows)}], "
        return (
            f"{type(self).__name__}(theory={self.theory!r}, temperature={self.temperature:g}, "
            f"{shown}residual={self.residual:.1e}, converged={self.converged})"
        )


def _scaled(
    places: list[int],
    part: Direction,
    factor: TridiagonalFactor,
    form: ScaledForm,
    block: ScaledBlock,
    solved: np.ndarray,
) -> _Part:
    """Return the prediction of directions whose kernel is of a scaled form; O(P) a test point."""
    scale, weights = form.scale(part.point.order), form.weights(part.point.order)
    at_test = block.columns * weights
    kappa = scale * block.rotated
    if weights.size:
        kappa += form.kernel.columns @ at_test.T
    half = factor.whiten_rotated(kappa)
    prior = scale * block.diagonal + np.sum(at_test * block.columns, axis=1)
    covariance = None
    if block.square is not None:
        covariance = scale * block.square + at_test @ block.columns.T - half.T @ half
    return _Part(places, kappa.T @ solved, prior - np.einsum("ij,ij->j", half, half), covariance)
