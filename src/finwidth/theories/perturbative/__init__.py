"""One hidden layer to first order in 1/N_1 about infinite width, fourth cumulants included.

At a fixed training set the posterior of the network is the Gaussian process of infinite width
plus terms in 1/N_1, 1/N_1², …; the first of them is known exactly and computed here.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import xarray as xr

from ..._basics.errors import ConvergenceError, InputError, warn
from ..._observables._prediction import Prediction
from ..._plugins.hooks import hookimpl
from ..._problem.network import Network
from ..._problem.problem import Problem
from .._saddle.theory import SaddleSolution
from .._solution import Solution
from .._theory import Theory, check_dense, checked
from ..infinite import Infinite
from ._moments import Estimate, Neuron

__all__ = ["Perturbative", "PerturbativeSolution"]

_INFINITE = Infinite()
_TOLERANCE = 1e-3  # standard error of the change of predictions, relative to the prior's scale
_EVIDENCE_TOLERANCE = 1e-2  # of the change of log p(y), relative, where that exceeds 0.1


class Perturbative(Theory):
    """The posterior to first order in 1/N_1 at a fixed training set, for any activation.

    The characteristic function of the outputs at s̄ is M(s̄)^N_1, M = E exp[−(s̄·ψ)²/(2N_1)] with
    ψ = σ(h)/√λ_1 the features of one neuron, so that

        log M^N_1 = −½ s̄ᵀK s̄ + Var[(s̄·ψ)²]/(8N_1) + O(N_1⁻²).

    The variance is 2(s̄ᵀK s̄)² plus the fourth cumulant of s̄·ψ: the first term is what a varying
    scale of the kernel gives (theory.md, section 5), the second is what Breuer-Major drops. Under
    the Gaussian of infinite width, s̄ ~ N(iA⁻¹y, A⁻¹), and with a = A⁻¹y, u = aᵀψ, v = ψᵀA⁻¹ψ,
    ρ(x) = ψ(x) − k(x)A⁻¹ψ, centred v° and (u²)°,

        mean change      −(1/2N_1) { E[(3v° − (u²)°) u ρ] + 2 E[v] E[uρ] − 2 E[uψ]ᵀA⁻¹E[ψρ] }
        variance change  −(1/2N_1) { 3E[(v° − (u²)°) ρ²] + 2(E[v] − E[u²]) E[ρ²] + 2E[uρ]²
                                     − 2E[ρψ]ᵀA⁻¹E[ψρ] }
        log p(y) change   (1/8N_1) { E[3v°² − 6v°(u²)° + (u²)°²] + 2E[v]² − 4E[v]E[u²]
                                     − 2 tr (A⁻¹K)² + 4 aᵀK A⁻¹K a }

    (K without the output's bias). Second moments are the kernel's; the fourth ones have no closed
    form and are averaged with scrambled Sobol sequences until the standard error of each change
    is 10⁻³ of the prior's standard deviation (mean) or variance (variance), and for log p(y) 1 %
    of its change or 10⁻³.

    Notes
    -----
    Nothing is resummed: there is no order parameter, N_1 has to be large compared with P, and a
    variance that comes out negative raises ConvergenceError. The error is O(N_1⁻²) at fixed P;
    that of "nested", and of its scale mixture for activations other than the identity, is
    O(N_1⁻¹).

    References
    ----------
    Yaida, MSML 2020; Naveh et al., Phys. Rev. E 104, 064301 (2021); Zavatone-Veth et al., NeurIPS
    2021. The formulas above are derived here.
    """

    name = "perturbative"

    def check(self, network: Network) -> None:
        """Refuse more than one hidden layer."""
        check_dense(network, self.name)
        if network.depth != 1:
            raise InputError(
                "expected one hidden layer for theory='perturbative', got "
                f"{network.depth} hidden layers"
            )

    @checked
    def solve(self, problem: Problem) -> "PerturbativeSolution":
        """Solve theory="infinite" and average the fourth moments on the training set."""
        # λ_1 may differ between problems that share
        neuron = problem.shared(_neuron, problem.network.weight_precision[1])
        solution = PerturbativeSolution(problem, _INFINITE.solve(problem), neuron)
        solution.average()
        return solution


def _neuron(problem: Problem, precision: float) -> Neuron:
    """Return the features of one neuron, of that λ_1."""
    return Neuron(problem.network, problem.X)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PerturbativeSolution(Solution):
    """The Gaussian process of infinite width plus the terms of order 1/N_1.

    Attributes
    ----------
    problem
        Network, training set and temperature.
    leading
        The solution of theory="infinite".
    neuron
        The features of one neuron.
    """

    leading: SaddleSolution
    neuron: Neuron
    block = 512

    @property
    def theory(self) -> str:
        """Name of the theory."""
        return "perturbative"

    @property
    def converged(self) -> bool:
        """Whether the standard error of log p(y) is at most 1 % of its change, or 10⁻³."""
        return self.residual <= self._tolerance(self.evidence_change)

    @property
    def message(self) -> str:
        """Why the solution has not converged, if it has not."""
        return "" if self.converged else "the standard error of log p(y) is too large"

    @property
    def residual(self) -> float:
        """Standard error of log p(y)."""
        return float(self._training.error[0]) / (8 * self._width)

    @staticmethod
    def _tolerance(change: float) -> float:
        return _EVIDENCE_TOLERANCE * max(abs(change), 0.1)

    @property
    def order_parameters(self) -> xr.Dataset:
        """`evidence_change` with dimension layer: what order 1/N_1 adds to log p(y)."""
        return xr.Dataset(
            {"evidence_change": ("layer", np.array([self.evidence_change]))},
            coords={"layer": np.array([1])},
        )

    @property
    def action(self) -> float:
        """−2 log p(y) − P log 2π to order 1/N_1."""
        return self.leading.action - 2.0 * self.evidence_change

    @property
    def evidence_change(self) -> float:
        """What order 1/N_1 adds to log p(y)."""
        return self._evidence(float(self._training.mean[0]))

    def _evidence(self, fourth: float) -> float:
        mean_v, mean_u2, white_K = self._known
        white_ku = white_K @ self.leading.factor.whiten(self.problem.y[:, None])[:, 0]
        known = 2.0 * mean_v**2 - 4.0 * mean_v * mean_u2
        known += -2.0 * float(np.sum(white_K**2)) + 4.0 * float(white_ku @ white_ku)
        return (fourth + known) / (8 * self._width)

    @property
    def _width(self) -> int:
        return self.network.widths[0]

    @functools.cached_property
    def _known(self) -> tuple[float, float, np.ndarray]:
        """E[v], E[u²] and W E[ψψᵀ] Wᵀ (A⁻¹ = WᵀW): second moments, from the kernel."""
        factor, weights = self.leading.factor, self.leading.weights
        K = self.leading.renormalized_kernel - self.problem.output_bias
        white_K = factor.whiten(factor.whiten(K).T)
        return float(np.trace(white_K)), float(weights @ K @ weights), white_K

    def _centred(self, psi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return u, v°, (u²)° and (Wψ)ᵀ for features on the training set."""
        mean_v, mean_u2, _ = self._known
        half = psi @ self._root
        u = psi @ self.leading.weights
        return u, np.einsum("ij,ij->i", half, half) - mean_v, u**2 - mean_u2, half

    @functools.cached_property
    def _root(self) -> np.ndarray:
        """Wᵀ with A⁻¹ = WᵀW."""
        return self.leading.factor.whiten(np.eye(self.problem.n_patterns)).T

    def average(self) -> None:
        """Make the averages on the training set now, where JAX is in float64."""
        _ = self._training

    @functools.cached_property
    def _training(self) -> Estimate:
        """E[3v°² − 6v°(u²)° + (u²)°²]."""

        def total(psi: np.ndarray) -> np.ndarray:
            _, v, u2, _ = self._centred(psi)
            return np.array([np.sum(3 * v**2 - 6 * v * u2 + u2**2)])

        def enough(mean: np.ndarray, error: np.ndarray) -> bool:
            change = self._evidence(float(mean[0]))
            return bool(error[0] <= 8 * self._width * self._tolerance(change))

        return self.neuron.average(total, self.problem.X, enough)

    def _predict_block(self, X_test: np.ndarray, full_covariance: bool) -> Prediction:
        """Return the Gaussian process's moments plus their changes."""

        def pairs(one: np.ndarray, other: np.ndarray) -> np.ndarray:
            """Sums over the first axis, for all pairs of test points or for each point."""
            return one.T @ other if full_covariance else np.einsum("ij,ij->j", one, other)

        factor, n_patterns, n = self.leading.factor, self.problem.n_patterns, X_test.shape[0]
        features = self.leading.kernel_between(X_test, self.problem.X, output_bias=False)
        to_training = np.asarray(features.cross).T
        own = np.asarray(features.diag_a)
        if full_covariance:
            own = np.asarray(self.leading.kernel_between(X_test, X_test, output_bias=False).cross)
        white_y = factor.whiten(self.problem.y[:, None])[:, 0]
        white_k = factor.whiten(to_training)
        half = factor.whiten(to_training + self.problem.output_bias)
        mean, prior = half.T @ white_y, own + self.problem.output_bias
        covariance = prior - pairs(half, half)

        # second moments, from the kernel: W E[ψρ], E[uρ], E[ρρᵀ]
        mean_v, mean_u2, white_K = self._known
        psi_rho = white_k - white_K @ half
        u_rho = psi_rho.T @ white_y
        rho_rho = own - pairs(white_k, half) - pairs(half, psi_rho)
        # fourth ones, from the average over a neuron
        fourth = self._average(X_test, half, pairs, prior)
        mean_change = fourth.mean[:n] + 2.0 * mean_v * u_rho
        mean_change -= 2.0 * (white_K @ white_y) @ psi_rho
        change = 3.0 * fourth.mean[n:].reshape(own.shape) + 2.0 * (mean_v - mean_u2) * rho_rho
        change += 2.0 * pairs(u_rho[None], u_rho[None]) - 2.0 * pairs(psi_rho, psi_rho)
        mean = mean - mean_change / (2 * self._width)
        covariance = covariance - change / (2 * self._width)
        variance = np.diag(covariance).copy() if full_covariance else covariance
        if np.any(variance < 0):
            raise ConvergenceError(
                "expected widths that are large compared with the number of patterns "
                f"({n_patterns}) for theory='perturbative', got {self.network.widths}: a variance "
                "to first order in 1/N_1 is negative",
                self,
            )
        return Prediction(mean, variance, covariance if full_covariance else None)

    def _average(
        self,
        X_test: np.ndarray,
        half: np.ndarray,
        pairs: Callable[[np.ndarray, np.ndarray], np.ndarray],
        prior: np.ndarray,
    ) -> Estimate:
        """E[(3v° − (u²)°) u ρ] and E[(v° − (u²)°) ρρᵀ], one after the other."""
        n_patterns, n = self.problem.n_patterns, X_test.shape[0]
        scale = np.sqrt(np.diag(prior) if prior.ndim == 2 else prior)
        scales = np.ravel(np.outer(scale, scale) if prior.ndim == 2 else scale**2)

        def total(psi: np.ndarray) -> np.ndarray:
            u, v, u2, white = self._centred(psi[:, :n_patterns])
            rho = psi[:, n_patterns:] - white @ half
            return np.concatenate(
                [(3 * v - u2) * u @ rho, np.ravel(pairs((v - u2)[:, None] * rho, rho))]
            )

        def worst(error: np.ndarray) -> float:
            relative = np.max(error[:n] / scale), np.max(3 * error[n:] / scales)
            return float(max(relative)) / (2 * self._width)

        estimate = self.neuron.average(
            total, np.concatenate([self.problem.X, X_test]), lambda _, e: worst(e) <= _TOLERANCE
        )
        if worst(estimate.error) > _TOLERANCE:
            warn(
                f"expected a standard error of {_TOLERANCE:g} on the change of the predictions, "
                f"relative to the prior's, got {worst(estimate.error):.1e} with "
                f"{estimate.points} points in each of the replicates"
            )
        return estimate


@hookimpl
def finwidth_register_theories() -> list[Theory]:
    """Register the theory."""
    return [Perturbative()]
