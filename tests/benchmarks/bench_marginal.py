"""The cost of a gradient of the integrated readout with several outputs, beside that of one.

One hidden layer, Gaussian inputs and labels. All outputs share the features, so one factorisation
serves them all and the rest is products. A time is the median over rounds in which the numbers of
outputs take turns, of CPU seconds of a compiled loop of gradients on one thread, compiled as
`finwidth.sample` does.

    python tests/benchmarks/bench_marginal.py [--patterns 100] [--width 50] [--json]
"""

import argparse
import json
import os
import statistics
import sys
import time
from typing import Any

# before NumPy and JAX start: one thread
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import finwidth as fw  # noqa: E402
from finwidth._sampling.compiled import _compiled  # noqa: E402
from finwidth.infer._model import negative_log_likelihood  # noqa: E402

OUTPUTS, N_INPUTS, TEMPERATURE = (1, 3, 10), 64, 0.1
ROUNDS, GRADIENTS, BOUND = 30, 300, 1.3


def loop(outputs: int, patterns: int, width: int) -> tuple[Any, jax.Array]:
    """Return a compiled loop of gradients, and the weights where it starts."""
    rng = np.random.default_rng(0)
    net = fw.Network((width,), "erf", outputs=outputs)
    X = jnp.asarray(rng.standard_normal((patterns, N_INPUTS)))
    y = jnp.asarray(rng.standard_normal((patterns, 10)))
    y = y[:, 0] if outputs == 1 else y[:, :outputs]

    def potential(weights: jax.Array) -> jax.Array:
        keywords = {"temperature": TEMPERATURE}
        return negative_log_likelihood(fw.models.marginal, (net, X, y), keywords, {"W_1": weights})

    def step(_: Any, weights: jax.Array) -> jax.Array:
        value, gradient = jax.value_and_grad(potential)(weights)
        return weights - 1e-9 * (gradient + 1e-9 * value)

    weights = jnp.asarray(rng.standard_normal((width, N_INPUTS)))
    run = jax.jit(lambda start: jax.lax.fori_loop(0, GRADIENTS, step, start))
    return _compiled(run.lower(weights)), weights


def main() -> None:
    """Run the benchmark and print its table, or JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--patterns", type=int, default=100)
    parser.add_argument("--width", type=int, default=50)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="a third of the rounds")
    arguments = parser.parse_args()
    with jax.enable_x64(True):
        loops = {n: loop(n, arguments.patterns, arguments.width) for n in OUTPUTS}
        times: dict[int, list[float]] = {n: [] for n in OUTPUTS}
        for number in range(1 + ROUNDS // (3 if arguments.quick else 1)):
            for n, (run, weights) in loops.items():
                start = time.process_time()
                jax.block_until_ready(run(weights))
                if number:  # the first warms up
                    times[n].append((time.process_time() - start) / GRADIENTS)
    medians = {n: statistics.median(values) for n, values in times.items()}
    rows = [{"outputs": n, "seconds": t, "ratio": t / medians[1]} for n, t in medians.items()]
    if arguments.json:
        print(json.dumps({"patterns": arguments.patterns, "width": arguments.width, "rows": rows}))
        return
    title = f"a gradient of models.marginal, P = {arguments.patterns}, N = {arguments.width}"
    table = Table(title=title, title_justify="left")
    for column in ("outputs", "CPU µs", "× one output", "wanted at most"):
        table.add_column(column, justify="right")
    for row in rows:
        bound = f"{BOUND:g}" if row["outputs"] == OUTPUTS[-1] else ""
        micros, ratio = f"{1e6 * row['seconds']:.0f}", f"{row['ratio']:.2f}"
        table.add_row(str(row["outputs"]), micros, ratio, bound)
    Console(width=None if sys.stdout.isatty() else 100).print(table)


if __name__ == "__main__":
    main()
