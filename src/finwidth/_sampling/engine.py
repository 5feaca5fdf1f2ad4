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
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, random

from .._basics.cache import Cache
from .._basics.errors import InputError
from .._numerics.precision import float64
from ..models._posterior import (
    Posterior,
    check_program,
    check_stored,
    model_of,
    stored_shapes,
)
from ..samplers import Sampler
from .compiled import BLOCK, TRACING, Chains

__all__ = ["Engine", "cpu_count", "default_chain_method"]


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


def _check_start(name: str, state: Any) -> None:
    """Raise InputError where a chain cannot start."""
    leaves = (state.potential_energy, *jax.tree.leaves(state.z_grad))
    if not all(np.all(np.isfinite(leaf)) for leaf in leaves):
        raise InputError(
            f"expected a finite log density and gradient of model {name!r} where the chains start, "
            f"got {-np.asarray(state.potential_energy)} (or NaN or infinite entries in a gradient)"
        )


def default_chain_method() -> str:
    """Return "threads" on CPUs, where trajectories of different length should not wait."""
    return "threads" if jax.default_backend() == "cpu" else "vectorized"


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
    posterior
        What is sampled.
    keep
        Sites to store.
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
    PluginError
        If the posterior does not keep to what a `Posterior` promises.
    """

    def __init__(
        self,
        posterior: Posterior,
        keep: tuple[str, ...],
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
        program, inputs = posterior.program(keep), posterior.inputs()
        name, shapes = posterior.name, stored_shapes(posterior, keep)
        check_program(name, program, inputs)
        self._inputs = inputs
        with float64():  # where ints have 32 bits, JAX drops the upper half of a seed
            root = random.key(seed)
        init_key, draw_key = random.split(root)
        # NumPyro's kernels take raw keys
        keys = jax.vmap(random.key_data)(random.split(init_key, num_chains))
        draw_keys = random.split(draw_key, num_chains)
        first = (keys, draw_keys) if side_by_side else (keys[0], draw_keys[0])
        leaves, structure = jax.tree.flatten(inputs)
        types = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        chains = num_chains if side_by_side else None
        fixed = None if sampler.adaptive else num_warmup
        key = (program, sampler, _described(options), fixed, chains, structure, types)

        def make() -> Chains:
            model = model_of(name, program, inputs)
            kernel = sampler.make(model, options)
            check = functools.partial(check_stored, name, shapes)
            return Chains(program, kernel, fixed, side_by_side, *first, inputs, check)

        self._chains: Chains = _CACHE.get(key, make)
        self.kernel = self._chains.kernel
        count = jnp.asarray(num_warmup)
        self.states: Any
        self._draw_keys: Any
        if side_by_side:
            keys, draw_keys = _spread(keys), _spread(draw_keys)
            with TRACING:  # other devices than last time are traced anew
                self.states = self._chains.start(keys, count, inputs)
            self._draw_keys = draw_keys
        else:
            self.states = [self._chains.start(key, count, inputs) for key in keys]
            self._draw_keys = list(draw_keys)
        for state in [self.states] if side_by_side else self.states:
            _check_start(name, state)
        self._pool = concurrent.futures.ThreadPoolExecutor(
            max_workers=1 if side_by_side else max(1, min(num_chains, cpu_count()))
        )

    def close(self) -> None:
        """Stop the threads; calls that run are waited for."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def advance(self, count: int, thin: int = 1, *, reduced: bool = True) -> dict[str, np.ndarray]:
        """Advance all chains by `count` ≤ BLOCK draws.

        Parameters
        ----------
        count
            Number of draws.
        thin
            Transitions per draw.
        reduced
            Whether what is stored of a draw is wanted. Without it, in the warm-up, statistics
            alone are computed.

        Returns
        -------
        dict
            Stored quantities and, with the prefix "stats:", statistics; each of shape
            (chain, count, …). `states` moves on only when all chains have finished.
        """
        if not 0 < count <= BLOCK:
            raise InputError(f"expected count = 1 … {BLOCK}, got {count}")
        numbers = (jnp.asarray(count), jnp.asarray(thin), jnp.asarray(reduced))

        def wanted(names: Iterable[str]) -> list[str]:
            return [name for name in names if reduced or name.startswith("stats:")]

        if self.side_by_side:
            with TRACING:
                states, buffers = self._chains.block(
                    self.states, self._draw_keys, *numbers, self._inputs
                )
            collected = {
                name: np.moveaxis(np.asarray(buffers[name])[:count], 1, 0)
                for name in wanted(buffers)
            }
        else:
            calls = [
                self._pool.submit(self._run, state, key, *numbers)
                for state, key in zip(self.states, self._draw_keys, strict=True)
            ]
            results = [call.result() for call in calls]
            states = [state for state, _ in results]
            collected = {
                name: np.stack([np.asarray(buffers[name])[:count] for _, buffers in results])
                for name in wanted(results[0][1])
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

    def _run(self, state: Any, key: Array, *numbers: Array) -> tuple[Any, dict[str, Array]]:
        return jax.block_until_ready(self._chains.block(state, key, *numbers, self._inputs))
