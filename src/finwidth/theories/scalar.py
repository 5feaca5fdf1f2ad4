"""A comparator for convolutions: one scalar for all patches, Q̄_ab = q δ_ab."""

from typing import Any

import numpy as np

from .._basics.errors import InputError
from .._layers.convolution import Convolution
from .._layers.order import Chart, Scale
from .._plugins.hooks import hookimpl
from .._problem.network import Network
from .._problem.problem import Problem
from ._saddle.action import ScaledForm
from ._saddle.patch_search import Found
from ._saddle.patches import PatchSolution
from ._solution import Solution
from ._theory import Test, Theory
from .nested import Nested

__all__ = ["Scalar"]


class Scalar(Nested):
    """The action of "nested" for a convolution, restricted to Q̄ = q·1; a comparator.

    A N_c[q − log q − 1] + logdet(T + K_R) + yᵀ(T + K_R)⁻¹y with K_R = q Σ_a K_aa/(λ_1 A): a dense
    layer of A N_c units. It misses what finite width does to pairs of patches, whose kernels then
    never enter.

    References
    ----------
    theory.md, section 16.
    """

    name = "scalar"

    def check(self, network: Network) -> None:
        """Refuse all but a convolution without pooling, an odd activation and one output."""
        super().check(network)
        layer = network.layers[0]
        if not (isinstance(layer, Convolution) and network.by_patches):
            raise InputError(
                f"expected a Convolution with pooling='none' with theory={self.name!r}, got layers "
                f"= {network.layers}"
            )
        if network.outputs > 1 or network.activations[0].parity != "odd":
            raise InputError(
                f"expected outputs = 1 and an odd activation with theory={self.name!r}, got "
                f"{network.outputs} and {network.activations[0].name!r}"
            )

    def chart(self, network: Network) -> Chart:
        """Return q alone."""
        return Chart((Scale(network.widths[0]),))

    def scaled_form(self, problem: Problem) -> ScaledForm | None:
        """Return Σ_a K_aa/A, and for a bias the column 1."""
        low_rank = problem.network.bias_precision is not None
        return None if problem.temperature == 0 and low_rank else self.reduced(problem)

    def solve_by_patches(self, problem: Problem, start: Any = None) -> Solution:
        """Return the solution, that of an average over patches as wide as all of them together."""
        layer = problem.network.layers[0]
        assert isinstance(layer, Convolution)
        patches = layer.size(problem.X.shape[1:]) // layer.width
        widened = problem.vary((layer.width * patches,), problem.temperature)
        found = self.solve_at_point(widened, start)
        point, one = found.point, np.eye(patches)
        q_bar = point.order.q_bar[0] * one
        restricted = Found(q_bar, q_bar, point.residual, point.converged, point.message)
        return PatchSolution(problem, self, restricted, found.conditioned)

    def solve_column(self, problems: list[Problem], test: Test) -> list[dict[str, Any]]:
        """Solve problems that differ in width, each by itself."""
        return Theory.solve_column(self, problems, test)


@hookimpl
def finwidth_register_theories() -> list[Theory]:
    """Register the theory."""
    return [Scalar()]
