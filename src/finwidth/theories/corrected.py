"""One hidden layer with the 1/N_1 correction of the shape of its kernel.

K_R = (Q̄/λ_1)[K − (Q̄/(λ_1 N_1)) K G K], G = A⁻¹ − A⁻¹y yᵀA⁻¹, A = T + Q̄K/λ_1, with the Q̄ of
theory="nested".
"""

import dataclasses
import functools
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from .._basics.errors import InputError
from .._layers.covariance import Covariance
from .._numerics.factor import Factor
from .._plugins.hooks import hookimpl
from .._problem.network import Network
from .._problem.problem import Problem
from ._gaussian_process import GaussianProcessSolution
from ._saddle.theory import SaddleSolution
from ._theory import Theory, check_dense, checked
from .nested import Nested

__all__ = ["Corrected", "CorrectedSolution"]

_NESTED = Nested()


class Corrected(Theory):
    """The effective action's kernel, turned towards the labels at order 1/N_1.

    For the dual variables s̄ the features σ(h) of one neuron have the weight
    exp[−(s̄·σ)²/(2λ_1N_1)]. With Gaussian features of covariance K (Breuer-Major) their second
    moment is then

        K − K s̄ s̄ᵀ K/(λ_1 N_1 (1 + V)),   V = s̄ᵀK s̄/(λ_1 N_1),

    and at the saddle point, where 1/(1 + V) → Q̄ and ⟨s̄ s̄ᵀ⟩ → G = A⁻¹ − A⁻¹y yᵀA⁻¹,

        K_c = K − (Q̄/(λ_1 N_1)) K G K.

    This is the posterior mean of the hidden layer's empirical kernel (1/N_1) Σ_i σ_i σ_iᵀ: it
    gains weight in the direction of the labels and loses it where the data determine f. The
    theory predicts with the Gaussian process of kernel Q̄ K_c/λ_1.

    Notes
    -----
    What is expanded: K_c to first order in 1/N_1 about the saddle point of theory="nested". Q̄ is
    not solved for again, and the evidence is that of "nested". Fourth cumulants of the features
    are not part of it (theory="perturbative" has them). K_c is positive semidefinite at any width.

    As a kernel for predictions K_c is no consistent expansion: for Gaussian features (the
    identity) the exact posterior is `finwidth.mixture`, which the prediction differs from at
    order 1/N_1, as "nested" does. It is of use where the exact posterior moves its kernel towards
    the labels and "nested" cannot.

    References
    ----------
    Baglioni et al., Phys. Rev. Lett. 133, 027301 (2024) and the code published with it; the
    reading as a posterior mean is this package's, cf. Zavatone-Veth et al., NeurIPS 2021.
    """

    name = "corrected"

    def check(self, network: Network) -> None:
        """Refuse more than one hidden layer, and activations that are not odd."""
        check_dense(network, self.name)
        if network.depth != 1 or network.activation.parity != "odd":
            raise InputError(
                "expected one hidden layer and an odd activation for theory='corrected', got "
                f"{network.depth} hidden layer(s) and activation {network.activation.name!r}"
            )

    @checked
    def solve(self, problem: Problem) -> "CorrectedSolution":
        """Solve theory="nested", then correct its kernel."""
        leading = _NESTED.solve(problem)
        solution = CorrectedSolution(problem, leading)
        if leading.converged:
            solution.factor.warn()
        return solution


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CorrectedSolution(GaussianProcessSolution):
    """The Gaussian process of the corrected kernel.

    Attributes
    ----------
    problem
        Network, training set and temperature.
    leading
        The solution of theory="nested".
    """

    leading: SaddleSolution

    @property
    def theory(self) -> str:
        """Name of the theory."""
        return "corrected"

    @property
    def converged(self) -> bool:
        """Whether the saddle point was reached."""
        return self.leading.converged

    @property
    def message(self) -> str:
        """Why the saddle point was not reached, if it was not."""
        return self.leading.message

    @property
    def residual(self) -> float:
        """That of theory="nested"."""
        return self.leading.residual

    @property
    def n_roots(self) -> int:
        """Number of distinct saddle points found from many starts (this one included)."""
        return self.leading.n_roots

    @property
    def order_parameters(self) -> xr.Dataset:
        """`q_bar` and `q` of theory="nested"."""
        return self.leading.order_parameters

    @property
    def action(self) -> float:
        """The effective action of theory="nested"."""
        return self.leading.action

    @functools.cached_property
    def factor(self) -> Factor:
        """Cholesky factor of A = T·1 + K_R."""
        return Factor(self.renormalized_kernel, self.temperature)

    @functools.cached_property
    def hidden_kernel(self) -> Float[np.ndarray, "pattern pattern"]:
        """K_c on the training set, the posterior mean of (1/N_1) Σ_i σ_i σ_iᵀ to order 1/N_1."""
        scale = self.network.weight_precision[1] / float(self.leading.point.order.q_bar[0])
        return scale * (self.renormalized_kernel - self.problem.output_bias)

    def _turn(self, A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return W Fᵀ (A⁻¹ = WᵀW) and F A⁻¹y, F = Q̄K/λ_1 from `A` to the training set.

        Inverse and weights are those of theory="nested".
        """
        F = np.asarray(self.leading.kernel_between(A, self.problem.X, output_bias=False).cross)
        return self.leading.factor.whiten(F.T), F @ self.leading.weights

    @functools.cached_property
    def _training(self) -> tuple[np.ndarray, np.ndarray]:
        return self._turn(self.problem.X)

    def kernel_between(self, A: np.ndarray, B: np.ndarray) -> Covariance:
        """Return F − F G F/N_1 (+ 1/λ^b_1) between two sets."""
        X, bias, width = self.problem.X, self.problem.output_bias, self.network.widths[0]
        F = self.leading.kernel_between(A, B, output_bias=False)
        one = self._training if A is X else self._turn(A)
        other = one if B is A else self._training if B is X else self._turn(B)

        def corrected(F: Any, reshaping: np.ndarray) -> Any:
            return np.asarray(F) - reshaping / width + bias

        def diagonal(turned: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
            return np.einsum("ij,ij->j", turned[0], turned[0]) - turned[1] ** 2

        return Covariance(
            corrected(F.cross, one[0].T @ other[0] - np.outer(one[1], other[1])),
            corrected(F.diag_a, diagonal(one)),
            corrected(F.diag_b, diagonal(other)),
        )


@hookimpl
def finwidth_register_theories() -> list[Theory]:
    """Register the theory."""
    return [Corrected()]
