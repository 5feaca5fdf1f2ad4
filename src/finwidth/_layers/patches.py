"""Second moments of h on the patches of images, which nobody should hold all at once.

Between two sets of images h has the covariances C_ab(x, x') = x_a·x'_b/(λ_0 s) (+ 1/λ^b_0) of all
pairs of patches, or of each patch with itself alone where they do not share weights.

Source: theory.md section 16.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from ..activations import _moments
from .covariance import Covariance, Local, Square

__all__ = ["Patches", "plus_means"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Patches(Local):
    """C_ab(x, x') = z_a(x)·z_b(x') of all patches of two sets of images.

    Attributes
    ----------
    a, b
        z, shapes (a, patch, tap) and (b, patch, tap).
    square
        Whether both sets are the same.
    pooled
        Whether a unit hands on the average over patches; else σ(h) of every patch.
    shared
        Whether patches share their weights. If not, h of two patches are independent, and K_ab is
        m_a m_bᵀ.
    """

    a: Any  # arrays; JAX puts other things in their place when it compiles
    b: Any
    square: bool = dataclasses.field(metadata={"static": True})
    pooled: bool = dataclasses.field(metadata={"static": True})
    shared: bool = dataclasses.field(default=True, metadata={"static": True})

    @property
    def diag_a(self) -> Float[Array, "a patch"]:
        """Variances of h on the first set."""
        return jnp.sum(jnp.asarray(self.a) ** 2, axis=-1)

    @property
    def diag_b(self) -> Float[Array, "b patch"]:
        """Variances of h on the second set."""
        return jnp.sum(jnp.asarray(self.b) ** 2, axis=-1)

    def moments(
        self, activation: Any, rule: Any
    ) -> tuple[Covariance, Float[Array, " a"], Float[Array, " b"]]:
        """Return those of the average over patches; unpooled, of patches that go each by itself.

        That is Σ_ab K_ab/A² with the means Σ_a m_a/A, and at infinite width Σ_a K_aa/A. The means
        of the latter are no vector: they are NaN for an activation that has some.
        """
        patches = self.a.shape[1]
        if self.pooled:
            weights = jnp.full((patches, patches), 1.0 / patches**2)
            second = self.weighted(activation, rule, weights)
            means = [jnp.mean(one, axis=1) for one in self.means(activation, rule)]
            return second, means[0], means[1]
        second = self.weighted(activation, rule, jnp.full(patches, 1.0 / patches))
        none = jnp.zeros(()) if activation.parity == "odd" else jnp.full((), jnp.nan)
        return second, jnp.full(self.a.shape[:1], none), jnp.full(self.b.shape[:1], none)

    def means(self, activation: Any, rule: Any) -> tuple[Any, Any]:
        """Return m_a of both sets, shapes (a, patch) and (b, patch)."""
        first = _moments.mean(activation, self.diag_a, rule=rule)
        return first, first if self.square else _moments.mean(activation, self.diag_b, rule=rule)

    def weighted(self, activation: Any, rule: Any, weights: Any) -> Covariance:
        """Return Σ_ab w_ab K_ab for symmetric w, shape (patch, patch), or (patch,): its diagonal.

        Pair of patches by pair, so that no more is held than a few blocks of one of them.
        """
        if not self.shared and weights.ndim == 2:
            ends = jnp.diagonal(weights)
            second = self.weighted(activation, rule, ends)
            return plus_means(second, self.means(activation, rule), weights - jnp.diag(ends))
        patches = self.a.shape[1]
        diagonal = weights.ndim == 1
        first, second = (np.arange(patches),) * 2
        if not diagonal:
            first, second = np.triu_indices(patches) if self.square else np.indices((patches,) * 2)
            first, second = first.ravel(), second.ravel()
        share = weights if diagonal else weights[first, second]
        if self.square and not diagonal:  # K_ba is K_abᵀ
            share = share * np.where(first == second, 1.0, 2.0)
        a, b = (jnp.swapaxes(jnp.asarray(one), 0, 1) for one in (self.a, self.b))
        kernel = functools.partial(_moments.kernel, activation, rule=rule)

        def add(total: Array, pair: tuple) -> tuple[Array, None]:
            i, j, weight = pair
            x, y = a[i], b[j]
            block = kernel(jnp.sum(x**2, axis=1)[:, None], x @ y.T, jnp.sum(y**2, axis=1)[None, :])
            return total + weight * block, None

        start = jnp.zeros((self.a.shape[0], self.b.shape[0]), a.dtype)
        cross, _ = lax.scan(add, start, (jnp.asarray(first), jnp.asarray(second), share))
        if self.square:
            cross = 0.5 * (cross + cross.T)
            ends = jnp.diagonal(cross)
            return Square(cross, ends, ends)
        matrix = jnp.diag(weights) if diagonal else weights
        return Covariance(cross, *(_variances(kernel, one, matrix) for one in (self.a, self.b)))


def plus_means(second: Covariance, means: tuple[Any, Any], matrix: Any) -> Covariance:
    """Return `second` plus Σ_ab u_ab m_a m_bᵀ for a symmetric u, shape (patch, patch)."""
    left, right = means
    cross = second.cross + (left @ matrix) @ right.T
    ends = [
        end + ((mean @ matrix) * mean).sum(axis=1)
        for end, mean in ((second.diag_a, left), (second.diag_b, right))
    ]
    return type(second)(cross, *ends)


def _variances(kernel: Any, z: Float[Array, "n patch tap"], weights: Array) -> Float[Array, " n"]:
    """Return Σ_ab w_ab K_ab(x, x) for every image, a few at a time."""

    def variance(z: Array) -> Array:
        ends = jnp.sum(z**2, axis=-1)
        return jnp.sum(weights * kernel(ends[:, None], z @ z.T, ends[None, :]))

    return lax.map(variance, jnp.asarray(z))
