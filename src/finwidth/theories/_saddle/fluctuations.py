"""`fluctuations`: the next order around a saddle point, for the evidence and for predictions.

The integral over the order parameters is ∫dθ J(θ) exp(−𝒮(θ)/2); the saddle point keeps its
exponent. Here follows what Gaussian fluctuations around that point, and the cubic term of 𝒮,
change in log p(y) at order 1 and in predictions at order 1/N (Laplace's method).
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import Array

from ..._basics.arrays import check_labels
from ..._basics.errors import InputError
from ..._layers.covariance import Covariance
from ..._layers.dense import input_covariance
from ..._layers.order import prior_derivatives, unpack
from ..._layers.stack import LayerConstants, layer_rules
from ..._numerics.precision import in_float64
from ..._observables.prediction import Prediction
from ..._observables.squared_error import expected_error
from .theory import SaddleSolution

__all__ = ["fluctuations"]

_BLOCK = 512  # test patterns at a time
_STATIC = ("kernel", "activation", "rules")


@in_float64
def fluctuations(solution: Any, X_test: Any = None, y_test: Any = None) -> xr.Dataset:
    """Compute what the fluctuations of the order parameters add to a saddle-point solution.

    Parameters
    ----------
    solution
        A converged solution of theory="nested" (one hidden layer, or an odd activation) or
        theory="wishart".
    X_test
        Test patterns, shape (test_pattern, input), for the corrected predictions; or None.
    y_test
        Labels, shape (test_pattern,), for the corrected error; or None.

    Returns
    -------
    xarray.Dataset
        ``log_evidence`` with the determinant of the fluctuations, ``log_evidence_leading``
        without; ``hessian`` of 𝒮/2 in the unknowns θ, dimensions (unknown, unknown_other), its
        ``hessian_eigenvalues`` (mode), and ``q_bar_sd`` (layer), the standard deviation of Q̄_ℓ
        to leading order (NaN with a mean term, where Q̄ is integrated along the imaginary
        direction). The unknowns are log Q̄_ℓ and, with a mean term, −log(1 + Q_ℓ).

        With `X_test` also ``mean`` and ``variance`` of the latent f (test_pattern), to first
        order in the fluctuations, and ``mean_leading``, ``variance_leading``; with `y_test` the
        scalars ``error``, ``bias2`` and ``error_leading``, ``bias2_leading``. The error is
        ``bias2`` plus the mean of ``variance``.

    Raises
    ------
    InputError
        If an argument is not as described, or if at this saddle point the Hessian has the wrong
        signs, so that no Gaussian integral exists.

    Notes
    -----
    With φ = 𝒮/2, H = φ'' and Σ = H⁻¹ at the saddle point, for any function g of θ

        ⟨g⟩ = g + ½ tr(Σ g'') − ½ (Σ g')·∇tr(Σ φ'') + (Σ g')·∇log J + O(N⁻²)

    where Σ is held fixed under the gradient. For one odd layer, "wishart", and odd layers in a
    nest, θ_ℓ = log Q̄_ℓ, J = 1, and exp(−𝒮/2) is the likelihood times the density of
    Q̄_ℓ ~ Gamma(N_ℓ/2, rate N_ℓ/2) over its largest value. That normalisation is expanded to the
    same order, so T → ∞ is exact, and

        log p(y) = −½(𝒮 + P log 2π) − ½ log det(H) + ½ Σ_ℓ log(N_ℓ/2) + O(1/N).

    With a mean term and one hidden layer the integral runs over Q̄ (imaginary direction) and Q,
    θ = (log Q̄, −log(1 + Q)), J = Q̄(1 + Q), and H has one negative eigenvalue. Both are
    expansions of `finwidth.mixture`, which has the same approximation of the features.

    References
    ----------
    theory.md, section 5; L. Tierney and J. Kadane, J. Am. Stat. Assoc. 81, 82 (1986).
    """
    _check(solution)
    if X_test is not None:
        X_test = solution.problem.test_inputs(X_test)
    if y_test is not None:
        if X_test is None:
            raise InputError("expected X_test along with y_test, got y_test alone")
        y_test = check_labels(y_test, X_test.shape[0], name="y_test", of="X_test")
    data = _DataTerm(solution)
    hessian = data.hessian()
    negative = solution.network.depth if data.theta.size > solution.network.depth else 0
    values, vectors = np.linalg.eigh(hessian)
    _check_signs(values, negative)
    result = _evidence(solution, hessian, values)
    if X_test is None:
        return result
    modes = data.modes(np.sign(values), (vectors / np.sqrt(np.abs(values))).T)
    blocks = [
        data.predict(modes, X_test[start : start + _BLOCK])
        for start in range(0, X_test.shape[0], _BLOCK)
    ]
    mean, variance, mean_change, variance_change = np.concatenate(blocks, axis=1)
    result["mean_leading"] = ("test_pattern", mean)
    result["variance_leading"] = ("test_pattern", variance)
    result["mean"] = ("test_pattern", mean + mean_change)
    result["variance"] = ("test_pattern", variance + variance_change)
    if y_test is not None:
        leading = expected_error(Prediction(mean, variance), y_test)
        bias2 = leading["bias2"] - 2.0 * float(np.mean((y_test - mean) * mean_change))
        result["error_leading"] = leading["error"]
        result["bias2_leading"] = leading["bias2"]
        result["error"] = bias2 + float(np.mean(variance + variance_change))
        result["bias2"] = bias2
    return result


def _check(solution: Any) -> None:
    expected = 'expected solution = a converged solution of theory="nested" or theory="wishart"'
    if not isinstance(solution, SaddleSolution):
        raise InputError(f"{expected}, got {type(solution).__name__}")
    if solution.point.equations is None:
        raise InputError(f"{expected}, got theory={solution.theory!r}, where nothing fluctuates")
    if not solution.converged:
        raise InputError(f"{expected}, got one that has not converged ({solution.message})")
    network = solution.network
    if network.depth > 1 and not solution.rule.eliminates_q(network):
        raise InputError(
            "expected one hidden layer, an odd activation or theory='wishart' (the mean terms of "
            "deeper layers are not derived from an integral), got activation "
            f"{network.activation.name!r} and {network.depth} hidden layers"
        )


def _check_signs(values: np.ndarray, negative: int) -> None:
    found = int(np.sum(values <= 0))
    if found != negative or np.any(values == 0) or not np.all(np.isfinite(values)):
        raise InputError(
            f"expected a saddle point where the Hessian of the action has {negative} negative "
            f"eigenvalue(s), got eigenvalues {values}: its fluctuations are no Gaussian integral"
        )


def _evidence(solution: SaddleSolution, hessian: np.ndarray, values: np.ndarray) -> xr.Dataset:
    """Return the part of the result that needs no test points."""
    network, theta = solution.network, solution.point.theta
    widths = np.asarray(network.widths, dtype=np.float64)
    logdet = float(np.sum(np.log(np.abs(values))))
    layers = np.arange(1, network.depth + 1)
    unknowns = [f"log q_bar {layer}" for layer in layers]
    if theta.size == network.depth:
        determinant = -0.5 * logdet + 0.5 * float(np.sum(np.log(widths / 2)))
        sd = np.exp(theta) * np.sqrt(np.diag(np.linalg.inv(hessian)))
    else:
        # ∫ Π_ℓ (N_ℓ/4πi) dQ_ℓ dQ̄_ℓ exp(−𝒮/2), in logarithmic variables
        u, w = np.split(theta, 2)
        determinant = -0.5 * logdet + float(np.sum(np.log(widths / 2) + u - w))
        unknowns += [f"-log(1 + q) {layer}" for layer in layers]
        sd = np.full(network.depth, math.nan)
    return xr.Dataset(
        {
            "log_evidence": solution.log_evidence + determinant,
            "log_evidence_leading": solution.log_evidence,
            "hessian": (("unknown", "unknown_other"), hessian),
            "hessian_eigenvalues": ("mode", values),
            "q_bar_sd": ("layer", sd),
        },
        coords={"layer": layers, "unknown": unknowns, "unknown_other": unknowns},
    )


class _Modes(NamedTuple):
    """The fluctuations Σ = Σ_k sign_k v_k v_kᵀ and what their cubic term shifts θ by.

    `c` are the derivatives of A along the v_k and `r` is Σ_k sign_k(½A_kk − A_k A_k) plus the
    derivative along the shift, all between W and Wᵀ (A⁻¹ = WᵀW).
    """

    signs: np.ndarray
    directions: np.ndarray
    shift: np.ndarray
    c: np.ndarray
    r: np.ndarray


class _DataTerm:
    """logdet A + yᵀA⁻¹y and the predictions as functions of θ, with their derivatives.

    JAX differentiates the kernel, element by element; what follows for A⁻¹ and logdet A is
    matrix algebra with the one factorisation A⁻¹ = WᵀW of the solution.
    """

    def __init__(self, solution: SaddleSolution) -> None:
        problem = solution.problem
        self._solution, self.theta = solution, np.asarray(solution.point.theta)
        self._a = solution.factor.whiten(problem.y[:, None])[:, 0]
        self._arguments = (problem.covariance, problem.rules)
        self._constants = problem.constants

    def _derivative(self, function: Any, *arguments: Any, of: tuple | None = None) -> Any:
        """Call one of the jitted derivatives of the kernel below."""
        covariance, rules = of or self._arguments
        network = self._solution.network
        return function(
            *(jnp.asarray(a, jnp.float64) for a in (self.theta, *arguments)),
            kernel=self._solution.rule.kernel,
            activation=network.activation,
            rules=rules,
            constants=self._constants,
            covariance=covariance,
        )

    def _whiten(self, block: Any) -> np.ndarray:
        """Return W B Wᵀ for the symmetric matrices B, shape (…, pattern, pattern)."""
        block = np.asarray(block)
        whiten = self._solution.factor.whiten
        flat = [whiten(whiten(b).T) for b in block.reshape(-1, *block.shape[-2:])]
        return np.reshape(flat, block.shape)

    def hessian(self) -> np.ndarray:
        """Return ½ ∂²𝒮, shape (unknown, unknown)."""
        widths = np.asarray(self._solution.network.widths, dtype=np.float64)
        first, second = self._derivative(_two_derivatives)
        c, cc, a = self._whiten(first), self._whiten(second), self._a
        ca = c @ a
        data = np.trace(cc, axis1=2, axis2=3) - cc @ a @ a - np.einsum("iab,jba->ij", c, c)
        prior = prior_derivatives(self.theta, widths, self._eliminated)[1]
        return 0.5 * (prior + data + 2.0 * ca @ ca.T)

    @property
    def _eliminated(self) -> bool:
        return self.theta.size == self._solution.network.depth

    def modes(self, signs: np.ndarray, directions: np.ndarray) -> _Modes:
        """Return what predictions need of the fluctuations along the rows of `directions`."""
        first, mixed, second, third = self._derivative(_three_derivatives, directions, signs)
        c, ck, cc = self._whiten(first), self._whiten(mixed), self._whiten(second)
        a, third = self._a, self._whiten(third)
        # D_j Σ_k sign_k D_k² of logdet A, then of yᵀA⁻¹y
        ca, squares = c @ a, np.einsum("k,kab,kbc->ac", signs, c, c)
        cubic = np.trace(third, axis1=1, axis2=2) - np.einsum("jab,ba->j", c, cc - 2.0 * squares)
        cubic -= 2.0 * np.einsum("k,jkab,kba->j", signs, ck, c)
        cubic += -(third @ a @ a) + 2.0 * ca @ cc @ a - 4.0 * ca @ squares @ a
        cubic += 4.0 * np.einsum("k,jkab,a,kb->j", signs, ck, a, ca)
        cubic -= 2.0 * np.einsum("k,ka,jab,kb->j", signs, ca, c, ca)
        cubic += self._prior_cubic(signs, directions)
        pull = -0.25 * cubic
        if not self._eliminated:  # ∇log J, J = Π_ℓ Q̄_ℓ(1 + Q_ℓ)
            depth = self._solution.network.depth
            pull += directions[:, :depth].sum(axis=1) - directions[:, depth:].sum(axis=1)
        shift = (signs * pull) @ directions
        along = np.tensordot(signs * pull, c, axes=1)
        return _Modes(signs, directions, shift, c, 0.5 * cc - squares + along)

    def _prior_cubic(self, signs: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Return D_j Σ_k sign_k D_k² of the prior term."""
        widths = np.asarray(self._solution.network.widths, dtype=np.float64)
        if self._eliminated:
            return directions @ (widths * np.exp(self.theta) * (signs @ directions**2))
        (u, w), (du, dw) = np.split(self.theta, 2), np.split(directions, 2, axis=1)
        ratio = widths * np.exp(u - w)
        return du @ (widths * np.exp(u) * (signs @ du**2)) - (du - dw) @ (
            ratio * (signs @ (du - dw) ** 2)
        )

    def predict(self, modes: _Modes, X_test: np.ndarray) -> np.ndarray:
        """Return mean, variance and their changes to first order; shape (4, test_pattern)."""
        solution = self._solution
        covariance = input_covariance(solution.network, X_test, solution.problem.X)
        variances = np.concatenate([np.asarray(covariance.diag_a), np.asarray(covariance.diag_b)])
        scales = solution.rule.variance_scales(solution.point.order)
        rules = layer_rules(solution.network, variances, scales)
        block, first, change = self._derivative(
            _predictive_derivatives,
            modes.directions,
            modes.signs,
            modes.shift,
            of=(covariance, rules),
        )
        whiten, a = solution.factor.whiten, self._a
        kappa, moved = whiten(np.asarray(block.cross).T).T, whiten(np.asarray(change.cross).T).T
        slopes = np.stack([whiten(np.asarray(one).T).T for one in first.cross])
        mean = kappa @ a
        variance = np.asarray(block.diag_a) - np.sum(kappa**2, axis=1)
        ca = modes.c @ a
        mean_change = moved @ a - np.einsum("k,knb,kb->n", modes.signs, slopes, ca)
        mean_change -= kappa @ (modes.r @ a)
        # Σ_k sign_k (D_k mean)², and the change of the conditional variance
        tilts = slopes @ a - np.einsum("nb,kb->kn", kappa, ca)
        variance_change = modes.signs @ tilts**2 + np.asarray(change.diag_a)
        variance_change += np.einsum("nb,nb->n", kappa @ modes.r - 2.0 * moved, kappa)
        inner = 2.0 * kappa @ modes.c - slopes
        variance_change += np.einsum("k,knb,knb->n", modes.signs, slopes, inner)
        return np.stack([mean, variance, mean_change, variance_change])


# --- derivatives of the kernel in θ ------------------------------------------------------------


def _blocks(
    kernel: Callable[..., Covariance],
    activation: Any,
    rules: tuple,
    constants: LayerConstants,
    covariance: Covariance,
) -> Callable[[Array], Covariance]:
    depth = constants.precisions.shape[0]
    return lambda t: kernel(activation, constants, covariance, unpack(t, depth), rules)


def _along(function: Callable[[Array], Any], direction: Array) -> Callable[[Array], Any]:
    return lambda t: jax.jvp(function, (t,), (direction,))[1]


def _sum_of_seconds(
    function: Callable[[Array], Any], directions: Array, signs: Array
) -> Callable[[Array], Any]:
    """Σ_k sign_k D_k², a function of θ again."""

    def total(t: Array) -> Any:
        each = jax.vmap(lambda v: _along(_along(function, v), v)(t))(directions)
        return jax.tree.map(lambda leaf: jnp.tensordot(signs, leaf, axes=1), each)

    return total


@functools.partial(jax.jit, static_argnames=_STATIC)
def _two_derivatives(theta: Array, **static: Any) -> tuple[Array, Array]:
    """Return ∂_i K and ∂_i∂_j K, derivatives first."""

    def cross(t: Array) -> Array:
        return _blocks(**static)(t).cross

    basis = jnp.eye(theta.shape[0], dtype=theta.dtype)
    first = jax.vmap(lambda v: _along(cross, v)(theta))
    second = jax.vmap(
        jax.vmap(lambda v, w: _along(_along(cross, v), w)(theta), (None, 0)), (0, None)
    )
    return first(basis), second(basis, basis)


@functools.partial(jax.jit, static_argnames=_STATIC)
def _three_derivatives(
    theta: Array, directions: Array, signs: Array, **static: Any
) -> tuple[Array, Array, Array, Array]:
    """Return D_j K, D_j D_k K, Σ_k sign_k D_k² K and D_j of that, along `directions`."""

    def cross(t: Array) -> Array:
        return _blocks(**static)(t).cross

    seconds = _sum_of_seconds(cross, directions, signs)
    first = jax.vmap(lambda v: _along(cross, v)(theta))(directions)
    mixed = jax.vmap(
        jax.vmap(lambda v, w: _along(_along(cross, v), w)(theta), (None, 0)), (0, None)
    )(directions, directions)
    third = jax.vmap(lambda v: _along(seconds, v)(theta))(directions)
    return first, mixed, seconds(theta), third


@functools.partial(jax.jit, static_argnames=_STATIC)
def _predictive_derivatives(
    theta: Array, directions: Array, signs: Array, shift: Array, **static: Any
) -> tuple[Covariance, Covariance, Covariance]:
    """Return K, D_k K, and ½ Σ_k sign_k D_k² K plus the derivative along `shift`."""
    blocks = _blocks(**static)
    first = jax.vmap(lambda v: _along(blocks, v)(theta))(directions)
    seconds = _sum_of_seconds(blocks, directions, signs)(theta)
    along = _along(blocks, shift)(theta)
    change = jax.tree.map(lambda a, b: 0.5 * a + b, seconds, along)
    return blocks(theta), first, change
