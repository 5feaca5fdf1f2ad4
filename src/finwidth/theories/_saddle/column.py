"""One theory at many widths, from the widest to the narrowest."""

from typing import Any

import numpy as np
import xarray as xr

from ..._layers.dense import input_covariance
from ..._layers.stack import layer_rules
from ..._numerics.scaled_grid import ScaledPoints, predict_many
from ..._observables._observable import observables, predictions
from ..._observables._prediction import Prediction
from ..._problem.problem import Problem
from .._theory import Theory, check_converged, solve_problem
from .theory import SaddleTheory

__all__ = ["solve_column"]

_TEST_BLOCK = 1024  # test patterns at a time

Test = tuple[np.ndarray, np.ndarray] | None


def solve_column(rule: Theory, problems: list[Problem], test: Test) -> list[dict[str, Any]]:
    """Solve problems that differ in width, from the widest to the narrowest."""
    several = problems[0].network.outputs > 1
    if isinstance(rule, SaddleTheory) and not several and rule.form(problems[0]) is not None:
        return _scaled_column(rule, problems, test)
    rows = []
    start = None
    for problem in problems:
        if isinstance(rule, SaddleTheory):
            solution = rule.solve(problem, start)
            check_converged(solution)
            start = solution if several else solution.point.theta
        else:
            solution = solve_problem(problem, rule)
        row = _row(solution)
        if test is not None:
            row |= _scores(solution.scores(*test))
        rows.append(row)
    return rows


def _scaled_column(rule: SaddleTheory, problems: list[Problem], test: Test) -> list[dict[str, Any]]:
    forms, solutions = [], []
    start = None
    for problem in problems:
        form = rule.form(problem)
        assert form is not None
        solution = rule.solve(problem, start)
        check_converged(solution)
        start = solution.point.theta
        forms.append(form)
        solutions.append(solution)
    rows = [_row(solution) for solution in solutions]
    if test is None:
        return rows
    X_test, y_test = test
    chosen = observables(y_test)
    first, form = problems[0], forms[0]
    orders = [solution.point.order for solution in solutions]
    points = ScaledPoints(
        np.array([form.scale(order) for order in orders]),
        np.array([form.weights(order) for order in orders]).reshape(len(orders), -1),
        np.full(len(orders), first.temperature),
    )
    parts = []
    for begin in range(0, X_test.shape[0], _TEST_BLOCK):
        block = X_test[begin : begin + _TEST_BLOCK]
        covariance = input_covariance(first.network, block, first.X)
        variances = np.concatenate([np.asarray(covariance.diag_a), np.asarray(covariance.diag_b)])
        rules = layer_rules(first.network, variances)
        base = rule.kernel(form.stack.replace(rules=rules), covariance, form.order)
        arrays = np.asarray(base.cross), np.asarray(base.diag_a), form.columns(block)
        parts.append(predict_many(form.kernel, points, *arrays))
    for row, mean, variance in zip(
        rows,
        np.concatenate([part[0] for part in parts], axis=1),
        np.concatenate([part[1] for part in parts], axis=1),
        strict=True,
    ):
        row |= predictions(chosen, Prediction(mean, variance), y_test)
    return rows


def _row(solution: Any) -> dict[str, Any]:
    values: dict[str, Any] = {str(name): array for name, array in solution.order_parameters.items()}
    return values | {
        "action": solution.action,
        "log_evidence": solution.log_evidence,
        "residual": solution.residual,
    }


def _scores(scores: xr.Dataset) -> dict[str, float]:
    return {str(name): float(value) for name, value in scores.items()}
