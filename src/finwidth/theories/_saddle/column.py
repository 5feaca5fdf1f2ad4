"""One saddle-point theory at many widths, from the widest to the narrowest."""

from typing import Any

import numpy as np

from ..._layers.dense import input_covariance
from ..._layers.stack import layer_rules
from ..._numerics.scaled_grid import ScaledPoints, predict_many
from ..._observables._observable import observables, predictions
from ..._observables._prediction import Prediction
from ..._problem.problem import Problem
from .._theory import Test, check_converged, solution_row

__all__ = ["saddle_column"]

_TEST_BLOCK = 1024  # test patterns at a time


def saddle_column(theory: Any, problems: list[Problem], test: Test) -> list[dict[str, Any]]:
    """Solve problems that differ in width for a `SaddleTheory`, each from the one before."""
    several = problems[0].network.outputs > 1
    scaled = not several and theory.form(problems[0]) is not None
    rows, kept, start = [], [], None
    for problem in problems:
        solution = theory.solve(problem, start)
        check_converged(solution)
        start = solution if several else solution.point.theta
        rows.append(solution_row(solution, None if scaled else test))
        if scaled:  # a solution holds no matrix of its own
            kept.append(solution)
    if scaled and test is not None:
        for row, scores in zip(rows, _scaled_scores(theory, kept, *test), strict=True):
            row |= scores
    return rows


def _scaled_scores(
    theory: Any, solutions: list[Any], X_test: np.ndarray, y_test: np.ndarray
) -> list[dict[str, float]]:
    """Return the scores of all solutions, where one kernel's scale is all that differs."""
    forms = [theory.form(solution.problem) for solution in solutions]
    first, form = solutions[0].problem, forms[0]
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
        base = theory.kernel(form.stack.replace(rules=rules), covariance, form.order)
        arrays = np.asarray(base.cross), np.asarray(base.diag_a), form.columns(block)
        parts.append(predict_many(form.kernel, points, *arrays))
    chosen = observables(y_test)
    means, variances = (np.concatenate([part[k] for part in parts], axis=1) for k in range(2))
    return [
        predictions(chosen, Prediction(mean, variance), y_test)
        for mean, variance in zip(means, variances, strict=True)
    ]
