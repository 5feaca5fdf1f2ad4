"""The effective action of Pacelli et al., one order parameter Q̄_ℓ per layer inside the recursion.

K_ℓ = [Q̄_ℓ (K∘K_{ℓ-1} − m_ℓ m_ℓᵀ) + m_ℓ m_ℓᵀ/(1 + Q_ℓ)]/λ_ℓ (+ 1/λ^b_ℓ), K_0 = C.
"""

import functools
from typing import Any

import jax
import numpy as np

from .._hookspecs import hookimpl
from .._kernels import Covariance, layer_map, moments
from .._problem import LayerConstants, Problem
from .._saddle import TrackResult
from ._action import OrderParameters, ScaledForm
from ._base import Theory
from ._saddle import SaddlePoint, SaddleTheory

__all__ = ["Nested"]


@functools.partial(jax.jit, static_argnames=("activation", "rules"))
def _recursion(
    activation: Any,
    constants: LayerConstants,
    covariance: Covariance,
    order: OrderParameters,
    rules: tuple,
) -> Covariance:
    for layer, rule in enumerate(rules):
        covariance = layer_map(
            activation,
            covariance,
            order.q_bar[layer],
            order.shrinkage[layer],
            constants.precisions[layer],
            constants.biases[layer],
            rule,
        )
    return covariance


class Nested(SaddleTheory):
    """The nested recursion of the renormalised kernel.

    With m = 0 this is the papers' recursion at any depth; with a mean it is theirs for one hidden
    layer, and for more the extension described in theory.md, section 4, which is this package's.

    References
    ----------
    Pacelli et al., Nat. Mach. Intell. 5, 1497 (2023), eqs. 5-9; theory.md, sections 2 and 4.
    """

    name = "nested"

    def kernel(
        self,
        activation: Any,
        constants: LayerConstants,
        covariance: Covariance,
        order: OrderParameters,
        rules: tuple,
    ) -> Covariance:
        """Return K_R between two sets of patterns (see `SaddleTheory.kernel`)."""
        return _recursion(activation, constants, covariance, order, rules)

    def scaled_form(self, problem: Problem) -> ScaledForm | None:
        """One hidden layer: K_0 = (K − m mᵀ)/λ_1 with columns m and, for a bias, 1."""
        network = problem.network
        odd = network.activation.parity == "odd"
        # Without noise K − m mᵀ alone would have to be positive definite; the sum suffices.
        low_rank = not odd or network.bias_precision is not None
        if network.depth > 1 or (problem.temperature == 0 and low_rank):
            return None
        return problem.shared("scaled form", lambda: self._scaled_form(problem))

    @staticmethod
    def _scaled_form(problem: Problem) -> ScaledForm:
        network = problem.network
        odd = network.activation.parity == "odd"
        second, mean, _ = moments(network.activation, problem.covariance, problem.rules[0])
        kernel, m = np.asarray(second.cross), np.asarray(mean)
        precision, bias = problem.constants.precisions[0], problem.constants.biases[0]
        columns, weights = [], []
        if not odd:
            kernel = kernel - np.outer(m, m)
            columns.append(m)
            weights.append(1.0 / precision)
        if network.bias_precision is not None:
            columns.append(np.ones(problem.n_patterns))
            weights.append(bias)
        return ScaledForm(
            kernel / precision,
            np.column_stack(columns) if columns else np.zeros((problem.n_patterns, 0)),
            np.asarray(weights),
        )

    def order_parameters(self, problem: Problem) -> SaddlePoint:
        """Solve for Q̄_ℓ and Q_ℓ; one odd layer without noise and bias in closed form."""
        network = problem.network
        closed_form = (
            problem.temperature == 0
            and network.depth == 1
            and network.activation.parity == "odd"
            and network.bias_precision is None
        )
        if not closed_form:
            return super().order_parameters(problem)
        equations = self.equations(problem)
        # d(data term)/d log Q̄ at Q̄ = 1 is P − λ_1 yᵀK⁻¹y
        data = equations.data(np.zeros(1))[0] * (network.widths[0] + problem.n_patterns)
        theta = np.array([np.log(noiseless_q_bar(network.widths[0], problem.n_patterns, data))])
        residual = float(np.max(np.abs(equations.value(theta))))
        reason = "rounding in an ill-conditioned kernel"
        result = TrackResult(theta, residual, residual <= 1e-9, reason)
        return self.point(problem, equations, theta, result)


def noiseless_q_bar(width: int, n_patterns: int, data: float) -> float:
    """Return Q̄ = ½[1 − α + √((1−α)² + 4 α λ_1 yᵀK⁻¹y/P)], the T = 0 solution of one odd layer.

    Parameters
    ----------
    width, n_patterns
        N_1 and P; α = P/N_1.
    data
        P − λ_1 yᵀK⁻¹y.
    """
    alpha = n_patterns / width
    fit = (n_patterns - data) / width  # α λ_1 yᵀK⁻¹y/P
    root = np.hypot(1.0 - alpha, 2.0 * np.sqrt(fit))
    # the same number in the form without cancellation for α > 1
    return float(0.5 * (1.0 - alpha + root) if alpha < 1 else 2.0 * fit / (alpha - 1.0 + root))


@hookimpl
def finwidth_register_theories() -> list[Theory]:
    """Register the theory."""
    return [Nested()]
