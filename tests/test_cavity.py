"""The cavity theory: its fixed point by independent quadrature, limits, symmetry, error bars."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from scipy.special import erf

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth.theories.cavity import Cavity
from finwidth.theories.cavity._law import LADDER, Law, exchange, fields, importance, move, ratios

FEW = Cavity(particles=248, seed=1, tolerance=0.1, progress=False)


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
    assert np.max(np.abs(prediction.mean - mean) / prediction.standard_error) < 4.5
    assert np.max(np.abs(prediction.variance - np.diag(covariance)) / prediction.variance_error) < 5
    # and the bars are small enough to say something: infinite width is far outside
    wide = fw.solve(
        problem.network, problem.X, problem.y, temperature=problem.temperature, theory="infinite"
    ).predict(problem.X_test)
    distance = np.abs(wide.variance - np.diag(covariance)) / prediction.variance_error
    assert np.max(distance) > 8


def test_covariance_has_the_variance_as_its_diagonal(solved) -> None:
    problem, solution, (_, covariance, _) = solved
    whole = solution.predict(problem.X_test, full_covariance=True)
    np.testing.assert_allclose(
        np.diag(whole.covariance), solution.predict(problem.X_test).variance, rtol=1e-9
    )
    np.testing.assert_allclose(whole.covariance, covariance, atol=0.1 * np.max(covariance))


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
    assert solution.converged and solution.residual < 0.2
    assert np.isnan(solution.action) and np.isnan(solution.log_evidence)
    order = solution.order_parameters
    assert order.q_bar.dims == ("layer",)
    assert order.attrs["effective_particles"] < order.attrs["particles"]


@pytest.mark.slow
def test_error_bars_are_calibrated_over_seeds() -> None:
    problem = case("erf on a line")
    mean, covariance, _ = quadrature(problem)
    scores = []
    for seed in range(8):
        prediction = problem.solve(dataclasses.replace(FEW, seed=seed)).predict(problem.X_test)
        scores.append((prediction.mean - mean) / prediction.standard_error)
        scores.append((prediction.variance - np.diag(covariance)) / prediction.variance_error)
    # squares of Student's t with 7 degrees of freedom have mean 1.4
    assert 0.3 < np.mean(np.square(scores)) < 3.5


@pytest.mark.slow
def test_wide_network_is_the_infinite_one_within_error_bars() -> None:
    rng = np.random.default_rng(0)
    X, X_test, y = rng.normal(size=(6, 4)), rng.normal(size=(5, 4)), rng.normal(size=6)
    net = fw.Network((10**7,), "tanh", bias_precision=2.0)
    solution = fw.solve(net, X, y, temperature=0.2, theory=FEW)
    prediction = solution.predict(X_test)
    exact = fw.solve(net, X, y, temperature=0.2, theory="infinite").predict(X_test)
    assert np.max(np.abs(prediction.mean - exact.mean) / prediction.standard_error) < 5
    assert np.max(np.abs(prediction.variance - exact.variance) / prediction.variance_error) < 5
    # the trace of the kernel varies by less than half its mean from neuron to neuron
    order = solution.order_parameters
    assert abs(float(order.q_bar[0]) - 1) < 5 * 0.5 / np.sqrt(order.attrs["effective_particles"])


@pytest.mark.slow
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
    # the law of a neuron is the same, so the same draws sample it: equal but for rounding that
    # grows along the chains
    for name, power, error in (("mean", 1, "standard_error"), ("variance", 2, "variance_error")):
        difference = getattr(other, name) / scale**power - getattr(one, name)
        assert np.max(np.abs(difference) / getattr(one, error)) < 5


def test_odd_activation_without_biases_gives_an_odd_mean() -> None:
    problem = case("erf on a line")
    solution = problem.solve()
    forth, back = solution.predict(problem.X_test), solution.predict(-problem.X_test)
    np.testing.assert_allclose(back.mean, -forth.mean, rtol=1e-9)
    np.testing.assert_allclose(back.variance, forth.variance, rtol=1e-9)


@pytest.mark.slow
def test_walkers_cross_between_separated_modes_and_sample_the_law() -> None:
    # one pattern, one weight, fixed a and C: the law has modes at the prior and far from it
    activation = fw.get_activation("erf")
    dual, coupling, size = 8.0, 12.0, 0.5
    with float64():
        law = Law(jnp.full((1, 1), dual), jnp.full((1, 1, 1), coupling))
        features, one = jnp.full((1, 1), size), jnp.asarray(1.0)
        z = random.normal(random.key(0), (1, 8, LADDER.size, 1), jnp.float64)
        step = jnp.full(LADDER.size, 0.25)

        def iteration(z, index):
            first, second = random.split(random.fold_in(random.key(1), index))
            z, _ = move(activation, features, one, law, first, z, step)
            _, u, q = fields(activation, features, one, law, z)
            places = exchange(second, u, q, index % 2)
            return jnp.take_along_axis(z, places[..., None], axis=2), (u, q, ratios(u, q))

        _, (u, q, log_ratio) = jax.lax.scan(iteration, z, jnp.arange(600))
        averaged = jnp.log(jnp.mean(jnp.exp(log_ratio[50:]), axis=0))
        weights = np.asarray(jax.vmap(lambda u, q: importance(averaged, u, q))(u[50:], q[50:]))
        values = np.asarray(q[50:])
    x = np.linspace(-10, 10, 20001)
    phi = erf(size * x)
    u, q = dual * phi, coupling * phi**2
    prior = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi) * (x[1] - x[0])
    rho = prior * np.exp(u**2 / (2 * (1 + q))) / np.sqrt(1 + q)
    normalizer = np.sum(rho)
    assert np.mean(weights) == pytest.approx(normalizer, rel=0.03)
    found = np.sum(weights * values) / np.sum(weights)
    assert found == pytest.approx(np.sum(rho * q) / normalizer, rel=0.03)


@pytest.mark.slow
def test_same_seed_same_solution_other_seed_another() -> None:
    problem = case("erf on a line")
    first, again = problem.solve(), problem.solve()
    other = problem.solve(dataclasses.replace(FEW, seed=2))
    mean = first.predict(problem.X_test).mean
    np.testing.assert_array_equal(mean, again.predict(problem.X_test).mean)
    assert not np.array_equal(mean, other.predict(problem.X_test).mean)


def test_depth_and_zero_temperature_are_refused_before_any_work() -> None:
    problem = case("erf on a line")
    with pytest.raises(fw.InputError, match="one hidden layer"):
        fw.solve(fw.Network((3, 3), "erf"), problem.X, problem.y, temperature=0.1, theory="cavity")
    with pytest.raises(fw.InputError, match="temperature"):
        fw.solve(problem.network, problem.X, problem.y, temperature=0.0, theory="cavity")


@pytest.mark.parametrize(
    "settings",
    [
        {"particles": 0},
        {"particles": 2**40},
        {"seed": -1},
        {"seed": 2**63},
        {"tolerance": 0.0},
        {"tolerance": "small"},
        {"max_iterations": 0},
        {"progress": 1},
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_settings_are_checked(settings: dict) -> None:
    with pytest.raises(fw.InputError, match=next(iter(settings))):
        Cavity(**settings)


@pytest.mark.slow
def test_a_bar_that_stays_too_large_is_an_error_with_the_best_point() -> None:
    problem = case("erf on a line")
    with pytest.raises(fw.ConvergenceError, match="standard error") as failure:
        problem.solve(Cavity(particles=31, tolerance=1e-6, max_iterations=400, progress=False))
    assert not failure.value.best.converged
    assert np.all(np.isfinite(failure.value.best.predict(problem.X_test).mean))


@pytest.mark.slow
def test_every_seed_of_63_bits_is_another() -> None:
    problem = case("erf on a line")
    few = dataclasses.replace(FEW, particles=31, tolerance=0.3)
    means = [
        problem.solve(dataclasses.replace(few, seed=seed)).predict(problem.X_test).mean
        for seed in (2**63 - 1, 2**32 - 1)  # one by the lower half of its bits
    ]
    assert np.all(np.isfinite(means))
    assert not np.array_equal(means[0], means[1])


@pytest.mark.usefixtures("unchecked_types")
def test_settings_are_plain_numbers() -> None:
    """However they were given, so that equal settings are equal theories."""
    given = Cavity(particles=np.int32(62), seed=np.uint8(3), tolerance=np.float64(0.5))
    assert given == Cavity(particles=62, seed=3, tolerance=0.5)
    assert {type(value) for value in dataclasses.asdict(given).values()} == {int, float, bool}
