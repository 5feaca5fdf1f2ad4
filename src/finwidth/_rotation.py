"""Input rotation: only the span of the training patterns meets the likelihood.

With X = U S Vᵀ of rank r the first hidden weights enter the likelihood through W' = W V alone,
r ≤ min(N_0, P) independent Gaussian coordinates per unit: fewer where there are fewer patterns, or
where inputs are constant or depend on each other, as pixels at the border of an image. The other
directions keep their prior and matter only at test points, where they are drawn anew for each
draw: exact (theory.md, 9).
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jax import Array, random
from jaxtyping import Float

__all__ = ["InputRotation", "rotate_inputs"]


@dataclasses.dataclass(frozen=True, eq=False)
class InputRotation:
    """Training and test patterns in coordinates that suit the training set.

    Attributes
    ----------
    basis
        V, shape (input, rank).
    train
        Training patterns for a network with `rank` inputs, shape (pattern, rank).
    test
        Test patterns for a network with rank + extra inputs, shape (test_pattern, rank + extra).
    """

    basis: Float[np.ndarray, "input rank"]
    train: Float[np.ndarray, "pattern rank"]
    test: Float[np.ndarray, "test_pattern extended"]

    def extend(self, rng_key: Array, weights: Float[Array, "unit rank"], precision: float) -> Array:
        """Return weights for `test`: `weights` and prior draws for the extra coordinates."""
        extra = self.test.shape[1] - self.basis.shape[1]
        noise = random.normal(rng_key, (weights.shape[0], extra), weights.dtype)
        return jnp.concatenate([weights, noise / math.sqrt(precision)], axis=1)

    def restore(
        self, rng_key: Array, weights: Float[Array, "unit rank"], precision: float
    ) -> Float[Array, "unit input"]:
        """Return weights for the original inputs: `weights` in the span, the prior elsewhere."""
        basis = jnp.asarray(self.basis, weights.dtype)
        noise = random.normal(rng_key, (weights.shape[0], basis.shape[0]), weights.dtype)
        noise = noise / math.sqrt(precision)
        return noise + (weights - noise @ basis) @ basis.T


def rotate_inputs(
    X: Float[np.ndarray, "pattern input"], X_test: Float[np.ndarray, "test_pattern input"]
) -> InputRotation | None:
    """Return the rotation where it saves coordinates (rank of X < N_0), else None.

    Parameters
    ----------
    X, X_test
        Patterns, shapes (pattern, input) and (test_pattern, input).
    """
    n_inputs = X.shape[1]
    left, values, right = np.linalg.svd(X, full_matrices=False)
    rank = int(np.sum(values > values[0] * max(X.shape) * np.finfo(np.float64).eps))
    if rank in (0, n_inputs):
        return None
    basis = right[:rank].T
    inside = X_test @ basis
    outside = X_test - inside @ basis.T
    u, s, _ = np.linalg.svd(outside, full_matrices=False)
    scale = max(float(np.max(np.abs(X_test), initial=0.0)), np.finfo(np.float64).tiny)
    extra = int(np.sum(s > scale * n_inputs * np.finfo(np.float64).eps))
    # a network divides by the root of its number of inputs: keep the original one
    train = left[:, :rank] * values[:rank] * math.sqrt(rank / n_inputs)
    test = np.concatenate([inside, u[:, :extra] * s[:extra]], axis=1)
    return InputRotation(basis, train, test * math.sqrt((rank + extra) / n_inputs))
