"""What the scale mixture integrates: its kernels, the prior of its scalars, and the nodes.

The integrals run over log Q̄_ℓ, one inside the other, the last layer innermost: given the others
it only scales the kernel, so that one eigendecomposition serves all its values.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from ..._basics.checks import check_choice
from ..._basics.errors import InputError
from ..._layers.covariance import Covariance, Local
from ..._layers.dense import moments
from ..._layers.order import OrderParameters
from ..._layers.stack import Stack, chart
from ..._numerics.integrate import Integral, integrate
from ..._numerics.scale_laws import log_gamma_density, log_product_density
from ..._numerics.spectrum import Kernels, Spectrum
from ..._problem.network import Network
from ..._problem.problem import Problem
from .._saddle.theory import SaddleTheory
from .._theory import check_dense, check_outputs

__all__ = ["NEGLIGIBLE", "MixtureLaw", "Nodes", "check_mixture", "largest_error", "largest_scales"]

NEGLIGIBLE = 1e-17  # weight of a node that predictions leave out


class Nodes(NamedTuple):
    """Quadrature nodes that share a kernel K_0.

    Attributes
    ----------
    outer
        Q̄ of the layers inside K_0, shape (outer,).
    scale, weights
        s and posterior weight, shapes (node,).
    z
        Posterior mean and variance of z at each node, shape (node, 2).
    q_bar, q_bar_squared
        Posterior means of Q̄_ℓ and Q̄_ℓ² at each node, shape (node, layer).
    """

    outer: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    z: np.ndarray
    q_bar: np.ndarray
    q_bar_squared: np.ndarray


def check_mixture(network: Network, theory: Any, several: bool = False) -> bool:
    """Check that the mixture is defined; return whether it has a mean term.

    `several`: whether what asks for it covers several outputs.
    """
    check_choice("theory", theory, ("nested", "wishart"))
    if theory != "nested" and not network.by_scales:
        check_dense(network, f"mixture-{theory}", any_readout=True)
    check_outputs(network, "the scale mixture", several and network.by_scales)
    if not network.by_scales:
        _check_laws(network)
        return False
    has_mean = theory == "nested" and not network.odd
    if has_mean and network.depth > 1:
        raise InputError(
            "expected one hidden layer, an odd activation or theory='wishart' (no mean terms) for "
            f"the scale mixture, got activation {network.activation.name!r} and "
            f"{network.depth} hidden layers"
        )
    return has_mean


def _check_laws(network: Network) -> None:
    """Raise InputError where the law of an order parameter is not known."""
    if not network.odd:
        raise InputError(
            "expected odd activations with residual blocks for the scale mixture, got "
            f"{', '.join(repr(one.name) for one in dict.fromkeys(network.activations))}"
        )
    if any(order.laws() is None for order in chart(network, False).orders):
        raise InputError(
            "expected layers whose order parameters have a known law for the scale mixture (a "
            "residual block: overlap=True and a width of at least 2), got layers = "
            f"{network.layers}"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class MixtureLaw:
    """What K_0 is, and the prior of its scale."""

    problem: Problem
    theory: SaddleTheory
    has_mean: bool
    rules: tuple  # of quadrature, on the training set

    @property
    def only_scale(self) -> bool:
        """Whether the order parameters enter through their product alone."""
        return self.theory.only_scales(self.problem.network)

    @property
    def n_outer(self) -> int:
        """Number of layers whose Q̄ changes the shape of the kernel."""
        return 0 if self.only_scale else self.problem.network.depth - 1

    def kernels(self, covariance: Covariance | Local, outer: np.ndarray, rules: tuple) -> Kernels:
        """Return K_0 between two sets of patterns at given Q̄ of the outer layers."""
        problem, stack = self.problem, Stack.of(self.problem.network, rules)
        q_bar = np.ones(problem.network.depth)
        q_bar[: outer.size] = outer
        mean = None
        if self.has_mean:
            mean = np.asarray(moments(stack.activations[0], covariance, rules[0])[1])
            mean = mean / np.sqrt(stack.precisions[0])
        order = OrderParameters.of(q_bar, np.zeros_like(q_bar) if self.has_mean else q_bar)
        block = self.theory.kernel(stack.unbiased(), covariance, order)
        return Kernels(np.asarray(block.cross), np.asarray(block.diag_a), mean)

    def spectrum(self, outer: np.ndarray) -> Spectrum:
        """Return the eigendecomposition of K_0 on the training set."""
        problem = self.problem
        return Spectrum(
            self.kernels(problem.covariance, outer, self.rules),
            problem.y,
            problem.temperature,
            problem.output_bias,
            problem.network.widths[0],
        )

    def integrate(self, outer: np.ndarray, centre: np.ndarray) -> Integral:
        """Integrate over the layers that `outer` does not fix, the last one innermost."""
        layer = outer.size
        widths = self.problem.network.widths
        if layer == self.n_outer:
            spectrum = self.spectrum(outer)
            inner = widths[layer:]

            def innermost(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
                log_prior, first, second = log_product_density(inner, x)
                log_likelihood, z = spectrum.log_likelihood(np.exp(x))
                return log_prior + log_likelihood, np.concatenate([z, first, second], axis=1)

            return integrate(innermost, np.arange(-30.0, 15.1, 0.5))

        def function(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            inner = np.empty(x.size, dtype=object)
            for i, value in enumerate(x):
                inner[i] = self.integrate(np.append(outer, np.exp(value)), centre)
            values = np.array([one.log_value for one in inner])
            return log_gamma_density(widths[layer], x) + values, inner

        return integrate(function, centre[layer] + np.arange(-2.0, 2.1, 0.5), max_nodes=1280)

    def flatten(self, integral: Integral, outer: np.ndarray, weight: float) -> list[Nodes]:
        """Return the nodes of an integral over the layers after `outer`."""
        keep = integral.weights * weight > NEGLIGIBLE
        x, weights = integral.nodes[keep], integral.weights[keep] * weight
        if outer.size < self.n_outer:
            groups = []
            for value, share, inner in zip(x, weights, integral.extras[keep], strict=True):
                groups += self.flatten(inner, np.append(outer, np.exp(value)), share)
            return groups
        extras = integral.extras[keep]
        n = self.problem.network.depth - outer.size
        fixed = np.broadcast_to(outer, (x.size, outer.size))
        return [
            Nodes(
                outer,
                np.exp(x),
                weights,
                extras[:, :2],
                np.concatenate([fixed, extras[:, 2 : 2 + n]], axis=1),
                np.concatenate([fixed**2, extras[:, 2 + n :]], axis=1),
            )
        ]


def largest_error(integral: Integral) -> float:
    """The integral's own error plus the mean of those inside it."""
    if integral.extras.dtype != object:
        return integral.error
    inner = np.array([largest_error(one) for one in integral.extras])
    return integral.error + float(integral.weights @ inner)


def largest_scales(law: MixtureLaw, centre: np.ndarray) -> np.ndarray:
    """Q̄ beyond which a layer's prior, moved to the saddle point, has no weight that counts."""
    widths = np.asarray(law.problem.network.widths, dtype=np.float64)
    scales = np.maximum(np.exp(centre), 1.0) * (1.0 + np.sqrt(80.0 / widths) + 40.0 / widths)
    scales[law.n_outer :] = 1.0
    return scales
