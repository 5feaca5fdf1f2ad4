"""Numbers that a change of structure must keep: all theories, depths, mixtures and seeded draws.

    python tests/recorded.py          compare with recorded.json, print what differs
    python tests/recorded.py --write  record anew, after a change that is meant to change a number

Theory agrees to 1e-12 relative on any machine. Draws agree bit for bit where processor and JAX are
those of the recording; elsewhere rounding differs, and the first draws agree to 1e-6.
"""

import json
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import settings  # noqa: F401 - before JAX or NumPy start

import jax  # isort: skip
import numpy as np

import finwidth as fw

FILE = Path(__file__).with_suffix(".json")

RNG = np.random.default_rng(101)
X, Y = RNG.normal(size=(12, 5)), RNG.normal(size=12)
X_TEST, Y_TEST = RNG.normal(size=(4, 5)), RNG.normal(size=4)
T = 0.2

Numbers = dict[str, float]


def machine() -> dict[str, str]:
    """Describe what the last bits of a draw depend on."""
    try:
        # the name alone can be that of several generations, with instructions of their own
        lines = [line.split(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
        first = {pair[0].strip(): pair[1].strip() for pair in reversed(lines) if len(pair) == 2}
        wanted = ("model name", "cpu family", "model", "stepping")
        processor = ", ".join(first[name] for name in wanted)
    except (OSError, KeyError):
        processor = platform.processor()
    return {"processor": processor, "jax": jax.__version__}


def network(activation: str, *widths: int, biased: bool = False) -> fw.Network:
    precisions = tuple(1.0 + 0.1 * layer for layer in range(len(widths) + 1))
    return fw.Network(widths, activation, precisions, 2.0 if biased else None)


def of_solution(solution: Any) -> Numbers:
    prediction = solution.predict(X_TEST)
    error = solution.generalization_error(X_TEST, Y_TEST)
    order = [float(np.sum(value)) for value in solution.order_parameters.data_vars.values()]
    numbers = {
        "order": float(np.sum(order)),
        "mean": float(prediction.mean[0]),
        "error": float(error.error),
    }
    action = float(solution.action)
    return numbers if np.isnan(action) else numbers | {"action": action}  # "cavity" has none


def solved(theory: str, net: fw.Network, temperature: float = T) -> Callable[[], Numbers]:
    return lambda: of_solution(fw.solve(net, X, Y, temperature=temperature, theory=theory))


def mixed(theory: str, net: fw.Network) -> Callable[[], Numbers]:
    def numbers() -> Numbers:
        mixture = fw.mixture(net, X, Y, temperature=T, theory=theory)
        error = mixture.generalization_error(X_TEST, Y_TEST)
        return {"log_evidence": float(mixture.log_evidence), "error": float(error.error)}

    return numbers


def beyond() -> Numbers:
    net = network("erf", 6, 6)
    solution = fw.solve(net, X, Y, temperature=T)
    process = fw.student_t_process(net, X, Y, temperature=T, degrees_of_freedom=5.0)
    grid = fw.solve_many(
        net, X, Y, widths=[4, 9], temperature=[0.1, 0.3], X_test=X_TEST, y_test=Y_TEST
    )
    return {
        "student_t_process": float(np.sum(process.predict(X_TEST).mean)),
        "solve_many": float(grid["error"].sum()),
        "nngp_kernel": float(np.sum(fw.nngp_kernel(net, X, X_TEST))),
        "criterion": float(solution.criterion),
    }


def drawn(model: str, sampler: str, activation: str = "erf") -> Callable[[], Numbers]:
    def numbers() -> Numbers:
        tree = fw.sample(
            network(activation, 3, biased=True), X, Y, temperature=T, X_test=X_TEST, y_test=Y_TEST,
            model=model, sampler=sampler, num_warmup=6, num_samples=2, num_chains=1, seed=7,
            progress=False,
        )  # fmt: skip
        return {
            "lp": float(tree["sample_stats"]["lp"][0, -1]),
            "f": float(tree["predictions"]["f"][0, -1, 0]),
        }

    return numbers


def recipes() -> Iterator[tuple[str, Callable[[], Numbers], bool]]:
    """Give (name, what computes its numbers, whether it is slow)."""
    for activation in ("erf", "relu", "tanh", "identity"):
        for widths in ((7,), (7, 5), (7, 5, 6)):
            for theory in ("nested", "wishart"):
                name = f"{theory} {activation} {widths}"
                slow = len(widths) == 3 or (activation == "tanh" and len(widths) > 1)
                yield name, solved(theory, network(activation, *widths)), slow
    yield "nested relu biased", solved("nested", network("relu", 7, biased=True)), False
    yield "nested erf T=0", solved("nested", network("erf", 7), 0.0), False
    yield "infinite relu (7, 5)", solved("infinite", network("relu", 7, 5)), False
    for theory in ("adaptive", "corrected", "perturbative"):
        yield f"{theory} erf", solved(theory, network("erf", 7)), theory == "perturbative"
    yield "adaptive relu", solved("adaptive", network("relu", 7)), True
    yield "cavity erf", solved("cavity", network("erf", 60)), True
    yield "mixture erf (7,)", mixed("nested", network("erf", 7)), False
    yield "mixture relu (7,)", mixed("nested", network("relu", 7)), True
    yield "mixture identity (5, 4)", mixed("nested", network("identity", 5, 4)), False
    yield "mixture wishart erf (5, 4)", mixed("wishart", network("erf", 5, 4)), True
    yield "beyond", beyond, False
    for model in ("marginal", "network", "student_t"):
        for sampler in ("split_hmc", "nuts", "hmc", "langevin"):
            if (model, sampler) != ("student_t", "split_hmc"):
                quick = (model, sampler) == ("marginal", "split_hmc")
                yield f"draws {model} {sampler}", drawn(model, sampler), not quick


def main() -> None:
    found = {name: compute() for name, compute, _ in recipes()}
    if "--write" in sys.argv:
        FILE.write_text(json.dumps({"machine": machine(), "numbers": found}, indent=1) + "\n")
        print(f"{sum(map(len, found.values()))} numbers in {FILE.name}")
        return
    recorded = json.loads(FILE.read_text())
    for name, numbers in found.items():
        for key, value in numbers.items():
            old = recorded["numbers"].get(name, {}).get(key, float("nan"))
            if not (value == old or abs(value - old) <= 1e-12 * abs(old)):
                print(f"{name}, {key}: recorded {old!r}, now {value!r}")


if __name__ == "__main__":
    main()
