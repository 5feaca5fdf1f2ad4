"""Adaptive kernel: hidden weights with a covariance that the data choose, one hidden layer.

The hidden weights are independent Gaussian vectors w_i ~ N(0, S) that minimise, with Q̄ and at the
stationary Q,

    𝒮 = 2 N_1 KL(N(0, S) ‖ N(0, 1/λ_0)) + N_1 [−Q Q̄ + log(1+Q)] + logdet A + yᵀA⁻¹y,
    A = T + [Q̄ (K∘C − m mᵀ) + m mᵀ/(1+Q)]/λ_1 (+ 1/λ^b_1),   C = X S Xᵀ/N_0,

so the kernel can turn towards the labels, where the nested theory only rescales it. At S = 1/λ_0
this is the nested theory's action.
"""

import dataclasses
import functools
from typing import Any

import numpy as np
import scipy.linalg
import xarray as xr
from jaxtyping import Float

from .._errors import InputError
from .._factor import Factor
from .._gaussian_process import GaussianProcessSolution
from .._hookspecs import hookimpl
from .._kernels import Covariance, bias_variances, input_covariance, layer_map, layer_rules
from .._network import Network
from .._precision import float64
from .._problem import Problem
from ._adaptive_action import AdaptiveAction, AdaptivePoint
from ._base import Theory
from ._trust_region import Minimum, minimise
from .nested import Nested

__all__ = ["Adaptive", "AdaptiveSolution", "finwidth_register_theories"]

_NESTED = Nested()  # one: a compiled function is kept for each instance
_SAME = 1e-5  # distance in log M and log Q̄ below which two minima are one


@dataclasses.dataclass(frozen=True, eq=False)
class Coordinates:
    """Hidden weights and bias, whitened by their prior, in the span of the training patterns.

    Attributes
    ----------
    scale
        Prior standard deviations of h by each input: 1/√(λ_0 N_0), and for the bias, an input
        that is always one, 1/√λ^b_0. Shape (input,) or (input + 1,).
    basis
        Orthonormal columns V that span the whitened training patterns; all other directions keep
        their prior. Shape (input, rank) or (input + 1, rank).
    """

    scale: Float[np.ndarray, " extended"]
    basis: Float[np.ndarray, "extended rank"]

    @classmethod
    def of(cls, problem: Problem) -> "Coordinates":
        """Return the coordinates that suit the training set of `problem`."""
        n_inputs, network = problem.X.shape[1], problem.network
        scale = np.full(n_inputs, 1.0 / np.sqrt(network.weight_precision[0] * n_inputs))
        if network.bias_precision is not None:
            scale = np.append(scale, np.sqrt(bias_variances(network)[0]))
        whitened = _extend(problem.X, scale)
        _, values, right = np.linalg.svd(whitened, full_matrices=False)
        rounding = max(whitened.shape) * np.finfo(np.float64).eps
        rank = int(np.sum(values > rounding * values[0]))
        return cls(scale, right[:rank].T)

    def inside(self, X: Float[np.ndarray, "n input"]) -> Float[np.ndarray, "n rank"]:
        """Return the patterns' coordinates Z."""
        return _extend(X, self.scale) @ self.basis


def _extend(X: np.ndarray, scale: np.ndarray) -> np.ndarray:
    if scale.size > X.shape[1]:
        X = np.column_stack([X, np.ones(X.shape[0])])
    return X * scale


class Adaptive(Theory):
    """The adaptive kernel of one hidden layer with Gaussian hidden weights.

    With biases, weights and bias of a unit are one Gaussian vector, whose covariance adapts as a
    whole. S, Q̄ start at the nested theory's solution and go downhill; Q is eliminated.

    References
    ----------
    Seroussi et al., Nat. Commun. 14, 908 (2023); Yang et al., PMLR 202 (2023), 39380-39415, for
    the Gaussian law of the weights; Pacelli et al., Nat. Mach. Intell. 5, 1497 (2023), for Q̄.
    """

    name = "adaptive"

    def check(self, network: Network) -> None:
        """Raise InputError unless there is one hidden layer, of two units for a non-odd σ."""
        if network.depth != 1:
            raise InputError(
                f"expected one hidden layer for theory={self.name!r}, got widths = {network.widths}"
            )
        if network.widths[0] == 1 and network.activation.parity != "odd":
            raise InputError(
                f"expected a width of at least 2 for theory={self.name!r} and the activation "
                f"{network.activation.name!r}, which is not odd, got widths = {network.widths}"
            )

    def solve(self, problem: Problem) -> "AdaptiveSolution":
        """Return the minimum that is downhill from the nested theory's solution."""
        if problem.temperature == 0:
            Factor(problem.nngp, 0.0)  # a singular kernel is refused before any other work
        coordinates = problem.shared("adaptive coordinates", lambda: Coordinates.of(problem))
        nested = _NESTED.order_parameters(problem)
        log_q_bar = log_shrinkage = 0.0
        if nested.converged:
            log_q_bar = float(np.log(nested.order.q_bar[0]))
            log_shrinkage = float(np.log(nested.order.shrinkage[0]))
        root = np.eye(coordinates.basis.shape[1])
        room = 2.0 * float(np.max(np.asarray(problem.covariance.diag_a)))
        while True:
            action = _action(problem, coordinates, room)
            start = action.point(root, log_q_bar, log_shrinkage)
            if start is None:
                raise InputError(
                    "expected a larger temperature, or a kernel on the training set that is "
                    f"positive definite to working precision, got temperature = "
                    f"{problem.temperature:g}"
                )
            minimum = minimise(action, start)
            point = minimum.point
            largest = float(np.max(np.diag(point.covariance)))
            if action.rule is None or largest <= room:
                break
            # the quadrature was chosen for smaller variances: go on with one for these
            root, log_q_bar, log_shrinkage = point.root, point.log_q_bar, point.log_shrinkage
            room = 1.5 * largest
        factor = Factor(action.kernel(point), problem.temperature)
        if minimum.converged:
            factor.warn()
        return AdaptiveSolution(problem, coordinates, action, minimum, factor)


def _action(problem: Problem, coordinates: Coordinates, room: float) -> AdaptiveAction:
    network, constants = problem.network, problem.constants
    return AdaptiveAction(
        activation=network.activation,
        rule=layer_rules(network, np.array([room]), np.ones(1))[0],
        width=network.widths[0],
        patterns=coordinates.inside(problem.X),
        y=problem.y,
        temperature=problem.temperature,
        precision=float(constants.precisions[0]),
        bias=float(constants.biases[0]),
    )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class AdaptiveSolution(GaussianProcessSolution):
    """The adaptive theory's minimum, and the Gaussian process that it makes of f.

    Made by `finwidth.solve` with ``theory="adaptive"``. Besides what every solution has, it tells
    the covariance S of the hidden weights.

    Attributes
    ----------
    problem
        Network, training set and temperature.
    coordinates
        The directions in which S may differ from its prior.
    landscape
        The action as a function of S and Q̄.
    minimum
        Its minimum.
    factor
        Cholesky factor of A = T·1 + K_R.
    """

    coordinates: Coordinates
    landscape: AdaptiveAction
    minimum: Minimum[Any]
    factor: Factor

    @property
    def point(self) -> AdaptivePoint:
        """S, Q̄ and Q, in the coordinates of `landscape`."""
        return self.minimum.point

    @property
    def theory(self) -> str:
        """Name of the theory."""
        return "adaptive"

    @property
    def converged(self) -> bool:
        """Whether a minimum was reached."""
        return self.minimum.converged

    @property
    def message(self) -> str:
        """Why no minimum was reached, if none was."""
        return self.minimum.message

    @property
    def residual(self) -> float:
        """Largest |∂𝒮|, relative to N_1 + P, the terms that cancel in it.

        Derivatives by log Q̄, log 1/(1+Q) and the symmetric H of S = L e^H Lᵀ, in units of the
        prior covariance.
        """
        return self.point.residual

    @property
    def action(self) -> float:
        """The action 𝒮 of the module's formula; equal to the nested theory's at S = 1/λ_0."""
        return self.point.value

    @functools.cached_property
    def n_roots(self) -> int:
        """Number of distinct minima found from several starts (this one included).

        Starts are the prior scaled up and down, with all directions alike or that of the labels
        alone; each costs about as much as the solution.
        """
        z, y = self.landscape.patterns, self.problem.y
        rank = self.landscape.rank
        label = z.T @ y
        norm = float(np.linalg.norm(label))
        along = np.outer(label, label) / norm**2 if norm > 0 else np.zeros((rank, rank))
        roots = [scale * np.eye(rank) for scale in (0.3, 1.0, 3.0)]
        roots += [np.eye(rank) + stretch * along for stretch in (-0.9, 4.0)]
        found = [self.point]
        with float64():
            for root in roots:
                for log_q_bar in (-1.0, 1.0):
                    start = self.landscape.point(root, log_q_bar)
                    if start is None:
                        continue
                    end = minimise(self.landscape, start)
                    if end.converged and all(_distance(end.point, p) > _SAME for p in found):
                        found.append(end.point)
        return len(found)

    @property
    def order_parameters(self) -> xr.Dataset:
        """Order parameters `q_bar` and `q` with dimension layer; S is in `weight_covariance`."""
        point = self.point
        return xr.Dataset(
            {
                "q_bar": ("layer", np.exp([point.log_q_bar])),
                "q": ("layer", np.expm1([-point.log_shrinkage])),
            },
            coords={"layer": [1]},
        )

    @functools.cached_property
    def _change(self) -> Float[np.ndarray, "rank rank"]:
        """M − 1, what the data change in whitened coordinates."""
        return self.point.weight_covariance - np.eye(self.landscape.rank)

    @functools.cached_property
    def _directions(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues of S, descending, and its eigenvectors, in the span of the patterns."""
        n_inputs = self.problem.X.shape[1]
        q, r = np.linalg.qr(self.coordinates.basis[:n_inputs])
        change = r @ self._change @ r.T
        values, vectors = np.linalg.eigh(np.eye(r.shape[0]) + 0.5 * (change + change.T))
        return values[::-1] / self.network.weight_precision[0], q @ vectors[:, ::-1]

    @property
    def weight_covariance(self) -> xr.DataArray:
        """S, the covariance of the weights of one hidden unit, shape (input, input_2).

        1/λ_0 in all directions that the training patterns do not span.
        """
        values, vectors = self._directions
        prior = 1.0 / self.network.weight_precision[0]
        matrix = prior * np.eye(vectors.shape[0]) + (vectors * (values - prior)) @ vectors.T
        return xr.DataArray(matrix, dims=("input", "input_2"), name="weight_covariance")

    @property
    def spectrum(self) -> xr.DataArray:
        """All eigenvalues of S in descending order, shape (direction,)."""
        values, vectors = self._directions
        rest = np.full(vectors.shape[0] - values.size, 1.0 / self.network.weight_precision[0])
        spectrum = np.sort(np.concatenate([values, rest]))[::-1]
        return xr.DataArray(spectrum, dims="direction", name="spectrum")

    @property
    def leading_direction(self) -> xr.DataArray:
        """Unit vector in the span of the training patterns along which S is largest, (input,).

        Its largest component is positive. NaN if all training patterns are zero.
        """
        _, vectors = self._directions
        vector = vectors[:, 0] if vectors.shape[1] else np.full(vectors.shape[0], np.nan)
        vector = vector * np.sign(vector[np.argmax(np.abs(vector))])
        return xr.DataArray(vector, dims="input", name="leading_direction")

    @property
    def bias_variance(self) -> float:
        """Variance of a hidden unit's bias; zero without biases."""
        network = self.network
        if network.bias_precision is None:
            return 0.0
        row = self.coordinates.basis[-1]
        return float((1.0 + row @ self._change @ row) / network.bias_precision[0])

    @property
    def bias_covariance(self) -> xr.DataArray:
        """Covariance of a hidden unit's weights with its bias, shape (input,)."""
        network, basis = self.network, self.coordinates.basis
        covariance = np.zeros(self.problem.X.shape[1])
        if network.bias_precision is not None:
            scale = 1.0 / np.sqrt(network.weight_precision[0] * network.bias_precision[0])
            covariance = scale * (basis[:-1] @ self._change @ basis[-1])
        return xr.DataArray(covariance, dims="input", name="bias_covariance")

    def _kernel(self, A: np.ndarray, B: np.ndarray) -> Covariance:
        """Return K_R between two sets of patterns."""
        prior = input_covariance(self.network, A, B)
        a, b = self.coordinates.inside(A), self.coordinates.inside(B)
        moved = a @ self._change
        covariance = Covariance(
            prior.cross + moved @ b.T,
            prior.diag_a + np.einsum("ij,ij->i", moved, a),
            prior.diag_b + np.einsum("ij,ij->i", b @ self._change, b),
        )
        variances = np.concatenate([np.asarray(covariance.diag_a), np.asarray(covariance.diag_b)])
        return layer_map(
            self.network.activation,
            covariance,
            float(np.exp(self.point.log_q_bar)),
            float(np.exp(self.point.log_shrinkage)),
            self.landscape.precision,
            self.landscape.bias,
            layer_rules(self.network, variances, np.ones(1))[0],
        )


def _distance(a: AdaptivePoint, b: AdaptivePoint) -> float:
    """Largest change of log Q̄, or of log M in any direction, between two points."""
    ratios = scipy.linalg.eigh(a.weight_covariance, b.weight_covariance, eigvals_only=True)
    steps = np.append(np.log(ratios), a.log_q_bar - b.log_q_bar)
    return float(np.max(np.abs(steps)))


@hookimpl
def finwidth_register_theories() -> list[Theory]:
    """Register the theory."""
    return [Adaptive()]
