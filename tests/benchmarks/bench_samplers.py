"""Samplers side by side on the same posteriors, in one run.

Effective samples per CPU-second and gradients per effective sample, for the test error and for
the f(x_test) that mixes slowest. Times are those of the sampling phase, without compiling and
warm-up; "whole" is the wall time of the call, with both. ESS is that of drawn f for every method,
so that an effective sample means the same for all. Where the readout is integrated, the error
and its MCSE are Rao–Blackwellised; "worth" is the number of independent draws of f that would give
that MCSE, equal to the ESS elsewhere. A row with fewer than 50 effective samples is marked: its
numbers are rough.

Weight-space NUTS, the reference, is there twice: run by NumPyro's own MCMC on `fw.models.network`,
as a user without finwidth's driver would, and run by finwidth's driver, which compiles it for one
thread and takes inputs that are constant or dependent out of it.

    python tests/benchmarks/bench_samplers.py [--quick | --full] [--json]

With `--rivals` other people's samplers, of rivals.py, run on the same posteriors beside finwidth's.
There one measure serves all: the ESS of the test error of drawn f. Gradients of the warm-up are
given as a share of those of the sampling, and "all in" counts the CPU seconds of warm-up and
sampling, compilation left out; the last column is its ratio to weight-space NUTS run by finwidth's
driver. `--size 0.2` takes a fifth of the transitions, `--draws 500` as many draws of each of
finwidth's chains, `--only TEXT ...` the rows whose posterior and method hold all of the texts,
`--methods TEXT ...` those whose method holds one of them; `--seed` is that of finwidth's chains,
`--options stiffness=0 ...` are SplitHMC's where the readout is integrated.

    python tests/benchmarks/bench_samplers.py --rivals [--size 1] [--draws 500] [--only TEXT ...]
        [--methods TEXT ...] [--seed 0] [--options NAME=NUMBER ...] [--json]

MNIST comes from mnist01.npz (x_train, y_train, x_test, y_test) in the folder $FINWIDTH_DATA, or
in ../shared/data next to the repository; without it, Gaussian inputs of the same size.
"""

import argparse
import dataclasses
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

# before NumPy and JAX start: one thread per linear-algebra call
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import arviz as az  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import rivals  # noqa: E402
import xarray as xr  # noqa: E402
from numpyro.infer import MCMC, NUTS  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import finwidth as fw  # noqa: E402
from finwidth._sampling.engine import Engine  # noqa: E402

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
    """How it is sampled: names and budget, per chain, of `finwidth.sample`, or by NumPyro."""

    name: str
    model: str
    sampler: str
    num_warmup: int | None  # None: the sampler's own, until the chains have settled
    num_samples: int
    options: tuple[tuple[str, float], ...] = ()
    seed: int = 0


SPLIT_MARGINAL = Method("SplitHMC, marginal", "marginal", "split_hmc", 200, 600)
SPLIT_NETWORK = Method("SplitHMC, network", "network", "split_hmc", 200, 300)
NUTS_MARGINAL = Method("NUTS, marginal", "marginal", "nuts", 150, 150)
NUTS_NETWORK = Method("NUTS, network", "network", "nuts", 150, 300)
NUMPYRO = Method("NumPyro's NUTS, network", "network", "numpyro", 150, 150)
LANGEVIN = Method("Langevin, marginal", "marginal", "langevin", 300, 300, (("num_steps", 10),))
REFERENCES = (NUTS_NETWORK, NUMPYRO)
METHODS = (SPLIT_MARGINAL, SPLIT_NETWORK, NUTS_MARGINAL, LANGEVIN, *REFERENCES)


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """What a sampler gave and what it cost."""

    f: xr.DataArray  # (chain, draw, test_pattern)
    error: xr.DataArray  # (chain, draw), the best estimate of the test error
    gradients: float
    cpu: float
    wall: float
    warmup_gradients: float = 0.0
    warmup_cpu: float = 0.0
    acceptance: float = float("nan")


QUICK: tuple[tuple[Posterior, tuple[Method, ...]], ...] = (
    (Posterior("digits", (50,), 0.01, "erf"), METHODS),
    (Posterior("mnist", (50,), 0.01, "erf"), (SPLIT_MARGINAL,)),
    (Posterior("digits", (50, 50), 0.1, "erf"), (SPLIT_MARGINAL,)),
    (Posterior("digits", (50, 50, 50), 0.1, "erf"), (SPLIT_MARGINAL,)),
)
# One thing changed at a time: a full grid of these would take hours and say little more.
FULL = (
    QUICK[0],
    *(
        (dataclasses.replace(QUICK[0][0], **change), METHODS)
        for change in (
            {"widths": (20,)},
            {"widths": (200,)},
            {"temperature": 0.1},
            {"activation": "relu"},
            {"data": "mnist"},
        )
    ),
    *QUICK[2:],
)


# An easy pair of digits, three harder ones, and heavy tails.
RIVAL_POSTERIORS = (
    QUICK[0][0],
    *(
        Posterior(f"digits {pair}", (n,), 0.01, "erf")
        for pair in ("3/8", "4/9", "2/7")
        for n in (20, 50)
    ),
    Posterior("digits", (50,), 0.01, "relu"),
)
OURS = (
    dataclasses.replace(SPLIT_MARGINAL, num_warmup=None, num_samples=1000),
    dataclasses.replace(SPLIT_NETWORK, num_warmup=None, num_samples=500),
    dataclasses.replace(NUTS_MARGINAL, num_samples=200),
    dataclasses.replace(NUTS_NETWORK, num_warmup=500, num_samples=500),
)


@functools.cache
def load(name: str) -> fw.Dataset:
    """Two of scikit-learn's digits (P = 100, N_0 = 64), or 0 and 1 of MNIST (P = 200, N_0 = 784).

    "digits" are 0 and 1, "digits 3/8" others.
    """
    name, _, pair = name.partition(" ")
    if name == "digits":
        classes = tuple(map(int, (pair or "0/1").split("/")))
        return fw.load_dataset("digits", classes=classes, n_train=100, n_test=100)
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    archive = Path(os.environ.get("FINWIDTH_DATA", beside)) / "mnist01.npz"
    if archive.is_file():
        return fw.load_dataset("mnist", path=archive, n_train=200, n_test=100)
    print(f"no {archive.name} found: Gaussian inputs in its place", file=sys.stderr)
    return fw.load_dataset("random", n_inputs=784, n_train=200, n_test=100, seed=0)


class Clock:
    """Measures each block of transitions that finwidth's engine runs while it is entered."""

    def __init__(self) -> None:
        self.blocks: list[tuple[int, float, float, float]] = []

    def __enter__(self) -> "Clock":
        self._advance = advance = Engine.advance

        @functools.wraps(advance)
        def timed(engine: Engine, count: int, *args: Any, **more: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            result = advance(engine, count, *args, **more)
            times = time.process_time() - cpu, time.perf_counter() - wall
            self.blocks.append((count, *times, float(np.sum(result["stats:n_steps"]))))
            return result

        Engine.advance = timed
        return self

    def __exit__(self, *_: object) -> None:
        Engine.advance = self._advance

    def sampling(self, num_samples: int) -> tuple[np.ndarray, np.ndarray]:
        """CPU seconds, wall seconds and gradients: of the last `num_samples` draws, and before."""
        last = len(self.blocks)
        while num_samples > 0:
            last -= 1
            num_samples -= self.blocks[last][0]
        costs = np.reshape(self.blocks, (-1, 4))[:, 1:]
        return costs[last:].sum(axis=0), costs[:last].sum(axis=0)


def by_finwidth(posterior: Posterior, method: Method) -> Run:
    """Sample with `fw.sample`."""
    data = load(posterior.data)
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
            seed=method.seed,
            progress=False,
        )
    predictions = tree["predictions"].to_dataset()
    error = ((predictions["f"] - data.y_test) ** 2).mean("test_pattern")
    if "f_mean" in predictions:
        squares = (predictions["f_mean"] - data.y_test) ** 2 + predictions["f_variance"]
        error = squares.mean("test_pattern")
    (cpu, wall, gradients), (warmup_cpu, _, warmup) = clock.sampling(method.num_samples)
    acceptance = float(tree["sample_stats"]["acceptance_rate"].mean())
    return Run(predictions["f"], error, gradients, cpu, wall, warmup, warmup_cpu, acceptance)


def by_numpyro(posterior: Posterior, method: Method) -> Run:
    """Sample with NumPyro's MCMC and NUTS, chains one after the other, as NumPyro compiles it."""
    data = load(posterior.data)
    net = fw.Network(posterior.widths, posterior.activation)
    with jax.enable_x64(True):
        arguments = (net, jnp.asarray(data.X_train), jnp.asarray(data.y_train))
        options: dict[str, Any] = {
            "temperature": posterior.temperature,
            "extra_fields": ("num_steps",),
        }
        mcmc = MCMC(
            NUTS(fw.models.network),
            num_warmup=method.num_warmup,
            num_samples=method.num_samples,
            num_chains=CHAINS,
            chain_method="sequential",
            progress_bar=False,
        )
        mcmc.warmup(jax.random.key(0), *arguments, **options)
        for _ in range(2):  # the first of the two compiles
            wall, cpu = time.perf_counter(), time.process_time()
            mcmc.run(mcmc.post_warmup_state.rng_key, *arguments, **options)
            sites = jax.block_until_ready(mcmc.get_samples(group_by_chain=True))
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu

        def output(values: dict[str, jax.Array]) -> jax.Array:
            features = fw.models.hidden_features(net, values, jnp.asarray(data.X_test))
            return features @ values["v"] / np.sqrt(net.widths[-1])

        f = np.asarray(jax.jit(jax.vmap(jax.vmap(output)))(sites))
        gradients = float(np.sum(mcmc.get_extra_fields()["num_steps"]))
    drawn = xr.DataArray(f, dims=("chain", "draw", "test_pattern"))
    return Run(drawn, ((drawn - data.y_test) ** 2).mean("test_pattern"), gradients, cpu, wall)


def by_rival(posterior: Posterior, rival: rivals.Rival) -> Run:
    """Sample with one of rivals.py."""
    data = load(posterior.data)
    net = fw.Network(posterior.widths, posterior.activation)
    with jax.enable_x64(True):
        target = rivals.Target.of(net, data, posterior.temperature, rival.space)
        chains = rivals.run(rival, target, CHAINS)
    drawn = xr.DataArray(chains.f, dims=("chain", "draw", "test_pattern"))
    return Run(
        drawn,
        ((drawn - data.y_test) ** 2).mean("test_pattern"),
        chains.gradients,
        chains.cpu,
        chains.wall,
        chains.warmup_gradients,
        chains.warmup_cpu,
        chains.acceptance,
    )


def measure(posterior: Posterior, method: Method | rivals.Rival) -> dict[str, float | str]:
    """Sample `posterior` with `method` and return one row of the table."""
    y_test = load(posterior.data).y_test
    began = time.perf_counter()
    if isinstance(method, rivals.Rival):
        run = by_rival(posterior, method)
    else:
        run = (by_numpyro if method.sampler == "numpyro" else by_finwidth)(posterior, method)
    whole = time.perf_counter() - began
    drawn = xr.Dataset({"error": ((run.f - y_test) ** 2).mean("test_pattern"), "f": run.f})
    ess, r_hat = az.ess(drawn), az.rhat(drawn)
    mcse = float(az.mcse(run.error.to_dataset(name="error"))["error"])
    row: dict[str, float | str] = {
        "posterior": str(posterior),
        "method": method.name,
        "error": float(run.error.mean()),
        "mcse": mcse,
        "r_hat": max(float(r_hat["error"]), float(r_hat["f"].max())),
        "cpu_seconds": run.cpu,
        "wall_seconds": run.wall,
        "whole_seconds": whole,
        "gradients": run.gradients,
        "warmup_gradients": run.warmup_gradients,
        "warmup_cpu_seconds": run.warmup_cpu,
        "acceptance": run.acceptance,
        "ess_all_in_per_cpu_second": float(ess["error"]) / (run.cpu + run.warmup_cpu),
    }
    counts = {
        "error": float(ess["error"]),
        "f": float(ess["f"].min()),
        "worth": float(drawn["error"].var()) / mcse**2,
    }
    for name, value in counts.items():
        row |= {
            f"ess_{name}": value,
            f"ess_{name}_per_cpu_second": value / run.cpu,
            f"ess_{name}_per_wall_second": value / run.wall,
            f"gradients_per_ess_{name}": run.gradients / value,
        }
    return row


def compare(
    posterior: Posterior, methods: Iterable[Method | rivals.Rival]
) -> Iterator[dict[str, float | str]]:
    """The rows of one posterior, with ratios to weight-space NUTS where that is among them."""
    rows = []
    for method in methods:
        print(f"{posterior}: {method.name}", file=sys.stderr, flush=True)
        rows.append(measure(posterior, method))
    by_name = {row["method"]: row for row in rows}
    for row in rows:
        if other := by_name.get(NUTS_NETWORK.name):
            key = "ess_all_in_per_cpu_second"
            row["ratio_all_in"] = float(row[key]) / float(other[key])
        for reference in REFERENCES:
            for name in ("error", "f", "worth"):
                key = f"ess_{name}_per_cpu_second"
                if other := by_name.get(reference.name):
                    ratio = float(row[key]) / float(other[key])
                    row[f"ratio_{reference.sampler}_{name}"] = ratio
        yield row


def table(rows: list[dict[str, float | str]]) -> Table:
    """One posterior's rows, for reading."""
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
        *(
            (f"× {reference.name}", pair(f"ratio_{reference.sampler}_{{}}", ".3g"))
            for reference in REFERENCES
        ),
    )

    def mark(row: dict[str, float | str]) -> str:
        low = min(float(row["ess_error"]), float(row["ess_f"])) < ENOUGH
        return " (low ESS)" if low else ""

    return written(rows, "error / slowest f(x) / worth", columns, mark)


def written(
    rows: list[dict[str, float | str]],
    first: str,
    columns: Iterable[tuple[str, Callable[[dict[str, Any]], str]]],
    mark: Callable[[dict[str, float | str]], str],
) -> Table:
    """A table of one posterior's rows: the method, with what `mark` says of it, and columns."""
    result = Table(title=str(rows[0]["posterior"]), title_justify="left")
    columns = list(columns)
    result.add_column(first)
    for title, _ in columns:
        result.add_column(title, justify="right")
    for row in rows:
        result.add_row(f"{row['method']}{mark(row)}", *(text(row) for _, text in columns))
    return result


def pair(key: str, form: str):
    """A function that writes a row's numbers: of the error, of f, of the error as estimated."""

    def text(row: dict[str, float | str]) -> str:
        if key.format("error") not in row:
            return ""
        names = ("error", "f", "worth")
        return " / ".join(format(float(row[key.format(name)]), form) for name in names)

    return text


def rival_table(rows: list[dict[str, float | str]]) -> Table:
    """One posterior's rows, fewest gradients per effective sample of the test error first."""
    columns = (
        ("error ± MCSE", lambda row: f"{row['error']:.4f} ± {row['mcse']:.4f}"),
        ("R-hat", lambda row: f"{row['r_hat']:.3f}"),
        ("ESS", lambda row: f"{row['ess_error']:.0f}"),
        ("acceptance", lambda row: f"{row['acceptance']:.2f}"),
        ("gradients/ESS", lambda row: f"{row['gradients_per_ess_error']:.3g}"),
        ("warm-up", lambda row: f"{row['warmup_gradients'] / row['gradients']:.2f}"),
        ("ESS/CPU s", lambda row: f"{row['ess_error_per_cpu_second']:.3g}"),
        ("all in", lambda row: f"{row['ess_all_in_per_cpu_second']:.3g}"),
        ("× NUTS", lambda row: f"{row['ratio_all_in']:.3g}" if "ratio_all_in" in row else ""),
    )

    def mark(row: dict[str, float | str]) -> str:
        return " (rough)" if float(row["ess_error"]) < ENOUGH else ""

    by_cost = sorted(rows, key=lambda row: float(row["gradients_per_ess_error"]))
    return written(by_cost, "", columns, mark)


def rival_runs(given: argparse.Namespace) -> Iterator[tuple[Posterior, list[Any]]]:
    """The posteriors and methods of `--rivals`."""
    options = tuple(
        (name, float(value)) for name, _, value in (o.partition("=") for o in given.options)
    )

    def scaled(count: int) -> int:
        return max(int(given.size * count), 20)

    ours = [
        dataclasses.replace(
            method, seed=given.seed, options=options if method.name == SPLIT_MARGINAL.name else ()
        )
        for method in OURS
    ]
    methods = [
        dataclasses.replace(
            method,
            num_warmup=method.num_warmup and scaled(method.num_warmup),
            num_samples=given.draws
            if given.draws and method in ours
            else scaled(method.num_samples),
        )
        for method in (*ours, *rivals.RIVALS)
    ]
    for posterior in RIVAL_POSTERIORS:
        chosen = [
            method
            for method in methods
            if all(text in f"{posterior}: {method.name}" for text in given.only)
            and any(text in method.name for text in given.methods or [""])
        ]
        if chosen:
            yield posterior, chosen


def main() -> None:
    """Run the benchmark and print its tables, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a few posteriors (the default)")
    size.add_argument(
        "--full",
        action="store_true",
        help="every method, each property of the posterior changed by itself; under an hour",
    )
    size.add_argument("--rivals", action="store_true", help="other samplers beside finwidth's")
    parser.add_argument("--size", type=float, default=1.0, help="of --rivals: times transitions")
    parser.add_argument("--draws", type=int, help="of --rivals: draws a chain of finwidth's own")
    parser.add_argument(
        "--only", nargs="*", default=[], help="of --rivals: texts that 'posterior: method' holds"
    )
    parser.add_argument(
        "--methods", nargs="*", default=[], help="of --rivals: texts of which a method holds one"
    )
    parser.add_argument("--seed", type=int, default=0, help="of --rivals: of finwidth's chains")
    parser.add_argument(
        "--options", nargs="*", default=[], help="of --rivals: of SplitHMC, as NAME=NUMBER"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 225)
    everything = []
    runs: Iterable[tuple[Posterior, Iterable[Any]]] = FULL if arguments.full else QUICK
    if arguments.rivals:
        runs = rival_runs(arguments)
    for posterior, methods in runs:
        rows = list(compare(posterior, methods))
        everything += rows
        if not arguments.json:
            console.print((rival_table if arguments.rivals else table)(rows))
    if arguments.json:
        print(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
