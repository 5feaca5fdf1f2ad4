"""The scale mixture by quadrature where not all layers are dense: the law of every coordinate.

Each coordinate of the layers' order parameters has a law of its own (`OrderParameter.laws`). All
but the last, the readout's log Q̄, are integrated one inside the other; given them Q̄ only scales
the kernel. For the identity without biases they do, too, and one eigendecomposition serves all.
"""

import dataclasses
import functools
import math

import numpy as np
import xarray as xr
from scipy.special import gammaln

from ..._basics.errors import InputError
from ..._layers.covariance import Covariance, Square
from ..._layers.law import Law
from ..._layers.order import Chart, OrderParameters
from ..._layers.stack import Stack, chart, layer_rules
from ..._numerics.integrate import Integral, integrate
from ..._numerics.spectrum import Kernels, Spectrum
from ...activations._activation import get_activation
from .._saddle.outputs import order_arrays
from .law import NEGLIGIBLE, MixtureLaw, Nodes

__all__ = ["BlockLaw"]

_MOST_OUTER = 2  # coordinates beside the readout's, each of which costs a factor of 60


def _log_density(law: Law, x: np.ndarray) -> np.ndarray:
    """Return the log density of θ."""
    if law.shape is None:
        return 0.5 * (math.log(law.rate / (2 * math.pi)) - law.rate * x**2)
    constant = law.shape * math.log(law.rate) - gammaln(law.shape)
    return constant + law.shape * x - law.rate * np.exp(x)


def _largest(law: Law, centre: float) -> float:
    """Return a θ beyond which the law, moved to a saddle point, has no weight that counts."""
    if law.shape is None:
        return abs(centre) + math.sqrt(80.0 / law.rate)
    n = 2.0 * law.shape
    return max(centre, 0.0) + math.log1p(math.sqrt(80.0 / n) + 40.0 / n)


@dataclasses.dataclass(frozen=True, eq=False)
class BlockLaw(MixtureLaw):
    """What K_0 is, and the laws of the coordinates θ that it depends on."""

    centre: np.ndarray  # θ of the saddle point

    @functools.cached_property
    def chart(self) -> Chart:
        """The order parameters."""
        return chart(self.problem.network, False)

    @functools.cached_property
    def laws(self) -> list[Law]:
        """The law of each coordinate, the readout's last."""
        return [law for order in self.chart.orders for law in order.laws() or ()]

    @property
    def only_scale(self) -> bool:
        """Whether K_R is C, scaled."""
        network = self.problem.network
        linear = all(one == get_activation("identity") for one in network.activations)
        return linear and network.bias_precision is None

    @property
    def n_outer(self) -> int:
        """Number of coordinates beside the readout's."""
        return len(self.laws) - 1

    def check(self) -> None:
        """Raise InputError where the integrals would be too many."""
        last = self.chart.orders[-1]
        if self.n_outer > _MOST_OUTER or last.size != 1 or self.laws[-1].shape is None:
            raise InputError(
                "expected a dense layer and one residual block for the scale mixture by quadrature "
                "(finwidth.models.student_t can be sampled for more), got layers = "
                f"{self.problem.network.layers}"
            )

    def order(self, outer: np.ndarray) -> OrderParameters:
        """Return what the kernels take at θ of the outer coordinates and Q̄ = 1 of the readout."""
        return self.chart.value(np.append(outer, 0.0))

    def growths(self) -> np.ndarray:
        """Return what multiplies the variances of each layer, as far as there is weight."""
        theta = [_largest(law, one) for law, one in zip(self.laws, self.centre, strict=True)]
        values = self.chart.value(np.array(theta)).values
        return np.array([getattr(value, "growth", 2.0) for value in values])

    def kernels(self, covariance: Covariance, outer: np.ndarray, rules: tuple) -> Kernels:
        """Return K_0 between two sets of patterns at given coordinates."""
        stack = Stack.of(self.problem.network, rules).unbiased()
        block = self.theory.kernel(stack, covariance, self.order(outer))
        return Kernels(np.asarray(block.cross), np.asarray(block.diag_a), None)

    @functools.cached_property
    def _reference(self) -> tuple[np.ndarray, Spectrum]:
        outer = np.zeros(self.n_outer)
        return outer, super().spectrum(outer)

    def _scale(self, outer: np.ndarray) -> float:
        """Return by what K_0 is larger than at infinite width; 1 where not only its scale is."""
        one = Square(np.ones((1, 1)), np.ones(1), np.ones(1))
        reference = self.kernels(one, np.zeros(self.n_outer), self.rules).diagonal
        return float((self.kernels(one, outer, self.rules).diagonal / reference)[0])

    def integrate(self, outer: np.ndarray, centre: np.ndarray) -> Integral:
        """Integrate over the coordinates that `outer` does not fix, the readout's innermost."""
        law = self.laws[outer.size]
        if outer.size == self.n_outer:
            factor, spectrum = 1.0, None
            if self.only_scale:
                factor, spectrum = self._scale(outer), self._reference[1]
            return self._innermost(law, outer, factor, spectrum or self.spectrum(outer))

        def function(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            inner = np.empty(x.size, dtype=object)
            for i, value in enumerate(x):
                inner[i] = self.integrate(np.append(outer, value), centre)
            values = np.array([one.log_value for one in inner])
            return _log_density(law, x) + values, inner

        spread = 1.0 / math.sqrt(law.rate if law.shape is None else law.shape)
        scan = centre[outer.size] + spread * np.arange(-5.0, 5.1)
        return integrate(function, scan, max_nodes=1280)

    def _innermost(
        self, law: Law, outer: np.ndarray, factor: float, spectrum: Spectrum
    ) -> Integral:
        def function(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            scale = factor * np.exp(x)
            return _log_density(law, x) + spectrum.log_likelihood(scale)[0], scale[:, None]

        return integrate(function, np.arange(-30.0, 15.1, 0.5))

    def flatten(self, integral: Integral, outer: np.ndarray, weight: float) -> list[Nodes]:
        """Return the nodes of an integral over the coordinates after `outer`."""
        keep = integral.weights * weight > NEGLIGIBLE
        x, weights = integral.nodes[keep], integral.weights[keep] * weight
        if outer.size < self.n_outer:
            groups = []
            for value, share, inner in zip(x, weights, integral.extras[keep], strict=True):
                groups += self.flatten(inner, np.append(outer, value), share)
            if self.only_scale and outer.size == 0:
                parts = (np.concatenate(part) for part in list(zip(*groups, strict=True))[1:])
                return [Nodes(self._reference[0], *parts)]
            return groups
        shown = self.order(outer).shown() or {}
        fixed = np.concatenate([np.asarray(values) for _, _, values in shown.values()])
        values = np.tile(fixed, (x.size, 1))
        columns = [name for name, (_, layers, _) in shown.items() for _ in layers]
        last = len(columns) - 1 - columns[::-1].index("q_bar")
        values[:, last] = np.exp(x)
        z = np.zeros((x.size, 2))
        return [Nodes(outer, integral.extras[keep][:, 0], weights, z, values, values**2)]

    def dataset(self, first: np.ndarray, second: np.ndarray) -> xr.Dataset:
        """Return the posterior means of what users see, and their standard deviations."""
        shown, found = self.order(np.zeros(self.n_outer)).shown() or {}, xr.Dataset()
        sd, at = np.sqrt(np.maximum(second - first**2, 0.0)), 0
        for name, (dim, layers, _) in shown.items():
            place = slice(at, at + len(layers))
            at += len(layers)
            if name != "q":
                parts = {name: (dim, layers, first[place]), f"{name}_sd": (dim, layers, sd[place])}
                found = found.merge(order_arrays(parts), join="outer")
        return found

    def test_rules(self, variances: np.ndarray) -> tuple:
        """Return the rules of quadrature for all nodes."""
        return layer_rules(self.problem.network, variances, self.growths())
