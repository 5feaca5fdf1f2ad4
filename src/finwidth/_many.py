"""`solve_many`: one theory over a grid of widths and temperatures, kernels built once."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from ._errors import InputError
from ._inputs import check_inputs, check_labels, check_temperature
from ._network import Network
from ._precision import in_float64
from ._solve import choose_theory, make_problem, solve_problem
from .theories import Theory

__all__ = ["solve_many"]


@in_float64
def solve_many(
    net: Network,
    X: Any,
    y: Any,
    *,
    widths: Sequence[int],
    temperature: float | Sequence[float],
    theory: str | Theory = "nested",
    X_test: Any = None,
    y_test: Any = None,
) -> xr.Dataset:
    """Solve a theory over a grid of widths and temperatures.

    Parameters
    ----------
    net
        The network; every hidden layer takes the grid's width.
    X, y
        Training set, shapes (pattern, input) and (pattern,).
    widths
        Widths, ints ≥ 1.
    temperature
        One or several T ≥ 0.
    theory
        As for `finwidth.solve`.
    X_test, y_test
        Test set, shapes (test_pattern, input) and (test_pattern,), for the errors.

    Returns
    -------
    xarray.Dataset
        q_bar and q (width, temperature, layer), action, log_evidence, residual and, with a test
        set, error, bias2 and variance (width, temperature); coordinates width, temperature,
        layer and load = P/width.

    Raises
    ------
    InputError
        If an argument is not as described; before any work.
    ConvergenceError
        If a saddle point was not reached; the message names the grid point.

    References
    ----------
    theory.md, sections 2 to 4.
    """
    rule = choose_theory(theory)
    if isinstance(widths, (str, int)) or len(widths) == 0:
        raise InputError(f"expected widths = a non-empty sequence of ints, got {widths!r}")
    temperatures = [check_temperature(t) for t in np.atleast_1d(np.asarray(temperature))]
    if not temperatures:
        raise InputError("expected temperature = at least one float, got none")
    problem = make_problem(net, X, y, temperatures[0])
    if (X_test is None) != (y_test is None):
        raise InputError("expected X_test and y_test together, got one of them")
    if X_test is not None:
        X_test = check_inputs(X_test, name="X_test", n_inputs=problem.X.shape[1])
        y_test = check_labels(y_test, X_test.shape[0], name="y_test", of="X_test")
    grid = [
        problem.vary((width,) * problem.network.depth, t)
        for width, t in itertools.product(widths, temperatures)
    ]
    rows: dict[str, list] = {}
    for point in grid:
        solution = solve_problem(point, rule)
        values = {
            **{str(name): values.values for name, values in solution.order_parameters.items()},
            "action": solution.action,
            "log_evidence": solution.log_evidence,
            "residual": solution.residual,
        }
        if X_test is not None:
            errors = solution.generalization_error(X_test, y_test)
            values |= {name: float(errors[name]) for name in ("error", "bias2", "variance")}
        for name, value in values.items():
            rows.setdefault(name, []).append(value)
    shape = (len(widths), len(temperatures))
    lead = ("width", "temperature")
    variables = {}
    for name, values in rows.items():
        array = np.asarray(values, dtype=np.float64)
        dims = (*lead, "layer") if array.ndim > 1 else lead
        variables[name] = (dims, array.reshape(*shape, *array.shape[1:]))
    return xr.Dataset(
        variables,
        coords={
            "width": list(widths),
            "temperature": temperatures,
            "layer": np.arange(1, problem.network.depth + 1),
            "load": ("width", problem.n_patterns / np.asarray(widths, dtype=np.float64)),
        },
        attrs={"theory": rule.name},
    )
