"""Adaptive kernel: hidden weights with a covariance that the data choose, one hidden layer.

The hidden weights are independent Gaussian vectors w_i ~ N(0, S) that minimise, with Q̄ and at the
stationary Q,

    𝒮 = 2 N_1 KL(N(0, S) ‖ N(0, 1/λ_0)) + N_1 [−Q Q̄ + log(1+Q)] + logdet A + yᵀA⁻¹y,
    A = T + [Q̄ (K∘C − m mᵀ) + m mᵀ/(1+Q)]/λ_1 (+ 1/λ^b_1),   C = X S Xᵀ/N_0,

so the kernel can turn towards the labels, where the nested theory only rescales it. At S = 1/λ_0
this is the nested theory's action.
"""

import numpy as np

from ..._basics.errors import InputError
from ..._layers.stack import layer_rules
from ..._numerics.factor import Factor
from ..._numerics.trust_region import minimise
from ..._plugins.hooks import hookimpl
from ..._problem.network import Network
from ..._problem.problem import Problem
from .._theory import Theory, check_dense, checked
from ..nested import Nested
from ._action import AdaptiveAction
from ._coordinates import Coordinates
from ._solution import AdaptiveSolution

__all__ = ["Adaptive", "finwidth_register_theories"]

_NESTED = Nested()  # one: a compiled function is kept for each instance


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
        check_dense(network, self.name)
        if network.depth != 1:
            raise InputError(
                f"expected one hidden layer for theory={self.name!r}, got widths = {network.widths}"
            )
        if network.widths[0] == 1 and network.activation.parity != "odd":
            raise InputError(
                f"expected a width of at least 2 for theory={self.name!r} and the activation "
                f"{network.activation.name!r}, which is not odd, got widths = {network.widths}"
            )

    @checked
    def solve(self, problem: Problem) -> "AdaptiveSolution":
        """Return the minimum that is downhill from the nested theory's solution."""
        if problem.temperature == 0:
            Factor(problem.nngp, 0.0)  # a singular kernel is refused before any other work
        coordinates = problem.shared(Coordinates.of)
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
    network = problem.network
    return AdaptiveAction(
        activation=network.activation,
        rule=layer_rules(network, np.array([room]), np.ones(1))[0],
        width=network.widths[0],
        patterns=coordinates.inside(problem.X),
        y=problem.y,
        temperature=problem.temperature,
        precision=network.weight_precision[1],
        bias=problem.output_bias,
    )


@hookimpl
def finwidth_register_theories() -> list[Theory]:
    """Register the theory."""
    return [Adaptive()]
