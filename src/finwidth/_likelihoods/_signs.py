"""The distribution of a label −1 or +1, for NumPyro models."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, random
from numpyro.distributions.constraints import Constraint

__all__ = ["Signs"]


class _PlusMinus(Constraint):
    """−1 or +1."""

    is_discrete = True
    event_dim = 0

    def __call__(self, x: Any) -> Array:
        return (x == -1) | (x == 1)

    def feasible_like(self, prototype: Any) -> Array:
        return jnp.ones_like(prototype)

    def tree_flatten(self) -> tuple[tuple, tuple]:
        return (), ((), {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _PlusMinus)

    def __hash__(self) -> int:
        return hash(_PlusMinus)


class Signs(dist.Distribution):
    """y = ±1 with p(y|f) = S(y f).

    Parameters
    ----------
    f
        Latent values.
    log_sigmoid
        log S.
    """

    support = _PlusMinus()  # pyright: ignore[reportAssignmentType]
    pytree_data_fields = ("f",)
    pytree_aux_fields = ("log_sigmoid",)

    def __init__(self, f: Any, log_sigmoid: Callable[[Any], Any], **kwargs: Any) -> None:
        self.f, self.log_sigmoid = f, log_sigmoid
        super().__init__(batch_shape=jnp.shape(f), event_shape=(), **kwargs)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        """Return draws of y."""
        shape = sample_shape + self.batch_shape
        up = random.uniform(key, shape) < jnp.exp(self.log_sigmoid(self.f))
        return jnp.where(up, 1.0, -1.0)

    def log_prob(self, value: Any) -> Array:
        """Return log p(y|f)."""
        return self.log_sigmoid(value * self.f)
