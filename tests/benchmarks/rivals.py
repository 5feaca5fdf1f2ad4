"""Rival samplers for `bench_samplers.py --rivals`, each tuned as its authors say.

All see the posterior through a `Target`, in coordinates z in which the prior is N(0, 1). A rival
is a warm-up and a transition. What is counted are evaluations of the likelihood's gradient, or of
the likelihood where a rival uses no gradient.

Sources: Hoffman & Gelman, JMLR 15, 1593 (2014), NUTS; Robnik, Cohn-Gordon & Seljak, 2025 (adjusted
MCLMC), blackjax's implementation and tuning of both; Hron et al., ICML 2022 (repriorisation);
Cotter et al., Statist. Sci. 28, 424 (2013) (pCN).
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.mclmc_adaptation import MCLMCAdaptationState
from blackjax.adaptation.step_size import dual_averaging_adaptation
from blackjax.mcmc import adjusted_mclmc_dynamic
from jax import Array, lax, random

import finwidth as fw
from finwidth.infer._gaussian import gaussian_prior
from finwidth.infer._model import negative_log_likelihood
from finwidth.models import hidden_features
from finwidth.models._features import readout_features
from finwidth.models._posterior import make_posterior
from finwidth.models._readout import condition
from finwidth.models._weights import Marginal, Weights

__all__ = ["RIVALS", "Chains", "Rival", "Target", "run"]

_SPACES = {"network": Weights, "marginal": Marginal, "repriorised": Marginal}


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """A posterior in whitened coordinates.

    Attributes
    ----------
    dimension
        Number of coordinates.
    log_likelihood
        Its log density relative to N(0, 1), of z of shape (coordinate,).
    predict
        (key, z) -> a draw of f at the test points.
    """

    dimension: int
    log_likelihood: Callable[[Array], Array]
    predict: Callable[[Array, Array], Array]

    def log_density(self, z: Array) -> Array:
        """Return log p up to a constant."""
        return self.log_likelihood(z) - 0.5 * z @ z

    @classmethod
    def of(cls, net: fw.Network, data: fw.Dataset, temperature: float, space: str) -> "Target":
        """Return the posterior of all weights ("network"), or with the readout integrated
        ("marginal"), or with the readout as its posterior's mean plus its posterior's factor times
        a standard normal vector ("repriorised")."""
        posterior = make_posterior(
            _SPACES[space],
            net,
            data.X_train,
            data.y_train,
            temperature,
            data.X_test,
            data.y_test,
        )
        inputs, program = posterior.inputs(), posterior.program(("v",))
        model, arguments, keywords = program.density(inputs)
        prior = gaussian_prior(model, arguments, keywords)
        hidden = sum(int(np.prod(loc.shape)) for loc in prior.loc.values())

        def log_likelihood(z: Array) -> Array:
            sites = prior.unwhiten(z[:hidden])
            return -negative_log_likelihood(model, arguments, keywords, sites)

        def predict(key: Array, z: Array) -> Array:
            return program.reduce(inputs, key, prior.unwhiten(z))["f"]

        def predict_repriorised(key: Array, z: Array) -> Array:
            sites, rotation = prior.unwhiten(z[:hidden]), inputs.rotation
            features = readout_features(inputs.net, hidden_features(inputs.net, sites, inputs.X))
            readout = condition(features, inputs.y, inputs.temperature)
            precision = features.T @ features + inputs.temperature * jnp.eye(features.shape[1])
            factor = jnp.linalg.cholesky(precision)
            noise = jax.scipy.linalg.solve_triangular(factor, z[hidden:], trans=1, lower=True)
            v = readout.coefficients + jnp.sqrt(inputs.temperature) * noise
            points = inputs.X_test
            if rotation is not None:
                extended = rotation.extend(key, sites["W_1"], inputs.net.weight_precision[0])
                sites, points = sites | {"W_1": extended}, rotation.test
            return readout_features(inputs.net, hidden_features(inputs.net, sites, points)) @ v

        if space == "repriorised":
            return cls(hidden + net.widths[-1], log_likelihood, predict_repriorised)
        return cls(hidden, log_likelihood, predict)


class Sampler(Protocol):
    """A sampler of one target."""

    def warm_up(self, key: Array, z: Array, count: int) -> tuple[Any, Any, Array]:
        """Return the state after `count` transitions from `z`, what was tuned, and the cost."""
        ...

    def move(self, key: Array, state: Any, tuned: Any) -> tuple[Any, Array, Array, Array]:
        """Return the next state, its z, what it cost, and the acceptance probability."""
        ...


@dataclasses.dataclass(frozen=True)
class BlackjaxNUTS:
    """NUTS with blackjax's window adaptation of step size and diagonal metric, its defaults."""

    target: Target

    def warm_up(self, key: Array, z: Array, count: int) -> tuple[Any, Any, Array]:
        adaptation = blackjax.window_adaptation(blackjax.nuts, self.target.log_density)
        result, info = adaptation.run(key, z, num_steps=count)
        return result.state, result.parameters, jnp.sum(info.info.num_integration_steps)

    def move(self, key: Array, state: Any, tuned: Any) -> tuple[Any, Array, Array, Array]:
        state, info = blackjax.nuts(self.target.log_density, **tuned).step(key, state)
        return state, state.position, info.num_integration_steps, info.acceptance_rate


@dataclasses.dataclass(frozen=True)
class MCLMC:
    """Adjusted MCLMC with blackjax's tuning; its integrator takes two gradients a step.

    `steps` is the mean number of steps of a trajectory; 2 is what the tuning takes by itself.
    Acceptance 0.9 and lengths drawn uniformly are the authors' advice. The step that blackjax's
    tuning leaves is an average over its way, too short by up to two here; the second half of the
    warm-up adapts it again, from there.
    """

    target: Target
    steps: float = 2.0
    acceptance: float = 0.9

    def _kernel(self) -> Callable:
        lengths = adjusted_mclmc_dynamic.make_random_trajectory_length_fn(True)
        return adjusted_mclmc_dynamic.build_kernel(integration_steps_fn=lengths)

    def warm_up(self, key: Array, z: Array, count: int) -> tuple[Any, Any, Array]:
        start_key, tune_key, adapt_key = random.split(key, 3)
        density = self.target.log_density
        state = adjusted_mclmc_dynamic.init(z, density, start_key)
        state, tuned, steps = blackjax.adjusted_mclmc_find_L_and_step_size(
            self._kernel(),
            density,
            num_steps=-(-count * 5 // 3),  # of which it takes three tenths
            state=state,
            rng_key=tune_key,
            target=self.acceptance,
            num_windows=2,  # the first metric comes from chains on their way
            target_num_integration_steps=self.steps,
            params=MCLMCAdaptationState(
                jnp.asarray(0.2 * z.size**0.5), jnp.asarray(0.1 * z.size**0.5), jnp.ones(z.size)
            ),
        )

        def transition(key: Array, state: Any, size: Array) -> tuple[Any, Array, Array]:
            state, _, *rest = self.move(key, state, tuned._replace(step_size=size))
            return state, *rest

        state, size, more = _adapted(
            transition, state, adapt_key, count - count // 2, tuned.step_size, self.acceptance
        )
        return state, tuned._replace(step_size=size), 2 * steps + more

    def move(self, key: Array, state: Any, tuned: Any) -> tuple[Any, Array, Array, Array]:
        state, info = self._kernel()(
            key,
            state,
            self.target.log_density,
            tuned.step_size,
            inverse_mass_matrix=tuned.inverse_mass_matrix,
            integration_steps_params=(self.steps,),
        )
        return state, state.position, 2 * info.num_integration_steps, info.acceptance_rate


def _adapted(
    transition: Callable, state: Any, key: Array, count: int, size: float, target: float
) -> tuple[Any, Array, Array]:
    """Run `transition` (key, state, size) -> (state, cost, acceptance) with dual averaging."""
    init, update, final = dual_averaging_adaptation(target=target)

    def one(carry: Any, key: Array) -> tuple[Any, Array]:
        state, averaging = carry
        state, cost, acceptance = transition(key, state, jnp.exp(averaging.log_step_size))
        return (state, update(averaging, acceptance)), cost

    start = (state, init(jnp.asarray(size)))
    (state, averaging), costs = lax.scan(one, start, random.split(key, count))
    return state, final(averaging), jnp.sum(costs)


class _Point(NamedTuple):
    z: Array
    value: Array
    gradient: Array


@dataclasses.dataclass(frozen=True)
class HMC:
    """Leapfrog in the metric 1; lengths, acceptance and their jitter are those of SplitHMC.

    On the repriorised posterior, which tends to N(0, 1) in wide networks, 1 is the metric.
    """

    target: Target
    length: float = 1.4

    def _gradient(self, z: Array) -> tuple[Array, Array]:
        return jax.value_and_grad(self.target.log_density)(z)

    def _transition(self, key: Array, point: _Point, size: Array) -> tuple[_Point, Array, Array]:
        length_key, momentum_key, accept_key = random.split(key, 3)
        length = self.length * random.uniform(length_key, minval=0.65, maxval=1.35)
        steps = jnp.clip(jnp.ceil(length / size), 1, 1000).astype(int)
        size = jnp.minimum(size, length / steps)
        momentum = random.normal(momentum_key, point.z.shape)

        def step(_: int, moving: tuple[_Point, Array]) -> tuple[_Point, Array]:
            at, p = moving
            p = p + 0.5 * size * at.gradient
            z = at.z + size * p
            at = _Point(z, *self._gradient(z))
            return at, p + 0.5 * size * at.gradient

        end, p = lax.fori_loop(0, steps, step, (point, momentum))
        gain = end.value - point.value - 0.5 * (p @ p - momentum @ momentum)
        acceptance = jnp.exp(jnp.minimum(jnp.where(jnp.isfinite(gain), gain, -jnp.inf), 0.0))
        accepted = random.uniform(accept_key) < acceptance
        point = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), end, point)
        return point, steps, acceptance

    def warm_up(self, key: Array, z: Array, count: int) -> tuple[Any, Any, Array]:
        start = _Point(z, *self._gradient(z))
        return _adapted(self._transition, start, key, count, 0.1, 0.8)

    def move(self, key: Array, state: Any, tuned: Any) -> tuple[Any, Array, Array, Array]:
        state, cost, acceptance = self._transition(key, state, tuned)
        return state, state.z, cost, acceptance


@dataclasses.dataclass(frozen=True)
class PCN:
    """Preconditioned Crank–Nicolson: z → √(1−β²) z + β ξ, accepted by the likelihood alone.

    The logarithm of β is adapted to an acceptance of 0.25. A draw is `thin` proposals.
    """

    target: Target
    thin: int = 50

    def _propose(self, key: Array, state: tuple, size: Array) -> tuple[tuple, Array, Array]:
        z, value = state
        noise_key, accept_key = random.split(key)
        beta = jnp.minimum(size, 1.0)
        new = jnp.sqrt(1 - beta**2) * z + beta * random.normal(noise_key, z.shape)
        new_value = self.target.log_likelihood(new)
        acceptance = jnp.exp(jnp.minimum(new_value - value, 0.0))
        accepted = random.uniform(accept_key) < acceptance
        state = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), (new, new_value), state)
        return state, jnp.ones((), int), acceptance

    def warm_up(self, key: Array, z: Array, count: int) -> tuple[Any, Any, Array]:
        start = (z, self.target.log_likelihood(z))
        return _adapted(self._propose, start, key, count * self.thin, 0.1, 0.25)

    def move(self, key: Array, state: Any, tuned: Any) -> tuple[Any, Array, Array, Array]:
        def one(state: Any, key: Array) -> tuple[Any, tuple[Array, Array]]:
            state, cost, acceptance = self._propose(key, state, tuned)
            return state, (cost, acceptance)

        state, (cost, acceptance) = lax.scan(one, state, random.split(key, self.thin))
        return state, state[0], jnp.sum(cost), jnp.mean(acceptance)


@dataclasses.dataclass(frozen=True)
class Rival:
    """What is sampled, how, and with how many transitions of each chain."""

    name: str
    space: str
    sampler: Callable[[Target], Sampler]
    num_warmup: int
    num_samples: int


RIVALS = (
    Rival("blackjax NUTS, marginal", "marginal", BlackjaxNUTS, 150, 150),
    Rival("blackjax NUTS, network", "network", BlackjaxNUTS, 150, 150),
    Rival("MCLMC tuned (2 steps), marginal", "marginal", MCLMC, 800, 1000),
    Rival("MCLMC 4 steps, marginal", "marginal", lambda t: MCLMC(t, 4.0), 700, 600),
    Rival("MCLMC 8 steps, marginal", "marginal", lambda t: MCLMC(t, 8.0), 600, 300),
    Rival("MCLMC tuned (2 steps), network", "network", MCLMC, 800, 1000),
    Rival("HMC, repriorised", "repriorised", HMC, 150, 400),
    Rival("pCN, marginal", "marginal", PCN, 200, 400),
    Rival("pCN, network", "network", PCN, 200, 400),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Chains:
    """What the chains gave and cost; seconds without compilation."""

    f: np.ndarray  # (chain, draw, test_pattern)
    gradients: float
    warmup_gradients: float
    acceptance: float
    cpu: float
    wall: float
    warmup_cpu: float


def run(rival: Rival, target: Target, num_chains: int, seed: int = 0) -> Chains:
    """Run the chains one after the other, each from a draw of the prior."""
    sampler, num_warmup, num_samples = rival.sampler(target), rival.num_warmup, rival.num_samples

    def start(key: Array) -> tuple[Any, Any, Array]:
        z_key, key = random.split(key)
        z = random.normal(z_key, (target.dimension,))
        return sampler.warm_up(key, z, num_warmup)

    def draw(key: Array, state: Any, tuned: Any) -> tuple[Array, Array, Array]:
        def one(state: Any, key: Array) -> tuple[Any, tuple[Array, Array, Array]]:
            move_key, predict_key = random.split(key)
            state, z, cost, acceptance = sampler.move(move_key, state, tuned)
            return state, (target.predict(predict_key, z), cost, acceptance)

        _, (f, cost, acceptance) = lax.scan(one, state, random.split(key, num_samples))
        return f, jnp.sum(cost), jnp.mean(acceptance)

    keys = random.split(random.key(seed), (num_chains, 2))
    begin = jax.jit(start).lower(keys[0, 0]).compile()
    state, tuned = jax.eval_shape(start, keys[0, 0])[:2]
    go = jax.jit(draw).lower(keys[0, 1], state, tuned).compile()
    drawn, seconds = [], np.zeros(3)
    gradients = warmup = acceptance = 0.0
    for warm_key, key in keys:
        began = time.process_time()
        state, tuned, cost = jax.block_until_ready(begin(warm_key))
        middle = np.array([time.process_time(), time.perf_counter()])
        f, used, accepted = jax.block_until_ready(go(key, state, tuned))
        ended = np.array([time.process_time(), time.perf_counter()])
        seconds += [*(ended - middle), middle[0] - began]
        drawn.append(np.asarray(f))
        gradients += float(used)
        warmup += float(cost)
        acceptance += float(accepted) / num_chains
    return Chains(np.stack(drawn), gradients, warmup, acceptance, *seconds)
