"""The interface of a theory, and what all saddle-point theories share.

A theory takes a `Problem` (network, training set, temperature) to a `Solution`. A saddle-point
theory only says how the order parameters enter the kernel; the prior term, the equations and
their solution are common to all (theory.md, sections 2 to 4).
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
from jax import Array
from jaxtyping import Float

from .._errors import InputError
from .._kernels import Covariance, bias_variances, input_covariance, layer_rules
from .._network import Network
from .._saddle import StationarityEquations, distinct_roots, track
from .._scaled import ScaledKernel

__all__ = ["LayerConstants", "OrderParameters", "Problem", "SaddleTheory", "ScaledForm", "Theory"]


class LayerConstants(NamedTuple):
    """Numbers that enter the kernel: λ_1 … λ_L and 1/λ^b_1 … 1/λ^b_L, each shape (layer,)."""

    precisions: Float[Any, " layer"]
    biases: Float[Any, " layer"]


class OrderParameters(NamedTuple):
    """Q̄_ℓ and 1/(1 + Q_ℓ), each of shape (layer,)."""

    q_bar: Float[Any, " layer"]
    shrinkage: Float[Any, " layer"]

    @property
    def q(self) -> Any:
        """Q_ℓ, shape (layer,)."""
        return 1.0 / self.shrinkage - 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """What a theory solves: a network, its training set, the temperature.

    Parameters
    ----------
    network
        The network.
    X, y
        Training set, shapes (pattern, input) and (pattern,), float64.
    temperature
        T ≥ 0.
    """

    network: Network
    X: Float[np.ndarray, "pattern input"]
    y: Float[np.ndarray, " pattern"]
    temperature: float
    _shared: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def n_patterns(self) -> int:
        """P."""
        return self.X.shape[0]

    @property
    def covariance(self) -> Covariance:
        """C on the training set."""
        return self.shared("covariance", lambda: input_covariance(self.network, self.X))

    @property
    def rules(self) -> tuple:
        """Quadrature rules of the layers (None where closed forms exist)."""
        return self.shared(
            "rules", lambda: layer_rules(self.network, np.asarray(self.covariance.diag_a))
        )

    def shared(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what `make` returns, made once for all problems that differ in width or T only."""
        if name not in self._shared:
            self._shared[name] = make()
        return self._shared[name]

    @property
    def constants(self) -> LayerConstants:
        """λ_ℓ and 1/λ^b_ℓ for ℓ = 1 … L."""
        return LayerConstants(
            np.asarray(self.network.weight_precision[1:]), bias_variances(self.network)[1:]
        )

    def vary(self, widths: tuple[int, ...], temperature: float) -> "Problem":
        """Return the problem at other widths and temperature; kernels are shared."""
        network = self.network.replace(widths=widths)
        if network.depth != self.network.depth:
            raise InputError(
                f"expected widths = {self.network.depth} hidden layers, got {network.depth}"
            )
        return dataclasses.replace(self, network=network, temperature=temperature)


class Theory(abc.ABC):
    """A theory of the posterior: anything that takes a `Problem` to a `Solution`."""

    name: str

    @abc.abstractmethod
    def order_parameters(self, problem: Problem) -> "SaddlePoint":
        """Solve for the order parameters of `problem`."""

    @abc.abstractmethod
    def kernel(
        self,
        activation: Any,
        constants: LayerConstants,
        covariance: Covariance,
        order: OrderParameters,
        rules: tuple,
    ) -> Covariance:
        """Return K_R between two sets of patterns, from their input covariance.

        Parameters
        ----------
        activation
            σ (static under jit).
        constants
            λ_ℓ and 1/λ^b_ℓ.
        covariance
            C on the two sets.
        order
            Order parameters.
        rules
            Quadrature rules of the layers (static under jit).
        """

    def variance_scales(self, order: OrderParameters) -> np.ndarray:
        """Return what each hidden layer's map scales its variances by, at most; shape (layer,).

        Quadrature rules are chosen for the variances that follow.
        """
        return np.maximum(order.q_bar, order.shrinkage)


@dataclasses.dataclass(frozen=True)
class SaddlePoint:
    """Order parameters with what is known of them.

    Attributes
    ----------
    order
        Q̄_ℓ and 1/(1 + Q_ℓ).
    prior_term
        Σ_ℓ N_ℓ[−Q_ℓ Q̄_ℓ + log(1 + Q_ℓ)].
    residual
        max |∂𝒮/∂ log(order parameter)|/(N_ℓ + P).
    converged, message
        Whether the saddle was reached, and if not, why.
    equations
        The stationarity equations; None where there are none to solve.
    theta
        Solution in logarithmic variables.
    """

    order: OrderParameters
    prior_term: float
    residual: float
    converged: bool
    message: str
    equations: StationarityEquations | None
    theta: np.ndarray

    def count_roots(self) -> int:
        """Count the distinct saddle points found from starts in all directions."""
        if self.equations is None:
            return 1
        n = self.equations.size
        starts: list[np.ndarray] = []
        for magnitude in (0.5, 1.5, 3.0, 6.0):
            starts += [np.full(n, sign * magnitude) for sign in (1.0, -1.0)]
            if n > 1:
                rng = np.random.default_rng(n)
                starts += [magnitude * row for row in rng.choice([-1.0, 1.0], size=(3, n))]
        return len(distinct_roots(self.equations, starts, self.theta))


class ScaledForm(NamedTuple):
    """K_R = s·K_0 + U diag(w) Uᵀ, where a theory's kernel is of that form.

    `kernel` is K_0, `columns` U. The scale is s = Π_ℓ Q̄_ℓ. Where Q_ℓ are unknowns of their own,
    the first weights are `fixed_weights` times 1/(1 + Q_ℓ), one for each; the others are fixed.
    """

    kernel: np.ndarray
    columns: np.ndarray
    fixed_weights: np.ndarray  # weights at Q = 0


class SaddleTheory(Theory):
    """A theory whose order parameters solve ∂𝒮 = 0 with 𝒮 of theory.md, section 4.

    A concrete theory defines `name` and `kernel`, and may define `scaled_form` and
    `eliminates_q`.
    """

    def eliminates_q(self, network: Network) -> bool:
        """Whether K_R has no mean term, so that Q_ℓ = 1/Q̄_ℓ − 1 leaves Q̄_ℓ the only unknowns."""
        return network.activation.parity == "odd"

    def scaled_form(self, problem: Problem) -> ScaledForm | None:
        """Return the fixed kernel whose scale is all that varies, or None."""
        return None

    # The unknowns θ are log Q̄_ℓ and, with a mean term, log 1/(1 + Q_ℓ). Without one
    # Q̄ = 1/(1 + Q) is eliminated.
    @staticmethod
    def unpack(theta: Any, depth: int) -> OrderParameters:
        """Return the order parameters for θ of shape (depth,) or (2 depth,)."""
        xp = jnp if isinstance(theta, Array) else np
        values = xp.exp(theta)
        if theta.shape[0] == depth:
            return OrderParameters(values, values)
        return OrderParameters(values[:depth], values[depth:])

    def order_parameters(self, problem: Problem) -> SaddlePoint:
        """Follow the saddle point from infinite width to the network's widths."""
        equations = self.equations(problem)
        result = track(equations)
        return self.point(problem, equations, result.theta, result)

    def point(
        self, problem: Problem, equations: StationarityEquations, theta: np.ndarray, result: Any
    ) -> SaddlePoint:
        """Return the `SaddlePoint` at θ."""
        order = self.unpack(theta, problem.network.depth)
        return SaddlePoint(
            order=order,
            prior_term=prior_term(problem.network, order),
            residual=result.residual,
            converged=result.converged,
            message=result.message,
            equations=equations,
            theta=theta,
        )

    def equations(self, problem: Problem) -> StationarityEquations:
        """Return the stationarity equations, each divided by N_ℓ + P."""
        network, depth = problem.network, problem.network.depth
        eliminated = self.eliminates_q(network)
        widths = np.asarray(network.widths, dtype=np.float64)
        size = depth if eliminated else 2 * depth
        scale = widths + problem.n_patterns
        rows = scale if eliminated else np.concatenate([scale, scale])

        def prior(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            gradient, hessian = _prior_derivatives(theta, widths, eliminated)
            return gradient / rows, hessian / rows[:, None]

        form = self.scaled_form(problem)
        if form is not None:
            gradient = _scaled_gradient(problem, form, self.name)
        else:
            gradient = self._dense_gradient(problem)
        return StationarityEquations(prior, lambda theta: gradient(theta) / rows, size)

    def _dense_gradient(self, problem: Problem) -> Callable[[np.ndarray], np.ndarray]:
        arguments = (
            self,
            problem.network.activation,
            problem.rules,
            problem.constants,
            problem.covariance,
            jnp.asarray(problem.y, jnp.float64),
            problem.temperature,
        )
        return lambda theta: np.asarray(
            _dense_gradient(jnp.asarray(theta, jnp.float64), *arguments)
        )


def prior_term(network: Network, order: OrderParameters) -> float:
    """Return Σ_ℓ N_ℓ[−Q_ℓ Q̄_ℓ + log(1 + Q_ℓ)]."""
    widths = np.asarray(network.widths, dtype=np.float64)
    q_bar, shrinkage = np.asarray(order.q_bar), np.asarray(order.shrinkage)
    return float(np.sum(widths * (q_bar - q_bar / shrinkage - np.log(shrinkage))))


def _prior_derivatives(
    theta: np.ndarray, widths: np.ndarray, eliminated: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and Hessian of the prior term in θ.

    With Q eliminated: N(e^u − 1 − u) in u = log Q̄. Otherwise N(e^u − e^{u−w} − w), where
    w = log 1/(1 + Q).
    """
    n = widths.size
    if eliminated:
        return widths * np.expm1(theta), np.diag(widths * np.exp(theta))
    u, w = theta[:n], theta[n:]
    ratio = widths * np.exp(u - w)
    gradient = np.concatenate([widths * np.exp(u) - ratio, widths * np.expm1(u - w)])
    uu, uw, ww = np.diag(widths * np.exp(u) - ratio), np.diag(ratio), np.diag(-ratio)
    return gradient, np.block([[uu, uw], [uw, ww]])


def _scaled_gradient(
    problem: Problem, form: ScaledForm, form_name: str
) -> Callable[[np.ndarray], np.ndarray]:
    """Gradient of the data term where only a scale of a fixed kernel varies, O(P) a call."""
    scaled = problem.shared(
        f"scaled {form_name}", lambda: ScaledKernel(form.kernel, form.columns, problem.y)
    )
    depth = problem.network.depth

    def gradient(theta: np.ndarray) -> np.ndarray:
        log_q_bar, log_shrinkage = theta[:depth], theta[depth:]
        weights = form.fixed_weights.copy()
        weights[: log_shrinkage.size] *= np.exp(log_shrinkage)
        _, d_scale, d_weights = scaled.data_term(
            float(np.exp(np.sum(log_q_bar))), weights, problem.temperature
        )
        return np.concatenate([np.full(depth, d_scale), d_weights[: log_shrinkage.size]])

    return gradient


def dense_data_term(
    theta: Array,
    theory: SaddleTheory,
    activation: Any,
    rules: tuple,
    constants: LayerConstants,
    covariance: Covariance,
    y: Array,
    temperature: Array,
) -> Array:
    """Return logdet A + yᵀA⁻¹y with A = T·1 + K_R(θ)."""
    order = theory.unpack(theta, constants.precisions.shape[0])
    kernel = theory.kernel(activation, constants, covariance, order, rules).cross
    a = kernel + temperature * jnp.eye(y.shape[0])
    factor = jnp.linalg.cholesky(a)
    whitened = jax.scipy.linalg.solve_triangular(factor, y, lower=True)
    return 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor))) + whitened @ whitened


_STATIC = ("theory", "activation", "rules")
_dense_gradient = jax.jit(jax.grad(dense_data_term), static_argnames=_STATIC)
