"""theory="cavity" beside exact sampling: test errors, error bars, and CPU seconds for the same bar.

Each posterior is solved with the default settings, then sampled by SplitHMC until its standard
error is that of the theory's points. Times are CPU seconds of one thread, compilation and warm-up
included, but for the checks that any first call pays; "of sampling" is their ratio.

    python tests/benchmarks/bench_cavity.py [--quick | --full] [--no-sampling]

With `--end` the branch of narrow ReLU layers is followed to where it ends, with what says whether
the points fail there: the effective number of those that carry E[t²], the largest share of one.

    python tests/benchmarks/bench_cavity.py --end
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
from finwidth.theories.cavity import Cavity, CavitySolution  # noqa: E402

QUICK = [("digits", 50, 0.01, "erf")]
FULL = [
    *(("digits", width, 0.01, "erf") for width in (20, 50, 200)),
    *(("digits", width, 0.01, "relu") for width in (20, 50, 200)),
    *(("random", width, 0.1, "erf") for width in (20, 50, 200)),
]


def load(name: str) -> fw.Dataset:
    """The digits 0 and 1 (P = 100), or random labels of Gaussian inputs (P = 60, N_0 = 50)."""
    if name == "digits":
        return fw.load_dataset("digits", n_train=100, n_test=100)
    return fw.load_dataset("random", n_train=60, n_test=100)


def solved(
    net: fw.Network, data: fw.Dataset, temperature: float
) -> tuple[float, float, float, str]:
    """Error, its standard error, CPU seconds, what happened if there is no solution."""
    began = time.process_time()
    theory = Cavity(progress=False)
    try:
        solution = fw.solve(net, data.X_train, data.y_train, temperature=temperature, theory=theory)
    except fw.ConvergenceError as error:
        return math.nan, math.nan, time.process_time() - began, str(error)
    result = solution.generalization_error(data.X_test, data.y_test)
    return float(result.error), float(result.error_se), time.process_time() - began, ""


def sampled(
    net: fw.Network, data: fw.Dataset, temperature: float, mcse: float
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
        keep=["v"],
        progress=False,
    )
    seconds = time.process_time() - began
    theory = fw.solve(net, *arguments, temperature=temperature, theory="infinite")
    report = fw.compare(theory, tree).sel(quantity="error")
    return float(report.exact), float(report.mcse), seconds


def branch_end(console: Console) -> None:
    """Print how the branch of ReLU layers on the digits ends."""
    data = load("digits")
    table = Table(title="digits, relu, T = 0.01, 1024 points a node")
    for name in ("N", "error", "q_bar", "effective points of E(t²)", "largest share"):
        table.add_column(name, justify="right")
    for width in (120, 80, 64, 56):
        theory = Cavity(points=1024, progress=False)
        net = fw.Network((width,), "relu")
        try:
            solution = fw.solve(net, data.X_train, data.y_train, temperature=0.01, theory=theory)
        except fw.ConvergenceError as error:
            console.print(f"N = {width}: {error}", highlight=False)
            continue
        assert isinstance(solution, CavitySolution)
        result = solution.generalization_error(data.X_test, data.y_test)
        table.add_row(
            str(width),
            f"{float(result.error):.5f} ± {float(result.error_se):.5f}",
            f"{float(solution.order_parameters.q_bar[0]):.3f}",
            f"{solution.order_parameters.attrs['effective_points']:.0f}",
            f"{max(one.largest for one in solution.fit.replicates):.1%}",
        )
    console.print(table)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="one posterior (the default)")
    size.add_argument("--full", action="store_true", help="nine posteriors; half an hour")
    size.add_argument("--end", action="store_true", help="how the branch of ReLU layers ends")
    parser.add_argument("--no-sampling", action="store_true", help="the theory alone")
    arguments = parser.parse_args()
    table = Table(title="theory='cavity' and SplitHMC to the same standard error")
    table.add_column("posterior")
    for name in ("cavity", "CPU s", "exact", "CPU s", "of sampling"):
        table.add_column(name, justify="right")
    console = Console(width=120)
    if arguments.end:
        branch_end(console)
        return
    for name, width, temperature, activation in FULL if arguments.full else QUICK:
        data, net = load(name), fw.Network((width,), activation)
        # the checks of a first call, which whatever comes first would pay for all
        fw.solve(net, data.X_train, data.y_train, temperature=temperature, theory="infinite")
        value, bar, seconds, failure = solved(net, data, temperature)
        row = [
            f"{name}, {activation}, N = {width}, T = {temperature:g}",
            "no solution" if failure else f"{value:.5f} ± {bar:.5f}",
            f"{seconds:.1f}",
        ]
        if failure:
            console.print(f"{row[0]}: {failure}", highlight=False)
        if not arguments.no_sampling:
            # of no solution the error bar is what another theory's error suggests
            scale = fw.solve(net, data.X_train, data.y_train, temperature=temperature)
            guess = float(scale.generalization_error(data.X_test, data.y_test).error)
            exact, mcse, longer = sampled(net, data, temperature, 0.01 * guess if failure else bar)
            row += [f"{exact:.5f} ± {mcse:.5f}", f"{longer:.1f}", f"{seconds / longer:.2f}"]
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
