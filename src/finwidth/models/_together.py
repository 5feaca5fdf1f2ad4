"""Labels observed together, one draw of a joint law, and each of them given all others.

With f integrated the labels are one observation of a joint law, so tools that go by observations
(leave-one-out cross-validation) would see a single one. The values they want are
log p(y_i | y_-i, latents), whose importance weights lead to log p(y_i | y_-i); these do not add up
to the joint log density, which sampling needs. NumPyro tells the two uses apart: whatever sums a
density (`log_density`, potential energies, ELBOs) hands `log_prob` the intermediates of the site,
and `numpyro.infer.log_likelihood`, which ArviZ calls, does not.

Source: Vehtari, Gelman & Gabry, Statistics and Computing 27 (2017); Bürkner, Gabry & Vehtari,
Computational Statistics 36 (2021), eq. 8 (leave-one-out of a multivariate normal).
"""

from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.scipy.linalg import solve_triangular
from numpyro.primitives import Messenger

__all__ = ["JointNormal", "Together", "given_others", "observe_together"]


# true, and without an array, so that it passes through whatever maps or traces a site
def _mark() -> list[Any]:
    return [()]


class Together(dist.Distribution):
    """A law of all labels together; the patterns come first in its event shape."""

    def joint(self, value: Array) -> Array:
        """Return the log density of all labels, scalar."""
        raise NotImplementedError

    def each(self, value: Array) -> Array:
        """Return log p(y_i | y_-i), shape (pattern,)."""
        raise NotImplementedError

    def log_prob(self, value: Array, intermediates: list[Any] | None = None) -> Array:
        """Return the joint log density where the site is marked, else that of each pattern."""
        return self.joint(value) if intermediates else self.each(value)

    def sample_with_intermediates(
        self, key: Any, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Any, list[Any]]:
        """Return draws, and the mark of a site that enters a density as a whole."""
        return self.sample(key, sample_shape), _mark()

    def mask(self, mask: Any) -> Any:
        """Return the masked law of one observation: a mask hands on no intermediates."""
        return _Whole(self).mask(mask)


class _Whole(dist.Distribution):
    """The same law as one observation."""

    pytree_data_fields = ("law",)

    def __init__(self, law: Together, *, validate_args: bool | None = None) -> None:
        self.law = law
        super().__init__(law.batch_shape, law.event_shape, validate_args=validate_args)

    @dist.constraints.dependent_property(is_discrete=False)  # pyright: ignore[reportArgumentType]
    def support(self) -> Any:
        """That of the law."""
        return self.law.support

    def log_prob(self, value: Array, intermediates: list[Any] | None = None) -> Array:
        """Return the log density of all labels, scalar."""
        return self.law.joint(value)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        """Draw labels."""
        return self.law.sample(key, sample_shape)


class JointNormal(Together, dist.MultivariateNormal):
    """A normal law of labels of shape (pattern,), by a dense covariance."""

    def joint(self, value: Array) -> Array:
        """Return the log density, scalar."""
        return jnp.asarray(dist.MultivariateNormal.log_prob(self, value))

    def each(self, value: Array) -> Array:
        """Return log p(y_i | y_-i), shape (pattern,)."""
        factor = jnp.asarray(self.scale_tril)
        root = solve_triangular(factor, jnp.eye(len(factor), dtype=factor.dtype), lower=True)
        return given_others((root @ (value - self.loc)) @ root, jnp.sum(root**2, axis=0))


class _Mark(Messenger):
    """Marks the one site that it encloses."""

    def process_message(self, msg: Any) -> None:
        """Mark a sample site."""
        if msg["type"] == "sample":
            msg["intermediates"] = _mark()


def observe_together(law: Together, y: Array | None) -> None:
    """Sample the NumPyro site "y", of all labels; y=None draws them."""
    dims = ["pattern", "output"][: len(law.event_shape)]
    with _Mark():
        numpyro.sample("y", law, obs=y, infer={"event_dims": dims})


def given_others(dual: Array, diagonal: Array) -> Array:
    """Return log p(y_i | y_-i) of normal labels with covariance A, shape (pattern,).

    Parameters
    ----------
    dual
        A⁻¹(y − mean), shape (pattern,), or (pattern, output) for outputs that are independent.
    diagonal
        That of A⁻¹, shape (pattern,) if that of all outputs, or (pattern, output).
    """
    if diagonal.ndim < dual.ndim:
        diagonal = diagonal[:, None]
    terms = -0.5 * (jnp.log(2.0 * jnp.pi) - jnp.log(diagonal) + dual**2 / diagonal)
    return terms if terms.ndim == 1 else jnp.sum(terms, axis=1)
