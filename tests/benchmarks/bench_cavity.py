"""theory="cavity" beside exact sampling: test errors, error bars, and CPU seconds for the same bar.

Each posterior is solved with the default settings, then sampled by SplitHMC until its standard
error is that of the theory's points. Times are CPU seconds of one thread, compilation and warm-up
included, but for the checks that any first call pays; "of sampling" is their ratio.

    python tests/benchmarks/bench_cavity.py [--quick | --full] [--no-sampling]

`--posterior` takes others: random labels of 120 patterns, N_1 = 120, T = 0.1, erf are

    python tests/benchmarks/bench_cavity.py --posterior "random 120,120,0.1,erf"

With `--end` the branch of ReLU layers on the digits is followed towards its end: q̄ = tr S/tr K is
given, the width is what is solved for, on points that stay the same at the end. Where the width
no longer falls as q̄ grows, the branch has a fold. With 1024 points a node, then with 4096. Those of
random labels are followed in width, on points that are moved anew at each, with the largest
eigenvalue λ of ∂G/∂S, S = G(S) being the equation: where it reaches 1 the branch has a fold, before
which (1 − λ)² falls in proportion to what is left of the width.

    python tests/benchmarks/bench_cavity.py --end
"""

import argparse
import functools
import math
import os
import time
from typing import Any

# before NumPy and JAX start: one thread per linear-algebra call
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from scipy.sparse.linalg import LinearOperator, eigs  # noqa: E402

import finwidth as fw  # noqa: E402
from finwidth._numerics.precision import float64  # noqa: E402
from finwidth.theories.cavity import Cavity, CavitySolution  # noqa: E402
from finwidth.theories.cavity._law import Law, at, settle, whiten  # noqa: E402
from finwidth.theories.cavity._moves import Sample  # noqa: E402
from finwidth.theories.cavity._points import Cloud, Given, draw, normals  # noqa: E402
from finwidth.theories.cavity._values import activate  # noqa: E402

QUICK = [("digits", 50, 0.01, "erf")]
FULL = [
    *(("digits", width, 0.01, "erf") for width in (20, 50, 200)),
    *(("digits", width, 0.01, "relu") for width in (20, 50, 200)),
    *((name, width, 0.1, "erf") for name in ("random", "random 120") for width in (20, 50, 200)),
]


def load(name: str) -> fw.Dataset:
    """The digits 0 and 1 (P = 100), or random labels (N_0 = 50, P = 60 or 120)."""
    if name == "digits":
        return fw.load_dataset("digits", n_train=100, n_test=100)
    return fw.load_dataset("random", n_inputs=50, n_train=120 if "120" in name else 60, n_test=100)


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


def with_q_bar(
    given: Given, cloud: Cloud, start: tuple[np.ndarray, np.ndarray, float], q_bar: float
) -> tuple[np.ndarray, np.ndarray, float, Law] | None:
    """Fixed point with tr S = q̄ tr K: S, a, the width's logarithm, the law."""
    moments, dual, log_width = start
    history: list[tuple] = []
    last = None
    for _ in range(60):
        lower = np.linalg.cholesky(given.noise + moments)
        law = at(given, cloud, float(np.exp(log_width)), lower, dual)
        dual = law.dual
        excess = float(np.trace(law.moments) / np.trace(given.kernel) - q_bar)
        residual = law.moments - moments
        white = np.append(whiten(lower, residual).ravel(), 10 * excess)
        if np.linalg.norm(white) < 1e-4:
            return moments, dual, log_width, law
        if last is not None:
            now = (moments, residual, log_width, excess)
            history = [*history, tuple(x - y for x, y in zip(now, last, strict=True))][-8:]
        last = (moments, residual, log_width, excess)
        step, longer = residual, excess  # a wider layer has a smaller q̄
        if history:
            changes = [np.append(whiten(lower, h[1]).ravel(), 10 * h[3]) for h in history]
            gamma = np.linalg.lstsq(np.stack(changes, axis=1), white, rcond=1e-10)[0]
            for g, (ds, dr, dw, de) in zip(gamma, history, strict=True):
                step, longer = step - g * (ds + dr), longer - g * (dw + de)
        spectrum = np.linalg.eigvalsh(whiten(lower, step))
        cut = max(1.0, spectrum[0] / -0.6, spectrum[-1] / 1.5, abs(longer) / 0.3)
        if cut > 1:
            history, last = [], None
        moments, log_width = moments + step / cut, log_width + longer / cut
    return None


def slope(
    given: Given, cloud: Cloud, width: float, moments: np.ndarray, dual: np.ndarray
) -> tuple[float, float]:
    """Largest eigenvalue of ∂G/∂S at a fixed point, and how much of its mode is one direction."""
    lower, upper = np.linalg.cholesky(given.noise + moments), np.triu_indices(dual.size)
    scale = np.where(upper[0] == upper[1], 1.0, np.sqrt(2.0))
    step = 1e-4

    def matrix(x: np.ndarray) -> np.ndarray:
        half = np.zeros_like(moments)
        half[upper] = x / scale
        return half + np.triu(half, 1).T

    def moved(x: np.ndarray) -> np.ndarray:
        changed = np.linalg.cholesky(given.noise + moments + lower @ matrix(x) @ lower.T)
        return at(given, cloud, width, changed, dual, decrement=1e-16).moments

    def derivative(x: np.ndarray) -> np.ndarray:
        change = (moved(step * x) - moved(-step * x)) / (2 * step)
        return whiten(lower, change)[upper] * scale

    operator = LinearOperator((scale.size, scale.size), matvec=derivative, dtype=float)  # type: ignore
    first = np.random.default_rng(0).standard_normal(scale.size)
    values, modes = eigs(operator, k=3, which="LM", ncv=16, tol=1e-2, v0=first)
    top = int(np.argmax(values.real))
    own = np.linalg.eigvalsh(matrix(modes[:, top].real))
    return float(values[top].real), float(np.max(own**2) / np.sum(own**2))


def towards_the_fold(console: Console, name: str, first: int, factor: float) -> None:
    """Print λ against the width on the branch of random labels, from `first` down."""
    data, net = load(name), fw.Network((first,), "erf")
    theory = Cavity(points=1024, progress=False)
    solution = fw.solve(net, data.X_train, data.y_train, temperature=0.1, theory=theory)
    assert isinstance(solution, CavitySolution)
    one, given = solution.fit.replicates[0], solution.given
    assert one.points is not None
    state, width, call = (one.law.moments, one.law.dual), float(first), 0
    table = Table(title=f"{name}, erf, T = 0.1: the largest eigenvalue of ∂G/∂S")
    for title in ("N", "q_bar", "effective points of E(t²)", "λ", "(1 − λ)²", "one direction"):
        table.add_column(title, justify="right")
    with float64():
        phi = given.scale * activate(net.activation, one.points @ given.features.T)
        missed = np.zeros_like(given.kernel)  # of the first points, which are only drawn from
        sample = Sample(one.points, Cloud(phi, np.log(one.prior), missed, float(one.share)))
        while True:
            for _ in range(2):  # the points follow the fixed point
                call += 1
                sample = sample.carried(
                    given,
                    net.activation,
                    (width, *state),
                    float(one.share),
                    groups=1,
                    count=4096 * solution.fit.nodes.v.size,
                    seed=(9, call),
                )
                law, residual, _ = settle(
                    given, sample.cloud, width, *state, tolerance=1e-3, most=60
                )
                if residual > 1e-3:
                    break
                state = law.moments, law.dual
            if residual > 1e-3:
                console.print(f"N = {width:.2f}: no fixed point ({residual:.1g})")
                break
            largest, share = slope(given, sample.cloud, width, *state)
            table.add_row(
                f"{width:.2f}",
                f"{np.trace(law.moments) / np.trace(given.kernel):.3f}",
                f"{law.effective:.0f}",
                f"{largest:.3f}",
                f"{(1 - largest) ** 2:.3f}",
                f"{share:.0%}",
            )
            width *= factor
    console.print(table)


def branch_end(console: Console) -> None:
    """Print the width against q̄ towards the end of the branch of ReLU layers on the digits."""
    data = load("digits")
    net, theory = fw.Network((80,), "relu"), Cavity(points=256, progress=False)
    solution = fw.solve(net, data.X_train, data.y_train, temperature=0.01, theory=theory)
    assert isinstance(solution, CavitySolution)
    given, law = solution.given, solution.fit.replicates[0].law
    share = solution.fit.replicates[0].share
    function = functools.partial(activate, net.activation)
    table = Table(title="digits, relu, T = 0.01: width at which q̄ is reached")
    for name in ("points a node", "q_bar", "N", "effective points of E(t²)", "largest share", "λ"):
        table.add_column(name, justify="right")
    with float64():
        for points, seed in ((1024, 1), (4096, 2)):
            nodes, state = solution.fit.nodes, (law.moments, law.dual, float(np.log(80)))
            before: Any = None
            for q_bar in (1.1, 1.15, 1.2, 1.25, 1.3, 1.35, 1.4, 1.45):
                if q_bar <= 1.25:  # from there on the points stay, so that the width is smooth
                    lower = np.linalg.cholesky(given.noise + state[0])
                    root = np.exp(state[2] / 2)
                    for _ in range(3):
                        nodes = nodes.fitted(given, function, state[1] / root, root * lower)
                    base = normals(nodes.mean.shape, points, (seed,))
                    cloud = draw(given, function, nodes, base, share)
                    before = None
                start = state
                if before is not None:
                    start = tuple(2 * x - y for x, y in zip(state, before, strict=True))
                found = with_q_bar(given, cloud, start, q_bar)
                if found is None:
                    console.print(f"q_bar = {q_bar}: not found with {points} points a node")
                    break
                before, state = state, found[:3]
                largest, _ = slope(given, cloud, float(np.exp(state[2])), *state[:2])
                table.add_row(
                    str(points),
                    f"{q_bar:.2f}",
                    f"{np.exp(state[2]):.2f}",
                    f"{found[3].effective:.0f}",
                    f"{np.max(found[3].shares):.1%}",
                    f"{largest:.2f}",
                )
    console.print(table)


def posterior(text: str) -> tuple[str, int, float, str]:
    """Read a posterior of the command line."""
    name, width, temperature, activation = text.split(",")
    return name, int(width), float(temperature), activation


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="one posterior (the default)")
    size.add_argument("--full", action="store_true", help="twelve posteriors; half an hour")
    size.add_argument("--posterior", nargs="+", type=posterior, metavar="DATA,WIDTH,T,ACTIVATION")
    size.add_argument("--end", action="store_true", help="how branches end")
    parser.add_argument("--no-sampling", action="store_true", help="the theory alone")
    arguments = parser.parse_args()
    table = Table(title="theory='cavity' and SplitHMC to the same standard error")
    table.add_column("posterior")
    for name in ("cavity", "CPU s", "exact", "CPU s", "of sampling"):
        table.add_column(name, justify="right")
    console = Console(width=120)
    if arguments.end:
        branch_end(console)
        towards_the_fold(console, "random", 38, 0.98)
        towards_the_fold(console, "random 120", 140, 0.97)
        return
    chosen = arguments.posterior or (FULL if arguments.full else QUICK)
    for name, width, temperature, activation in chosen:
        data, net = load(name), fw.Network((width,), activation)
        # checks and imports of a first call, which whatever comes first would pay for all
        first = fw.solve(
            net, data.X_train, data.y_train, temperature=temperature, theory="infinite"
        )
        first.generalization_error(data.X_test, data.y_test)
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
