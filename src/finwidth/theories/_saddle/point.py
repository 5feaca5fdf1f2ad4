"""A saddle point: order parameters with what is known of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..._layers.order import Chart, OrderParameters
from ..._numerics.continuation import distinct_roots
from ..._numerics.newton import StationarityEquations

__all__ = ["SaddlePoint"]


@dataclasses.dataclass(frozen=True)
class SaddlePoint:
    """Order parameters with what is known of them.

    Attributes
    ----------
    order
        Q̄_ℓ and 1/(1 + Q_ℓ).
    prior_term
        Σ_ℓ N_ℓ[−Q_ℓ Q̄_ℓ + log(1 + Q_ℓ)].
    residual
        max |∂𝒮/∂ log(order parameter)|/(N_ℓ + P).
    converged, message
        Whether the saddle was reached, and if not, why.
    equations
        The stationarity equations; None where there are none to solve.
    theta
        Solution in the coordinates of the chart.
    chart
        Order parameters of the layers.
    """

    order: OrderParameters
    prior_term: float
    residual: float
    converged: bool
    message: str
    equations: StationarityEquations | None
    theta: np.ndarray
    chart: Chart

    def slopes(self, name: str) -> np.ndarray:
        """Return ∂/∂θ of what users see under a name, shape (layer, unknown)."""

        def values(theta: Array) -> Array:
            return (self.chart.value(theta).shown() or {})[name][2]

        return np.asarray(jax.jacfwd(values)(jnp.asarray(self.theta)))

    def roots(self) -> tuple[list[np.ndarray], list[int]]:
        """Return the distinct saddle points found from starts in all directions, this one first.

        With them comes the number of starts that lead to each.
        """
        if self.equations is None:
            return [self.theta], [0]
        n = self.equations.size
        starts: list[np.ndarray] = []
        for magnitude in (0.5, 1.5, 3.0, 6.0):
            starts += [np.full(n, sign * magnitude) for sign in (1.0, -1.0)]
            if n > 1:
                rng = np.random.default_rng(n)
                starts += [magnitude * row for row in rng.choice([-1.0, 1.0], size=(3, n))]
        return distinct_roots(self.equations, starts, self.theta)
