"""What is done at a point: a theory is solved, or the posterior sampled until it is good enough.

Functions of a point and of plain settings, whose numbers do not depend on what else a process does,
so that they can run anywhere and in any order.
"""

import dataclasses
import json
import math
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from .._basics.blas import blas_threads
from .._basics.cache import Cache
from .._basics.errors import AccuracyWarning, ConvergenceError, InputError
from .._basics.files import atomic_path, lock
from .._numerics.precision import float64
from .._observables._observable import observables
from .._problem.problem import Problem, make_problem
from .._results.scores import quantities_of, read_test_run
from .._sampling.sample import sample
from ..datasets import Dataset
from ..theories._saddle.fluctuations import fluctuations
from ..theories._theory import choose_theory, solve_problem
from .keys import data_digest
from .point import BEYOND, R_HAT_LIMIT, Effort, Point

__all__ = ["Task", "failed", "forget", "sample_point", "solve_point", "work", "work_on"]

_CHAINS = 4
_WAIT = 60.0  # seconds for a checkpoint that another process holds, which may be about to end

_problems = Cache(2)  # a kernel and its reduction each, for the points that share it


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """Points that are worked at one after the other, in one process: all of one data set.

    Parameters
    ----------
    points
        The points; all are solved, or all are sampled.
    numbers
        Their numbers in the sweep.
    effort
        How well they are sampled.
    checkpoints
        Folders of the runs' checkpoints, None where nothing is kept.
    """

    points: tuple[Point, ...]
    numbers: tuple[int, ...]
    effort: Effort
    checkpoints: tuple[Path | None, ...]

    @property
    def sampled(self) -> bool:
        """Whether the points are sampled, not solved."""
        return self.points[0].sampled

    def part(self, start: int, stop: int | None = None) -> "Task":
        """Return some of the points."""
        cut = slice(start, stop)
        points, numbers, checkpoints = self.points[cut], self.numbers[cut], self.checkpoints[cut]
        return Task(points, numbers, self.effort, checkpoints)

    @property
    def cases(self) -> list[tuple[Any, ...]]:
        """The points without their data set, to be sent without it."""
        fields = [field.name for field in dataclasses.fields(Point) if field.name != "data"]
        return [tuple(getattr(point, name) for name in fields) for point in self.points]


def work(task: Task, seconds: float) -> list[dict[str, Any]]:
    """Work at a task's points for about some seconds; return the results of the first ones."""
    found: list[dict[str, Any]] = []
    end = time.monotonic() + seconds
    with blas_threads(1):
        for point, checkpoint in zip(task.points, task.checkpoints, strict=True):
            if point.sampled:
                found.append(sample_point(point, task.effort, checkpoint))
            else:
                found.append(solve_point(point))
            if time.monotonic() > end:
                break
    return found


def work_on(
    data: Dataset,
    cases: list[tuple[Any, ...]],
    effort: Effort,
    checkpoints: tuple[Path | None, ...],
    seconds: float,
) -> list[dict[str, Any]]:
    """Do what `work` does, for a task that came without its data set."""
    points = tuple(Point(data, *case) for case in cases)
    return work(Task(points, tuple(range(len(points))), effort, checkpoints), seconds)


def forget() -> None:
    """Free the kernels that are kept for further points."""
    _problems.clear()


class _Clock:
    """Time since it was made: by the wall, and of all cores that this process used."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        wall, used = self._start
        return {
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - used,
        }


def failed(error: BaseException, **more: Any) -> dict[str, Any]:
    """Return the result of a point at which something went wrong."""
    text = " ".join(str(error).split())
    expected = isinstance(error, InputError | ConvergenceError)
    reason = text if expected and text else f"{type(error).__name__}: {text}"
    return {"state": "failed", "reason": reason, "seconds": math.nan} | more


def solve_point(point: Point) -> dict[str, Any]:
    """Solve a theory at a point.

    Returns
    -------
    dict
        Every score that is defined; action, log_evidence and residual; state, "solved", "not
        defined", "not converged" or "failed"; reason, the error's message; warnings; seconds
        and cpu_seconds.
        Points that differ in widths, temperature and readout precision alone share a kernel, and
        each has the numbers, bit for bit, that it has by itself.
    """
    clock = _Clock()
    state, reason = "solved", ""
    values: dict[str, Any] = {}
    with float64(), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            values = _solve(point)
        except InputError as error:
            state, reason = "not defined", str(error)
        except ConvergenceError as error:
            state, reason = "not converged", str(error)
        except Exception as error:  # of whatever a plugin's code, or the machine, gives
            values = failed(error)
            state, reason = values["state"], values["reason"]
    return values | {
        "state": state,
        "reason": reason,
        "warnings": _said(said),
        **clock.read(),
    }


def _said(said: list[warnings.WarningMessage]) -> list[str]:
    texts = [str(one.message) for one in said if issubclass(one.category, AccuracyWarning)]
    return list(dict.fromkeys(texts))


def _solve(point: Point) -> dict[str, Any]:
    data, beyond = point.data, isinstance(point.theory, str) and point.theory in BEYOND
    theory = choose_theory("nested" if beyond else point.theory)
    solution = solve_problem(_problem(point), theory)
    if beyond:
        result = fluctuations(solution, data.X_test, data.y_test)
        scores = {name: result[name].mean() for name in ("error", "bias2", "variance")}
        return {name: float(value) for name, value in scores.items()}
    found = solution.scores(data.X_test, data.y_test)
    values = {str(name): float(value) for name, value in found.items()}
    for name in ("action", "log_evidence", "residual"):
        values[name] = float(getattr(solution, name))
    return values


def _problem(point: Point) -> Problem:
    """Return the problem of a point, which shares its kernel with others of this process."""
    data, net = point.data, point.network

    def make() -> Problem:
        return make_problem(
            net, data.X_train, data.y_train, point.temperature, likelihood=point.likelihood
        )

    record = point.likelihood.record()
    told = all(one.digest is not None for one in net.activations)
    if not net.dense or not told or record is None:
        return make()
    kernel = net.replace(
        widths=(1,) * net.depth, weight_precision=(*net.weight_precision[:-1], 1.0)
    )
    key = (data_digest(data), kernel, tuple(record.items()), point.temperature == 0)
    shared = _problems.get(key, make)
    return shared.vary(net.widths, point.temperature, net.weight_precision[-1])


def sample_point(point: Point, effort: Effort, checkpoint: Path | None) -> dict[str, Any]:
    """Sample the exact posterior of a point until R-hat and MCSE are as wanted.

    The targets of `finwidth.sample` concern the test error; the slowest f(x_test) may take longer
    to mix. So the run is continued, from its checkpoint, until the largest R-hat of all is small
    enough, too, or `max_draws` are spent.

    Returns
    -------
    dict
        Every score that is defined, each with …_mcse; r_hat, the largest over f(x_test) and what
        is averaged over draws; ess, the smallest bulk ESS of these; n_draws, n_chains,
        divergences, state ("sampled", or "failed"), reason, warnings, seconds and
        cpu_seconds, of the last part of a run that was stopped.
    """
    clock = _Clock()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)  # said below, for the whole point
        try:
            values = _sample(point, effort, checkpoint)
        except Exception as error:
            values = failed(error)
    told = [values["reason"]] if values["state"] == "sampled" and values["reason"] else []
    return values | {"warnings": told, **clock.read()}


def _sample(point: Point, effort: Effort, checkpoint: Path | None) -> dict[str, Any]:
    if checkpoint is None or not checkpoint.parent.is_dir():  # of another machine
        with tempfile.TemporaryDirectory() as folder:
            return _sample(point, effort, Path(folder) / "run")
    _wait_for(checkpoint)
    data, stage = point.data, checkpoint / "stage.json"
    target_mcse, target_ess = None, effort.target_ess
    if stage.exists():  # of a sweep that was killed, which goes on with what it was after
        target_mcse, target_ess = json.loads(stage.read_text("utf-8"))
    while True:
        tree = sample(
            point.network,
            data.X_train,
            data.y_train,
            temperature=point.temperature,
            X_test=data.X_test,
            y_test=data.y_test,
            model="marginal" if point.likelihood.conjugate else "network",
            likelihood=point.likelihood,
            num_samples=effort.max_draws,
            num_chains=_CHAINS,
            seed=0 if point.seed is None else point.seed,
            keep=("v",),
            target_mcse=target_mcse,
            target_ess=target_ess,
            checkpoint=checkpoint,
            data_name=data.name,
            progress=False,
        )
        values, ess = _summary(tree)
        watched = "error" if "error" in values else "log_loss"  # of classes with an output each
        value, mcse, r_hat = values[watched], values[f"{watched}_mcse"], values["r_hat"]
        wanted = effort.relative_mcse * abs(value)
        good = mcse <= wanted and r_hat <= R_HAT_LIMIT
        if good or values["n_draws"] >= effort.max_draws:
            break
        target_mcse = wanted if mcse > wanted else None
        if not r_hat <= R_HAT_LIMIT:
            target_ess = 1.5 * max(target_ess, ess)
        with atomic_path(stage) as temporary:
            temporary.write_text(json.dumps([target_mcse, target_ess]), "utf-8")
    reason = ""
    if not good:
        reason = (
            f"expected R-hat ≤ {R_HAT_LIMIT:g} and a relative MCSE ≤ {effort.relative_mcse:g} at "
            f"{point}, got {r_hat:.4f} and {mcse / abs(value):.2g} after {effort.max_draws} draws "
            "per chain"
        )
    return values | {"state": "sampled", "reason": reason}


def _wait_for(checkpoint: Path) -> None:
    """Wait until no other process writes a checkpoint: one of a sweep that was killed may still."""
    end = time.monotonic() + _WAIT
    while checkpoint.is_dir() and time.monotonic() < end:
        held = lock(checkpoint / "lock")
        if held is not None:
            held.release()
            return
        time.sleep(0.5)


def _summary(tree: Any) -> tuple[dict[str, Any], float]:
    """Return what draws say of every score and of the chains, and the ESS of the error alone."""
    run = read_test_run(tree)
    sampled, series = quantities_of(run, observables(run.y_test))
    watched = [i for i, one in enumerate(sampled.values()) if one.watched]
    patterns = run.draws.patterns
    r_hat = np.append(patterns.r_hat, series.r_hat[watched])
    ess = np.append(patterns.ess_bulk, series.ess_bulk[watched])
    values: dict[str, Any] = {}
    for name, mean, mcse in zip(sampled, series.mean, series.mcse, strict=True):
        values |= {name: float(mean), f"{name}_mcse": float(mcse)}
    stats = tree["sample_stats"]
    n_chains, n_draws = run.draws.mean.shape[:2]
    more = {
        "r_hat": _largest(r_hat),
        "ess": -_largest(-ess),
        "n_draws": n_draws,
        "n_chains": n_chains,
        "divergences": int(stats["diverging"].values.sum()) if "diverging" in stats else -1,
    }
    return values | more, float(series.ess_bulk[0])


def _largest(values: np.ndarray) -> float:
    """Return the largest number, NaN if there is none."""
    known = values[~np.isnan(values)]
    return float(known.max()) if known.size else math.nan
