"""The Equivalent Wishart Ansatz: one infinite-width kernel whose scale is the product of all Q̄_ℓ.

K_R = (Π_ℓ Q̄_ℓ) K_NNGP, with the prior terms of the other theories.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._hookspecs import hookimpl
from .._kernels import Covariance, layer_map
from .._network import Network
from .._problem import LayerConstants, Problem
from ._action import OrderParameters, ScaledForm
from ._base import Theory
from ._saddle import SaddleTheory

__all__ = ["Wishart"]


@functools.partial(jax.jit, static_argnames=("activation", "rules"))
def _kernel(
    activation: Any,
    constants: LayerConstants,
    covariance: Covariance,
    order: OrderParameters,
    rules: tuple,
) -> Covariance:
    for layer, rule in enumerate(rules):
        last = layer == len(rules) - 1
        covariance = layer_map(
            activation,
            covariance,
            1.0,
            1.0,
            constants.precisions[layer],
            0.0 if last else constants.biases[layer],
            rule,
        )
    scale, bias = jnp.prod(jnp.asarray(order.q_bar)), constants.biases[len(rules) - 1]
    return Covariance(*(scale * block + bias for block in covariance))


class Wishart(SaddleTheory):
    """The infinite-width kernel, rescaled: K_R = (Π_ℓ Q̄_ℓ) K_NNGP.

    Only the scale of one fixed kernel varies, so an evaluation of the equations costs O(P) at any
    depth, and at the solution N_ℓ(Q̄_ℓ − 1) is the same for all layers.

    Notes
    -----
    Biases: those of the hidden layers are part of K_NNGP; the output's bias is Gaussian whatever
    the widths, so 1/λ^b_L is added to the scaled kernel and not scaled. Activations that are not
    odd: the ansatz has no mean term. K_NNGP is made of the second moments E[σσ'] and
    Q̄_ℓ = 1/(1 + Q_ℓ), so one hidden layer then differs from `nested`.

    References
    ----------
    Baglioni et al., arXiv:2605.29684 (2026); theory.md, section 4. The treatment of biases is
    this package's.
    """

    name = "wishart"

    def eliminates_q(self, network: Network) -> bool:
        """Always: there is no mean term."""
        return True

    def variance_scales(self, order: OrderParameters) -> np.ndarray:
        """Ones: the hidden layers are those of infinite width."""
        return np.ones(np.shape(order.q_bar))

    def kernel(
        self,
        activation: Any,
        constants: LayerConstants,
        covariance: Covariance,
        order: OrderParameters,
        rules: tuple,
    ) -> Covariance:
        """Return K_R between two sets of patterns (see `SaddleTheory.kernel`)."""
        return _kernel(activation, constants, covariance, order, rules)

    def scaled_form(self, problem: Problem) -> ScaledForm | None:
        """K_0 = K_NNGP without the output's bias, whose column is 1."""
        biased = problem.network.bias_precision is not None
        # Without noise K_0 alone would have to be positive definite; the sum suffices.
        if problem.temperature == 0 and biased:
            return None
        return problem.shared("scaled form wishart", lambda: self._scaled_form(problem, biased))

    def _scaled_form(self, problem: Problem, biased: bool) -> ScaledForm:
        constants, n = problem.constants, problem.n_patterns
        last = constants.biases[-1:].copy()
        hidden = constants.biases.copy()
        hidden[-1] = 0.0
        ones = np.ones(problem.network.depth)
        kernel = self.kernel(
            problem.network.activation,
            constants._replace(biases=hidden),
            problem.covariance,
            OrderParameters(ones, ones),
            problem.rules,
        ).cross
        return ScaledForm(
            np.asarray(kernel), np.ones((n, int(biased))), last if biased else np.zeros(0)
        )


@hookimpl
def finwidth_register_theories() -> list[Theory]:
    """Register the theory."""
    return [Wishart()]
