"""What the adaptive theory gives back."""

import dataclasses
import functools
from typing import Any

import numpy as np
import scipy.linalg
import xarray as xr
from jaxtyping import Float

from ..._layers.covariance import Covariance
from ..._layers.dense import layer_map
from ..._layers.inputs import flat_covariance
from ..._layers.order import Scales
from ..._layers.stack import layer_rules
from ..._numerics.factor import Factor
from ..._numerics.precision import float64
from ..._numerics.trust_region import Minimum, minimise
from .._gaussian_process import GaussianProcessSolution
from ._action import AdaptiveAction
from ._coordinates import Coordinates
from ._point import AdaptivePoint

__all__ = ["AdaptiveSolution"]

_SAME = 1e-5  # distance in log M and log Q̄ below which two minima are one


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

    def kernel_between(self, A: np.ndarray, B: np.ndarray) -> Covariance:
        """Return K_R between two sets of patterns."""
        prior = flat_covariance(self.network, A, B)
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
            Scales(float(np.exp(self.point.log_q_bar)), float(np.exp(self.point.log_shrinkage))),
            self.landscape.precision,
            self.landscape.bias,
            layer_rules(self.network, variances, np.ones(1))[0],
        )


def _distance(a: AdaptivePoint, b: AdaptivePoint) -> float:
    """Largest change of log Q̄, or of log M in any direction, between two points."""
    ratios = scipy.linalg.eigh(a.weight_covariance, b.weight_covariance, eigvals_only=True)
    steps = np.append(np.log(ratios), a.log_q_bar - b.log_q_bar)
    return float(np.max(np.abs(steps)))
