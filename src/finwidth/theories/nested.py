"""The effective action of Pacelli et al., one order parameter Q̄_ℓ per layer inside the recursion.

K_ℓ = [Q̄_ℓ (K∘K_{ℓ-1} − m_ℓ m_ℓᵀ) + m_ℓ m_ℓᵀ/(1 + Q_ℓ)]/λ_ℓ (+ 1/λ^b_ℓ), K_0 = C.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from .._layers.covariance import Covariance, Local
from .._layers.dense import input_variances
from .._layers.order import OrderParameters
from .._layers.stack import Stack, layer_rules, recursion
from .._numerics.newton import TrackResult
from .._numerics.tridiagonal import ScaledKernel
from .._plugins.hooks import hookimpl
from .._problem.network import Network
from .._problem.problem import Problem
from ..activations import _moments
from ._saddle.action import ScaledForm, ScaledParts, scaled_kernel
from ._saddle.matrix import solve_matrix
from ._saddle.patch_outputs import solve_patch_outputs
from ._saddle.patches import solve_patches, solve_patches_column
from ._saddle.point import SaddlePoint
from ._saddle.theory import SaddleTheory
from ._solution import Solution
from ._theory import Test, Theory

__all__ = ["Nested"]


class Nested(SaddleTheory):
    """The nested recursion of the renormalised kernel.

    With m = 0 this is the papers' recursion at any depth; with a mean it is theirs for one hidden
    layer, and for more the extension described in theory.md, section 4, which is this package's:
    exact, as the exponent of an integral, where m does not depend on the kernel (σ(h) = h + b).

    References
    ----------
    Pacelli et al., Nat. Mach. Intell. 5, 1497 (2023), eqs. 5-9; theory.md, sections 2 and 4.
    """

    name = "nested"

    def kernel(
        self, stack: Stack, covariance: Covariance | Local, order: OrderParameters
    ) -> Covariance:
        """Return K_R between two sets of patterns (see `SaddleTheory.kernel`)."""
        return recursion(stack, covariance, order)

    def scaled_form(self, problem: Problem) -> ScaledForm | None:
        """One hidden layer: K_0 = K − m mᵀ with columns m and, for a bias, 1."""
        network, odd = problem.network, problem.network.odd
        # Without noise K − m mᵀ alone would have to be positive definite; the sum suffices.
        low_rank = not odd or network.bias_precision is not None
        if not _one_layer(network) or (problem.temperature == 0 and low_rank):
            return None
        return self.reduced(problem)

    def scaled_parts(self, problem: Problem) -> ScaledParts | None:
        """Return the same without its matrix."""
        return self._parts(problem) if _one_layer(problem.network) else None

    def reduced(self, problem: Problem) -> ScaledForm:
        """Return the form of one hidden layer, at any temperature."""
        return ScaledForm(problem.shared(self._unit_kernel), *self._parts(problem))

    def _parts(self, problem: Problem) -> ScaledParts:
        network, odd = problem.network, problem.network.odd
        precision, bias = problem.stack.precisions[0], problem.stack.biases[0]
        weights = [] if odd else [1.0 / precision]
        if network.bias_precision is not None:
            weights.append(bias)
        # where the kernel is K_0
        unit = problem.stack.replace(precisions=np.ones(1), biases=np.zeros(1))
        order = OrderParameters.of(np.ones(1), np.ones(1) if odd else np.zeros(1))

        def columns(X: np.ndarray) -> np.ndarray:
            ones = np.ones((X.shape[0], int(network.bias_precision is not None)))
            return ones if odd else np.column_stack([feature_means(network, X), ones])

        weights, mean_terms = np.asarray(weights), int(not odd)
        return ScaledParts(unit, order, columns, float(precision), weights, mean_terms)

    def _unit_kernel(self, problem: Problem) -> ScaledKernel:
        return scaled_kernel(problem, self.kernel, *self._parts(problem)[:3])

    def solve_outputs(self, problem: Problem, start: Any = None) -> Solution:
        """Return the solution with several outputs (theory.md, section 14).

        One hidden layer with a mean term needs two matrices that do not commute. Deeper layers
        with mean terms have one rotation for all: an extension of this package's.
        """
        network = problem.network
        if network.by_scales and network.depth == 1 and not network.odd:
            return solve_matrix(self, problem, start)
        return super().solve_outputs(problem, start)

    def solve_by_patches(self, problem: Problem, start: Any = None) -> Solution:
        """Return the solution with a matrix over patches, and outputs (theory.md, section 16)."""
        if problem.network.outputs > 1:
            return solve_patch_outputs(self, problem, start)
        return solve_patches(self, problem, start)

    def solve_column(self, problems: list[Problem], test: Test) -> list[dict[str, Any]]:
        """Solve problems that differ in width, each from the one before (see `Theory`)."""
        network = problems[0].network
        if network.by_patches and network.outputs > 1:
            return Theory.solve_column(self, problems, test)
        if network.by_patches:
            return solve_patches_column(self, problems, test)
        return super().solve_column(problems, test)

    def order_parameters(self, problem: Problem, start: np.ndarray | None = None) -> SaddlePoint:
        """Solve for Q̄_ℓ and Q_ℓ; one odd layer without noise and bias in closed form."""
        network = problem.network
        closed_form = (
            problem.temperature == 0
            and network.by_scales
            and network.depth == 1
            and network.odd
            and network.bias_precision is None
        )
        if not closed_form:
            return super().order_parameters(problem, start)
        equations = self.equations(problem)
        # d(data term)/d log Q̄ at Q̄ = 1 is P − λ_1 yᵀK⁻¹y
        data = equations.data(np.zeros(1))[0] * (network.widths[0] + problem.n_patterns)
        theta = np.array([np.log(noiseless_q_bar(network.widths[0], problem.n_patterns, data))])
        residual = float(np.max(np.abs(equations.value(theta))))
        reason = "rounding in an ill-conditioned kernel"
        result = TrackResult(theta, residual, residual <= 1e-9, reason)
        return self.point(problem, equations, theta, result)


def _one_layer(network: Network) -> bool:
    return network.by_scales and network.depth == 1


def feature_means(network: Network, X: np.ndarray) -> np.ndarray:
    """Return m = E[σ(h)] of the first hidden layer, shape (pattern,)."""
    variances = input_variances(network, X)
    rule = layer_rules(network, variances)[0]
    m = np.asarray(
        _moments.mean(network.activations[0], jnp.asarray(variances, jnp.float64), rule=rule)
    )
    return m if m.ndim == 1 else m.mean(axis=1)  # what is pooled over patches


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
