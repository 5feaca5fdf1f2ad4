"""What a quick theory says of a test set, for an advice that has one."""

from typing import Any

from .._basics.arrays import check_labels
from .._basics.errors import ConvergenceError, InputError
from .._problem.problem import Problem
from ..theories._solution import Solution
from ..theories._theory import SHELF, check_covered, solve_problem

__all__ = ["check_test_set", "on_test_set"]

_QUICK = ("nested", "infinite")  # the first that is defined and has a solution
_SCORES = ("error", "accuracy", "accuracy_mean", "log_loss")


def check_test_set(problem: Problem, X_test: Any, y_test: Any) -> bool:
    """Return whether there is a test set, or raise InputError for half of one or a wrong one."""
    if (X_test is None) != (y_test is None):
        lacks = "X_test" if X_test is None else "y_test"
        raise InputError(f"expected X_test and y_test together, got {lacks} = None")
    if X_test is None:
        return False
    patterns = problem.test_inputs(X_test).shape[0]
    outputs = 1 if problem.likelihood.one_label else problem.network.outputs
    check_labels(y_test, patterns, "y_test", "X_test", outputs)
    return True


def on_test_set(problem: Problem, X_test: Any, y_test: Any) -> dict[str, Any]:
    """Return ``test_theory``, ``test_patterns`` and scores on them, as ``test_error`` and so on."""
    solution = _solved(problem)
    if solution is None:
        return {}
    scores = solution.scores(X_test, y_test)
    found = {f"test_{name}": float(scores[name]) for name in _SCORES if name in scores}
    return {"test_theory": solution.theory, "test_patterns": len(y_test)} | found


def _solved(problem: Problem) -> Solution | None:
    for name in _QUICK:
        theory = SHELF.get(name)
        try:
            check_covered(problem, theory)
            return solve_problem(problem, theory)
        except (InputError, ConvergenceError):
            continue
    return None
