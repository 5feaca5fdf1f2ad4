"""The data term and the predictions around a saddle point, to third order."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from ..._layers.covariance import Covariance
from ..._layers.dense import input_covariance
from ..._layers.order import Chart
from ..._layers.stack import Stack, layer_rules
from .theory import SaddleSolution

__all__ = ["DataTerm"]

_STATIC = ("kernel",)


class Modes(NamedTuple):
    """The fluctuations Σ = Σ_k sign_k v_k v_kᵀ and what their cubic term shifts θ by.

    `c` are the derivatives of A along the v_k and `r` is Σ_k sign_k(½A_kk − A_k A_k) plus the
    derivative along the shift, all between W and Wᵀ (A⁻¹ = WᵀW).
    """

    signs: np.ndarray
    directions: np.ndarray
    shift: np.ndarray
    c: np.ndarray
    r: np.ndarray


class DataTerm:
    """logdet A + yᵀA⁻¹y and the predictions as functions of θ, with their derivatives.

    JAX differentiates the kernel, element by element; what follows for A⁻¹ and logdet A is
    matrix algebra with the one factorisation A⁻¹ = WᵀW of the solution.
    """

    def __init__(self, solution: SaddleSolution) -> None:
        problem = solution.problem
        self._solution, self.theta = solution, np.asarray(solution.point.theta)
        self._a = solution.factor.whiten(problem.y[:, None])[:, 0]
        self._chart = solution.point.chart
        self._arguments = (problem.covariance, problem.stack)

    def _derivative(self, function: Any, *arguments: Any, of: tuple | None = None) -> Any:
        """Call one of the jitted derivatives of the kernel below."""
        covariance, stack = of or self._arguments
        return function(
            *(jnp.asarray(a, jnp.float64) for a in (self.theta, *arguments)),
            kernel=self._solution.rule.kernel,
            chart=self._chart,
            stack=stack,
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
        first, second = self._derivative(_two_derivatives)
        c, cc, a = self._whiten(first), self._whiten(second), self._a
        ca = c @ a
        data = np.trace(cc, axis1=2, axis2=3) - cc @ a @ a - np.einsum("iab,jba->ij", c, c)
        prior = self._chart.derivatives(self.theta)[1]
        return 0.5 * (prior + data + 2.0 * ca @ ca.T)

    def modes(self, signs: np.ndarray, directions: np.ndarray) -> Modes:
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
        cubic += self._chart.cubic(self.theta, signs, directions)
        pull = -0.25 * cubic + directions @ self._chart.log_volume()
        shift = (signs * pull) @ directions
        along = np.tensordot(signs * pull, c, axes=1)
        return Modes(signs, directions, shift, c, 0.5 * cc - squares + along)

    def predict(self, modes: Modes, X_test: np.ndarray) -> np.ndarray:
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
            of=(covariance, Stack.of(solution.network, rules)),
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


def _blocks(
    kernel: Callable[..., Covariance], stack: Stack, covariance: Any, chart: Chart
) -> Callable[[Array], Covariance]:
    return lambda t: kernel(stack, covariance, chart.value(t))


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
