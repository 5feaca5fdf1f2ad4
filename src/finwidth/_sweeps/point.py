"""One point of an error map: exact sampling until it is good enough, and one theory at a time.

Both are functions of a point and of plain settings, independent of all other points, so that
they can run anywhere and in any order.
"""

import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .._basics.checks import (
    check_count,
    check_iterable,
    check_number,
    check_seed,
    check_temperature,
)
from .._basics.errors import AccuracyWarning, ConvergenceError, InputError, PluginError, warn
from .._observables.accuracy import QUANTITIES as ACCURACIES
from .._observables.squared_error import QUANTITIES as ERRORS
from .._problem.network import Network, check_network
from .._results.compare import compare
from .._results.provenance import plain
from .._sampling.sample import sample
from .._solve import solve
from ..datasets import Dataset
from ..theories import Theory
from ..theories._saddle.fluctuations import fluctuations
from ..theories._theory import SHELF, choose_theory

__all__ = [
    "QUANTITIES",
    "R_HAT_LIMIT",
    "Effort",
    "MapPoint",
    "check_theories",
    "default_theories",
    "sample_point",
    "solve_point",
    "theory_name",
    "theory_record",
]

QUANTITIES = (*ERRORS, *ACCURACIES)  # what a map holds of every point; accuracies of classes
R_HAT_LIMIT = 1.01
_CHAINS = 4


@dataclasses.dataclass(frozen=True, eq=False)
class MapPoint:
    """One problem of an error map: a data set, a network, a temperature.

    Parameters
    ----------
    data
        Training and test set, as `finwidth.load_dataset` gives it or made by hand.
    network
        The network.
    temperature
        T > 0.

    Raises
    ------
    InputError
        If an argument is not as described.
    """

    data: Dataset
    network: Network
    temperature: float

    def __post_init__(self) -> None:
        if not isinstance(self.data, Dataset):
            raise InputError(f"expected data = a finwidth.Dataset, got {type(self.data).__name__}")
        check_network(self.network)
        checked = check_temperature(self.temperature, zero=False)
        object.__setattr__(self, "temperature", checked)

    def __str__(self) -> str:
        net = self.network
        widths = "-".join(str(width) for width in net.widths)
        return f"{self.data.name} {net.activation.name} N={widths} T={self.temperature:g}"


@dataclasses.dataclass(frozen=True)
class Effort:
    """How well a point is sampled.

    Parameters
    ----------
    relative_mcse
        Wanted Monte Carlo standard error of the test error, relative to it.
    target_ess
        Effective draws of the test error that are asked for first.
    max_draws
        Most draws per chain.
    seed
        Seed of the sampler.
    """

    relative_mcse: float = 0.01
    target_ess: float = 1000.0
    max_draws: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        checked = {
            "relative_mcse": check_number("relative_mcse", self.relative_mcse, 0.0),
            "target_ess": check_number("target_ess", self.target_ess, 0.0),
            "max_draws": check_count("max_draws", self.max_draws),
            "seed": check_seed(self.seed),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def sample_point(
    point: MapPoint, effort: Effort, checkpoint: Path, progress: bool
) -> dict[str, float]:
    """Sample the exact posterior of a point until R-hat and MCSE are as wanted.

    The targets of `finwidth.sample` concern the test error; the slowest f(x_test) may take longer
    to mix. So the run is continued, from its checkpoint, until the largest R-hat of all is small
    enough, too, or `max_draws` are spent.

    Returns
    -------
    dict
        error, bias2, variance and, where labels are classes, accuracy and accuracy_mean, each with
        …_mcse; r_hat, the largest over f(x_test), error, variance and accuracy; ess, the smallest
        bulk ESS of these; n_draws, n_chains, divergences, seconds.

    Warns
    -----
    AccuracyWarning
        If `max_draws` do not suffice; the numbers are returned all the same.
    """
    data, start = point.data, time.perf_counter()
    # any solution will do: of the comparison only what it says of the chains is used
    solution = solve(
        point.network,
        data.X_train,
        data.y_train,
        temperature=point.temperature,
        theory="infinite",
    )
    target_mcse, target_ess = None, effort.target_ess
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AccuracyWarning)  # said below, for the whole point
            tree = sample(
                point.network,
                data.X_train,
                data.y_train,
                temperature=point.temperature,
                X_test=data.X_test,
                y_test=data.y_test,
                num_samples=effort.max_draws,
                num_chains=_CHAINS,
                seed=effort.seed,
                keep=("v",),
                target_mcse=target_mcse,
                target_ess=target_ess,
                checkpoint=checkpoint,
                data_name=data.name,
                progress=progress,
            )
        report = compare(solution, tree)
        error, mcse = (float(report[name].sel(quantity="error")) for name in ("exact", "mcse"))
        r_hat = report.r_hat_max.item()
        wanted = effort.relative_mcse * abs(error)
        good = mcse <= wanted and r_hat <= R_HAT_LIMIT
        if good or report.n_draws.item() >= effort.max_draws:
            break
        target_mcse = wanted if mcse > wanted else None
        if not r_hat <= R_HAT_LIMIT:
            target_ess = 1.5 * max(target_ess, report.ess_bulk_error.item())
    if not good:
        warn(
            f"expected R-hat ≤ {R_HAT_LIMIT:g} and a relative MCSE ≤ {effort.relative_mcse:g} at "
            f"{point}, got {r_hat:.4f} and {mcse / abs(error):.2g} after {effort.max_draws} draws "
            "per chain"
        )
    values = {}
    for name in QUANTITIES:
        if name in report["quantity"].values:
            one = report.sel(quantity=name)
            values |= {name: float(one.exact), f"{name}_mcse": float(one.mcse)}
    return values | {
        "r_hat": r_hat,
        "ess": report.ess_bulk_min.item(),
        "n_draws": report.n_draws.item(),
        "n_chains": report.n_chains.item(),
        "divergences": report.divergences.item(),
        "seconds": time.perf_counter() - start,
    }


def _fluctuations(point: MapPoint) -> Any:
    data = point.data
    solution = solve(point.network, data.X_train, data.y_train, temperature=point.temperature)
    result = fluctuations(solution, data.X_test, data.y_test)
    return {
        "error": result["error"],
        "bias2": result["bias2"],
        "variance": result["variance"].mean(),
    }


# What is no theory but is asked in a map like one: it has moments, and errors to the next order,
# but no law of f that both belong to.
_BEYOND: dict[str, Callable[[MapPoint], Any]] = {"fluctuations": _fluctuations}


def default_theories() -> tuple[str, ...]:
    """Return all theories but the slow ones, then what goes beyond a saddle point."""
    return (*(name for name, theory in SHELF.items().items() if not theory.slow), *_BEYOND)


def theory_name(theory: str | Theory) -> str:
    """Return the name of a theory."""
    return theory.name if isinstance(theory, Theory) else theory


def theory_record(theory: str | Theory) -> dict[str, Any] | None:
    """Return what a theory's numbers depend on besides the problem (see `Theory.record`)."""
    if isinstance(theory, str) and theory in _BEYOND:
        return {"function": theory}
    record = choose_theory(theory).record()
    if record is None:
        return None
    if not isinstance(record, Mapping):
        raise PluginError(
            f"expected record() of theory {theory_name(theory)!r} = a dict of JSON types or None, "
            f"got {record!r}"
        )
    return plain(f"record() of theory {theory_name(theory)!r}", record)


def check_theories(theories: Any) -> tuple[str | Theory, ...]:
    """Return the theories of a map, or raise InputError."""
    if theories is None:
        return default_theories()
    chosen = check_iterable("theories", theories, "a sequence of names or theories")
    for one in chosen:
        if not (isinstance(one, str) and one in _BEYOND):
            theory_record(one)
    names = [theory_name(one) for one in chosen]
    if not names or len(set(names)) < len(names):
        raise InputError(f"expected theories = different names, at least one, got {names}")
    return chosen


def solve_point(point: MapPoint, theory: str | Theory) -> dict[str, Any]:
    """Solve a theory at a point.

    Returns
    -------
    dict
        error, bias2, variance, accuracy, accuracy_mean (None where there is no solution, or the
        labels are no classes); state, "solved", "not defined"
        or "not converged"; reason, the error's message; seconds.
    """
    data, start = point.data, time.perf_counter()
    state, reason = "solved", ""
    values: dict[str, Any] = dict.fromkeys(QUANTITIES)
    try:
        if isinstance(theory, str) and theory in _BEYOND:
            errors = _BEYOND[theory](point)
        else:
            solution = solve(
                point.network,
                data.X_train,
                data.y_train,
                temperature=point.temperature,
                theory=theory,
            )
            errors = solution.scores(data.X_test, data.y_test)
        values |= {name: float(errors[name]) for name in QUANTITIES if name in errors}
    except InputError as error:
        state, reason = "not defined", str(error)
    except ConvergenceError as error:
        state, reason = "not converged", str(error)
    return values | {"state": state, "reason": reason, "seconds": time.perf_counter() - start}
