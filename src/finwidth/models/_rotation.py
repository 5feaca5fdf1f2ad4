"""Input rotation: only the span of the training patterns meets the likelihood.

With X = U S Vᵀ the first hidden weights enter the likelihood through W' = W V alone: at most
min(N_0, P) independent Gaussian coordinates per unit, fewer where most inputs are constant or
depend on each other. The other directions keep their prior and matter only at test points, where
they are drawn anew for each draw: exact (theory.md, 9).

The number of coordinates follows from the shapes and, in steps of two, from the rank: data of the
same shapes are then sampled by the same compiled program, though their ranks differ.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random
from jaxtyping import Float

from .._numerics.span import Span

__all__ = ["InputRotation", "rotate_inputs"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class InputRotation:
    """Training and test patterns in coordinates that suit the training set.

    Attributes
    ----------
    basis
        Columns of V, orthonormal, whose span holds the training patterns, shape (input, c).
    train
        Training patterns for a network with c inputs, shape (pattern, c).
    test
        Test patterns for a network with c + extra inputs, shape (test_pattern, c + extra).
    """

    basis: Any  # arrays; JAX puts other things in their place when it compiles
    train: Any
    test: Any

    def extend(
        self, rng_key: Array, weights: Float[Array, "unit c"], precision: float | Array
    ) -> Array:
        """Return weights for `test`: `weights` and prior draws for the extra coordinates."""
        extra = self.test.shape[1] - self.basis.shape[1]
        noise = random.normal(rng_key, (weights.shape[0], extra), weights.dtype)
        return jnp.concatenate([weights, noise / jnp.sqrt(precision)], axis=1)

    def restore(
        self, rng_key: Array, weights: Float[Array, "unit c"], precision: float | Array
    ) -> Float[Array, "unit input"]:
        """Return weights for the original inputs: `weights` in the span, the prior elsewhere."""
        basis = jnp.asarray(self.basis, weights.dtype)
        noise = random.normal(rng_key, (weights.shape[0], basis.shape[0]), weights.dtype)
        noise = noise / jnp.sqrt(precision)
        return noise + (weights - noise @ basis) @ basis.T


def rotate_inputs(
    X: Float[np.ndarray, "pattern input"], X_test: Float[np.ndarray, "test_pattern input"]
) -> InputRotation | None:
    """Return the rotation where it saves coordinates, else None.

    Parameters
    ----------
    X, X_test
        Patterns, shapes (pattern, input) and (test_pattern, input).
    """
    n_inputs = X.shape[1]
    span = Span.of(X)
    coordinates = min(X.shape)
    while 0 < span.rank <= coordinates // 2:
        coordinates = -(-coordinates // 2)
    if span.rank == 0 or coordinates == n_inputs:
        return None
    basis = span.basis(coordinates)
    inside = X_test @ basis
    u, s, _ = np.linalg.svd(X_test - inside @ basis.T, full_matrices=False)
    extra = min(X_test.shape[0], n_inputs - coordinates)
    # a network divides by the root of its number of inputs: keep the original one
    train = span.coordinates(coordinates) * (coordinates / n_inputs) ** 0.5
    test = np.concatenate([inside, u[:, :extra] * s[:extra]], axis=1)
    return InputRotation(basis, train, test * ((coordinates + extra) / n_inputs) ** 0.5)
