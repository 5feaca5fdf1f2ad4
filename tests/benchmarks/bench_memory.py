"""Time and memory of one theory on a large training set.

Gaussian inputs, random labels, 500 test patterns, one thread. Memory is how far the peak of the
process rises above what it held after a small solution of the same shape, in units of one P × P
matrix of float64 (8P² bytes).

    python tests/benchmarks/bench_memory.py [--patterns 2000] [--layers 1] [--theory nested]
        [--outputs 1] [--activation erf]
"""

import argparse
import os
import resource
import time

# before NumPy and JAX start: one thread
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np  # noqa: E402

import finwidth as fw  # noqa: E402

N_INPUTS, N_TEST, TEMPERATURE = 200, 500, 0.1


def peak() -> int:
    """Most bytes that the process has held."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux counts in KiB


def main() -> None:
    """Solve, predict, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--patterns", type=int, default=2000)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--theory", default="nested")
    parser.add_argument("--outputs", type=int, default=1, help="classes, if more than 1")
    parser.add_argument("--activation", default="erf")
    options = parser.parse_args()
    n, depth, outputs = options.patterns, options.layers, options.outputs
    rng = np.random.default_rng(0)
    X, X_test = rng.standard_normal((n, N_INPUTS)), rng.standard_normal((N_TEST, N_INPUTS))
    y, y_test = rng.choice([-1.0, 1.0], n), rng.choice([-1.0, 1.0], N_TEST)
    if outputs > 1:
        y, y_test = (np.eye(outputs)[rng.integers(0, outputs, size)] for size in (n, N_TEST))
    settings = {"temperature": TEMPERATURE, "theory": options.theory}
    net = fw.Network((n // 4,) * depth, options.activation, outputs=outputs)
    small = fw.solve(net.replace(widths=(50,) * depth), X[:300], y[:300], **settings)
    small.generalization_error(X_test, y_test)  # both compile
    before, began = peak(), time.process_time()
    solution = fw.solve(net, X, y, **settings)
    error = float(solution.generalization_error(X_test, y_test).error)
    seconds = time.process_time() - began
    print(
        f"{options.theory}, L = {depth}, D = {outputs}, P = {n}: {seconds:.0f} CPU s, "
        f"{(peak() - before) / (8 * n**2):.2f} × 8P² bytes, residual {solution.residual:.1e}, "
        f"error {error:.4f}"
    )


if __name__ == "__main__":
    main()
