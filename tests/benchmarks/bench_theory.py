"""The cost of theory beside one eigendecomposition, in one run.

Gaussian inputs, random labels (with D outputs, of D classes), one thread. The unit is SciPy's
`eigh` with vectors (LAPACK's) of the kernel matrix. A theory's time is that of `solve` and `scores`
(error and accuracy) on the test set, kernels included; `solve_many` is that of a whole grid with
its scores. Each is the best of a few repetitions after one that compiles, which is a column of its
own.

    python tests/benchmarks/bench_theory.py [--patterns 2000] [--json]
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable

# before NumPy and JAX start: one thread
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np  # noqa: E402
import scipy.linalg  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import finwidth as fw  # noqa: E402

N_INPUTS, N_TEST, N_CLASSES, REPEATS = 200, 500, 10, 3


def seconds(call: Callable[[], object], repeats: int = REPEATS) -> tuple[float, float]:
    """CPU seconds of the first call, and the least of the following ones."""
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return times[0], min(times[1:])


def main() -> None:
    """Run the benchmark and print its table, or JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--patterns", type=int, default=2000)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="one repetition")
    arguments = parser.parse_args()
    n = arguments.patterns
    repeats = 1 if arguments.quick else REPEATS
    rng = np.random.default_rng(0)
    X, X_test = rng.standard_normal((n, N_INPUTS)), rng.standard_normal((N_TEST, N_INPUTS))
    y, y_test = rng.choice([-1.0, 1.0], n), rng.choice([-1.0, 1.0], N_TEST)
    classes = [np.eye(N_CLASSES)[rng.integers(0, N_CLASSES, size)] for size in (n, N_TEST)]
    kernel = fw.nngp_kernel(fw.Network((1,), "erf"), X)
    _, unit = seconds(lambda: scipy.linalg.eigh(kernel), repeats)
    _, numpy_unit = seconds(lambda: np.linalg.eigh(kernel), repeats)
    width = n // 4
    widths = np.unique(np.geomspace(n / 20, 20 * n, 64).astype(int)).tolist()

    def solve(net: fw.Network, theory: str) -> Callable[[], object]:
        labels, labels_test = (y, y_test) if net.outputs == 1 else classes

        def call() -> object:
            solution = fw.solve(net, X, labels, temperature=0.1, theory=theory)
            return solution.scores(X_test, labels_test)

        return call

    def solve_many(net: fw.Network, theory: str) -> Callable[[], object]:
        return lambda: fw.solve_many(
            net, X, y, widths=widths, temperature=0.1, theory=theory, X_test=X_test, y_test=y_test
        )

    tasks = {
        "nested, erf, L = 1": (solve(fw.Network((width,), "erf"), "nested"), 0.85),
        "nested, relu, L = 1": (solve(fw.Network((width,), "relu"), "nested"), None),
        "wishart, erf, L = 3": (solve(fw.Network((width,) * 3, "erf"), "wishart"), 0.85),
        f"solve_many, {len(widths)} widths, erf, L = 1": (
            solve_many(fw.Network((width,), "erf"), "nested"),
            1.0,
        ),
        f"nested, erf, L = 1, D = {N_CLASSES}": (
            solve(fw.Network((width,), "erf", outputs=N_CLASSES), "nested"),
            1.3,
        ),
        f"nested, relu, L = 1, D = {N_CLASSES}": (
            solve(fw.Network((width,), "relu", outputs=N_CLASSES), "nested"),
            None,
        ),
        "nested, erf, L = 3": (solve(fw.Network((width,) * 3, "erf"), "nested"), 2.5),
    }
    rows = []
    for name, (call, bound) in tasks.items():
        print(name, file=sys.stderr, flush=True)
        first, best = seconds(call, repeats)
        ratio = best / unit
        rows.append(
            {"task": name, "seconds": best, "ratio": ratio, "first": first / unit, "bound": bound}
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / (8 * n * n)
    if arguments.json:
        record = {"patterns": n, "eigh": unit, "numpy_eigh": numpy_unit, "peak": peak}
        print(json.dumps(record | {"rows": rows}, indent=1))
        return
    title = f"P = {n}: scipy.linalg.eigh {unit:.2f} CPU s, numpy.linalg.eigh {numpy_unit:.2f} CPU s"
    table = Table(title=title, title_justify="left")
    for column in ("task", "CPU s", "× eigh", "wanted at most", "first call × eigh"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for row in rows:
        bound = "" if row["bound"] is None else f"{row['bound']:g}"
        numbers = f"{row['seconds']:.2f}", f"{row['ratio']:.2f}", bound, f"{row['first']:.2f}"
        table.add_row(str(row["task"]), *numbers)
    console = Console(width=None if sys.stdout.isatty() else 100)
    console.print(table)
    console.print(f"Largest memory of the process: {peak:.1f} × 8 P² bytes (libraries included).")


if __name__ == "__main__":
    main()
