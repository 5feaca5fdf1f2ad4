"""Hidden weights in the directions that meet the data."""

import dataclasses

import numpy as np
from jaxtyping import Float

from ..._layers.dense import bias_variances
from ..._problem.problem import Problem

__all__ = ["Coordinates"]


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
