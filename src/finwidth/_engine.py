"""Running chains: any NumPyro kernel, in blocks, on all cores or side by side on a device.

`Engine` turns a kernel into a compiled function that advances a chain by a block of draws and
reduces each to what is stored; runs that differ in numbers alone share it. On CPUs every chain is
its own call on a thread of its own, so that chains whose trajectories differ do not wait for each
other; elsewhere all chains advance side by side in one call. The draws do not depend on the number
of threads.
"""

import concurrent.futures
import functools
import os
import threading
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random
from numpyro.infer.mcmc import MCMCKernel

from ._cache import Cache
from ._errors import InputError
from ._precision import float64
from .samplers import Sampler

__all__ = ["BLOCK", "Engine", "Program", "cpu_count", "default_chain_method"]

# Small operations one after the other: run concurrently, or cut in parts for several threads, each
# costs more CPU time to hand over than most of them take. The chains are what runs in parallel.
_ONE_THREAD = {
    "xla_cpu_enable_concurrency_optimized_scheduler": False,
    "xla_cpu_multi_thread_eigen": False,
    "xla_disable_hlo_passes": "cpu-parallel-task-assigner",
}

# Draws per compiled call; chains pool what they learn, progress moves, and the user can
# interrupt, after each.
BLOCK = 25


def cpu_count() -> int:
    """Return the number of CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _spread(keys: Array) -> Array:
    """Put the chains on all devices, as far as their number divides."""
    devices = jax.devices()
    if len(devices) == 1 or keys.shape[0] % len(devices):
        return keys
    mesh = jax.sharding.Mesh(np.array(devices), ("chain",))
    return jax.device_put(
        keys, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("chain"))
    )


def _check_start(state: Any) -> None:
    """Raise InputError where a chain cannot start."""
    leaves = (state.potential_energy, *jax.tree.leaves(state.z_grad))
    if not all(np.all(np.isfinite(leaf)) for leaf in leaves):
        raise InputError(
            "expected a finite log density and gradient where the chains start, got "
            f"{-np.asarray(state.potential_energy)} (or a gradient with NaN or infinite entries)"
        )


def default_chain_method() -> str:
    """Return "threads" on CPUs, where trajectories of different length should not wait."""
    return "threads" if jax.default_backend() == "cpu" else "vectorized"


def _compiled(lowered: Any) -> Any:
    """Compile for a thread of its own; XLA versions that lack these options go without."""
    try:
        return lowered.compile(compiler_options=_ONE_THREAD)
    except jax.errors.JaxRuntimeError as error:
        if not any(text in str(error) for text in ("No such compile option", "setting option")):
            raise
        return lowered.compile()


@runtime_checkable
class Program(Protocol):
    """What compiled code depends on besides arrays; hashable, with equality by content."""

    def density(self, inputs: Any) -> tuple[Callable[..., None], tuple, dict]:
        """Return the NumPyro model and its arguments."""
        ...

    def reduce(self, inputs: Any, rng_key: Array, sites: dict[str, Array]) -> dict[str, Array]:
        """Return what is stored of a draw of the latent sites."""
        ...


class _Chains:
    """The compiled code of a run: how chains start, and how they advance by a block.

    Parameters
    ----------
    program
        The model, and what is stored of a draw.
    kernel
        The kernel.
    num_warmup
        Transitions that adapt the kernel, where it must know them to be compiled; else None.
    side_by_side
        Whether one call advances all chains.
    keys, draw_keys, inputs
        Examples of the arguments: of one chain, or of all that advance side by side.
    """

    def __init__(
        self,
        program: Program,
        kernel: MCMCKernel,
        num_warmup: int | None,
        side_by_side: bool,
        keys: Array,
        draw_keys: Array,
        inputs: Any,
    ) -> None:
        self.kernel = kernel
        self._program = program
        self._num_warmup = num_warmup
        self._side_by_side = side_by_side
        self.start: Any = jax.jit(self._start)
        self.block: Any = jax.jit(self._advance)
        # NumPyro's stack of handlers belongs to the process: one model is traced at a time
        with _TRACING:
            count = jnp.asarray(BLOCK)
            start = self.start.lower(keys, count, inputs)
            if side_by_side:
                return
            state = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), start.out_info
            )
            block = self.block.lower(state, draw_keys, count, count, inputs)
        # compiled here, once, so that the threads find it ready
        self.start, self.block = start.compile(), _compiled(block)

    def _start(self, key: Array, num_warmup: Any, inputs: Any) -> Any:
        _, arguments, keywords = self._program.density(inputs)
        if self._num_warmup is not None:
            num_warmup = self._num_warmup
        return self.kernel.init(key, num_warmup, None, arguments, keywords)

    def _one(
        self, state: Any, key: Array, thin: Array, inputs: Any
    ) -> tuple[Any, dict[str, Array]]:
        """One draw: `thin` transitions, then the reduction."""
        _, arguments, keywords = self._program.density(inputs)

        def transition(_: Any, carry: tuple) -> tuple:
            state, steps, accept, diverging = carry
            state = self.kernel.sample(state, arguments, keywords)
            return (
                state,
                steps + state.num_steps,
                accept + state.accept_prob,
                diverging | state.diverging,
            )

        zeros = jnp.zeros_like(state.num_steps)
        state, steps, accept, diverging = lax.fori_loop(
            0,
            thin,
            transition,
            (state, zeros, jnp.zeros_like(state.accept_prob), jnp.zeros_like(state.diverging)),
        )
        reduce, fold = functools.partial(self._program.reduce, inputs), random.fold_in
        if self._side_by_side:
            reduce, fold = jax.vmap(reduce), jax.vmap(fold)
        stored = reduce(fold(key, state.i), getattr(state, self.kernel.sample_field))
        stored |= {
            "stats:energy": state.energy,
            "stats:lp": -state.potential_energy,
            "stats:n_steps": steps,
            "stats:acceptance_rate": accept / thin.astype(accept.dtype),
            "stats:diverging": diverging,
            "stats:step_size": state.adapt_state.step_size,
        }
        return state, stored

    def _advance(
        self, state: Any, key: Array, count: Array, thin: Array, inputs: Any
    ) -> tuple[Any, dict[str, Array]]:
        shapes = jax.eval_shape(self._one, state, key, thin, inputs)[1]
        buffers = {name: jnp.zeros((BLOCK, *s.shape), s.dtype) for name, s in shapes.items()}

        def body(draw: Array, carry: tuple) -> tuple:
            state, buffers = carry
            state, stored = self._one(state, key, thin, inputs)
            return state, {name: buffers[name].at[draw].set(stored[name]) for name in buffers}

        return lax.fori_loop(0, count, body, (state, buffers))


_TRACING = threading.RLock()
_CACHE = Cache(32)


def _described(options: dict[str, Any]) -> Any:
    """Return options as a key in which True is not 1; an object of its own if one has no hash."""
    key = tuple((name, type(value), value) for name, value in sorted(options.items()))
    try:
        hash(key)
    except TypeError:
        return object()
    return key


class Engine:
    """Several chains of one kernel.

    A second engine that differs in data, precisions, temperature or seed alone compiles nothing.

    Parameters
    ----------
    program
        The model, and what is stored of a draw.
    inputs
        All arrays that the program takes: data, precisions, temperature. A pytree.
    sampler
        Makes the kernel.
    options
        Options of the sampler.
    num_chains
        Number of chains.
    num_warmup
        Transitions that adapt the kernel.
    seed
        Seed of all randomness.
    chain_method
        "threads": each chain on a thread of its own; "vectorized": all chains side by side in one
        call, spread over the devices.

    Raises
    ------
    InputError
        If the sampler does not know an option, or an option or the start of a chain is not what
        the kernel takes.
    """

    def __init__(
        self,
        program: Program,
        inputs: Any,
        sampler: Sampler,
        options: dict[str, Any],
        *,
        num_chains: int,
        num_warmup: int,
        seed: int,
        chain_method: str,
    ) -> None:
        self.num_chains = num_chains
        self.side_by_side = side_by_side = chain_method == "vectorized"
        self._inputs = inputs
        with float64():  # where ints have 32 bits, JAX drops the upper half of a seed
            root = random.key(seed)
        init_key, draw_key = random.split(root)
        # NumPyro's kernels take raw keys
        keys = jax.vmap(random.key_data)(random.split(init_key, num_chains))
        draw_keys = random.split(draw_key, num_chains)
        first = (keys, draw_keys) if side_by_side else (keys[0], draw_keys[0])
        leaves, structure = jax.tree.flatten(inputs)
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        chains = num_chains if side_by_side else None
        fixed = None if sampler.adaptive else num_warmup
        key = (program, sampler, _described(options), fixed, chains, structure, shapes)

        def make() -> _Chains:
            kernel = sampler.make(program.density(inputs)[0], options)
            return _Chains(program, kernel, fixed, side_by_side, *first, inputs)

        self._chains: _Chains = _CACHE.get(key, make)
        self.kernel = self._chains.kernel
        count = jnp.asarray(num_warmup)
        self.states: Any
        self._draw_keys: Any
        if side_by_side:
            keys, draw_keys = _spread(keys), _spread(draw_keys)
            with _TRACING:  # other devices than last time are traced anew
                self.states = self._chains.start(keys, count, inputs)
            self._draw_keys = draw_keys
        else:
            self.states = [self._chains.start(key, count, inputs) for key in keys]
            self._draw_keys = list(draw_keys)
        for state in [self.states] if side_by_side else self.states:
            _check_start(state)
        self._pool = concurrent.futures.ThreadPoolExecutor(
            max_workers=1 if side_by_side else max(1, min(num_chains, cpu_count()))
        )

    def close(self) -> None:
        """Stop the threads; calls that run are waited for."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def advance(self, count: int, thin: int = 1) -> dict[str, np.ndarray]:
        """Advance all chains by `count` ≤ BLOCK draws.

        Parameters
        ----------
        count
            Number of draws.
        thin
            Transitions per draw.

        Returns
        -------
        dict
            Stored quantities and, with the prefix "stats:", statistics; each of shape
            (chain, count, …). `states` moves on only when all chains have finished.
        """
        if not 0 < count <= BLOCK:
            raise InputError(f"expected count = 1 … {BLOCK}, got {count}")
        numbers = (jnp.asarray(count), jnp.asarray(thin))
        if self.side_by_side:
            with _TRACING:
                states, buffers = self._chains.block(
                    self.states, self._draw_keys, *numbers, self._inputs
                )
            collected = {
                name: np.moveaxis(np.asarray(value[:count]), 1, 0)
                for name, value in buffers.items()
            }
        else:
            calls = [
                self._pool.submit(self._run, state, key, *numbers)
                for state, key in zip(self.states, self._draw_keys, strict=True)
            ]
            results = [call.result() for call in calls]
            states = [state for state, _ in results]
            collected = {
                name: np.stack([np.asarray(buffers[name][:count]) for _, buffers in results])
                for name in results[0][1]
            }
        self.states = states
        return collected

    def positions(self) -> np.ndarray:
        """Return where the chains are, in unconstrained coordinates, shape (chain, coordinate)."""
        states = [self.states] if self.side_by_side else self.states
        lead = self.num_chains if self.side_by_side else 1
        rows = [
            [np.reshape(leaf, (lead, -1)) for leaf in jax.tree.leaves(position)]
            for position in (getattr(state, self.kernel.sample_field) for state in states)
        ]
        return np.concatenate([np.concatenate(row, axis=1) for row in rows])

    def pool(self) -> None:
        """Share what chains that run separately have learnt, where the kernel can."""
        kernel: Any = self.kernel
        if not self.side_by_side and hasattr(kernel, "pool"):
            self.states = kernel.pool(self.states)

    def end_warmup(self) -> None:
        """End the warm-up of all chains here."""
        kernel: Any = self.kernel
        if self.side_by_side:
            self.states = kernel.end_warmup(self.states)
        else:
            self.states = [kernel.end_warmup(state) for state in self.states]

    def _run(
        self, state: Any, key: Array, count: Array, thin: Array
    ) -> tuple[Any, dict[str, Array]]:
        return jax.block_until_ready(self._chains.block(state, key, count, thin, self._inputs))
