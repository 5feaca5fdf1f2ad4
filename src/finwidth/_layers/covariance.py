"""Second moments of a Gaussian field on two sets of patterns."""

import abc
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jaxtyping import Float

__all__ = ["LARGEST", "SMALLEST", "Covariance", "Given", "Local", "Square", "known"]

# Variances that float64 holds, and with them covariances that are smaller by its precision.
SMALLEST = float(np.finfo(np.float64).tiny / np.finfo(np.float64).eps)
LARGEST = float(np.finfo(np.float64).max)


class Covariance(NamedTuple):
    """Second moments of a Gaussian field on two sets of patterns.

    Attributes
    ----------
    cross
        Covariance between the sets, shape (a, b).
    diag_a, diag_b
        Variances within each set, shapes (a,) and (b,).
    """

    cross: Float[Array, "a b"]
    diag_a: Float[Array, " a"]
    diag_b: Float[Array, " b"]


class Square(Covariance):
    """Second moments of a Gaussian field on one set of patterns, which is half the work."""

    __slots__ = ()


class Local(abc.ABC):
    """Second moments of the first h of a layer whose units have several of them a pattern.

    A JAX type. What follows needs `moments` alone: those of what a unit makes of all its h.
    """

    @property
    @abc.abstractmethod
    def diag_a(self) -> Any:
        """Variances of h on the first set of patterns, a row for each."""

    @property
    @abc.abstractmethod
    def diag_b(self) -> Any:
        """Variances on the second set."""

    @abc.abstractmethod
    def moments(
        self, activation: Any, rule: Any
    ) -> tuple[Covariance, Float[Array, " a"], Float[Array, " b"]]:
        """Return second and first moments of what a unit hands on (see `dense.moments`)."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Given(Local):
    """Moments that are worked out already, for what is evaluated more than once.

    Attributes
    ----------
    second, mean_a, mean_b
        What `moments` returns.
    """

    second: Any  # arrays; JAX puts other things in their place when it compiles
    mean_a: Any
    mean_b: Any

    @property
    def diag_a(self) -> Any:
        """Variances of what a unit hands on."""
        return self.second.diag_a

    @property
    def diag_b(self) -> Any:
        """Variances of what a unit hands on."""
        return self.second.diag_b

    def moments(self, activation: Any, rule: Any) -> tuple[Covariance, Any, Any]:
        """Return them."""
        return self.second, self.mean_a, self.mean_b

    def first(self, n: int) -> "Given":
        """Return those of the first `n` patterns of one set of them."""
        cross, a, b = self.second
        second = type(self.second)(cross[:n, :n], a[:n], b[:n])
        return Given(second, self.mean_a[:n], self.mean_b[:n])


def known(covariance: Local, activation: Any, rule: Any) -> Given:
    """Return the moments of a `Local`, for what is evaluated more than once."""
    return Given(*_moments(covariance, activation, rule))


@functools.partial(jax.jit, static_argnames=("activation",))
def _moments(covariance: Local, activation: Any, rule: Any) -> tuple:
    return covariance.moments(activation, rule)
