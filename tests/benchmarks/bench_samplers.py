"""Samplers side by side on the same posteriors, in one run.

Effective samples per CPU-second and gradients per effective sample, for the test error and for
the f(x_test) that mixes slowest. Times are those of the sampling phase, without compiling and
warm-up; "whole" is the wall time of the call, with both. ESS is that of drawn f for every method,
so that an effective sample means the same for all. Where the readout is integrated, the error
and its MCSE are Rao–Blackwellised; "worth" is the number of independent draws of f that would give
that MCSE, equal to the ESS elsewhere. A row with fewer than 50 effective samples is marked: its
numbers are rough.

    python tests/benchmarks/bench_samplers.py [--quick | --full] [--json]

MNIST comes from mnist01.npz (x_train, y_train, x_test, y_test) in the folder $FINWIDTH_DATA, or
in ../shared/data next to the repository; without it, Gaussian inputs of the same size.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# before NumPy and JAX start: one thread per linear-algebra call
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import arviz as az  # noqa: E402
import xarray as xr  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import finwidth as fw  # noqa: E402
from finwidth._engine import Engine  # noqa: E402

CHAINS = 4
ENOUGH = 50  # effective samples


@dataclasses.dataclass(frozen=True)
class Posterior:
    """What is sampled."""

    data: str
    widths: tuple[int, ...]
    temperature: float
    activation: str

    def __str__(self) -> str:
        widths = "-".join(map(str, self.widths))
        return f"{self.data}, {self.activation}, N = {widths}, T = {self.temperature:g}"


@dataclasses.dataclass(frozen=True)
class Method:
    """How it is sampled: names and budget, per chain, of `finwidth.sample`."""

    name: str
    model: str
    sampler: str
    num_warmup: int
    num_samples: int
    options: tuple[tuple[str, int], ...] = ()


SPLIT_MARGINAL = Method("SplitHMC, marginal", "marginal", "split_hmc", 200, 600)
SPLIT_NETWORK = Method("SplitHMC, network", "network", "split_hmc", 200, 300)
NUTS_MARGINAL = Method("NUTS, marginal", "marginal", "nuts", 150, 150)
NUTS_NETWORK = Method("NUTS, network", "network", "nuts", 150, 75)
LANGEVIN = Method("Langevin, marginal", "marginal", "langevin", 300, 300, (("num_steps", 10),))
REFERENCE = NUTS_NETWORK
METHODS = (SPLIT_MARGINAL, SPLIT_NETWORK, NUTS_MARGINAL, LANGEVIN, NUTS_NETWORK)

QUICK: tuple[tuple[Posterior, tuple[Method, ...]], ...] = (
    (Posterior("digits", (50,), 0.01, "erf"), METHODS),
    (Posterior("mnist", (50,), 0.01, "erf"), (SPLIT_MARGINAL,)),
    (Posterior("digits", (50, 50), 0.1, "erf"), (SPLIT_MARGINAL,)),
    (Posterior("digits", (50, 50, 50), 0.1, "erf"), (SPLIT_MARGINAL,)),
)
FULL = (
    tuple(
        (Posterior(data, (width,), temperature, activation), METHODS)
        for data, activation, temperature, width in itertools.product(
            ("digits", "mnist"), ("erf", "relu"), (0.1, 0.01), (20, 50, 200)
        )
    )
    + QUICK[2:]
)


@functools.cache
def load(name: str) -> fw.Dataset:
    """The digits 0 and 1 of scikit-learn (P = 100, N_0 = 64) or of MNIST (P = 200, N_0 = 784)."""
    if name == "digits":
        return fw.load_dataset("digits", n_train=100, n_test=100)
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    archive = Path(os.environ.get("FINWIDTH_DATA", beside)) / "mnist01.npz"
    if archive.is_file():
        return fw.load_dataset("mnist", path=archive, n_train=200, n_test=100)
    print(f"no {archive.name} found: Gaussian inputs in its place", file=sys.stderr)
    return fw.load_dataset("random", n_inputs=784, n_train=200, n_test=100, seed=0)


class Clock:
    """Measures each block of transitions that finwidth's engine runs while it is entered."""

    def __init__(self) -> None:
        self.blocks: list[tuple[int, float, float]] = []

    def __enter__(self) -> "Clock":
        self._advance = advance = Engine.advance

        @functools.wraps(advance)
        def timed(engine: Engine, count: int, *args: Any, **more: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            result = advance(engine, count, *args, **more)
            self.blocks.append((count, time.process_time() - cpu, time.perf_counter() - wall))
            return result

        Engine.advance = timed
        return self

    def __exit__(self, *_: object) -> None:
        Engine.advance = self._advance

    def sampling(self, num_samples: int) -> tuple[float, float]:
        """CPU and wall seconds of the last `num_samples` draws."""
        cpu = wall = 0.0
        for count, cpu_seconds, wall_seconds in reversed(self.blocks):
            if num_samples <= 0:
                break
            num_samples -= count
            cpu, wall = cpu + cpu_seconds, wall + wall_seconds
        return cpu, wall


def measure(posterior: Posterior, method: Method) -> dict[str, float | str]:
    """Sample `posterior` with `method` and return one row of the table."""
    data = load(posterior.data)
    began = time.perf_counter()
    with Clock() as clock:
        tree = fw.sample(
            fw.Network(posterior.widths, posterior.activation),
            data.X_train,
            data.y_train,
            temperature=posterior.temperature,
            X_test=data.X_test,
            y_test=data.y_test,
            model=method.model,
            sampler=method.sampler,
            num_warmup=method.num_warmup,
            num_samples=method.num_samples,
            num_chains=CHAINS,
            keep=["v"],
            sampler_options=dict(method.options),
            progress=False,
        )
    whole = time.perf_counter() - began
    cpu, wall = clock.sampling(method.num_samples)
    predictions = tree["predictions"].to_dataset()
    drawn = xr.Dataset(
        {
            "error": ((predictions["f"] - data.y_test) ** 2).mean("test_pattern"),
            "f": predictions["f"],
        }
    )
    best = drawn["error"]
    if "f_mean" in predictions:
        squares = (predictions["f_mean"] - data.y_test) ** 2 + predictions["f_variance"]
        best = squares.mean("test_pattern")
    ess, r_hat = az.ess(drawn), az.rhat(drawn)
    mcse = float(az.mcse(best.to_dataset(name="error"))["error"])
    gradients = float(tree["sample_stats"]["n_steps"].sum())
    row: dict[str, float | str] = {
        "posterior": str(posterior),
        "method": method.name,
        "error": float(best.mean()),
        "mcse": mcse,
        "r_hat": max(float(r_hat["error"]), float(r_hat["f"].max())),
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "whole_seconds": whole,
        "gradients": gradients,
    }
    counts = {
        "error": float(ess["error"]),
        "f": float(ess["f"].min()),
        "worth": float(drawn["error"].var()) / mcse**2,
    }
    for name, value in counts.items():
        row |= {
            f"ess_{name}": value,
            f"ess_{name}_per_cpu_second": value / cpu,
            f"ess_{name}_per_wall_second": value / wall,
            f"gradients_per_ess_{name}": gradients / value,
        }
    return row


def compare(posterior: Posterior, methods: tuple[Method, ...]) -> Iterator[dict[str, float | str]]:
    """The rows of one posterior, with ratios to NUTS in weight space where that is among them."""
    rows = []
    for method in methods:
        print(f"{posterior}: {method.name}", file=sys.stderr, flush=True)
        rows.append(measure(posterior, method))
    reference = [row for row in rows if row["method"] == REFERENCE.name]
    for row in rows:
        for name in ("error", "f", "worth"):
            key = f"ess_{name}_per_cpu_second"
            for other in reference:
                row[f"ratio_{name}"] = float(row[key]) / float(other[key])
        yield row


def table(rows: list[dict[str, float | str]]) -> Table:
    """One posterior's rows, for reading."""
    result = Table(title=str(rows[0]["posterior"]), title_justify="left")
    columns = (
        ("error ± MCSE", lambda row: f"{row['error']:.4f} ± {row['mcse']:.4f}"),
        ("R-hat", lambda row: f"{row['r_hat']:.3f}"),
        ("CPU s", lambda row: f"{row['cpu_seconds']:.1f}"),
        ("wall s", lambda row: f"{row['wall_seconds']:.1f}"),
        ("whole", lambda row: f"{row['whole_seconds']:.0f}"),
        ("ESS", pair("ess_{}", ".0f")),
        ("ESS/CPU s", pair("ess_{}_per_cpu_second", ".3g")),
        ("ESS/wall s", pair("ess_{}_per_wall_second", ".3g")),
        ("gradients/ESS", pair("gradients_per_ess_{}", ".3g")),
        (f"× {REFERENCE.name}", pair("ratio_{}", ".3g")),
    )
    result.add_column("error / slowest f(x) / worth")
    for title, _ in columns:
        result.add_column(title, justify="right")
    for row in rows:
        low = min(float(row["ess_error"]), float(row["ess_f"])) < ENOUGH
        name = f"{row['method']}{' (low ESS)' if low else ''}"
        result.add_row(name, *(text(row) for _, text in columns))
    return result


def pair(key: str, form: str):
    """A function that writes a row's numbers: of the error, of f, of the error as estimated."""

    def text(row: dict[str, float | str]) -> str:
        if key.format("error") not in row:
            return ""
        names = ("error", "f", "worth")
        return " / ".join(format(float(row[key.format(name)]), form) for name in names)

    return text


def main() -> None:
    """Run the benchmark and print its tables, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a few posteriors (the default)")
    size.add_argument("--full", action="store_true", help="the whole grid; hours")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 190)
    everything = []
    for posterior, methods in FULL if arguments.full else QUICK:
        rows = list(compare(posterior, methods))
        everything += rows
        if not arguments.json:
            console.print(table(rows))
    if arguments.json:
        print(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
