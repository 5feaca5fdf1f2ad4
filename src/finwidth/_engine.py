"""Running chains: any NumPyro kernel, in blocks, on all cores or side by side on a device.

`Engine` turns a kernel into a compiled function that advances a chain by a block of draws and
reduces each to what is stored. On CPUs every chain is its own call on a thread of its own, so
that chains whose trajectories differ do not wait for each other; elsewhere all chains advance
side by side in one call. The draws do not depend on the number of threads.
"""

import concurrent.futures
import dataclasses
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random
from numpyro.infer.mcmc import MCMCKernel

from ._errors import InputError

__all__ = ["BLOCK", "Engine", "Reduction", "cpu_count", "default_chain_method"]

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


@dataclasses.dataclass(frozen=True)
class Reduction:
    """What is kept of a draw.

    Parameters
    ----------
    function
        (key, values of the latent sites) -> dict of arrays to store.
    """

    function: Callable[[Array, dict[str, Array]], dict[str, Array]]


class Engine:
    """Several chains of one kernel.

    Parameters
    ----------
    kernel
        A NumPyro kernel.
    reduction
        What to store of each draw.
    num_chains
        Number of chains.
    num_warmup
        Transitions that adapt the kernel.
    seed
        Seed of all randomness.
    model_args, model_kwargs
        Arguments of the kernel's model.
    chain_method
        "threads": each chain on a thread of its own; "vectorized": all chains side by side in one
        call, spread over the devices.
    """

    def __init__(
        self,
        kernel: MCMCKernel,
        reduction: Reduction,
        *,
        num_chains: int,
        num_warmup: int,
        seed: int,
        model_args: tuple,
        model_kwargs: dict,
        chain_method: str,
    ) -> None:
        self.kernel = kernel
        self.num_chains = num_chains
        self._reduction = reduction
        self._arguments = (model_args, model_kwargs)
        self.side_by_side = side_by_side = chain_method == "vectorized"
        init_key, draw_key = random.split(random.key(seed))
        # NumPyro's kernels take raw keys
        keys = jax.vmap(random.key_data)(random.split(init_key, num_chains))
        draw_keys = random.split(draw_key, num_chains)

        @jax.jit
        def start(key: Array) -> Any:
            return kernel.init(key, num_warmup, None, *self._arguments)

        if side_by_side:
            keys, draw_keys = _spread(keys), _spread(draw_keys)
            self.states: Any = start(keys)
            self._draw_keys: Any = draw_keys
            example = (self.states, draw_keys)
        else:
            self.states = [start(key) for key in keys]
            self._draw_keys = list(draw_keys)
            example = (self.states[0], draw_keys[0])
        for state in [self.states] if side_by_side else self.states:
            _check_start(state)
        count = jnp.asarray(BLOCK)
        self._block: Any = jax.jit(self._advance)
        if not side_by_side:
            # compiled here, once, so that the threads find it ready
            self._block = _compiled(self._block.lower(*example, count, count))
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
            states, buffers = self._block(self.states, self._draw_keys, *numbers)
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
        return jax.block_until_ready(self._block(state, key, count, thin))

    def _one(self, state: Any, key: Array, thin: Array) -> tuple[Any, dict[str, Array]]:
        """One draw: `thin` transitions, then the reduction."""

        def transition(_: Any, carry: tuple) -> tuple:
            state, steps, accept, diverging = carry
            state = self.kernel.sample(state, *self._arguments)
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
        reduce = self._reduction.function
        fold = random.fold_in
        if self.side_by_side:
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
        self, state: Any, key: Array, count: Array, thin: Array
    ) -> tuple[Any, dict[str, Array]]:
        shapes = jax.eval_shape(self._one, state, key, thin)[1]
        buffers = {name: jnp.zeros((BLOCK, *s.shape), s.dtype) for name, s in shapes.items()}

        def body(draw: Array, carry: tuple) -> tuple:
            state, buffers = carry
            state, stored = self._one(state, key, thin)
            return state, {name: buffers[name].at[draw].set(stored[name]) for name in buffers}

        return lax.fori_loop(0, count, body, (state, buffers))
