"""The noise that the theory finds most likely: T, and λ_L too, by maximising the evidence."""

import dataclasses
import math
from typing import Any

import numpy as np
import scipy.optimize
import xarray as xr

from .._basics.errors import InputError, nothing_said, warn
from .._problem.problem import Problem
from ._solution import Solution
from ._theory import Theory, check_converged, check_covered

__all__ = ["most_likely"]

_RATIOS = np.geomspace(1.0, 1e-6, 13)  # of T to the mean square of the labels, and ten times it
_READOUT = 1e4  # by which factor λ_L may change


def most_likely(problem: Problem, theory: Theory, readout: bool = False) -> Solution:
    """Return the solution at the T of largest evidence, with the curve that shows it.

    Parameters
    ----------
    problem
        What to solve; its temperature plays no role.
    theory
        The theory.
    readout
        Whether λ_L is chosen with T.

    Returns
    -------
    Solution
        Its `evidence_curve` has log_evidence with dimension temperature, at the chosen λ_L.

    Raises
    ------
    InputError
        If the labels are all zero, or the theory has no evidence.
    ConvergenceError
        If the theory does not converge at the chosen T; its best point is in ``.best``.

    Warns
    -----
    AccuracyWarning
        If the evidence still grows where the search ends: the solution is the one there.
    """
    check_covered(problem, theory)
    size = float(np.mean(problem.y**2))
    if size == 0:
        raise InputError(
            "expected y with labels other than 0, from which to choose a temperature, got only 0"
        )
    search = _Search(problem, theory)
    temperatures = 10.0 * size * _RATIOS
    evidence = np.array([search(t) for t in temperatures])
    if not np.any(np.isfinite(evidence)):
        if search.refused is not None:
            raise search.refused
        raise InputError(
            f"expected a theory with an evidence, or that converges, got theory={theory.name!r}"
        )
    best = int(np.nanargmax(evidence))
    temperature, precision = float(temperatures[best]), None
    if 0 < best < temperatures.size - 1:
        found: Any = scipy.optimize.minimize_scalar(
            lambda log_t: search.cost(math.exp(log_t)),
            bounds=np.log([temperatures[best + 1], temperatures[best - 1]]),
            method="bounded",
            options={"xatol": 1e-7},
        )
        temperature = math.exp(found.x)
    if readout:
        start = problem.network.weight_precision[-1]
        allowed = start / _READOUT, start * _READOUT
        temperature, precision = _with_readout(search, temperature, temperatures, allowed)
        _warn_at_an_end("readout_precision", precision, *allowed)
    _warn_at_an_end("temperature", temperature, temperatures[-1], temperatures[0])
    solution = search.solution(temperature, precision)
    check_converged(solution)
    beside = np.abs(temperatures / temperature - 1.0) > 1e-9
    curve = np.sort(np.append(temperatures[beside], temperature))
    values = [search(t, precision) for t in curve]
    return dataclasses.replace(
        solution,
        evidence_curve=xr.Dataset(
            {"log_evidence": ("temperature", np.array(values))},
            coords={"temperature": curve},
            attrs={"readout_precision": solution.network.weight_precision[-1]},
        ),
    )


def _with_readout(
    search: "_Search",
    temperature: float,
    temperatures: np.ndarray,
    allowed: tuple[float, float],
) -> tuple[float, float]:
    """Return T and λ_L of largest evidence, from the T at which it is with the network's λ_L."""
    start = search.problem.network.weight_precision[-1]
    # evidence is flat at its top: differences below 1e-10 of it say nothing
    found = scipy.optimize.minimize(
        lambda logs: search.cost(math.exp(logs[0]), math.exp(logs[1])),
        np.log([temperature, start]),
        method="Nelder-Mead",
        bounds=np.log([[temperatures[-1], temperatures[0]], allowed]),
        options={"xatol": 1e-6, "fatol": 1e-10, "maxfev": 1000, "maxiter": 1000},
    )
    temperature, precision = np.exp(found.x)
    return float(temperature), float(precision)


class _Search:
    """Evidence by temperature and λ_L, each computed once."""

    def __init__(self, problem: Problem, theory: Theory) -> None:
        self.problem, self._theory = problem, theory
        self._known: dict[tuple[float, float | None], float] = {}
        self.refused: InputError | None = None

    def solution(self, temperature: float, precision: float | None = None) -> Solution:
        """Return the solution there, converged or not."""
        problem = self.problem.vary(self.problem.network.widths, float(temperature), precision)
        return self._theory.solve(problem)

    def __call__(self, temperature: float, precision: float | None = None) -> float:
        """Return log p(y), NaN where the theory does not converge or rounding leaves nothing."""
        key = float(temperature), precision
        if key not in self._known:
            self._known[key] = self._evidence(temperature, precision)
        return self._known[key]

    def _evidence(self, temperature: float, precision: float | None) -> float:
        try:
            with nothing_said():
                solution = self.solution(temperature, precision)
        except InputError as error:  # a kernel that is singular at this T
            self.refused = error
            return math.nan
        return float(solution.log_evidence) if solution.converged else math.nan

    def cost(self, temperature: float, precision: float | None = None) -> float:
        """Return what to minimise."""
        value = self(temperature, precision)
        return -value if math.isfinite(value) else math.inf


def _warn_at_an_end(name: str, value: float, low: float, high: float) -> None:
    if not 1.001 * low < value < 0.999 * high:
        warn(
            f"expected an evidence that is largest inside of {name} = {low:.3g} … {high:.3g}, got "
            f"one that still grows at {value:.3g}, which is taken"
        )
