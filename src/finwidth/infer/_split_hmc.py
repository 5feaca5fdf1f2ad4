"""Hamiltonian Monte Carlo that integrates a Gaussian prior exactly and only kicks the rest."""

from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array, lax, random
from jax.flatten_util import ravel_pytree

from .._basics.checks import LARGEST_COUNT, check_count, check_number
from ._adapt import AdaptState
from ._gaussian import GaussianPrior, check_gaussian, gaussian_prior
from ._kernel import ChainKernel
from ._metric import SharedMetric, init_metric
from ._model import Model, Values, negative_log_likelihood
from ._state import Transition, choose, metropolis

__all__ = ["SplitHMC"]


class PhasePoint(NamedTuple):
    """Whitened position and momentum, with U and its gradient at the position."""

    z: Array
    p: Array
    u: Array
    u_grad: Array


def split_step(
    likelihood: Callable[[Array], tuple[Array, Array]],
    step_size: Array | float,
    point: PhasePoint,
    rotate: Callable[[Array, Array, Array | float], tuple[Array, Array]] | None = None,
) -> PhasePoint:
    """Return the point after one step of the Gaussian-split integrator.

    Half a kick by ∇U, a rotation of (z, p) by the angle `step_size` (the exact flow of
    |z|²/2 + |p|²/2, or `rotate`, that of another metric), half a kick. Symplectic, reversible, of
    second order in the step size, exact for U = 0. One evaluation of `likelihood`, which returns U
    and ∇U.
    """
    p = point.p - 0.5 * step_size * point.u_grad
    z, p = (_rotate if rotate is None else rotate)(point.z, p, step_size)
    u, u_grad = likelihood(z)
    return PhasePoint(z, p - 0.5 * step_size * u_grad, u, u_grad)


def _rotate(z: Array, p: Array, angle: Array | float) -> tuple[Array, Array]:
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return cos * z + sin * p, cos * p - sin * z


class _Target(NamedTuple):
    """The two parts of the density: the prior, and U with its gradient as a function of z."""

    prior: GaussianPrior
    likelihood: Callable[[Array], tuple[Array, Array]]

    def by_site(self, z: Array) -> Values:
        """Return the whitened coordinates of each site."""
        return ravel_pytree(self.prior.loc)[1](z)

    def flat(self, some: Values) -> Array:
        """Return the flat coordinates of which `some` sites are given, 0 elsewhere."""
        return ravel_pytree(
            {name: some.get(name, jnp.zeros_like(loc)) for name, loc in self.prior.loc.items()}
        )[0]


class _Plan(NamedTuple):
    """What a transition decides without looking at the position."""

    num_steps: Array
    step_size: Array
    metric: SharedMetric


class SplitHMC(ChainKernel):
    """Hamiltonian Monte Carlo for models whose latent sites are all Gaussian.

    Latent sites x ~ N(loc, scale²) are whitened to z ~ N(0, I). With U = −log likelihood (all
    observed sites and factors) the Hamiltonian ½|z|² + ½|p|² + U(z) is split: U kicks the
    momentum, the Gaussian part is a rotation of (z, p) and is done exactly. Where the prior
    dominates, as it does for most directions of a wide network, the step size is not limited by it.
    The prior is the metric, but for a few stiff directions of the rows of a site, such as the
    weights of a layer's units: all rows share them and their masses, which the warm-up learns.

    Trajectories have length `trajectory` × Uniform(1 − `jitter`, 1 + `jitter`), in
    radians of the prior's rotation, drawn independently of the position and, for chains side by
    side, in common, so that none waits for another.

    Parameters
    ----------
    model
        NumPyro model. Its latent sites are Normal or MultivariateNormal, in plates or not, with
        loc and scale that depend on the model's arguments alone. The rest is free.
    trajectory
        Mean length of a trajectory. A quarter turn, π/2, would draw anew whatever the likelihood
        does not touch; the default is a little less, which is cheaper for the rest.
    jitter
        Half the relative spread of the length, in [0, 1).
    target_accept_prob
        Acceptance probability that the warm-up adapts the step size to.
    step_size
        First step size; the only one with ``num_warmup=0`` or ``adapt_step_size=False``.
    adapt_step_size
        Whether the warm-up adapts the step size, up to the longest trajectory, and the metric.
    stiffness
        s of the mass 1 + s(λ − 1) that all rows of a site give to a direction along which the
        expected Hessian, averaged over rows, is λ > 1. More than 1 where a few rows at a time are
        much stiffer than their mean; 0 keeps the prior's metric.
    max_num_steps
        Most steps (gradients) of a trajectory. It shortens the trajectory, never lengthens the
        step; a ``num_steps`` that reaches it tells.

    Raises
    ------
    InputError
        If an argument has the wrong type or range; from `init`, if a latent site is not
        Gaussian, or has a loc or scale that depends on other latent sites.

    References
    ----------
    Shahbaba, Lan, Johnson & Neal, Stat. Comput. 24, 339 (2014), sec. 2 (split Hamiltonian).
    Neal, MCMC using Hamiltonian dynamics (2011), sec. 5.5.1 (splitting), 3.2 (random lengths).
    """

    def __init__(
        self,
        model: Model,
        *,
        trajectory: float = 1.4,
        jitter: float = 0.35,
        target_accept_prob: float = 0.77,
        step_size: float = 0.1,
        adapt_step_size: bool = True,
        stiffness: float = 6.0,
        max_num_steps: int = 1000,
    ) -> None:
        super().__init__(
            model,
            step_size=step_size,
            adapt_step_size=adapt_step_size,
            target_accept_prob=target_accept_prob,
        )
        self._trajectory = check_number("trajectory", trajectory, 0.0)
        self._jitter = check_number("jitter", jitter, 0.0, 1.0, include_low=True)
        self._stiffness = check_number("stiffness", stiffness, 0.0, include_low=True)
        self._max_num_steps = check_count("max_num_steps", max_num_steps, 1, LARGEST_COUNT)

    @property
    def max_num_steps(self) -> int:
        """Most steps (gradients) of a trajectory."""
        return self._max_num_steps

    @property
    def _longest_step(self) -> float:
        return self._trajectory * (1 + self._jitter)  # of the longest trajectory

    def _check(self, model_args: tuple, model_kwargs: dict) -> None:
        check_gaussian(self._model, model_args, model_kwargs)

    def _target(self, model_args: tuple, model_kwargs: dict) -> _Target:
        prior = gaussian_prior(self._model, model_args, model_kwargs)

        def likelihood(z: Array) -> Array:
            return negative_log_likelihood(self._model, model_args, model_kwargs, prior.unwhiten(z))

        return _Target(prior, jax.value_and_grad(likelihood))

    def _shapes(
        self, target: _Target, model_args: tuple, model_kwargs: dict
    ) -> dict[str, tuple[int, ...]]:
        return {name: loc.shape for name, loc in target.prior.loc.items()}

    def _evaluate(self, target: _Target, z: Values) -> tuple[Array, Values]:
        white = target.prior.whiten(z)
        u, u_grad = target.likelihood(white)
        potential = u + 0.5 * white @ white + target.prior.log_normalizer()
        return potential, target.prior.unwhiten_gradient(u_grad + white)

    def _metric(self, target: _Target) -> SharedMetric:
        shapes = {name: loc.shape for name, loc in target.prior.loc.items()}
        return init_metric(shapes, self._stiffness)

    def _whitened(self, target: _Target, gradient: Values) -> Values:
        return target.by_site(target.prior.whiten_gradient(gradient))

    def _plan(self, rng_key: Array, adapt: AdaptState) -> _Plan:
        """Return the number of steps and the step size of a trajectory, and the metric.

        The step shrinks from the adapted one until a whole number of steps gives the length, so
        the length is the one drawn, whatever the step. Rounding the length to whole steps of the
        adapted size was not cheaper per effective sample.
        """
        step_size, metric = adapt.step_size, cast(SharedMetric, adapt.metric)
        low, high = 1 - self._jitter, 1 + self._jitter
        length = self._trajectory * random.uniform(rng_key, minval=low, maxval=high)
        steps = jnp.clip(jnp.ceil(length / step_size), 1, self._max_num_steps)
        count = steps.astype(jnp.result_type(int))
        return _Plan(count, jnp.minimum(step_size, length / steps), metric)

    def _transition(
        self,
        target: _Target,
        plan: _Plan,
        rng_key: Array,
        z: Values,
        z_grad: Values,
        potential: Array,
    ) -> Transition:
        num_steps, step_size, metric = plan
        prior, constant = target.prior, target.prior.log_normalizer()
        momentum_key, accept_key = random.split(rng_key)
        white = prior.whiten(z)
        noise = random.normal(momentum_key, white.shape, white.dtype)

        def rotate(z: Array, p: Array, angle: Array | float) -> tuple[Array, Array]:
            z_extra, p_extra = metric.turned(target.by_site(z), target.by_site(p), angle)
            z, p = _rotate(z, p, angle)
            return z + target.flat(z_extra), p + target.flat(p_extra)

        def kinetic(p: Array) -> Array:
            return 0.5 * p @ p + metric.kinetic(target.by_site(p))

        start = PhasePoint(
            white,
            noise + target.flat(metric.drawn(target.by_site(noise))),
            potential - 0.5 * white @ white - constant,
            prior.whiten_gradient(z_grad) - white,
        )
        end = lax.fori_loop(
            0,
            num_steps,
            lambda _, point: split_step(target.likelihood, step_size, point, rotate),
            start,
        )
        end_potential = end.u + 0.5 * end.z @ end.z + constant
        old_energy = potential + kinetic(start.p)
        new_energy = end_potential + kinetic(end.p)
        accepted, accept_prob, diverging = metropolis(accept_key, new_energy - old_energy)
        end_z, end_grad = prior.unwhiten(end.z), prior.unwhiten_gradient(end.u_grad + end.z)
        z, z_grad, potential, energy = choose(
            accepted,
            (end_z, end_grad, end_potential, new_energy),
            (z, z_grad, potential, old_energy),
        )
        return Transition(
            z=z,
            z_grad=z_grad,
            potential_energy=potential,
            energy=energy,
            num_steps=num_steps,
            accept_prob=accept_prob,
            diverging=diverging,
        )
