"""Two classes: log loss of theory and exact posterior, factorisations of a solve, time of a run.

Digits 0 and 1 in file order, erf, logistic likelihood at T = 1. The log loss is that of the
predictive on 100 test patterns, of 60 training patterns; factorisations are those of matrices of
all 500 patterns (softmax: and outputs; at most 60 are wanted), Gaussian inputs with the labels of a
noisy linear teacher; the run is
`sample(model="network")` with the defaults, 100 patterns, 50 units.

    python tests/benchmarks/bench_classification.py [--quick] [--json]
"""

import argparse
import json
import os
import time
from typing import Any

# before NumPy and JAX start: one thread
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import arviz as az  # noqa: E402
import numpy as np  # noqa: E402

import finwidth as fw  # noqa: E402
from finwidth._likelihoods import _sites  # noqa: E402

METHODS = {"EP": "ep", "Laplace": "laplace"}


def log_loss(solution: Any, data: fw.Dataset) -> float:
    """Return the log loss of the predictive on the test set."""
    probabilities = solution.predict(data.X_test).probabilities
    index = (data.y_test > 0).astype(int)
    return -float(np.mean(np.log(probabilities[np.arange(index.size), index])))


def losses(width: int, draws: int) -> dict[str, float]:
    """Return the log loss of every theory, and of the exact posterior with its MCSE."""
    data = fw.load_dataset("digits", classes=(0, 1), n_train=60, n_test=100)
    net, found = fw.Network((width,), "erf"), {}
    solution = None
    for name, approximation in METHODS.items():
        arguments: dict[str, Any] = {"likelihood": "logit", "approximation": approximation}
        for theory in ("nested", "mixture", "infinite"):
            solution = fw.solve(net, data.X_train, data.y_train, theory=theory, **arguments)
            found[f"{name} {theory}"] = log_loss(solution, data)
            if theory == "nested":
                found[f"{name} q_bar"] = float(solution.order_parameters.q_bar[0])
    tree = run(net, data, draws)
    report = fw.compare(solution, tree).sel(quantity="log_loss")
    return found | {"exact": float(report.exact), "mcse": float(report.mcse)}


def run(net: fw.Network, data: fw.Dataset, draws: int) -> Any:
    """Return draws of the exact posterior."""
    return fw.sample(
        net,
        data.X_train,
        data.y_train,
        X_test=data.X_test,
        y_test=data.y_test,
        model="network",
        likelihood="logit",
        num_samples=draws,
        progress=False,
    )


def factorisations(
    approximation: str | None, widths: tuple[int, ...], outputs: int = 1
) -> tuple[int, float]:
    """Return how many matrices of all 500 patterns (and outputs) a solve factorises; its seconds.

    With several outputs the likelihood is softmax.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 30))
    noisy = X[:, :outputs] + 0.3 * rng.normal(size=(500, outputs))
    y = np.where(noisy[:, 0] > 0, 1.0, -1.0)
    if outputs > 1:
        y = np.argmax(noisy, axis=1).astype(float)
    sizes, made = [], _sites.SiteFactor.__init__

    def counted(self: Any, kernel: np.ndarray, precision: np.ndarray) -> None:
        sizes.append(len(kernel))
        made(self, kernel, precision)

    likelihood = "logit" if outputs == 1 else "softmax"
    arguments: dict[str, Any] = {"likelihood": likelihood, "approximation": approximation}
    net = fw.Network(widths, "erf", outputs=outputs)
    fw.solve(net, X, y, **arguments)  # compiles
    _sites.SiteFactor.__init__ = counted
    start = time.perf_counter()
    try:
        fw.solve(net, X, y, **arguments)
    finally:
        _sites.SiteFactor.__init__ = made
    return sizes.count(500 * outputs), time.perf_counter() - start


def timed_run() -> dict[str, float]:
    """Return seconds, largest R-hat and MCSE of the accuracy of a run with the defaults."""
    data = fw.load_dataset("digits", classes=(0, 1), n_train=100, n_test=100)
    start = time.perf_counter()
    tree = run(fw.Network((50,), "erf"), data, 1000)
    seconds = time.perf_counter() - start
    f = tree["predictions"].dataset[["f"]]
    accuracy = (f * data.y_test > 0).mean("test_pattern")
    return {
        "seconds": seconds,
        "r_hat": float(az.rhat(f).f.max()),
        "accuracy": float(accuracy.f.mean()),
        "accuracy_mcse": float(az.mcse(accuracy).f),
    }


def main() -> None:
    """Run the benchmark and print it, as text or JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the draws")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    draws = 400 if arguments.quick else 4000
    record: dict[str, Any] = {f"N = {n}": losses(n, draws) for n in (20, 50)}
    record["factorisations, seconds"] = {
        f"{name}, widths {list(widths)}": factorisations(approximation, widths)
        for name, approximation in METHODS.items()
        for widths in ((50,), (30, 30))
    }
    record["factorisations, seconds"] |= {
        f"softmax D = 3, widths {list(widths)}": factorisations(None, widths, 3)
        for widths in ((50,), (30, 30))
    }
    record["run"] = timed_run()
    if arguments.json:
        print(json.dumps(record))
        return
    for title, values in record.items():
        print(title)
        for name, value in values.items():
            parts = value if isinstance(value, tuple) else (value,)
            print(f"    {name:28}", *(f"{part:.5g}" for part in parts))


if __name__ == "__main__":
    main()
