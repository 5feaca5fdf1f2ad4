"""Stochastic approximation of the cavity equations by walkers on the ladder.

The unknowns are two matrices on the training set, K1 and the covariance S = K2 − mmᵀ/N_1. Each
iteration moves the walkers under the law that (K1, S) give and moves (K1, S) a little towards
their moments (Robbins & Monro, Ann. Math. Stat. 22, 400 (1951)); the mean over iterations is what
is kept (Polyak & Juditsky, SIAM J. Control Optim. 30, 838 (1992)). As the gain falls, ever more
walkers are averaged, so that the limit is that of infinitely many at each iteration.

1/N_1 is raised from zero, so the fixed point is the one that connects to infinite width. Where
the law of a neuron reacts strongly to the others, small steps are needed: after each step the
weights' change is measured, and steps shrink where it is large.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, random
from jaxtyping import Float

from ..._basics.errors import ConvergenceError
from ...activations._activation import Activation
from ._law import LADDER
from ._step import Given, Moments, Report, State, iterate

__all__ = ["BATCHES", "Fit", "fit", "jackknife", "subsets"]

BATCHES = 8  # of the sample; error bars come from the differences between them
_ANNEALING = 200  # fewest iterations over which 1/N_1 is raised
_SETTLING = 150  # iterations at the final width before the batches
_BATCH = 24  # fewest iterations of a batch
_SNAPSHOTS = 6  # of the walkers, stored per batch
# A larger first gain overshoots where few neurons carry much of the kernel.
_FIRST_GAIN, _LAST_GAIN = 0.03, 0.01
_LONGEST_STEP = 0.43  # radians; four of them are about one decorrelation time of the prior
_TARGET = 0.8  # acceptance


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """Walkers that sample the law at the fixed point, in batches of consecutive iterations.

    Attributes
    ----------
    moments
        K1 and S of the running averages, mean over the batches' iterations.
    walkers
        Whitened weights, shape (batch, walker, coordinate).
    weights, shrink, pull
        Importance weight, 1/(1 + q) and u/(1 + q) of each walker, shape (batch, walker).
    iterations
        Number of iterations.
    annealed
        Share of 1/N_1 that was reached.
    spread
        Larger relative standard error of yᵀ(T + K1)⁻¹y and of tr S.
    """

    moments: Moments
    walkers: Float[np.ndarray, "batch walker coordinate"]
    weights: Float[np.ndarray, "batch walker"]
    shrink: Float[np.ndarray, "batch walker"]
    pull: Float[np.ndarray, "batch walker"]
    iterations: int
    annealed: float
    spread: float


def jackknife(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an estimate and its standard error from values on all batches and without each.

    Parameters
    ----------
    values
        Functions of means: of all batches first, then of all but each in turn.

    Returns
    -------
    tuple
        The estimate without its bias of first order in the inverse number of walkers, and its
        standard error (Quenouille, Biometrika 43, 353 (1956)).
    """
    whole, parts = values[0], values[1:]
    n = parts.shape[0]
    centre = np.mean(parts, axis=0)
    error = np.sqrt((n - 1) / n * np.sum((parts - centre) ** 2, axis=0))
    return np.asarray(n * whole - (n - 1) * centre), np.asarray(error)


def subsets() -> list[np.ndarray]:
    """Return all batches, then all but each in turn."""
    everyone = np.arange(BATCHES)
    return [everyone, *(np.delete(everyone, i) for i in everyone)]


class _Driver:
    """The iteration with the controls it adapts: step sizes by node, largest gain."""

    def __init__(
        self, activation: Activation, given: Given, state: State, seed: int, tick: Callable
    ) -> None:
        self.activation, self.given, self.state = activation, given, state
        self._key = random.key(seed)
        self._rng = np.random.default_rng(seed)
        self._step = np.full(LADDER.size, 0.3)
        self._tick = tick
        self.count = 0
        self.trust = 1.0

    def advance(self, inverse_width: float, gain: float) -> Report:
        """Make one iteration."""
        step = self._step * self._rng.uniform(0.6, 1.4)
        self.state, report = iterate(
            self.activation,
            self.given,
            self.state,
            random.fold_in(self._key, self.count),
            jnp.asarray(inverse_width, jnp.float64),
            jnp.asarray(gain, jnp.float64),
            jnp.asarray(step, jnp.float64),
            jnp.asarray(self.count % 2),
        )
        self.count += 1
        if not np.isfinite(float(report.overlap)):
            raise ConvergenceError(
                "expected a law of the neurons that connects to infinite width, got one that runs "
                f"away at width {1 / inverse_width:.3g} after {self.count} iterations"
            )
        rate = min(0.5, 5 * self.count**-0.6)
        factor = np.exp(rate * (np.asarray(report.accept) - _TARGET))
        self._step = np.minimum(self._step * factor, _LONGEST_STEP)
        self.trust = min(1.0, self.trust * (1.1 if float(report.overlap) > 0.8 else 0.6))
        self._tick(self)
        return report


class _Batch:
    """Sums over consecutive iterations, and the walkers that were stored."""

    def __init__(self) -> None:
        self.count = 0
        self.kernel: Any = 0.0
        self.running: Any = (0.0, 0.0)
        self.stored: list[tuple[Array, ...]] = []

    def add(self, state: State, report: Report, store: bool) -> None:
        self.count += 1
        self.kernel = self.kernel + report.kernel
        self.running = tuple(a + b[0] for a, b in zip(self.running, state.moments, strict=True))
        if store:
            self.stored.append((state.z, state.weight, report.shrink, report.pull))

    def merge(self, other: "_Batch") -> "_Batch":
        """Join with the batch that follows; every other snapshot is kept."""
        both = _Batch()
        both.count = self.count + other.count
        both.kernel = self.kernel + other.kernel
        both.running = tuple(a + b for a, b in zip(self.running, other.running, strict=True))
        both.stored = (self.stored + other.stored)[1::2]
        return both


def _spread(given: Given, batches: list[_Batch]) -> float:
    """Larger relative standard error of yᵀ(T + K1)⁻¹y and of tr S."""
    kernels = np.asarray([np.asarray(batch.kernel) / batch.count for batch in batches])
    y, noise = np.asarray(given.y), np.asarray(given.noise)
    values = [
        y @ np.linalg.solve(noise + np.mean(kernels[chosen], axis=0), y) for chosen in subsets()
    ]
    traces = np.asarray([float(jnp.trace(batch.running[1])) / batch.count for batch in batches])
    found = [jackknife(np.asarray(values))]
    found.append(jackknife(np.asarray([np.mean(traces[chosen]) for chosen in subsets()])))
    return max(float(error / abs(centre)) for centre, error in found)


def fit(
    activation: Activation,
    given: Given,
    *,
    ladders: int,
    seed: int,
    tolerance: float,
    max_iterations: int,
    tick: Callable,
) -> Fit:
    """Solve the cavity equations and sample their law.

    Parameters
    ----------
    activation, neuron
        σ, and the problem.
    ladders
        Number of ladders of walkers.
    seed
        Seed of the random numbers.
    tolerance
        Wanted relative standard error of yᵀ(T + K1)⁻¹y and of tr S.
    max_iterations
        Bound on the iterations.
    tick
        Called after each iteration with the driver.

    Raises
    ------
    ConvergenceError
        If the moments overflow; there is no best point then.
    """
    driver = _Driver(activation, given, _start(activation, given, ladders, seed), seed, tick)
    inverse = 1.0 / float(given.width)
    annealed = 0.0
    while annealed < 1 and driver.count < max_iterations:
        annealed = min(1.0, annealed + driver.trust / _ANNEALING)
        driver.advance(annealed * inverse, _FIRST_GAIN * driver.trust)
    for settled in range(_SETTLING):
        gain = max((settled + 1) ** (-2 / 3), _LAST_GAIN)
        driver.advance(annealed * inverse, min(gain, _FIRST_GAIN * driver.trust))
    batches: list[_Batch] = []
    length, spread = _BATCH, np.inf
    while True:
        while len(batches) < BATCHES:
            batch = _Batch()
            for index in range(length):
                report = driver.advance(annealed * inverse, min(_LAST_GAIN, driver.trust))
                store = (index + 1) % (length // _SNAPSHOTS) == 0
                batch.add(driver.state, report, store)
            batches.append(batch)
        spread = _spread(given, batches)
        more = BATCHES // 2 * length * 2
        if spread <= tolerance or annealed < 1 or driver.count + more > max_iterations:
            break
        batches = [a.merge(b) for a, b in zip(batches[::2], batches[1::2], strict=True)]
        length *= 2
    iterations = BATCHES * length
    columns = [
        jnp.stack(
            [
                jnp.concatenate([one[i].reshape(-1, *one[i].shape[3:]) for one in batch.stored])
                for batch in batches
            ]
        )
        for i in range(4)
    ]
    first, second = (
        jnp.sum(jnp.stack([batch.running[i] for batch in batches]), axis=0)[None] / iterations
        for i in range(2)
    )
    # NumPy's, which keep their precision in copies; JAX's become float32 where that is its default
    walkers, weights, shrink, pull = map(np.asarray, columns)
    moments = Moments(*map(np.asarray, (first, second)))
    return Fit(moments, walkers, weights, shrink, pull, driver.count, annealed, spread)


def _start(activation: Activation, given: Given, ladders: int, seed: int) -> State:
    """Walkers from the prior, with its moments."""
    shape = (1, ladders, LADDER.size, given.features.shape[1])
    z = random.normal(random.fold_in(random.key(seed), 2**31), shape, jnp.float64)
    phi = activation.fn(z @ given.features.T) / jnp.sqrt(given.precision)
    kernel = jnp.einsum("rgjp,rgjq->rpq", phi, phi) / (ladders * LADDER.size)
    return State(
        z,
        Moments(kernel, kernel),
        jnp.zeros((2, 1, LADDER.size - 1), jnp.float64),
        jnp.ones(1, jnp.float64),
        jnp.ones(shape[:3], jnp.float64),
        jnp.zeros(shape[:3], jnp.float64),
    )
