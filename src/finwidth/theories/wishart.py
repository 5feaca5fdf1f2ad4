"""The Equivalent Wishart Ansatz: one infinite-width kernel whose scale is the product of all Q̄_ℓ.

K_R = (Π_ℓ Q̄_ℓ) K_NNGP, with the prior terms of the other theories.
"""

import jax
import jax.numpy as jnp
import numpy as np

from .._layers.covariance import Covariance
from .._layers.order import OrderParameters
from .._layers.stack import Stack, recursion
from .._numerics.tridiagonal import ScaledKernel
from .._plugins.hooks import hookimpl
from .._problem.network import Network
from .._problem.problem import Problem
from ._saddle.action import ScaledForm, ScaledParts, scaled_kernel
from ._saddle.theory import SaddleTheory
from ._theory import Theory, check_dense

__all__ = ["Wishart"]


@jax.jit
def _kernel(stack: Stack, covariance: Covariance, order: OrderParameters) -> Covariance:
    ones = jnp.ones(stack.depth)
    last = jnp.arange(stack.depth) == stack.depth - 1
    hidden = jnp.where(last, 0.0, jnp.asarray(stack.biases))
    infinite = OrderParameters.of(ones, ones)
    covariance = recursion(stack.replace(biases=hidden), covariance, infinite)
    scale, bias = jnp.prod(jnp.asarray(order.q_bar)), stack.biases[stack.depth - 1]
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

    def check(self, network: Network) -> None:
        """Refuse layers that are not dense: the ansatz is theirs."""
        check_dense(network, self.name, any_readout=True)

    def only_scales(self, network: Network) -> bool:
        """Always."""
        return True

    def variance_scales(self, order: OrderParameters) -> np.ndarray:
        """Ones: the hidden layers are those of infinite width."""
        return np.ones(np.shape(order.q_bar))

    def kernel(self, stack: Stack, covariance: Covariance, order: OrderParameters) -> Covariance:
        """Return K_R between two sets of patterns (see `SaddleTheory.kernel`)."""
        return _kernel(stack, covariance, order)

    def scaled_form(self, problem: Problem) -> ScaledForm | None:
        """K_0 = K_NNGP without the output's bias, whose column is 1."""
        # Without noise K_0 alone would have to be positive definite; the sum suffices.
        if problem.temperature == 0 and problem.network.bias_precision is not None:
            return None
        return ScaledForm(problem.shared(self._unit_kernel), *self.scaled_parts(problem))

    def scaled_parts(self, problem: Problem) -> ScaledParts:
        """Return the same without its matrix."""
        stack, biased = problem.stack, problem.network.bias_precision is not None
        precisions, hidden = stack.precisions.copy(), stack.biases.copy()
        precisions[-1], hidden[-1] = 1.0, 0.0
        # where the kernel is K_0
        unit = stack.replace(precisions=precisions, biases=hidden)
        ones = np.ones(stack.depth)
        order = OrderParameters.of(ones, ones)

        def columns(X: np.ndarray) -> np.ndarray:
            return np.ones((X.shape[0], int(biased)))

        weights = stack.biases[-1:] if biased else np.zeros(0)
        return ScaledParts(unit, order, columns, float(stack.precisions[-1]), weights)

    def _unit_kernel(self, problem: Problem) -> ScaledKernel:
        return scaled_kernel(problem, self.kernel, *self.scaled_parts(problem)[:3])


@hookimpl
def finwidth_register_theories() -> list[Theory]:
    """Register the theory."""
    return [Wishart()]
