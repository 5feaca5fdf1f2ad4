"""What else a theory can be asked: where finite width helps, depth, roots, and rounding."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.linalg
import xarray as xr

from ._basics.arrays import check_labels, shown
from ._basics.checks import check_count, check_number, check_sequence
from ._basics.errors import InputError
from ._numerics.precision import in_float64
from ._observables.squared_error import QUANTITIES, expected_error
from ._problem.network import Network, check_network
from ._problem.problem import make_problem
from .theories import SHELF, SaddleSolution, SaddleTheory
from .theories._saddle.outputs import order_arrays
from .theories._theory import check_outputs, solve_problem

__all__ = ["conditioning", "depth_profile", "roots", "width_response"]

_STEP = 1e-4  # of the central differences in log order parameters


def _saddle(solution: Any) -> SaddleSolution:
    if not isinstance(solution, SaddleSolution):
        raise InputError(
            "expected solution = a saddle-point solution of finwidth.solve (theory 'nested', "
            f"'wishart' or 'infinite'), got {shown(solution)}"
        )
    return solution


@in_float64
def width_response(solution: SaddleSolution, X_test: Any, y_test: Any) -> xr.Dataset:
    """Return how the test error changes with 1/N, at any depth and temperature.

    The widths vary at fixed ratios: N stands for the first layer's. The order parameters respond
    by the implicit function theorem at the saddle point, and the error through them. A positive
    `d_error` says that more width lowers the error.

    Parameters
    ----------
    solution
        A saddle-point solution. At infinite width (theory="infinite") the response is that of
        the first correction in 1/N.
    X_test, y_test
        Test set, shapes (test_pattern, input) and (test_pattern,).

    Returns
    -------
    xarray.Dataset
        d_error, d_bias2 and d_variance, derivatives with respect to 1/N, and d_q_bar (layer); of
        residual blocks d_s and d_r (block).

    Raises
    ------
    InputError
        If an argument is not as described.

    Notes
    -----
    For one odd layer at T = 0 the bias does not respond, and the sign of `d_error` at infinite
    width is that of `Solution.criterion` − 1.

    References
    ----------
    Pacelli et al., Nat. Mach. Intell. 5, 1497 (2023), eq. 14; theory.md, section 2.
    """
    solution = _saddle(solution)
    X_test = solution.problem.test_inputs(X_test)
    y_test = check_labels(y_test, X_test.shape[0], name="y_test", of="X_test")
    slope = _response(solution)
    gradients = []
    for direction in np.eye(slope.size):
        ends = [
            expected_error(_moved(solution, sign * _STEP * direction).predict(X_test), y_test)
            for sign in (1.0, -1.0)
        ]
        gradients.append({k: float(ends[0][k] - ends[1][k]) / (2 * _STEP) for k in ends[0]})
    result = {
        f"d_{name}": float(slope @ np.array([row[name] for row in gradients]))
        for name in QUANTITIES
    }
    found = xr.Dataset(result)
    for name, (dim, layers, _) in (solution.point.order.shown() or {}).items():
        if name != "q":
            values = solution.point.slopes(name) @ slope
            found = found.assign({f"d_{name}": (dim, values)}).assign_coords({dim: layers})
    return found


def _response(solution: SaddleSolution) -> np.ndarray:
    """dθ/d(1/N) at the saddle point."""
    rule, problem = solution.rule, solution.problem
    first, chart, theta = problem.network.widths[0], solution.point.chart, solution.point.theta
    equations = rule.equations(problem)
    rows = chart.widths() + problem.n_patterns
    data = equations.data(theta) * rows
    # prior's gradient = N·p(θ) with p for the ratios: N·p(θ) + g(θ) = 0
    hessian = chart.scaled(1.0 / first).derivatives(theta)[1]
    inverse_width = 0.0 if solution.theory == "infinite" else 1.0 / first
    jacobian = hessian + inverse_width * equations.data_jacobian(theta) * rows[:, None]
    return -np.linalg.solve(jacobian, data)


def _moved(solution: SaddleSolution, step: np.ndarray) -> SaddleSolution:
    """The solution with other order parameters and the predictions they make."""
    order = solution.point.chart.value(solution.point.theta + step)
    conditioned = solution.rule.condition(solution.problem, order)
    point = dataclasses.replace(solution.point, order=order)
    return SaddleSolution(solution.problem, solution.rule, point, conditioned)


@in_float64
def depth_profile(
    net: Network,
    X: Any,
    y: Any,
    *,
    temperature: float,
    depths: Sequence[int],
    theory: str = "nested",
) -> xr.Dataset:
    """Follow kernel and order parameters from one depth to the next.

    Parameters
    ----------
    net
        One hidden layer that is repeated: its width, its precisions (of input layer, hidden
        layers and readout: all hidden layers have the readout's), its activation.
    X, y
        Training set, shapes (pattern, input) and (pattern,).
    temperature
        T ≥ 0.
    depths
        Numbers of hidden layers.
    theory
        A saddle-point theory.

    Returns
    -------
    xarray.Dataset
        By depth: smallest_eigenvalue and largest_eigenvalue of the infinite-width kernel,
        criterion = yᵀK⁻¹y/P, q_bar (depth, layer; NaN beyond the depth) and scale = Π_ℓ Q̄_ℓ. The
        attribute critical_depth is the smallest of the depths with criterion > 1, where finite
        width begins to raise the error at T = 0, or −1. For ReLU the smallest eigenvalue falls
        with depth, so there is one.

    Raises
    ------
    InputError
        If an argument is not as described, or a kernel is singular at T = 0.
    ConvergenceError
        If a saddle point was not reached.

    References
    ----------
    theory.md, sections 2 and 4.
    """
    check_outputs(check_network(net), "depth_profile")
    rule = SHELF.get(theory) if isinstance(theory, str) and theory in SHELF.names() else None
    if not isinstance(rule, SaddleTheory):
        raise InputError(
            f"expected theory = the name of a saddle-point theory, got {shown(theory)}"
        )
    if net.depth != 1:
        raise InputError(f"expected net = one hidden layer, to be repeated, got {net.depth}")
    layers = [check_count("depths", depth) for depth in check_sequence("depths", depths, "ints")]
    if not layers:
        raise InputError("expected depths = at least one int, got none")
    q_bar = np.full((len(layers), max(layers)), np.nan)
    ends, criteria = [], []
    for row, depth in enumerate(layers):
        first, last = net.weight_precision
        bias = net.bias_precision
        deep = net.replace(
            widths=net.widths * depth,
            weight_precision=(first, *([last] * depth)),
            bias_precision=None if bias is None else (bias[0], *([bias[1]] * depth)),
        )
        problem = make_problem(deep, X, y, temperature)
        values = scipy.linalg.eigvalsh(problem.nngp)
        ends.append((values[0], values[-1]))
        solution = solve_problem(problem, rule)
        criteria.append(solution.criterion)
        q_bar[row, :depth] = solution.order_parameters.q_bar.values
    critical = [depth for depth, value in zip(layers, criteria, strict=True) if value > 1]
    return xr.Dataset(
        {
            "smallest_eigenvalue": ("depth", [low for low, _ in ends]),
            "largest_eigenvalue": ("depth", [high for _, high in ends]),
            "criterion": ("depth", criteria),
            "q_bar": (("depth", "layer"), q_bar),
            "scale": ("depth", np.nanprod(q_bar, axis=1)),
        },
        coords={"depth": layers, "layer": np.arange(1, max(layers) + 1)},
        attrs={"theory": theory, "critical_depth": min(critical, default=-1)},
    )


@in_float64
def roots(solution: SaddleSolution) -> xr.Dataset:
    """List the saddle points that many starts find, and how many starts lead to each.

    Parameters
    ----------
    solution
        A saddle-point solution; it is the first root.

    Returns
    -------
    xarray.Dataset
        q_bar and q (root, layer), of residual blocks s and r (root, block), and starts (root): how
        many of the starts end there.

    Raises
    ------
    InputError
        If `solution` is not that of a saddle-point theory.
    """
    solution = _saddle(solution)
    found, counts = solution.point.roots()
    chart = solution.point.chart
    parts = [chart.value(theta).shown() for theta in found]
    known = [order_arrays(one) for one in parts if one is not None]
    if not known:  # of layers whose order parameters have no names
        theta = {"theta": (("root", "unknown"), np.array(found))}
        known = [xr.Dataset(theta, coords={"unknown": chart.names})]
    else:
        known = [xr.concat(known, "root")]
    return known[0].assign(starts=("root", counts))


@in_float64
def conditioning(solution: SaddleSolution, accuracy: float = 1e-8) -> xr.Dataset:
    """Return what rounding costs, and the temperature below which it costs more than `accuracy`.

    Parameters
    ----------
    solution
        A saddle-point solution.
    accuracy
        Relative accuracy wanted of A⁻¹.

    Returns
    -------
    xarray.Dataset
        smallest_eigenvalue and largest_eigenvalue of K_R on the training set, condition_number of
        A = T·1 + K_R, rounding = P ε times it, and least_temperature: where rounding equals
        `accuracy` with this K_R (0 if it never does).

    Raises
    ------
    InputError
        If an argument is not as described.
    """
    solution = _saddle(solution)
    accuracy = check_number("accuracy", accuracy, 0.0, 1.0)
    values = scipy.linalg.eigvalsh(solution.renormalized_kernel)
    low, high, temperature = float(values[0]), float(values[-1]), solution.temperature
    unit = values.size * np.finfo(np.float64).eps
    smallest = low + temperature
    condition = (high + temperature) / smallest if smallest > 0 else math.inf
    # (high + T)·unit = accuracy·(low + T)
    least = (high * unit - accuracy * low) / (accuracy - unit) if accuracy > unit else math.inf
    return xr.Dataset(
        {
            "smallest_eigenvalue": low,
            "largest_eigenvalue": high,
            "condition_number": condition,
            "rounding": unit * condition,
            "least_temperature": max(least, 0.0),
        }
    )
