"""A second call with the same shapes compiles nothing, and depth costs the compiler nothing."""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import finwidth as fw
from finwidth._layers.dense import input_covariance, layer_map
from finwidth._layers.order import Scales
from finwidth._layers.stack import Stack, chart, infinite_width, recursion
from finwidth._numerics.precision import float64
from finwidth.activations._rules import prepare
from finwidth.theories._saddle.action import _tile_gradient

COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def compilations() -> Iterator[Callable[[], int]]:
    """Return the function that returns how often something was compiled since its last call."""
    count = 0

    def listen(event: str, *_: object, **__: object) -> None:
        nonlocal count
        count += event == COMPILED

    def since() -> int:
        nonlocal count
        found, count = count, 0
        return found

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield since
    jax.monitoring.unregister_event_duration_listener(listen)


def problem(activation: str, depth: int, number: int) -> tuple:
    """Return a network and data: one shape, all numbers different for each `number`."""
    rng = np.random.default_rng(number)
    X, X_test = 0.6 * rng.normal(size=(11, 4)), 0.6 * rng.normal(size=(5, 4))
    y, y_test = rng.choice([-1.0, 1.0], 11), rng.choice([-1.0, 1.0], 5)
    net = fw.Network((9 + number,) * depth, activation)
    precisions = tuple(1.0 + 0.5 * number + 0.1 * layer for layer in range(depth + 1))
    net = net.replace(weight_precision=precisions, bias_precision=3.0 + number)
    return net, X, y, X_test, y_test, 0.2 + 0.1 * number


def solve(theory: str) -> Callable[..., None]:
    def call(net, X, y, X_test, y_test, temperature):
        solution = fw.solve(net, X, y, temperature=temperature, theory=theory)
        solution.predict(X_test, full_covariance=True)
        solution.generalization_error(X_test, y_test)
        assert np.isfinite(solution.criterion)

    return call


def solve_many(net, X, y, X_test, y_test, temperature):
    test = {"X_test": X_test, "y_test": y_test}
    fw.solve_many(net, X, y, widths=[5, net.widths[0]], temperature=[temperature, 1.0], **test)


def mixture(net, X, y, X_test, y_test, temperature):
    solution = fw.mixture(net, X, y, temperature=temperature)
    solution.generalization_error(X_test, y_test)


def fluctuations(net, X, y, X_test, y_test, temperature):
    fw.fluctuations(fw.solve(net, X, y, temperature=temperature), X_test, y_test)


def diagnostics(net, X, y, X_test, y_test, temperature):
    solution = fw.solve(net, X, y, temperature=temperature)
    fw.diagnostics.width_response(solution, X_test, y_test)
    fw.diagnostics.conditioning(solution)
    fw.diagnostics.roots(solution)


CASES = [
    ("nested", "erf", 1, solve("nested")),
    pytest.param("nested", "relu", 1, solve("nested"), marks=pytest.mark.slow),
    pytest.param("nested", "relu", 2, solve("nested"), marks=pytest.mark.slow),
    pytest.param("nested", "tanh", 2, solve("nested"), marks=pytest.mark.slow),
    pytest.param("adaptive", "tanh", 1, solve("adaptive"), marks=pytest.mark.slow),
    ("wishart", "relu", 2, solve("wishart")),
    ("infinite", "erf", 2, solve("infinite")),
    ("corrected", "erf", 1, solve("corrected")),
    ("adaptive", "erf", 1, solve("adaptive")),
    pytest.param("adaptive", "relu", 1, solve("adaptive"), marks=pytest.mark.slow),
    pytest.param("perturbative", "relu", 1, solve("perturbative"), marks=pytest.mark.slow),
    ("solve_many", "erf", 1, solve_many),
    ("mixture", "relu", 1, mixture),
    ("fluctuations", "erf", 1, fluctuations),
    ("diagnostics", "erf", 1, diagnostics),
    pytest.param("cavity", "erf", 1, solve("cavity"), marks=pytest.mark.slow),
    pytest.param("solve_many", "relu", 2, solve_many, marks=pytest.mark.slow),
    pytest.param("mixture", "erf", 2, mixture, marks=pytest.mark.slow),
    pytest.param("fluctuations", "erf", 2, fluctuations, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("what", "activation", "depth", "call"), CASES)
def test_other_numbers_of_the_same_shapes_compile_nothing(
    what, activation, depth, call, compilations
):
    call(*problem(activation, depth, 0))
    compilations()
    call(*problem(activation, depth, 1))
    assert compilations() == 0


def test_the_counter_counts(compilations):
    jax.jit(lambda x: jnp.sin(x) + 0.123)(jnp.arange(3.0))
    assert compilations() > 0


def layered(net, X, rules, q_bar, shrinkage):
    """The recursion as it is defined, layer by layer."""
    covariance = input_covariance(net, X)
    for layer, rule in enumerate(rules):
        value = Scales(q_bar[layer], shrinkage[layer])
        precision = net.weight_precision[layer + 1]
        covariance = layer_map(net.activation, covariance, value, precision, 0.0, rule)
    return covariance


@pytest.mark.parametrize(
    ("activation", "variances"),
    [
        pytest.param("relu", None, marks=pytest.mark.slow),
        ("tanh", [2.0, 0.5, 0.5, 0.2, 0.2, 0.2]),
    ],
    ids=["one rule", "several rules"],
)
def test_a_deep_recursion_is_the_layer_map_repeated(activation, variances):
    """Also its derivatives: those of a loop against differences of the definition."""
    depth = 6
    rng = np.random.default_rng(0)
    X, cotangent = rng.normal(size=(3, 4)), rng.normal(size=(3, 3))
    net = fw.Network((5,) * depth, activation, weight_precision=tuple(rng.uniform(0.8, 1.2, 7)))
    orders = chart(net, mean=True)
    theta = 0.1 * rng.normal(size=orders.size)
    with float64():
        rules = (None,) * depth
        if variances:
            rules = tuple(prepare(net.activation, c) for c in variances)

        def whole(theta):
            each = len(theta) // depth  # an odd activation has no mean term
            q_bar, shrinkage = np.exp(theta[::each]), np.exp(theta[each - 1 :: each])
            return np.asarray(layered(net, X, rules, q_bar, shrinkage).cross)

        covariance, stack = input_covariance(net, X), Stack.of(net, rules)
        found = recursion(stack, covariance, orders.value(theta))
        np.testing.assert_allclose(found.cross, whole(theta), rtol=1e-13)
        gradient = _tile_gradient(
            recursion, stack, covariance, orders, jnp.asarray(theta), cotangent
        )
        steps = 1e-5 * np.eye(len(theta))
        slopes = [np.sum(cotangent * (whole(theta + h) - whole(theta - h))) / 2e-5 for h in steps]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-9)


def test_the_program_of_a_deep_network_does_not_grow_with_depth():
    """What the compiler is given, which is what its time goes by."""

    def size(depth: int) -> int:
        net = fw.Network((5,) * depth, "relu")
        stack = Stack.of(net, (None,) * depth)
        with float64():
            program = jax.make_jaxpr(functools.partial(recursion, stack))(
                input_covariance(net, np.eye(3)), infinite_width(net)
            )
        return len(str(program).splitlines())

    assert size(24) < 1.1 * size(12)  # some scalars are put into an array
    assert size(12) < 2 * size(1)
