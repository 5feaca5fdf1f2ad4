"""Which way a problem is solved, and what memory goes to what."""

import dataclasses
import math
from typing import Any

from ..._basics.checks import check_choice, check_seed
from ..._basics.errors import InputError
from ..._basics.memory import available_memory, check_memory, shown_memory
from ..._problem.problem import Problem
from .._saddle.theory import SaddleTheory
from .._theory import Theory

__all__ = ["PROBES", "Plan", "choose_plan"]

PROBES = 64
_METHODS = ("dense", "iterative")
_LARGEST_BASIS = 4096  # vectors
_FEWEST_BLOCKS = 8  # of the basis: with fewer nothing converges
_TEST = 2048  # test patterns at a time
_HELD = 6  # blocks of vectors that conjugate gradients hold
_TILE = 8 * 512 * 512


@dataclasses.dataclass(frozen=True)
class Plan:
    """Settings of the iterative way, and its memory.

    Attributes
    ----------
    seed
        Of the random probes.
    probes
        Their number.
    basis
        Largest number of basis vectors.
    kept
        Bytes for tiles of the kernel that are kept.
    test
        Test patterns at a time.
    workers
        Threads.
    """

    seed: int
    probes: int
    basis: int
    kept: float
    test: int
    workers: int


def choose_plan(
    problem: Problem, theory: Theory, method: Any, memory_limit: Any, seed: Any
) -> Plan | None:
    """Return the plan of the iterative way, or None where the dense one is taken.

    Raises
    ------
    InputError
        If an argument is not as `finwidth.solve` describes it, the memory suffices for neither
        way, or the iterative one does not cover the problem.
    """
    seed = check_seed(seed)
    given = memory_limit is not None
    limit = check_memory("memory_limit", memory_limit) if given else available_memory()
    if method is not None:
        check_choice("method", method, _METHODS)
    n = problem.n_patterns
    dense = dense_memory(problem)
    if method == "dense" and given and dense > limit:
        raise InputError(
            f"expected memory_limit = at least {shown_memory(dense)} for {n} patterns with "
            f"method='dense' (method='iterative' holds no P × P matrix), got {shown_memory(limit)}"
        )
    fits = dense <= limit or not (given or isinstance(theory, SaddleTheory))
    if method == "dense" or (method is None and fits):
        return None
    check_large(problem, theory, dense, method is None)
    # without a limit half of the machine is left to others
    return make_plan(n, seed, PROBES, limit if given else 0.5 * limit)


def dense_memory(problem: Problem) -> float:
    """Return about how many bytes the dense way takes (`tests/benchmarks/bench_memory.py`)."""
    n = problem.n_patterns
    outputs = 1 if problem.network.depth == 1 else problem.network.outputs
    return 8.0 * n * n * (3.0 if n <= 4096 else 1.6) * outputs


def make_plan(n: int, seed: int, probes: int, limit: float, workers: int | None = None) -> Plan:
    """Return how the bytes of `limit` are used for P = n."""
    workers = _threads() if workers is None else workers
    block = min(n, probes + 3)
    tiles = 8.0 * workers * min(_TILE, 8 * n * n)
    least = min(n, _FEWEST_BLOCKS * block)
    needed = tiles + _basis_memory(n, least) + _HELD * 8.0 * n * block
    if limit < needed:
        raise InputError(
            f"expected memory_limit = at least {shown_memory(needed)} for {n} patterns with "
            f"method='iterative', got {shown_memory(limit)}"
        )
    # half of what is over to the basis, a quarter to test patterns, the rest to tiles
    over = limit - needed
    room = 0.5 * over + _basis_memory(n, least)
    basis = int((math.sqrt((8.0 * n) ** 2 + 160.0 * room) - 8.0 * n) / 80.0)
    basis = max(least, min(n, _LARGEST_BASIS, basis))
    test = max(block, min(_TEST, int((0.25 * over / (_HELD * 8.0 * n)) + block)))
    kept = limit - tiles - _basis_memory(n, basis) - _HELD * 8.0 * n * test
    return Plan(seed, probes, basis, max(kept, 0.0), test, workers)


def _basis_memory(n: int, basis: int) -> float:
    """Return the bytes of n × basis numbers and of five square matrices of that size."""
    return 8.0 * n * basis + 40.0 * basis**2


def _threads() -> int:
    """Return how many threads a call of linear algebra uses."""
    import threadpoolctl

    pools = threadpoolctl.threadpool_info()
    return max((pool["num_threads"] for pool in pools if pool["user_api"] == "blas"), default=1)


def check_large(problem: Problem, theory: Theory, dense: float, chosen: bool) -> None:
    """Raise InputError where the iterative way does not cover a problem.

    `chosen` says that it was not asked for by name, but taken for lack of memory.
    """
    network = problem.network
    where = "with method='iterative'"
    if chosen:
        where += f" (the dense way takes {shown_memory(dense)})"
    if not isinstance(theory, SaddleTheory):
        raise InputError(
            f"expected theory = 'nested', 'wishart' or 'infinite' {where}, got {theory.name!r}"
        )
    if not network.dense:
        raise InputError(f"expected dense layers {where}, got layers = {network.layers}")
    if not problem.likelihood.homogeneous:
        raise InputError(
            f"expected likelihood = 'gaussian' {where}, got {problem.likelihood.name!r}"
        )
    if network.outputs > 1:
        raise InputError(f"expected outputs = 1 {where}, got {network.outputs}")
    if not problem.temperature > 0:
        raise InputError(f"expected temperature > 0 {where}, got {problem.temperature:g}")
