"""Time and memory of a theory without P × P matrices, against P, beside the dense way.

Inputs with a power-law spectrum, labels of a noisy linear teacher, 500 test patterns. Each size
runs in a process of its own, which first solves a small problem of the same shapes (it compiles).
Memory is the peak of that process, libraries and data included. The slopes are those of the
logarithms against log P. Where the dense way runs as well, what the two differ by is given in
units of the error bars stated.

    python tests/benchmarks/bench_large.py [--quick] [--patterns 5000 10000 20000] [--dense 10000]
        [--memory-limit 6GB] [--theory nested] [--activation erf] [--temperature 0.1]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np

N_INPUTS, N_TEST, WIDTH = 200, 500, 500


def main() -> None:
    """Run all sizes and print a table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="2000 and 4000 patterns")
    parser.add_argument("--patterns", type=int, nargs="+", default=[5000, 10_000, 20_000])
    parser.add_argument("--dense", type=int, default=10_000, help="largest size of the dense way")
    parser.add_argument("--memory-limit", default="6GB")
    parser.add_argument("--theory", default="nested")
    parser.add_argument("--activation", default="erf")
    parser.add_argument("--temperature", type=float, default=0.1)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # size and method of a process
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(int(options.one[0]), options.one[1], options)))
        return
    sizes = [2000, 4000] if options.quick else sorted(options.patterns)
    rows = [row for n in sizes for row in compared(n, options)]
    if len(sizes) > 1:
        print_slopes([row for row in rows if row["method"] == "iterative"])


def compared(n: int, options: argparse.Namespace) -> list[dict]:
    """Run one size, and the dense way beside it where it is small enough."""
    methods = ["iterative"] + ["dense"] * (n <= options.dense)
    rows = []
    for method in methods:
        command = [sys.executable, __file__, *sys.argv[1:], "--one", str(n), method]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout))
        print(line(rows[-1]), flush=True)
    if len(rows) == 2:
        mine, exact = rows
        pulls = [
            f"{name} {abs(mine[name] - exact[name]) / mine[f'{name}_se']:.2f}"
            for name in ("q_bar", "log_evidence", "error")
        ]
        print(f"  difference from dense, in error bars: {', '.join(pulls)}", flush=True)
    return rows


def line(row: dict) -> str:
    """Return what one run has shown."""
    text = (
        f"P = {row['n']:>6} {row['method']:<9} {row['wall']:7.1f} s, {row['cpu']:7.1f} CPU s "
        f"(fit {row['fit']:.1f} s), {row['peak'] / 1e9:5.2f} GB"
    )
    if row["method"] == "iterative":
        text += (
            f", {row['products']} products, basis {row['basis']}; "
            f"Q̄ {row['q_bar']:.5f} ± {row['q_bar_se']:.5f}, "
            f"log evidence {row['log_evidence']:.1f} ± {row['log_evidence_se']:.1f}, "
            f"error {row['error']:.6f} ± {row['error_se']:.6f}"
        )
    else:
        text += (
            f"; Q̄ {row['q_bar']:.5f}, log evidence {row['log_evidence']:.1f}, "
            f"error {row['error']:.6f}"
        )
    return text


def print_slopes(rows: list[dict]) -> None:
    """Print how time and memory go with P."""
    sizes = np.log([row["n"] for row in rows])
    slopes = {
        name: np.polyfit(sizes, np.log([row[name] for row in rows]), 1)[0]
        for name in ("wall", "cpu", "peak", "products")
    }
    text = ", ".join(f"{name} P^{slope:.2f}" for name, slope in slopes.items())
    print(f"slopes: {text}")


def data(n: int) -> tuple[np.ndarray, ...]:
    """Return training and test set."""
    rng = np.random.default_rng(0)
    scale = np.arange(1.0, N_INPUTS + 1) ** -0.5
    scale *= np.sqrt(N_INPUTS / np.sum(scale**2))
    X = rng.standard_normal((n + N_TEST, N_INPUTS)) * scale
    teacher = rng.standard_normal(N_INPUTS) / np.sqrt(N_INPUTS)
    y = np.tanh(X @ teacher) + 0.3 * rng.standard_normal(len(X))
    return X[:n], y[:n], X[n:], y[n:]


def one(n: int, method: str, options: argparse.Namespace) -> dict:
    """Solve and predict once, in this process."""
    import finwidth as fw

    X, y, X_test, y_test = data(n)
    net = fw.Network((WIDTH,), options.activation)
    settings = {"temperature": options.temperature, "theory": options.theory, "method": method}
    if method == "iterative":
        settings["memory_limit"] = options.memory_limit
    fw.solve(net, X[:1100], y[:1100], **settings).scores(X_test, y_test)  # compiles
    wall, cpu = time.perf_counter(), time.process_time()
    solution = fw.solve(net, X, y, **settings)
    fit = time.perf_counter() - wall
    scores = solution.scores(X_test, y_test)
    row = {
        "n": n,
        "method": method,
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "fit": fit,
        "peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "q_bar": float(solution.order_parameters.q_bar[0]),
        "log_evidence": solution.log_evidence,
        "error": float(scores.error),
    }
    if method == "iterative":
        accuracy = solution.accuracy
        row |= {name: int(accuracy.attrs[name]) for name in ("products", "basis")}
        row |= {
            "q_bar_se": float(solution.order_parameters.q_bar_se[0]),
            "log_evidence_se": float(accuracy.log_evidence_se),
            "error_se": float(scores.error_se),
        }
    return row


if __name__ == "__main__":
    main()
