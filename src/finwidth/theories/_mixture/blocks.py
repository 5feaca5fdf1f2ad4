"""The scale mixture by quadrature where not all layers are dense: the law of every coordinate.

Each coordinate θ of the layers' order parameters has a law of its own (`OrderParameter.laws`). The
integral is a lattice around the saddle point, whose spacing follows from the curvature there. Along
the last coordinate, the readout's log Q̄, only the kernel's scale changes; for the identity without
biases along all of them, and one eigendecomposition serves every node.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from scipy.special import gammaln, logsumexp

from ..._basics.errors import InputError
from ..._layers.covariance import Covariance, Local, Square
from ..._layers.law import Law
from ..._layers.order import Chart, OrderParameters
from ..._layers.stack import Stack, chart, layer_rules
from ..._numerics.integrate import TOLERANCE
from ..._numerics.spectrum import Kernels, Spectrum
from ...activations._activation import get_activation
from .._saddle.outputs import order_arrays
from .law import NEGLIGIBLE, MixtureLaw, Nodes

__all__ = ["BlockLaw"]

_MOST_OUTER = 2  # coordinates beside the readout's, each of which costs a factor of 40
_SPACINGS = (0.45, 0.3, 0.2, 0.14)  # of lattices, in conditional standard deviations
_DROP = 38.0  # in nats, below which there is no weight
_SMALL = 1e-3  # moments below which an error counts as one of that size


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

    @functools.cached_property
    def only_scale(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether K_R is one kernel, scaled: the identity without biases."""
        network = self.problem.network
        linear = all(one == get_activation("identity") for one in network.activations)
        if not linear or network.bias_precision is not None:
            return False
        places = (np.zeros(self.n_outer), self.centre[:-1])
        one, other = (self.kernels(self.problem.covariance, x, self.rules).cross for x in places)
        factor = self._factors(self.centre[None, :-1])
        return np.allclose(other, factor * one, rtol=1e-10, atol=1e-12 * float(np.max(one)))

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

    def kernels(self, covariance: Covariance | Local, outer: np.ndarray, rules: tuple) -> Kernels:
        """Return K_0 between two sets of patterns at given coordinates."""
        stack = Stack.of(self.problem.network, rules).unbiased()
        block = self.theory.kernel(stack, covariance, self.order(outer))
        return Kernels(np.asarray(block.cross), np.asarray(block.diag_a), None)

    @functools.cached_property
    def _reference(self) -> Spectrum:
        return self.spectrum(np.zeros(self.n_outer))

    def _factors(self, outer: np.ndarray) -> np.ndarray:
        """Return by what K_0 is larger than at infinite width, where only its scale changes."""
        stack = Stack.of(self.problem.network, self.rules).unbiased()
        one = Square(jnp.ones((1, 1)), jnp.ones(1), jnp.ones(1))

        def variance(theta: Any) -> Any:
            return self.theory.kernel(stack, one, self.chart.value(theta)).diag_a[0]

        thetas = np.column_stack([outer, np.zeros(len(outer))])
        values = np.asarray(jax.vmap(variance)(jnp.asarray(thetas)))
        return values / float(variance(jnp.zeros(len(self.laws))))

    def _columns(self, outer: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the log posterior, up to log p(y), and the scale of K_0, shapes (outer, last)."""
        prior = [_log_density(law, x) for law, x in zip(self.laws, outer.T, strict=False)]
        factors = self._factors(outer) if self.only_scale else np.ones(len(outer))
        scales = factors[:, None] * np.exp(last)
        logs = np.sum(prior, axis=0)[:, None] + _log_density(self.laws[-1], last)
        for i, row in enumerate(outer):
            spectrum = self._reference if self.only_scale else self.spectrum(row)
            logs[i] += spectrum.log_likelihood(scales[i])[0]
        return logs, scales

    def _value(self, theta: np.ndarray) -> float:
        return float(self._columns(theta[None, :-1], theta[-1:])[0][0, 0])

    @functools.cached_property
    def _extent(self) -> list[tuple[float, float, float]]:
        """The standard deviation along each coordinate, and how far down and up there is weight."""
        equations = self.theory.equations(self.problem)
        gradient, hessian = equations.prior(self.centre)
        rows = self.chart.widths() + self.problem.n_patterns
        precision = 0.5 * rows[:, None] * hessian
        precision += 0.5 * rows[:, None] * equations.data_jacobian(self.centre, -gradient)
        if np.min(np.linalg.eigvalsh(0.5 * (precision + precision.T))) <= 0.0:
            precision = np.diag([law.rate if law.shape is None else law.shape for law in self.laws])
        alone = np.diag(precision) ** -0.5
        ratios = np.sqrt(np.diag(np.linalg.inv(precision))) / alone
        top, found = self._value(self.centre), []
        for i, (sd, ratio) in enumerate(zip(alone, ratios, strict=True)):
            ends = []
            for sign in (-1.0, 1.0):
                steps = 8
                while True:
                    there = self.centre.copy()
                    there[i] += sign * steps * sd
                    if self._value(there) < top - _DROP or steps > 400:
                        break
                    steps = math.ceil(1.2 * steps)
                ends.append(steps * ratio * sd)
            found.append((float(sd), *ends))
        return found

    def _axes(self, spacing: float) -> list[np.ndarray]:
        axes = []
        for at, (sd, down, up) in zip(self.centre, self._extent, strict=True):
            step = spacing * sd
            axes.append(at + step * np.arange(-math.ceil(down / step), math.ceil(up / step) + 1))
        return axes

    def lattice(self) -> tuple[float, float, list[Nodes]]:
        """Return log p(y), its relative error with that of the moments, and the nodes.

        From spacing 2h to h the sums change by δ ~ exp(−c/2h), and the error left is δ², of which
        δ^1.5 is told.
        """
        found = None
        for spacing in _SPACINGS:
            found = self._lattice(self._axes(spacing))
            if found[1] <= TOLERANCE:
                break
        assert found is not None
        return found

    def _lattice(self, axes: list[np.ndarray]) -> tuple[float, float, list[Nodes]]:
        grids = np.meshgrid(*axes[:-1], indexing="ij")
        outer = np.stack([grid.ravel() for grid in grids], axis=1)
        logs, scales = self._columns(outer, axes[-1])
        volume = sum(math.log(axis[1] - axis[0]) for axis in axes)
        shown = self._shown(outer, axes[-1])
        finest = np.exp(logs - logs.max())
        whole = self._moments(finest, shown)
        even = np.ix_(*(np.arange(axis.size) % 2 == 0 for axis in axes))
        mask = np.zeros([axis.size for axis in axes])
        mask[even] = 2.0 ** len(axes)
        coarse = self._moments(finest * mask.reshape(finest.shape), shown)
        change = float(np.max(np.abs(coarse - whole) / np.maximum(np.abs(whole), _SMALL)))
        total = float(np.asarray(logsumexp(logs)))
        return total + volume, change**1.5, self._nodes(outer, scales, np.exp(logs - total), shown)

    def _shown(self, outer: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Return what users see at every node, shape (outer, last, name)."""
        thetas = np.column_stack([outer, np.zeros(len(outer))])
        found = jax.vmap(lambda theta: self._flat(self.chart.value(theta)))(jnp.asarray(thetas))
        values = np.repeat(np.asarray(found)[:, None, :], last.size, axis=1)
        names = [name for name, (_, layers, _) in self._template.items() for _ in layers]
        values[:, :, len(names) - 1 - names[::-1].index("q_bar")] = np.exp(last)
        return values

    @functools.cached_property
    def _template(self) -> dict[str, tuple[str, list[int], Any]]:
        """What users see at infinite width."""
        return self.chart.value(np.zeros(len(self.laws))).shown() or {}

    @staticmethod
    def _flat(order: OrderParameters) -> Any:
        return jnp.concatenate(
            [jnp.stack(list(part)) for _, _, part in (order.shown() or {}).values()]
        )

    def _moments(self, weights: np.ndarray, shown: np.ndarray) -> np.ndarray:
        """Return the sum of the weights, and the means of what users see."""
        total = np.sum(weights)
        return np.append(np.einsum("ij,ijk->k", weights, shown) / total, total)

    def _nodes(
        self, outer: np.ndarray, scales: np.ndarray, weights: np.ndarray, shown: np.ndarray
    ) -> list[Nodes]:
        """Return the nodes with weight, by the kernel that they share."""
        if self.only_scale:
            zero = np.zeros(self.n_outer)
            parts = [(zero, scales.ravel(), weights.ravel(), shown.reshape(-1, shown.shape[-1]))]
        else:
            parts = list(zip(outer, scales, weights, shown, strict=True))
        groups = []
        for place, scale, share, values in parts:
            keep = share > NEGLIGIBLE
            if keep.any():
                values, z = values[keep], np.zeros((int(keep.sum()), 2))
                groups.append(Nodes(place, scale[keep], share[keep], z, values, values**2))
        return groups

    def dataset(self, first: np.ndarray, second: np.ndarray) -> xr.Dataset:
        """Return the posterior means of what users see, and their standard deviations."""
        shown, found = self._template, xr.Dataset()
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
