"""`solve_many`: one theory over a grid of widths, temperatures and precisions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from .._basics.arrays import check_labels
from .._basics.checks import check_count, check_sequence, check_temperature
from .._basics.errors import InputError
from .._likelihoods import Likelihood, choose_likelihood
from .._numerics.precision import in_float64
from .._problem.network import Network
from .._problem.problem import make_problem
from ..theories import Theory
from ..theories._theory import check_covered, choose_theory

__all__ = ["solve_many"]


@in_float64
def solve_many(
    net: Network,
    X: Any,
    y: Any,
    *,
    widths: Sequence[int],
    temperature: float | Sequence[float],
    weight_precision: Sequence[float | Sequence[float]] | None = None,
    theory: str | Theory = "nested",
    likelihood: str | Likelihood = "gaussian",
    approximation: str | None = None,
    X_test: Any = None,
    y_test: Any = None,
    memory_limit: int | float | str | None = None,
) -> xr.Dataset:
    """Solve a theory over a grid of widths, temperatures and precisions.

    Parameters
    ----------
    net
        The network; every hidden layer takes the grid's width.
    X, y
        Training set, shapes (pattern, input) and (pattern,), or (pattern, output) with several
        outputs.
    widths
        Widths, ints ≥ 1.
    temperature
        One or several T ≥ 0.
    weight_precision
        Several precisions, each as for `Network`; None for the network's own.
    theory, likelihood, approximation
        As for `finwidth.solve`; the temperature tempers any likelihood.
    X_test, y_test
        Test set, shapes (test_pattern, input) and those of its labels, for the scores.
    memory_limit
        As for `solve`.

    Returns
    -------
    xarray.Dataset
        The order parameters (width, temperature, layer), with several outputs their further
        dimensions too; action, log_evidence, residual and, with a test set, the scores that
        `Solution.scores` gives, error, bias2, variance and for classes accuracy and accuracy_mean
        (width, temperature); coordinates width, temperature, layer and load = P/width.
        With `weight_precision` given, a leading dimension precision, and the coordinate
        weight_precision (precision, weight_layer).

    Raises
    ------
    InputError
        If an argument is not as described; before any work.
    ConvergenceError
        If a saddle point was not reached; the message names the grid point.

    Notes
    -----
    Kernels are built once for all points that differ in widths, temperature and readout precision.
    Where only the kernel's scale varies (one hidden layer, or theory="wishart") they are also
    reduced once, after which a point costs O(P) and its predictions O(P) a test pattern (with
    several outputs O(P²), as for one point). Widths
    are solved from the largest to the smallest, each from the one before.

    References
    ----------
    theory.md, sections 2 to 4.
    """
    chosen = choose_theory(theory)
    widths = [check_count("widths", one) for one in _several("widths", widths, "ints")]
    if isinstance(temperature, Sequence) or getattr(temperature, "ndim", 0):
        temperature = _several("temperature", temperature, "floats ≥ 0")
    else:
        temperature = [temperature]
    likelihood = choose_likelihood(likelihood, approximation)
    temperatures = [likelihood.temperature(check_temperature(one)) for one in temperature]
    problem = make_problem(net, X, y, temperatures[0], likelihood, memory_limit)
    test = None
    if (X_test is None) != (y_test is None):
        raise InputError("expected X_test and y_test together, got one of them")
    if X_test is not None:
        X_test = problem.test_inputs(X_test)
        outputs = 1 if likelihood.one_label else net.outputs
        test = X_test, check_labels(y_test, X_test.shape[0], "y_test", "X_test", outputs)
    networks = _networks(net, weight_precision)
    check_covered(problem, chosen)
    depth = net.depth
    by_widths = [problem.vary((width,) * depth, temperatures[0]) for width in widths]
    order = np.argsort([-p.network.widths[0] for p in by_widths], kind="stable")
    rows: dict[tuple[int, int, int], dict[str, Any]] = {}
    shared = problem
    for k, network in enumerate(networks):
        if network.weight_precision[:-1] != shared.network.weight_precision[:-1]:
            shared = make_problem(network, X, y, temperatures[0], likelihood, memory_limit)
        readout = network.weight_precision[-1]
        for j, t in enumerate(temperatures):
            column = [shared.vary((widths[i],) * depth, t, readout) for i in order]
            for i, row in zip(order, chosen.solve_column(column, test), strict=True):
                rows[k, int(i), j] = row
    result = _dataset(rows, (len(networks), len(widths), len(temperatures)))
    result = result.assign_coords(
        width=list(widths),
        temperature=temperatures,
        layer=result.coords.get("layer", np.arange(1, depth + 1)),
        load=("width", problem.n_patterns / np.asarray(widths, dtype=np.float64)),
    )
    if weight_precision is None:
        result = result.isel(precision=0)
    else:
        values = [network.weight_precision for network in networks]
        result = result.assign_coords(weight_precision=(("precision", "weight_layer"), values))
    return result.assign_attrs(theory=chosen.name)


def _several(name: str, value: Any, what: str) -> list[Any]:
    entries = check_sequence(name, value, what)
    if not entries:
        raise InputError(f"expected {name} = at least one of {what}, got none")
    return entries


def _networks(net: Network, weight_precision: Any) -> list[Network]:
    if weight_precision is None:
        return [net]
    if hasattr(weight_precision, "dtype"):  # of a network's layers, or of several networks?
        raise InputError(
            "expected weight_precision = a list of precisions, each as for Network, got an array: "
            "weight_precision.tolist() or [weight_precision] says which is meant"
        )
    several = _several("weight_precision", weight_precision, "precisions, each as for Network")
    return [net.replace(weight_precision=value) for value in several]


def _dataset(
    rows: dict[tuple[int, int, int], dict[str, Any]], shape: tuple[int, int, int]
) -> xr.Dataset:
    lead = ("precision", "width", "temperature")
    keys = sorted(rows)
    variables = {}
    coords: dict[Any, Any] = {}
    for name, first in rows[keys[0]].items():
        array = np.asarray([rows[key][name] for key in keys], dtype=np.float64)
        inner = ()
        if isinstance(first, xr.DataArray):
            inner, coords = first.dims, coords | dict(first.coords)
        variables[name] = ((*lead, *inner), array.reshape(*shape, *array.shape[1:]))
    return xr.Dataset(variables, coords)
