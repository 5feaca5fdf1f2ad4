"""The cavity theory: its fixed point by independent quadrature, limits, symmetries, error bars."""

import dataclasses
import functools

import numpy as np
import pytest
from scipy.special import erf

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth.theories.cavity import Cavity
from finwidth.theories.cavity._law import at, dual_value, weights
from finwidth.theories.cavity._moves import Sample
from finwidth.theories.cavity._points import Cloud, Given, Nodes, draw, normals
from finwidth.theories.cavity._values import activate

FEW = Cavity(points=256, progress=False)


@dataclasses.dataclass(frozen=True)
class Case:
    """A problem whose neurons have two weights, so that a grid can hold their law."""

    network: fw.Network
    X: np.ndarray
    y: np.ndarray
    temperature: float
    X_test: np.ndarray

    def solve(self, theory=FEW):
        return fw.solve(self.network, self.X, self.y, temperature=self.temperature, theory=theory)


def case(name: str) -> Case:
    if name == "relu with biases":
        return Case(
            fw.Network((4,), "relu", weight_precision=(0.5, 2.0), bias_precision=(1.5, 3.0)),
            np.array([[-1.0], [-0.2], [0.7], [1.5]]),
            np.array([1.2, -0.4, 0.3, 2.0]),
            0.1,
            np.array([[-2.0], [0.1], [1.0], [0.7]]),
        )
    # the training patterns lie on a line, the test patterns do not
    return Case(
        fw.Network((3,), "erf", weight_precision=(0.4, 0.5)),
        np.array([[1.0, 2.0], [-0.3, -0.6], [0.6, 1.2]]),
        np.array([1.8, -0.9, 0.2]),
        0.05,
        np.array([[2.0, -1.0], [0.5, 1.0], [1.0, 0.0]]),
    )


def quadrature(problem: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Solve the equations as the documentation has them, on a grid: mean, covariance, a."""
    net, n = problem.network, problem.network.widths[0]
    l0, l1 = net.weight_precision
    patterns = np.concatenate([problem.X, problem.X_test]) / np.sqrt(problem.X.shape[1])
    scales, shift = [1 / np.sqrt(l0)] * patterns.shape[1], 0.0
    if net.bias_precision is not None:
        patterns = np.column_stack([patterns, np.ones(len(patterns))])
        scales, shift = [*scales, 1 / np.sqrt(net.bias_precision[0])], 1 / net.bias_precision[1]
    nodes = np.linspace(-7.5, 7.5, 151)
    z = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    prior = np.exp(-0.5 * np.sum(z**2, axis=1))
    h = (z * scales) @ patterns.T
    phi = (np.maximum(h, 0) if net.activation.name == "relu" else erf(h)) / np.sqrt(l1)
    p = len(problem.y)
    train, noise = phi[:, :p], problem.temperature * np.eye(p) + shift

    def moments(a: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u = train @ a
        q = np.sum((train @ c) * train, axis=1) / n
        rho = prior * np.exp(u**2 / (2 * n * (1 + q))) / np.sqrt(1 + q)
        rho /= np.sum(rho)
        k1 = (phi * (rho / (1 + q))[:, None]).T @ train
        second = rho * (1 / (1 + q) + u**2 / (n * (1 + q) ** 2))
        return k1, (phi * second[:, None]).T @ phi

    wide = noise + train.T @ (train * prior[:, None]) / np.sum(prior)
    a, c = np.linalg.solve(wide, problem.y), np.linalg.inv(wide)
    for _ in range(150):
        k1, k2 = moments(a, c)
        m = k1 @ a
        s = k2 - np.outer(m, m) / n
        new_a = np.linalg.solve(noise + k1[:p], problem.y)
        new_c = np.linalg.inv(noise + s[:p, :p])
        change = np.max(np.abs(new_a - a)) + np.max(np.abs(new_c - c))
        a, c = 0.5 * (a + new_a), 0.5 * (c + new_c)
    assert change < 1e-9
    cross = s[p:, :p] + shift
    covariance = s[p:, p:] + shift - cross @ c @ cross.T
    return k1[p:] @ a + shift * np.sum(a), covariance, a


@pytest.fixture(
    scope="module",
    params=[pytest.param("relu with biases", marks=pytest.mark.slow), "erf on a line"],
)
def solved(request):
    problem = case(request.param)
    return problem, problem.solve(), quadrature(problem)


def test_fixed_point_agrees_with_quadrature_within_its_error_bars(solved) -> None:
    problem, solution, (mean, covariance, _) = solved
    prediction = solution.predict(problem.X_test)
    for found, exact, error in (
        (prediction.mean, mean, prediction.standard_error),
        (prediction.variance, np.diag(covariance), prediction.variance_error),
    ):
        # besides the points: the grid at a kink, the rule for what lies outside the span
        assert np.all(np.abs(found - exact) < 6 * error + 1e-3)
        assert np.max(error) < 0.02
    # which says something: infinite width is far outside
    wide = fw.solve(
        problem.network, problem.X, problem.y, temperature=problem.temperature, theory="infinite"
    ).predict(problem.X_test)
    distance = np.abs(wide.variance - np.diag(covariance)) / prediction.variance_error
    assert np.max(distance) > 8


def test_covariance_between_test_patterns_agrees_with_quadrature(solved) -> None:
    problem, solution, (_, covariance, _) = solved
    whole = solution.predict(problem.X_test, full_covariance=True)
    np.testing.assert_allclose(
        np.diag(whole.covariance), solution.predict(problem.X_test).variance, rtol=1e-9
    )
    np.testing.assert_allclose(whole.covariance, covariance, atol=0.01 * np.max(covariance))


def test_predictions_do_not_depend_on_the_other_test_points(solved) -> None:
    problem, solution, _ = solved
    together = solution.predict(problem.X_test)
    alone = solution.predict(problem.X_test[1:2])
    np.testing.assert_allclose(alone.mean, together.mean[1:2], rtol=1e-9)
    np.testing.assert_allclose(alone.variance, together.variance[1:2], rtol=1e-9)


def test_error_is_bias_and_variance_of_the_prediction(solved) -> None:
    problem, solution, (mean, _, _) = solved
    prediction = solution.predict(problem.X_test)
    error = solution.generalization_error(problem.X_test, mean + 1.0)
    assert float(error.error) == pytest.approx(
        np.mean((mean + 1.0 - prediction.mean) ** 2 + prediction.variance), rel=1e-9
    )
    assert 0 < float(error.error_se) < 0.1 * float(error.error)


def test_diagnostics(solved) -> None:
    _, solution, _ = solved
    assert solution.converged and solution.residual <= 1e-4
    assert np.isnan(solution.action) and np.isnan(solution.log_evidence)
    order = solution.order_parameters
    assert order.q_bar.dims == ("layer",)
    assert order.attrs["effective_points"] < order.attrs["points"] * order.attrs["nodes"]


def law_on_points(name: str, seed: int = 0):
    """Points for a problem with eight patterns, C and a that solve nothing."""
    rng = np.random.default_rng(seed)
    net = fw.Network((7,), name, bias_precision=2.0)
    features = rng.normal(size=(8, 5))
    kernel = features @ features.T + np.eye(8)
    given = Given(features, 1.3, 0.2, 0.2 * np.eye(8) + 0.5, rng.normal(size=8), kernel, False)
    lower = np.linalg.cholesky(given.noise + kernel)
    a = rng.normal(size=8)
    function = functools.partial(activate, net.activation)
    nodes = Nodes.prior(5, False)
    for _ in range(3):
        nodes = nodes.fitted(given, function, a / np.sqrt(7), np.sqrt(7) * lower)
    return (
        given,
        draw(given, function, nodes, normals(nodes.mean.shape, 16, (seed,)), 0.7),
        lower,
        a,
    )


@pytest.mark.parametrize("name", ["erf", "relu"])
def test_derivatives_of_the_dual_function_on_few_points(name) -> None:
    """The identities between D, m and S hold for any weighted points, here far too few."""
    with float64():
        given, cloud, lower, a = law_on_points(name)
    _, slope, moments = dual_value(given, cloud, 7.0, lower, a)
    h = 1e-5
    for direction in np.eye(8):
        (up, high, _), (down, low, _) = (
            dual_value(given, cloud, 7.0, lower, a + sign * h * direction) for sign in (1, -1)
        )
        assert (up - down) / (2 * h) == pytest.approx(slope @ direction, rel=1e-6, abs=1e-6)
        np.testing.assert_allclose(
            (high - low) / (2 * h), -(given.noise + moments) @ direction, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("name", ["erf", "relu"])
def test_the_dual_is_found_from_anywhere(name) -> None:
    with float64():
        given, cloud, lower, a = law_on_points(name)
    found = [at(given, cloud, 7.0, lower, start).dual for start in (0 * a, a, -10 * a)]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-4)
    value, slope, _ = dual_value(given, cloud, 7.0, lower, found[0])
    assert np.linalg.norm(slope) < 1e-3
    assert value >= dual_value(given, cloud, 7.0, lower, a)[0]


@pytest.mark.parametrize("name", ["relu", pytest.param("tanh", marks=pytest.mark.slow)])
def test_infinite_width_is_exact(name) -> None:
    """The moments of the law are those of the prior, known without points."""
    rng = np.random.default_rng(0)
    X, X_test, y = rng.normal(size=(6, 4)), rng.normal(size=(5, 4)), rng.normal(size=6)
    net = fw.Network((10**9,), name, bias_precision=2.0)
    prediction = fw.solve(net, X, y, temperature=0.2, theory=FEW).predict(X_test)
    exact = fw.solve(net, X, y, temperature=0.2, theory="infinite").predict(X_test)
    np.testing.assert_allclose(prediction.mean, exact.mean, atol=1e-6)
    np.testing.assert_allclose(prediction.variance, exact.variance, atol=1e-6)


def noisy(seed: int = 0, patterns: int = 12, inputs: int = 6):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(patterns, inputs))
    return X, np.sign(X[:, 0]) + 0.1 * rng.normal(size=patterns), rng.normal(size=(7, inputs))


def test_the_same_numbers_at_every_run() -> None:
    X, y, X_test = noisy()
    net = fw.Network((8,), "erf")
    first, again, other = (
        fw.solve(net, X, y, temperature=0.1, theory=dataclasses.replace(FEW, seed=seed)).predict(
            X_test
        )
        for seed in (0, 0, 2**63 - 1)
    )
    np.testing.assert_array_equal(first.mean, again.mean)
    np.testing.assert_array_equal(first.variance, again.variance)
    assert not np.array_equal(first.mean, other.mean)
    assert np.max(np.abs(first.mean - other.mean)) < 0.05


def test_the_order_of_the_patterns_matters_less_than_the_error_bar() -> None:
    X, y, X_test = noisy()
    net, order = fw.Network((8,), "erf"), np.random.default_rng(1).permutation(len(y))
    one, other = (
        fw.solve(net, X[rows], y[rows], temperature=0.1, theory=FEW).predict(X_test)
        for rows in (np.arange(len(y)), order)
    )
    for name, error in (("mean", "standard_error"), ("variance", "variance_error")):
        bar = np.hypot(getattr(one, error), getattr(other, error))
        assert np.all(np.abs(getattr(one, name) - getattr(other, name)) < 6 * bar + 1e-9)


def test_scaling_of_labels_readout_precision_and_temperature() -> None:
    problem, scale = case("erf on a line"), 7.0
    first, last = problem.network.weight_precision
    scaled = dataclasses.replace(
        problem,
        network=problem.network.replace(weight_precision=(first, last / scale**2)),
        y=scale * problem.y,
        temperature=scale**2 * problem.temperature,
    )
    one, other = (each.solve().predict(problem.X_test) for each in (problem, scaled))
    np.testing.assert_allclose(other.mean, scale * one.mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(other.variance, scale**2 * one.variance, rtol=1e-6)


def test_odd_activation_without_biases_gives_an_odd_mean() -> None:
    problem = case("erf on a line")
    solution = problem.solve()
    forth, back = solution.predict(problem.X_test), solution.predict(-problem.X_test)
    np.testing.assert_allclose(back.mean, -forth.mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(back.variance, forth.variance, rtol=1e-9)


def test_points_reproduce_a_law_with_separated_modes() -> None:
    """One pattern, one weight, fixed a and C: modes at the prior and far from it."""
    dual, coupling, size = 8.0, 12.0, 0.5
    one = np.ones((1, 1))
    given = Given(size * one, 1.0, 0.1, 0.1 * one, np.ones(1), one, True)
    lower, nodes = one / np.sqrt(coupling), Nodes.prior(1, True)
    function = functools.partial(activate, fw.get_activation("erf"))
    with float64():
        for _ in range(20):
            nodes = nodes.fitted(given, function, np.array([dual]), lower)
        while nodes.v[-1] < 9:
            nodes = nodes.grown(False)
            for _ in range(10):
                nodes = nodes.fitted(given, function, np.array([dual]), lower)
        cloud = draw(given, function, nodes, normals(nodes.mean.shape, 1024, (0,)), 0.0)
    phi = cloud.phi[:, 0]
    u, q = dual * phi, coupling * phi**2
    weights = np.exp(cloud.log_prior + 0.5 * u**2 / (1 + q)) / np.sqrt(1 + q)
    x = np.linspace(-10, 10, 20001)
    exact_phi = erf(size * x)
    exact_u, exact_q = dual * exact_phi, coupling * exact_phi**2
    prior = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi) * (x[1] - x[0])
    rho = prior * np.exp(exact_u**2 / (2 * (1 + exact_q))) / np.sqrt(1 + exact_q)
    assert np.sum(weights) == pytest.approx(np.sum(rho), rel=0.01)
    found = np.sum(weights * q) / np.sum(weights)
    assert found == pytest.approx(np.sum(rho * exact_q) / np.sum(rho), rel=0.01)


def test_moved_points_have_the_law_for_any_a_and_C() -> None:
    """Drawn again and moved at one a and C; with their weights they give any other's moments."""
    activation = fw.get_activation("erf")
    features = np.array([[1.2, 0.3], [-0.4, 0.9], [0.8, -0.7]])
    x, height = np.polynomial.hermite_e.hermegauss(60)
    grid = np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1).reshape(-1, 2)
    prior = np.outer(height, height).ravel() / np.sum(height) ** 2
    values = erf(grid @ features.T)
    kernel = (values * prior[:, None]).T @ values
    given = Given(features, 1.0, 0.1, 0.1 * np.eye(3), np.array([2.0, -1.0, 0.5]), kernel, True)
    rng = np.random.default_rng(0)
    with float64():
        z = rng.normal(size=(4096, 2))
        phi = activate(activation, z @ features.T)
        even = Cloud(phi, np.full(4096, -np.log(4096.0)), np.zeros((3, 3)), 0.0)
        at_one = 5.0, kernel, np.linalg.solve(given.noise + kernel, given.y)
        found = Sample(z, even).carried(
            given, activation, at_one, 0.0, groups=2, count=2048, seed=(0,)
        )
        for a in (at_one[2], 0.5 * at_one[2]):
            lower = np.linalg.cholesky(given.noise + 1.5 * kernel)
            weight, _ = weights(given, found.cloud, 5.0, lower, a)
            whole = Cloud(values, np.log(prior), np.zeros((3, 3)), 0.0)
            exact, _ = weights(given, whole, 5.0, lower, a)
            np.testing.assert_allclose(
                (found.cloud.phi * weight[:, None]).T @ found.cloud.phi,
                (values * exact[:, None]).T @ values,
                atol=0.03,
            )
    assert not np.array_equal(found.points, z)
    group = found.group(1)
    np.testing.assert_array_equal(group.points, found.points[2048:])


def test_the_identity_is_exact_at_leading_order() -> None:
    """As many patterns as neurons: what is left is of relative order 1/N_1."""
    rng, n = np.random.default_rng(1), 40
    X, teacher, X_test = rng.normal(size=(n, n)), rng.normal(size=n), rng.normal(size=(50, n))
    y, y_test = (2 * (x @ teacher) / np.sqrt(n) for x in (X, X_test))
    net = fw.Network((n,), "identity")

    def error(solution) -> float:
        return float(solution.generalization_error(X_test, y_test).error)

    exact = error(fw.mixture(net, X, y, temperature=0.1, theory="nested"))
    found = error(fw.solve(net, X, y, temperature=0.1, theory=FEW))
    wide = error(fw.solve(net, X, y, temperature=0.1, theory="infinite"))
    assert found == pytest.approx(exact, rel=0.5 / n)
    assert wide > (1 + 2 / n) * exact


def test_a_law_that_runs_away_is_refused_with_the_width_that_was_reached() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(4, 3)), 2 * np.sign(rng.normal(size=4))
    theory = Cavity(points=64, memory_limit="500kB", progress=False)
    with pytest.raises(fw.ConvergenceError, match=r"runs away at width [\d.]+: .* points a node"):
        fw.solve(fw.Network((1,), "relu"), X, y, temperature=0.01, theory=theory)


def test_starts_elsewhere_lead_to_the_same_fixed_point() -> None:
    problem = case("erf on a line")
    assert problem.solve().n_roots == 1


@pytest.mark.slow
def test_random_labels_are_carried_by_moved_points() -> None:
    """Long chains of neurons at their stationary state give 1.880 ± 0.004 for the equations."""
    data = fw.load_dataset("random", n_train=60, n_test=100)
    net = fw.Network((50,), "erf")
    solution = fw.solve(
        net, data.X_train, data.y_train, temperature=0.1, theory=Cavity(progress=False)
    )
    result = solution.generalization_error(data.X_test, data.y_test)
    assert solution.order_parameters.attrs["effective_points"] > 1000
    assert float(result.error_se) < 0.005 * float(result.error)
    assert abs(float(result.error) - 1.880) < 4 * np.hypot(0.004, float(result.error_se))


@pytest.mark.slow
@pytest.mark.parametrize("width", [50, 70, 92, 100])
def test_moved_points_all_count_wherever_they_began_to_move(width: int) -> None:
    """At 92 and 100 that is at the last width, at a step where nodes come to rest."""
    data = fw.load_dataset("random", n_train=60, n_test=100)
    net, theory = fw.Network((width,), "erf"), Cavity(progress=False)
    fit = fw.solve(net, data.X_train, data.y_train, temperature=0.1, theory=theory).fit
    assert fit.points == 1024
    for one in fit.replicates:
        assert one.points is not None
        assert one.law.effective > 0.5 * one.law.weight.size


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theory", "seeds"),
    [(FEW, 32), (Cavity(tolerance=0.001, progress=False), 16)],
    ids=["points", "tolerance"],
)
def test_error_bars_are_calibrated_over_seeds(theory: Cavity, seeds: int) -> None:
    X, y, X_test = noisy()
    net = fw.Network((8,), "erf")

    def predicted(theory: Cavity):
        return fw.solve(net, X, y, temperature=0.1, theory=theory).predict(X_test)

    exact = predicted(Cavity(points=8192, seed=99, progress=False))
    scores = []
    for seed in range(seeds):
        found = predicted(dataclasses.replace(theory, seed=1000 * seed))
        scores.append((found.mean - exact.mean) / found.standard_error)
        scores.append((found.variance - exact.variance) / found.variance_error)
    # squares of Student's t with 7 degrees of freedom have median 0.51 and mean 7/5
    assert 0.25 < np.median(np.square(scores)) < 0.85
    assert 0.8 < np.mean(np.square(scores)) < 2.4


@pytest.mark.slow
def test_where_the_branch_ends_the_error_names_the_width() -> None:
    """ReLU on the digits: a fixed point at 80, none below about 60 (chains of neurons agree)."""
    data = fw.load_dataset("digits", n_train=100, n_test=100)
    arguments = (data.X_train, data.y_train)
    theory = Cavity(points=1024, progress=False)
    fw.solve(fw.Network((80,), "relu"), *arguments, temperature=0.01, theory=theory)
    with pytest.raises(fw.ConvergenceError, match=r"runs away at width [56]\d"):
        fw.solve(fw.Network((20,), "relu"), *arguments, temperature=0.01, theory=theory)


def test_depth_and_zero_temperature_are_refused_before_any_work() -> None:
    problem = case("erf on a line")
    with pytest.raises(fw.InputError, match="one hidden layer"):
        fw.solve(fw.Network((3, 3), "erf"), problem.X, problem.y, temperature=0.1, theory="cavity")
    with pytest.raises(fw.InputError, match="temperature"):
        fw.solve(problem.network, problem.X, problem.y, temperature=0.0, theory="cavity")


def test_points_that_do_not_fit_into_memory_are_refused_before_any_work() -> None:
    with pytest.raises(fw.InputError, match="expected memory_limit = at least .* for 4096 points"):
        case("erf on a line").solve(Cavity(points=4096, memory_limit=1e6, progress=False))
    with pytest.raises(fw.InputError, match="expected memory_limit"):
        case("erf on a line").solve(Cavity(memory_limit=1e3, progress=False))


@pytest.mark.parametrize(
    "settings",
    [
        {"points": 0},
        {"points": 1000},
        {"points": 2**21},
        {"points": 1024.0},
        {"seed": -1},
        {"seed": 2**63},
        {"tolerance": 0.0},
        {"tolerance": "small"},
        {"memory_limit": 0},
        {"memory_limit": "much"},
        {"progress": 1},
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_settings_are_checked(settings: dict) -> None:
    with pytest.raises(fw.InputError, match=next(iter(settings))):
        Cavity(**settings)


@pytest.mark.usefixtures("unchecked_types")
def test_settings_are_plain_numbers() -> None:
    """However they were given, so that equal settings are equal theories."""
    given = Cavity(points=np.int32(64), seed=np.uint8(3), tolerance=np.float64(0.5))
    assert given == Cavity(points=64, seed=3, tolerance=0.5)
    assert {type(value) for value in dataclasses.asdict(given).values()} == {int, float, bool}
