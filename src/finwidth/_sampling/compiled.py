"""The compiled code of a run: how chains start, and how they advance by a block."""

import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax, random
from numpyro.infer.mcmc import MCMCKernel

from ..models._posterior import Program

__all__ = ["BLOCK", "TRACING", "Chains"]

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


def _compiled(lowered: Any) -> Any:
    """Compile for a thread of its own; XLA versions that lack these options go without."""
    try:
        return lowered.compile(compiler_options=_ONE_THREAD)
    except jax.errors.JaxRuntimeError as error:
        if not any(text in str(error) for text in ("No such compile option", "setting option")):
            raise
        return lowered.compile()


def _zeros(shapes: dict[str, Any], *lead: int) -> dict[str, Array]:
    return {name: jnp.zeros((*lead, *one.shape), one.dtype) for name, one in shapes.items()}


class Chains:
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
    check
        Raises where what the program stores of a draw is not as promised; traced arrays will do.
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
        check: Callable[[Any], None],
    ) -> None:
        self.kernel = kernel
        self._program = program
        self._check = check
        self._num_warmup = num_warmup
        self._side_by_side = side_by_side
        self.start: Any = jax.jit(self._start)
        self.block: Any = jax.jit(self._advance)
        # NumPyro's stack of handlers belongs to the process: one model is traced at a time
        with TRACING:
            count = jnp.asarray(BLOCK)
            start = self.start.lower(keys, count, inputs)
            if side_by_side:
                return
            state = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), start.out_info
            )
            block = self.block.lower(state, draw_keys, count, count, jnp.asarray(True), inputs)
        # compiled here, once, so that the threads find it ready
        self.start, self.block = start.compile(), _compiled(block)

    def _start(self, key: Array, num_warmup: Any, inputs: Any) -> Any:
        _, arguments, keywords = self._program.density(inputs)
        if self._num_warmup is not None:
            num_warmup = self._num_warmup
        return self.kernel.init(key, num_warmup, None, arguments, keywords)

    def _one(
        self, state: Any, key: Array, thin: Array, reduced: Array, inputs: Any
    ) -> tuple[Any, dict[str, Array]]:
        """One draw: `thin` transitions, then the reduction, or zeros in place of what it stores."""
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

        def reduce(key: Array, sites: dict[str, Array]) -> dict[str, Array]:
            stored = self._program.reduce(inputs, key, sites)
            self._check(stored)
            return stored

        fold = random.fold_in
        if self._side_by_side:
            reduce, fold = jax.vmap(reduce), jax.vmap(fold)
        drawn = fold(key, state.i), getattr(state, self.kernel.sample_field)
        nothing = _zeros(jax.eval_shape(reduce, *drawn))
        # none or one round of a loop, because XLA hands the branches of a condition from thread to
        # thread; the barrier keeps the work in the loop, though all rounds would do the same

        def once(number: Array, _: dict[str, Array]) -> dict[str, Array]:
            return reduce(*lax.optimization_barrier((number, *drawn))[1:])

        stored = lax.fori_loop(0, reduced.astype(int), once, nothing)
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
        self, state: Any, key: Array, count: Array, thin: Array, reduced: Array, inputs: Any
    ) -> tuple[Any, dict[str, Array]]:
        shapes = jax.eval_shape(self._one, state, key, thin, reduced, inputs)[1]
        buffers = _zeros(shapes, BLOCK)

        def body(draw: Array, carry: tuple) -> tuple:
            state, buffers = carry
            state, stored = self._one(state, key, thin, reduced, inputs)
            return state, {name: buffers[name].at[draw].set(stored[name]) for name in buffers}

        return lax.fori_loop(0, count, body, (state, buffers))


TRACING = threading.RLock()
