"""Large training sets: the same as by dense matrices, to the error bars that are stated."""

import dataclasses
import math
import pickle

import numpy as np
import pytest
import scipy.sparse.linalg

import finwidth as fw
from finwidth._basics.memory import check_memory, shown_memory
from finwidth._numerics import tiles as _tiles
from finwidth._numerics.block_lanczos import BlockLanczos
from finwidth._numerics.deflation import Deflation
from finwidth._numerics.precision import float64
from finwidth._numerics.quadrature_term import QuadratureTerm
from finwidth._numerics.tiled import TiledMatrix
from finwidth._problem.problem import make_problem
from finwidth.theories import LargeSolution, available
from finwidth.theories._large import choose_plan, solve_large
from finwidth.theories._large.plan import dense_memory, make_plan
from finwidth.theories._large.solve import SolvingInterrupted

P, N_TEST, INPUTS = 300, 40, 12
RNG = np.random.default_rng(0)
DIRECTIONS = RNG.normal(size=(INPUTS, INPUTS)) * np.geomspace(3.0, 0.1, INPUTS)
X, X_TEST = (
    RNG.normal(size=(P, INPUTS)) @ DIRECTIONS,
    RNG.normal(size=(N_TEST, INPUTS)) @ DIRECTIONS,
)
Y, Y_TEST = np.sign(X[:, 0] + RNG.normal(size=P)), np.sign(X_TEST[:, 0])
NET = fw.Network((40,), "erf")
ITERATIVE = {"method": "iterative", "progress": False}


def few_probes(
    network: fw.Network = NET, theory: str = "nested", seed: int = 0, **changes
) -> LargeSolution:
    """Solve with 8 probes, so that the space is far from whole when the solution is accurate."""
    with float64():
        problem = make_problem(network, X, Y, 0.3)
    plan = make_plan(P, seed, 8, 1e9)
    plan = type(plan)(**(vars(plan) | changes))
    return solve_large(problem, available()[theory], plan, progress=False)


# --- equal to the dense way ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "theory"),
    [
        (NET, "nested"),
        pytest.param(
            fw.Network((40,), "relu", bias_precision=2.0), "nested", marks=pytest.mark.slow
        ),
        pytest.param(
            fw.Network((40, 30), "erf", bias_precision=2.0), "wishart", marks=pytest.mark.slow
        ),
        pytest.param(
            fw.Network((40, 30), "relu", bias_precision=2.0), "infinite", marks=pytest.mark.slow
        ),
        pytest.param(fw.Network((40, 30), "erf"), "nested", marks=pytest.mark.slow),
        pytest.param(fw.Network((40, 30), "relu"), "nested", marks=pytest.mark.slow),
    ],
)
def test_a_space_that_is_whole_gives_the_dense_solution(network, theory: str) -> None:
    """Then every eigenvector is known and the trace exact: no error bar is left."""
    few = slice(0, 120)
    settings = {"temperature": 0.1, "theory": theory}
    dense = fw.solve(network, X[few], Y[few], **settings)
    large = fw.solve(network, X[few], Y[few], **settings, **ITERATIVE)
    assert isinstance(large, LargeSolution)
    assert large.accuracy.attrs["basis"] == 120
    for name, array in dense.order_parameters.items():
        np.testing.assert_allclose(large.order_parameters[name], array, rtol=1e-8, atol=1e-10)
        assert np.all(large.order_parameters[f"{name}_se"] < 1e-8)
    assert large.action == pytest.approx(dense.action, rel=1e-8)
    assert large.accuracy.log_evidence_se < 1e-8
    mine, theirs = (one.predict(X_TEST, full_covariance=True) for one in (large, dense))
    for name in ("mean", "variance", "covariance"):
        np.testing.assert_allclose(getattr(mine, name), getattr(theirs, name), rtol=1e-7, atol=1e-9)
    scores, wanted = large.scores(X_TEST, Y_TEST), dense.scores(X_TEST, Y_TEST)
    for name, value in wanted.items():
        assert float(scores[name]) == pytest.approx(float(value), rel=1e-7)
        assert float(scores[f"{name}_se"]) < 1e-6
    assert scores.attrs == wanted.attrs


def test_probes_that_are_all_unit_vectors_give_the_exact_trace() -> None:
    """Though no eigenvector counts as known."""
    k = X @ X.T / INPUTS + np.diag(np.linspace(0, 1, P))
    run = BlockLanczos(np.column_stack([Y, math.sqrt(P) * np.eye(P)]), P)
    run.extend(lambda v: k @ v)
    assert run.complete
    term = QuadratureTerm(P, run.rule(), 0, np.zeros(P, dtype=bool))
    exact = np.linalg.slogdet(0.1 * np.eye(P) + 2.0 * k)[1]
    assert term.logdet(2.0, 0.1)[0] == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize(
    "network",
    [
        NET,
        pytest.param(NET.replace(activation="relu"), marks=pytest.mark.slow),
        pytest.param(NET.replace(widths=(40, 30)), marks=pytest.mark.slow),
    ],
)
def test_within_its_error_bar_where_the_space_is_not_whole(network: fw.Network) -> None:
    dense, large = fw.solve(network, X, Y, temperature=0.3), few_probes(network)
    assert large.accuracy.attrs["basis"] < P
    order, exact = large.order_parameters, dense.order_parameters
    for name in ("q_bar", "q"):
        assert np.all((order[f"{name}_se"] > 0) & (order[f"{name}_se"] < 0.1 * (1 + exact[name])))
        assert np.all(abs(order[name] - exact[name]) < 4 * order[f"{name}_se"])
    gap = abs(large.log_evidence - dense.log_evidence)
    assert gap < 4 * large.log_evidence_se + large.accuracy.truncation
    mine, theirs = large.predict(X_TEST), dense.predict(X_TEST)
    assert np.all(np.abs(mine.mean - theirs.mean) < 4 * mine.standard_error + 1e-9)
    assert np.all(np.abs(mine.variance - theirs.variance) < 4 * mine.variance_error + 1e-9)
    scores, wanted = large.scores(X_TEST, Y_TEST), dense.scores(X_TEST, Y_TEST)
    for name in ("error", "bias2", "variance", "accuracy"):
        assert abs(scores[name] - wanted[name]) < 4 * scores[f"{name}_se"] + 1e-9


def test_predictions_move_with_the_order_parameters_as_is_said() -> None:
    """Changes by one standard error: those of two dense Gaussian processes, by differences."""
    network = fw.Network((40,), "relu", bias_precision=2.0)
    with float64():
        problem = make_problem(network, X[:120], Y[:120], 0.3)
        rule = available()["nested"]
        large = solve_large(problem, rule, make_plan(120, 0, 64, 1e9), progress=False)
        point, step = large.fit.point, np.array([0.7, -0.4])
        errors = dataclasses.replace(large.fit.errors, moves=step[None, :])
        fit = dataclasses.replace(large.fit, errors=errors)
        found, _ = LargeSolution(problem, fit, False)._predictor.moments(X_TEST, False)

        def at(shift: float) -> list[np.ndarray]:
            order = point.chart.value(point.theta + shift * step)
            inside = large.kernel.at(problem.X, order, False).cross
            block = large.kernel.at(X_TEST, order, False)
            solved = np.linalg.solve(inside + 0.3 * np.eye(120), block.cross)
            return [
                solved.T @ problem.y,
                block.diagonal - np.sum(block.cross * solved, axis=0),
            ]

        ends = zip(at(1e-5), at(-1e-5), strict=True)
    mean, variance = ((high - low) / 2e-5 for high, low in ends)
    np.testing.assert_allclose(found.mean_moves[0], mean, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(found.variance_moves[0], variance, rtol=1e-5, atol=1e-8)


# --- the numerics ----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 10, 11, 13])
@pytest.mark.parametrize("workers", [1, 2])
def test_products_by_tiles_of_uneven_size(n: int, workers: int, monkeypatch) -> None:
    monkeypatch.setattr(_tiles, "_LARGEST", 3)
    rng = np.random.default_rng(n)
    a, block = rng.normal(size=(n, n)), rng.normal(size=(n, 2))
    a = a + a.T
    made = []

    def tile(rows: slice, columns: slice) -> np.ndarray:
        made.append((rows, columns))
        return a[rows, columns]

    for memory in (0.0, 2.5 * 8 * 9, 1e9):
        matrix = TiledMatrix(n, tile, memory, workers)
        made.clear()
        ticks = []
        first, second = matrix.times(block, ticks.append), matrix.times(block)
        np.testing.assert_allclose(first, a @ block, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(first, second)
        kept = min(matrix.most, matrix.count)
        assert len(made) == 2 * matrix.count - kept
        assert sum(ticks) == matrix.count


def test_a_product_that_fails_leaves_no_thread_at_work() -> None:
    def tile(rows: slice, columns: slice) -> np.ndarray:
        raise FloatingPointError("of a tile")

    with pytest.raises(FloatingPointError, match="of a tile"):
        TiledMatrix(1200, tile, 0.0, 2).times(np.ones((1200, 1)))


def spectrum(n: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A kernel with a long tail, its eigenvalues, and labels."""
    rng = np.random.default_rng(3)
    vectors = np.linalg.qr(rng.normal(size=(n, n)))[0]
    values = n * np.arange(1.0, n + 1) ** -1.5
    return (vectors * values) @ vectors.T, values, rng.normal(size=n)


def run_of(k: np.ndarray, start: np.ndarray, products: int) -> BlockLanczos:
    run = BlockLanczos(start, len(k))
    for _ in range(products):
        run.extend(lambda v: k @ v)
    return run


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_gauss_and_radau_enclose_the_quadratic_form(scale: float) -> None:
    """At every scale, of one run; more products bring them together."""
    k, _, y = spectrum()
    exact = y @ np.linalg.solve(0.1 * np.eye(len(y)) + scale * k, y)
    widths = []
    for products in (3, 6, 12):
        run = run_of(k, np.column_stack([y, np.sign(y), np.ones(len(y))]), products)
        gauss = run.rule()
        ends = [
            QuadratureTerm(len(y), rule, 0, np.zeros(rule.nodes.size, dtype=bool))
            for rule in (gauss, run.radau_rule(gauss))
        ]
        low, high = (end.energy(scale, np.zeros(0), 0.1) for end in ends)
        assert low < exact < high
        widths.append(high - low)
    assert widths[2] < widths[1] < widths[0]


def test_the_standard_error_of_traces_is_honest() -> None:
    """Over many seeds errors are as large as they are said to be; what is known takes its part."""
    k, values, y = spectrum()
    scale, noise, pulls, errors = 1.0, 0.1, [], []
    exact = np.array([np.sum(np.log(noise + values)), np.sum(values / (noise + values))])
    for seed in range(40):
        probes = np.random.default_rng(seed).choice([-1.0, 1.0], size=(len(y), 12))
        run = run_of(k, np.column_stack([y, probes]), 8)
        rule = run.rule()
        term = QuadratureTerm.of(len(y), run, rule, 0)
        found = np.array([term.logdet(scale, noise), term.slope(scale, noise)])
        assert 5 < np.sum(term.known) < len(y)
        plain = QuadratureTerm(len(y), rule, 0, np.zeros(rule.nodes.size, dtype=bool))
        errors.append(found[0, 1] / plain.logdet(scale, noise)[1])
        pulls.append((found[:, 0] - exact) / found[:, 1])
    # of 40 values of a t distribution with 11 degrees of freedom, whose variance is 1.2
    spread = np.sqrt(np.mean(np.square(pulls), axis=0))
    assert np.all(spread > 0.7) and np.all(spread < 1.6)
    assert np.all(np.abs(np.mean(pulls, axis=0)) < 4 * 1.1 / math.sqrt(40))
    assert np.median(errors) < 0.8


def test_eigenvalues_of_many_eigenvectors_are_left_to_the_probes() -> None:
    """A multiple of the identity: what a run finds of it are the probes themselves."""
    k = 2.0 * np.eye(60)
    probes = np.random.default_rng(0).choice([-1.0, 1.0], size=(60, 8))
    run = run_of(k, np.column_stack([np.arange(60.0), probes]), 1)
    assert run.complete
    term = QuadratureTerm.of(60, run, run.rule(), 0)
    value, error = term.slope(1.0, 0.5)
    assert value == pytest.approx(60 * 2 / 2.5, rel=1e-12)
    assert error < 1e-10


def test_dependent_columns_shrink_the_block() -> None:
    k, values, y = spectrum(50)
    start = np.column_stack([y, 1e-200 * y, np.zeros(50), np.arange(50.0)])
    run = run_of(k, start, 3)
    assert run.sizes == [2, 2, 2]
    np.testing.assert_allclose(run.basis[:, :2] @ run.start, start, rtol=1e-12, atol=1e-14)
    v = np.column_stack([run.basis, run.following])
    np.testing.assert_allclose(v.T @ v, np.eye(8), atol=1e-13)
    np.testing.assert_allclose(run.basis.T @ k @ run.basis, run.projection, atol=1e-11)


def test_deflated_gradients_meet_every_tolerance() -> None:
    k, _, y = spectrum()
    columns = np.linspace(-1, 1, len(y))[:, None]
    a = 1e-3 * np.eye(len(y)) + 2.0 * k + columns @ columns.T
    rng = np.random.default_rng(1)
    run = run_of(k, np.column_stack([y, columns, rng.normal(size=(len(y), 6))]), 4)
    b = rng.normal(size=(len(y), 5)) * np.geomspace(1e-6, 1e6, 5)
    wanted = 1e-16 * np.sum(b**2, axis=0)
    taken = []

    def product(v: np.ndarray) -> np.ndarray:
        taken.append(v.shape[1])
        return k @ v

    solved = Deflation(run, 2.0, columns, 1e-3).solve(product, b, lambda _: wanted, 200)
    np.testing.assert_allclose(a @ solved.x + solved.residual, b, rtol=1e-9, atol=1e-12)
    assert np.all(np.sum(solved.residual**2, axis=0) <= wanted)
    assert taken == sorted(taken, reverse=True)
    # plain conjugate gradients, of the same right-hand side, take far more
    plain: list[float] = []
    scipy.sparse.linalg.cg(a, b[:, 2], rtol=1e-8, maxiter=2000, callback=plain.append)
    assert len(taken) < 0.6 * len(plain)


# --- a promise each --------------------------------------------------------------------------


def test_one_seed_one_solution_whatever_the_memory_and_the_threads() -> None:
    first, second = few_probes(), few_probes(kept=0.0, workers=2)
    assert first.action == second.action
    np.testing.assert_array_equal(first.predict(X_TEST).mean, second.predict(X_TEST).mean)
    other = few_probes(seed=1)
    assert other.action != first.action
    gap = abs(other.log_evidence - first.log_evidence)
    assert gap < 5 * math.hypot(first.log_evidence_se, other.log_evidence_se)


def test_the_dense_way_is_taken_where_it_fits() -> None:
    with float64():
        dense = dense_memory(make_problem(NET, X, Y, 0.3))
    above = fw.solve(NET, X, Y, temperature=0.3, memory_limit=1.01 * dense)
    plain = fw.solve(NET, X, Y, temperature=0.3)
    assert type(above) is type(plain)
    assert above.action == plain.action
    with float64():
        problem = make_problem(NET, np.tile(X, (60, 1)), np.tile(Y, 60), 0.3)
    assert choose_plan(problem, available()["nested"], None, "1GB", 0) is not None
    assert choose_plan(problem, available()["nested"], None, "10GB", 0) is None


def test_the_plan_stays_within_the_limit() -> None:
    for n in (500, 20_000, 200_000):
        for limit in (2e9, 8e9, 64e9):
            plan = make_plan(n, 0, 64, limit)
            spent = plan.kept + 8.0 * n * plan.basis + 40.0 * plan.basis**2 + 48.0 * n * plan.test
            assert spent < limit
            assert plan.basis >= min(n, 8 * 67)


def test_a_memory_that_is_too_small_is_refused_by_name() -> None:
    with pytest.raises(fw.InputError, match=r"memory_limit = at least .* MB for 300 .*got 100 kB$"):
        fw.solve(NET, X, Y, temperature=0.3, memory_limit=1e5, **ITERATIVE)
    with pytest.raises(fw.InputError, match=r"memory_limit = at least .*'dense'.*got 100 kB$"):
        fw.solve(NET, X, Y, temperature=0.3, memory_limit=1e5, method="dense")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "sparse"}, "expected method = one of"),
        ({"memory_limit": "8 gigabytes"}, "expected memory_limit = bytes, or a string"),
        ({"memory_limit": -1.0}, "expected memory_limit = a finite float > 0"),
        ({"seed": 0.5}, "expected seed = an int"),
        ({"progress": "yes"}, "expected progress = True or False"),
        ({"temperature": 0.0}, "expected temperature > 0 with method='iterative', got 0"),
        ({"temperature": "evidence"}, "expected temperature = a number with method='iterative'"),
        ({"likelihood": "logit"}, "expected likelihood = 'gaussian' with method='iterative'"),
        ({"theory": "adaptive"}, "expected theory = 'nested', 'wishart' or 'infinite' with method"),
        ({"net": fw.Network((9,), "erf", outputs=2)}, "expected outputs = 1 with method='iter"),
    ],
)
def test_what_is_not_covered_is_one_line(changes: dict, message: str) -> None:
    net = changes.pop("net", NET)
    labels = np.column_stack([Y, Y]) if net.outputs == 2 else Y
    with pytest.raises(fw.InputError, match=message) as caught:
        fw.solve(net, X, labels, **({"temperature": 0.3, "method": "iterative"} | changes))
    assert "\n" not in str(caught.value)


def test_a_basis_that_does_not_suffice_is_not_passed_off_as_a_solution() -> None:
    with pytest.raises(fw.ConvergenceError, match="larger memory_limit") as caught:
        few_probes(basis=20)
    best = caught.value.best
    assert not best.converged
    assert best.accuracy.attrs["basis"] <= 20
    exact = fw.solve(NET, X, Y, temperature=0.3)
    errors = best.fit.errors
    assert abs(best.action - exact.action) < 4 * errors.action + errors.truncation


def test_an_interrupted_solution_keeps_what_it_has(monkeypatch, capsys) -> None:
    times = TiledMatrix.times
    calls = []

    def interrupted(self, block, tick=lambda steps: None):
        calls.append(block.shape[1])
        if len(calls) == most:
            raise KeyboardInterrupt
        return times(self, block, tick)

    monkeypatch.setattr(TiledMatrix, "times", interrupted)
    most = 3
    with pytest.raises(SolvingInterrupted, match="after 2 products") as caught:
        fw.solve(NET, X, Y, temperature=0.3, method="iterative")
    assert "300 patterns, 64 probes" in capsys.readouterr().err
    best = caught.value.best
    assert not best.converged and best.message == "interrupted"
    assert best.accuracy.attrs["products"] == 2
    exact = fw.solve(NET, X, Y, temperature=0.3)
    errors = best.fit.errors
    assert abs(best.action - exact.action) < 4 * errors.action + errors.truncation
    calls.clear()
    most = 1
    with pytest.raises(KeyboardInterrupt) as caught:
        fw.solve(NET, X, Y, temperature=0.3, **ITERATIVE)
    assert not isinstance(caught.value, SolvingInterrupted)


def test_a_solution_can_be_pickled() -> None:
    solution = few_probes()
    prediction = solution.predict(X_TEST)
    copy = pickle.loads(pickle.dumps(solution))
    assert copy.action == pytest.approx(solution.action, rel=1e-12)
    np.testing.assert_allclose(copy.predict(X_TEST).mean, prediction.mean, rtol=1e-12)
    assert copy.n_roots == 1


def test_bytes_as_people_write_them() -> None:
    assert check_memory("m", "8GB") == 8e9
    assert check_memory("m", " 1.5 gib ") == 1.5 * 2**30
    assert check_memory("m", "300B") == 300
    assert shown_memory(8e9) == "8 GB"
    for wrong in ("8", "GB", "8IB", "0GB", "1e3MB", True, math.inf):
        with pytest.raises(fw.InputError, match=r"^expected m = "):
            check_memory("m", wrong)
