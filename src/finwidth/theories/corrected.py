"""One hidden layer with the 1/N_1 correction of the shape of its kernel.

K_R = (Q̄/λ_1)[K − (Q̄/(λ_1 N_1)) K G K], G = A⁻¹ − A⁻¹y yᵀA⁻¹, A = T + Q̄K/λ_1, with the Q̄ of
theory="nested".
"""

import dataclasses
import functools

import numpy as np
import xarray as xr
from jaxtyping import Float

from .._errors import InputError
from .._factor import Factor
from .._hookspecs import hookimpl
from .._kernels import Covariance, input_covariance, layer_rules
from .._network import Network
from .._precision import float64
from .._problem import Problem
from .._solution import Prediction, Solution
from ._base import Theory
from ._saddle import SaddleSolution
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
        if network.depth != 1 or network.activation.parity != "odd":
            raise InputError(
                "expected one hidden layer and an odd activation for theory='corrected', got "
                f"{network.depth} hidden layer(s) and activation {network.activation.name!r}"
            )

    def solve(self, problem: Problem) -> "CorrectedSolution":
        """Solve theory="nested", then correct its kernel."""
        leading = _NESTED.solve(problem)
        solution = CorrectedSolution(problem, leading)
        if leading.converged:
            solution.factor.warn()
        return solution


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CorrectedSolution(Solution):
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

    def _features(self, A: np.ndarray, B: np.ndarray) -> Covariance:
        """Return F = Q̄K/λ_1 between two sets of patterns."""
        network, constants = self.network, self.problem.constants
        covariance = input_covariance(network, A, B)
        variances = np.concatenate([np.asarray(covariance.diag_a), np.asarray(covariance.diag_b)])
        return _NESTED.kernel(
            network.activation,
            constants._replace(biases=np.zeros_like(constants.biases)),
            covariance,
            self.leading.point.order,
            layer_rules(network, variances),
        )

    def _turn(self, F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return W Fᵀ (A⁻¹ = WᵀW) and F A⁻¹y for a block F that leads to the training set."""
        return self.leading.factor.whiten(F.T), F @ self.leading.weights

    @functools.cached_property
    def _training(self) -> tuple[np.ndarray, np.ndarray]:
        return self._turn(self.leading.renormalized_kernel - self._bias)

    @property
    def _bias(self) -> float:
        """1/λ^b_1, or 0."""
        return float(self.problem.constants.biases[0])

    def _correct(
        self,
        F: np.ndarray,
        one: tuple[np.ndarray, np.ndarray],
        other: tuple[np.ndarray, np.ndarray],
    ) -> np.ndarray:
        """Return F − F G F/N_1 (+ 1/λ^b_1) between two sets."""
        reshaping = one[0].T @ other[0] - np.outer(one[1], other[1])
        return F - reshaping / self.network.widths[0] + self._bias

    @functools.cached_property
    def renormalized_kernel(self) -> Float[np.ndarray, "pattern pattern"]:
        """K_R = Q̄K_c/λ_1 (+ 1/λ^b_1) on the training set."""
        with float64():
            F = self.leading.renormalized_kernel - self._bias
            return self._correct(F, self._training, self._training)

    @functools.cached_property
    def hidden_kernel(self) -> Float[np.ndarray, "pattern pattern"]:
        """K_c on the training set, the posterior mean of (1/N_1) Σ_i σ_i σ_iᵀ to order 1/N_1."""
        scale = self.network.weight_precision[1] / float(self.leading.point.order.q_bar[0])
        return scale * (self.renormalized_kernel - self._bias)

    @functools.cached_property
    def factor(self) -> Factor:
        """Cholesky factor of T·1 + K_R."""
        return Factor(self.renormalized_kernel, self.temperature)

    def _predict_block(self, X_test: np.ndarray, full_covariance: bool) -> Prediction:
        """Mean κA⁻¹y, variance κ_0 − diag(κA⁻¹κᵀ), with the corrected kernel throughout."""
        features = self._features(X_test, self.problem.X)
        turned = self._turn(np.asarray(features.cross))
        kappa = self._correct(np.asarray(features.cross), turned, self._training)
        half = self.factor.whiten(kappa.T)
        reshaping = np.einsum("ij,ij->j", turned[0], turned[0]) - turned[1] ** 2
        diagonal = np.asarray(features.diag_a) - reshaping / self.network.widths[0] + self._bias
        covariance = None
        if full_covariance:
            between = np.asarray(self._features(X_test, X_test).cross)
            covariance = self._correct(between, turned, turned) - half.T @ half
        variance = diagonal - np.einsum("ij,ij->j", half, half)
        return Prediction(kappa @ self.factor.solve(self.problem.y), variance, covariance)


@hookimpl
def finwidth_register_theories() -> list[Theory]:
    """Register the theory."""
    return [Corrected()]
