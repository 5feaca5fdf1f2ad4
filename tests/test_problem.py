"""What problems share, and what a problem made by hand may be."""

import numpy as np
import pytest

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth._problem.problem import Problem, make_problem
from finwidth.theories.nested import Nested

RNG = np.random.default_rng(12)
X, Y = RNG.normal(size=(7, 3)), RNG.normal(size=7)
NET = fw.Network((5,), "erf")


@pytest.fixture(autouse=True)
def double():
    with float64():
        yield


def rows(problem: Problem, factor: float = 1.0) -> np.ndarray:
    return factor * problem.X


def test_what_problems_share_is_made_once():
    problem = make_problem(NET, X, Y, 0.1)
    made = problem.shared(rows)
    other = problem.vary((9,), 0.3, 2.0)
    assert other.shared(rows) is made
    assert other.covariance is problem.covariance
    assert problem.shared(rows, 2.0) is other.shared(rows, 2.0)
    assert problem.shared(rows, 2.0) is not made


def test_a_subset_shares_nothing_but_the_rules():
    problem = make_problem(fw.Network((5,), "tanh"), X, Y, 0.1)
    whole = problem.shared(rows)
    subset = problem.subset(np.array([4, 1]))
    np.testing.assert_array_equal(subset.shared(rows), whole[[4, 1]])
    assert subset.rules is problem.rules
    assert subset.covariance.cross.shape == (2, 2)


class Doubled(Nested):
    """The nested theory with twice the kernel."""

    name = "doubled"

    def kernel(self, stack, covariance, order):
        """Return 2 K_R."""
        return type(covariance)(
            *(2.0 * block for block in super().kernel(stack, covariance, order))
        )


def test_a_theory_made_from_another_takes_its_own_kernel():
    """Both by one problem, which keeps what each has made of it."""
    problem = make_problem(NET, X, Y, 0.1)
    first, second = (theory.solve(problem) for theory in (Nested(), Doubled()))
    alone = Doubled().solve(make_problem(NET, X, Y, 0.1))
    half = make_problem(NET.replace(weight_precision=(1.0, 0.5)), X, Y, 0.1)
    assert second.action == alone.action != first.action
    assert second.action == pytest.approx(Nested().solve(half).action, rel=1e-12)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("network", "erf", "expected network = "),
        ("X", X.tolist(), "expected X = a NumPy array of float64"),
        ("X", X[0], "expected X = "),
        ("y", Y[:3], "expected y = an array of shape"),
        ("y", Y.astype(np.float32), "expected y = a NumPy array of float64"),
        ("temperature", -1.0, "expected temperature = "),
        ("likelihood", "gaussian", "expected likelihood = a Likelihood"),
    ],
)
def test_a_problem_made_by_hand_is_one(name, value, message):
    arguments = {"network": NET, "X": X, "y": Y, "temperature": 0.1} | {name: value}
    with pytest.raises(fw.InputError, match=message) as info:
        Problem(**arguments)
    assert "\n" not in str(info.value)
