"""theory="cavity" against its number of particles, and what it costs beside exact sampling.

Each posterior is solved twice, with independent seeds and four times the particles the second
time; z is their difference in units of both error bars. Exact sampling stops at the standard error
of the first. Times are CPU seconds, compilation and warm-up included.

    python tests/benchmarks/bench_cavity.py [--quick | --full]
"""

import argparse
import math
import os
import time

# before NumPy and JAX start: one thread per linear-algebra call
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import finwidth as fw  # noqa: E402
from finwidth.theories.cavity import Cavity  # noqa: E402

PARTICLES = 992
QUICK = [("digits", 50, 0.01, "erf")]
FULL = [
    *(("digits", width, 0.01, "erf") for width in (20, 50, 200)),
    *(("random", width, 0.1, "erf") for width in (20, 50, 200)),
    *(("digits", width, 0.01, "relu") for width in (20, 50, 200)),
]


def load(name: str) -> fw.Dataset:
    """The digits 0 and 1 (P = 100), or random labels of Gaussian inputs (P = 120, N_0 = 50)."""
    if name == "digits":
        return fw.load_dataset("digits", n_train=100, n_test=100)
    return fw.load_dataset("random", n_inputs=50, n_train=120, n_test=400, seed=0)


def solved(
    net: fw.Network, data: fw.Dataset, temperature: float, particles: int, seed: int
) -> tuple[float, float, float]:
    """Error, its standard error, CPU seconds; NaN errors where there is no solution."""
    began = time.process_time()
    theory = Cavity(particles=particles, seed=seed, progress=False)
    try:
        solution = fw.solve(net, data.X_train, data.y_train, temperature=temperature, theory=theory)
    except fw.ConvergenceError:
        return math.nan, math.nan, time.process_time() - began
    result = solution.generalization_error(data.X_test, data.y_test)
    return float(result.error), float(result.error_se), time.process_time() - began


def sampled(
    net: fw.Network, data: fw.Dataset, temperature: float, mcse: float | None
) -> tuple[float, float, float]:
    """Exact error, its MCSE, CPU seconds."""
    began = time.process_time()
    arguments = (data.X_train, data.y_train)
    tree = fw.sample(
        net,
        *arguments,
        temperature=temperature,
        X_test=data.X_test,
        y_test=data.y_test,
        num_samples=20_000,
        target_mcse=mcse,
        target_ess=1000,
        keep=["v"],
        progress=False,
    )
    seconds = time.process_time() - began
    theory = fw.solve(net, *arguments, temperature=temperature, theory="infinite")
    report = fw.compare(theory, tree).sel(quantity="error")
    return float(report.exact), float(report.mcse), seconds


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="one posterior (the default)")
    size.add_argument("--full", action="store_true", help="nine posteriors; an hour")
    rows = FULL if parser.parse_args().full else QUICK
    table = Table(title=f"{PARTICLES} particles and four times as many, exact posterior")
    table.add_column("posterior")
    for name in ("cavity", "4 × particles", "z", "exact", "CPU s"):
        table.add_column(name, justify="right")
    for name, width, temperature, activation in rows:
        data, net = load(name), fw.Network((width,), activation)
        one = solved(net, data, temperature, PARTICLES, 1)
        four = solved(net, data, temperature, 4 * PARTICLES, 2)
        exact = sampled(net, data, temperature, None if math.isnan(one[1]) else one[1])
        table.add_row(
            f"{name}, {activation}, N = {width}, T = {temperature:g}",
            *(
                "no solution" if math.isnan(value) else f"{value:.5f} ± {error:.5f}"
                for value, error, _ in (one, four)
            ),
            f"{(one[0] - four[0]) / math.hypot(one[1], four[1]):.1f}",
            f"{exact[0]:.5f} ± {exact[1]:.5f}",
            " / ".join(f"{seconds:.0f}" for _, _, seconds in (one, four, exact)),
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
