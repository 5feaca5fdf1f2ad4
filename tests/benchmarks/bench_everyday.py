"""What everyday use costs: start-up, look-ups, and calls with shapes that were used before.

Each figure is the median of a few runs. Processes are timed by the wall clock, and the two imports
in turn, so that a ratio is of runs side by side; deep networks by CPU seconds. Compilations are
those that JAX reports.

    python tests/benchmarks/bench_everyday.py [--repeats 3] [--json]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

# before NumPy and JAX start: one thread for linear algebra, and bytecode that is kept
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402
import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import finwidth as fw  # noqa: E402

COMPILED = "/jax/core/compile/backend_compile_duration"
THEORIES = (
    ("nested", "erf", 1),
    ("nested", "relu", 2),
    ("wishart", "erf", 2),
    ("infinite", "erf", 1),
    ("corrected", "erf", 1),
    ("adaptive", "erf", 1),
    ("perturbative", "erf", 1),
)
LOOK_UP = """
import time, jax, jax.numpy
import finwidth as fw
start = time.perf_counter()
fw.get_activation("erf")
print(time.perf_counter() - start)
"""
DEEP = """
import time
import numpy as np
import finwidth as fw
X = np.random.default_rng(0).normal(size=(100, 20))
net = fw.Network((100,) * 12, "{activation}")
fw.solve  # imported, as before
start = time.process_time()
fw.solve(net, X, np.sign(X[:, 0]), temperature=0.1)
print(time.process_time() - start)
"""

compilations = 0


def count(event: str, *_: Any, **__: Any) -> None:
    """Count what JAX compiles."""
    global compilations
    compilations += event == COMPILED


def run(*arguments: str) -> tuple[float, str]:
    """Return the seconds and the output of a Python of its own."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    return time.perf_counter() - start, done.stdout


def median(call: Callable[[], float], repeats: int) -> float:
    """Return the median of a few calls after one that warms the disk's cache."""
    call()
    return statistics.median(call() for _ in range(repeats))


def imports(repeats: int) -> tuple[float, float]:
    """Return the seconds that importing finwidth and NumPyro takes, a process each, in turn."""
    pairs = [
        tuple(run("-c", f"import {name}")[0] for name in ("finwidth", "numpyro"))
        for _ in range(repeats + 1)
    ][1:]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def problem(number: int, size: int = 20) -> dict[str, Any]:
    """Return data and temperature of one shape, other numbers for each `number`."""
    rng = np.random.default_rng(number)
    X = rng.normal(size=(size, 20))
    return {"X": X, "y": np.sign(X[:, 0]), "temperature": 0.5 + 0.05 * number}


def network(activation: str, depth: int, number: int) -> fw.Network:
    """Return a network, other widths and precisions for each `number`."""
    return fw.Network((300 + number,) * depth, activation, weight_precision=1.0 + 0.1 * number)


def second(call: Callable[[int], Any], repeats: int) -> tuple[float, int]:
    """Return the seconds (median) and compilations (of all) of calls after a first one."""
    call(0)
    before, times = compilations, []
    for number in range(1, repeats + 1):
        start = time.perf_counter()
        call(number)
        times.append(time.perf_counter() - start)
    return statistics.median(times), compilations - before


def solve(theory: str, activation: str, depth: int) -> Callable[[int], Any]:
    """Return the function that solves the problem of a number."""
    return lambda number: fw.solve(
        network(activation, depth, number), theory=theory, **problem(number)
    )


def drawing(number: int) -> float:
    """Return the seconds of `fw.sample` with as few draws as there can be."""
    start = time.perf_counter()
    fw.sample(
        network("erf", 1, 0).replace(weight_precision=1.0 + 0.1 * number),
        seed=number,
        num_warmup=20,
        num_samples=20,
        num_chains=2,
        progress=False,
        **problem(number),
    )
    return time.perf_counter() - start


def figures(repeats: int) -> list[dict[str, Any]]:
    """Return one record for each figure."""
    found: list[dict[str, Any]] = []

    def add(what: str, value: float, unit: str, goal: str, **more: Any) -> None:
        found.append({"what": what, "value": value, "unit": unit, "goal": goal} | more)

    ours, numpyro = imports(repeats)
    add("import finwidth / import numpyro", ours / numpyro, "", "< 1.2", seconds=[ours, numpyro])
    program = "from finwidth._cli import main; main()"
    add(
        "finwidth --help",
        median(lambda: run("-c", program, "--help")[0], repeats),
        "s",
        "< 0.5",
    )
    add(
        'get_activation("erf") after import jax',
        median(lambda: float(run("-c", LOOK_UP)[1]), repeats),
        "s",
        "< 0.3",
    )
    for activation in ("relu", "erf", "tanh"):
        code = DEEP.format(activation=activation)
        add(
            f"nested, {activation}, L = 12, P = 100, first solve",
            median(lambda code=code: float(run("-c", code)[1]), repeats),
            "CPU s",
            "< 3",
        )
    for theory, activation, depth in THEORIES:
        seconds, compiled = second(solve(theory, activation, depth), repeats)
        what = f"{theory}, {activation}, L = {depth}, later solves"
        add(what, seconds, "s", "0 compilations", compilations=compiled)
    seconds, compiled = second(drawing, repeats)
    add(
        "sample, later runs of 2 × (20 + 20) draws",
        seconds,
        "s",
        "0 compilations",
        compilations=compiled,
    )
    return found


def show(found: Sequence[dict[str, Any]]) -> None:
    """Print the figures as a table."""
    table = Table("figure", "value", "compilations", "wanted")
    for one in found:
        value = f"{one['value']:.3g} {one['unit']}".strip()
        table.add_row(one["what"], value, str(one.get("compilations", "")), one["goal"])
    Console(width=100).print(table)


def main() -> None:
    """Run the benchmark and print its table, or JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one repetition")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    jax.monitoring.register_event_duration_secs_listener(count)
    found = figures(1 if arguments.quick else arguments.repeats)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)


if __name__ == "__main__":
    main()
