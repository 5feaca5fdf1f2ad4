"""Copies: what a user holds survives pickle, copy and other processes, to the last bit."""

import copy
import dataclasses
import functools
import multiprocessing
import pickle
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import finwidth as fw
from finwidth._plugins import registry as _plugins
from finwidth.theories.cavity import Cavity

cloudpickle = pytest.importorskip("cloudpickle")

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(6, 3)), RNG.normal(size=6)
X_TEST, Y_TEST = RNG.normal(size=(4, 3)), RNG.normal(size=4)

WAYS = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "cloudpickle": lambda value: pickle.loads(cloudpickle.dumps(value)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def softsign(h):
    return h / (1.0 + jnp.abs(h))


@jax.jit
def cubic(h):
    return jnp.tanh(h) + 0.1 * jnp.tanh(h) ** 3


def second_moment(c_xx, c_xy, c_yy):
    return jnp.arcsin(c_xy / jnp.sqrt((1.0 + c_xx) * (1.0 + c_yy)))


ACTIVATIONS = {
    "erf": fw.get_activation("erf"),
    "identity": fw.get_activation("identity"),
    "relu": fw.get_activation("relu"),
    "tanh": fw.get_activation("tanh"),
    "function": fw.Activation("softsign", softsign, parity="odd"),
    "compiled function": fw.Activation("cubic", cubic, parity="odd"),
    "function of jax.numpy": fw.Activation("sine", jnp.sin, parity="odd"),
    "function with derivatives": fw.Activation("relu6", jax.nn.relu6),
    "own kernel": fw.Activation("mine", softsign, "odd", second_moment, jnp.zeros_like, "here"),
    "other function of a registered name": fw.Activation("erf", jnp.sin, parity="odd"),
}


@every_way
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_networks_and_activations_are_the_same_afterwards(activation, way):
    net = fw.Network((4, 3), activation, (1.0, 0.1, 1 / 3), bias_precision=0.7)
    for value in (activation, net):
        other = way(value)
        assert other == value and hash(other) == hash(value)
        assert repr(other) == repr(value)
    assert way(net).activation.fn is activation.fn


def test_partial_function_is_carried_with_its_arguments():
    leaky = functools.partial(jax.nn.leaky_relu, negative_slope=0.25)
    other = WAYS["pickle"](fw.Activation("leaky", leaky))
    assert float(other.fn(-2.0)) == -0.5
    assert other.digest == fw.Activation("leaky", leaky).digest


def test_function_without_a_name_needs_cloudpickle():
    net = fw.Network((4,), fw.Activation("squared", lambda h: h * h))
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda") as caught:
        pickle.dumps(net)
    assert "\n" not in str(caught.value)
    assert copy.deepcopy(net) == net
    other = WAYS["cloudpickle"](net)
    assert other.record() == net.record()
    assert float(other.activation.fn(3.0)) == 9.0


@pytest.fixture
def plugins(monkeypatch):
    """A registry of this test's own; the function registers an activation in it."""

    def register(name, fn):
        class Plugin:
            @fw.hookimpl
            def finwidth_register_activations(self) -> list[fw.Activation]:
                return [fw.Activation(name, fn, parity="odd")]

        monkeypatch.setattr(_plugins, "_current", None)
        if fn is not None:
            fw.register_plugin(Plugin(), "plugin")

    return register


def test_registered_activation_is_pickled_as_its_name(plugins):
    plugins("swirl", lambda h: jnp.sin(h))
    net = fw.Network((3,), "swirl")
    content = pickle.dumps(net)
    assert pickle.loads(content) == net
    plugins("swirl", lambda h: jnp.sin(1.0 * h))  # the plugin again, in another process
    assert pickle.loads(content).activation is fw.get_activation("swirl")
    plugins("swirl", lambda h: jnp.sin(1.001 * h))
    with pytest.raises(fw.PluginError, match=r"'swirl'.* the same functions, got other ones"):
        pickle.loads(content)
    plugins("swirl", None)
    with pytest.raises(fw.PluginError, match=r"expected activation 'swirl'.*, got none"):
        pickle.loads(content)


class Gain:
    """An activation's function as an object; what it computes can be changed behind a pickle."""

    gain = 1.0

    def __call__(self, h):
        return jnp.tanh(self.gain * h)


def test_functions_that_changed_since_are_refused(monkeypatch):
    """A pickle holds where a function is, so it may find another one there."""
    by_place = fw.Network((3,), fw.Activation("softsign", softsign, parity="odd"))
    by_class = fw.Network((3,), fw.Activation("gain", Gain(), parity="odd"))
    contents = [pickle.dumps(net) for net in (by_place, by_class)]
    assert pickle.loads(contents[0]) == by_place
    assert pickle.loads(contents[1]).record() == by_class.record()

    def softsign_edited(h):
        return h / (1.0 + 2.0 * jnp.abs(h))

    softsign_edited.__qualname__ = "softsign"
    monkeypatch.setitem(globals(), "softsign", softsign_edited)
    monkeypatch.setattr(Gain, "gain", 2.0)
    for content, name in zip(contents, ("softsign", "gain"), strict=True):
        with pytest.raises(fw.PluginError, match=f"'{name}'.* got other ones"):
            pickle.loads(content)


@dataclasses.dataclass(frozen=True)
class Labelled(fw.Activation):
    """An activation with a field of a user's own."""

    label: str = "none"


@every_way
def test_fields_of_a_subclass_are_kept(way):
    other = way(Labelled("sine", jnp.sin, label="mine"))
    assert type(other) is Labelled and other.label == "mine"


def test_compiled_function_of_a_script(monkeypatch):
    """What a script compiles is found in it; a process without it gets the function itself."""
    script = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", script)

    def squash(h):
        return jnp.tanh(h) ** 3

    squash.__module__, squash.__qualname__ = "__main__", "squash"
    compiled = jax.jit(squash)
    monkeypatch.setattr(script, "squash", compiled, raising=False)
    activation = fw.Activation("squash", compiled, parity="odd")
    content = pickle.dumps(activation)
    assert pickle.loads(content).fn is compiled
    monkeypatch.delattr(script, "squash")
    other = pickle.loads(content)
    assert other.digest == activation.digest
    assert np.array_equal(other.fn(jnp.asarray(X)), activation.fn(jnp.asarray(X)))


# What an activation is


def test_digest_tells_functions_apart_and_not_machines():
    same = [
        jax.nn.sigmoid,
        lambda h: 0.5 * (1.0 + jnp.tanh(0.5 * h)),
        lambda h: jnp.where(h > 0, 1 / (1 + jnp.exp(-h)), jnp.exp(h) / (1 + jnp.exp(h))),
    ]
    same = {fw.Activation(f"s{i}", fn).digest for i, fn in enumerate(same)}
    assert len(same) == 1  # equal but for their last bits
    others = [
        lambda h: jax.nn.sigmoid(1.000001 * h),
        lambda h: jax.nn.sigmoid(h) + jnp.where(h > 1e4, h, 0.0),
        lambda h: 1e-20 * jnp.tanh(h),
        lambda h: 2e-20 * jnp.tanh(h),
        jnp.zeros_like,
        lambda h: jnp.sin(2 * jnp.pi * 64 * h),  # zero at all fractions of 64
        jax.nn.gelu,
        functools.partial(jax.nn.gelu, approximate=False),
    ]
    others = {fw.Activation("s", fn).digest for fn in others}
    assert len(others | same) == 9 and None not in others


@pytest.mark.parametrize(
    "make",
    [
        lambda t: lambda h: jnp.where(h > 0.5 + t, 1.0, 0.0),
        lambda t: lambda h: jnp.where(jnp.abs(h) > 0.01 + t, h, 0.0),
        lambda t: lambda h: jnp.tanh(h) + jnp.exp(-(((h - 0.3) / (0.004 + t)) ** 2)),
        lambda t: lambda h: jnp.tanh(h / (0.001 + t)),
        lambda t: lambda h: jnp.where(jnp.abs(h) < 1e-6, t, jnp.sin(h)),
    ],
    ids=["step", "threshold", "bump", "steep", "origin"],
)
def test_digest_sees_what_happens_between_few_points(make):
    """Functions that differ in a narrow interval only."""
    digests = {fw.Activation("s", make(t)).digest for t in (0.0, 0.001)}
    assert len(digests) == 2 and None not in digests


def test_digest_knows_parity_and_moments():
    kinds = [
        fw.Activation("s", jnp.tanh),
        fw.Activation("s", jnp.tanh, "odd"),
        fw.Activation("s", jnp.tanh, "odd", second_moment),
        fw.Activation("s", jnp.tanh, "odd", second_moment, jnp.zeros_like),
        fw.Activation("s", jnp.tanh, "odd", mean=jnp.zeros_like),
    ]
    assert len({one.digest for one in kinds}) == 5
    assert fw.Activation("other", jnp.tanh).digest == kinds[0].digest


@pytest.mark.parametrize(
    "fn",
    [float, lambda h: h[:2], lambda h: missing],  # noqa: F821
    ids=["float", "shape", "error"],
)
def test_function_that_fails_has_no_digest(fn):
    assert fw.Activation("s", fn).digest is None


# Solutions


def _solve(theory, net=None, temperature=0.1):
    net = fw.Network((5,), "erf") if net is None else net
    return fw.solve(net, X, Y, temperature=temperature, theory=theory)


RELU = fw.Network((5,), "relu", bias_precision=2.0)
DEEP = fw.Network((5, 4), "erf")
FEW = Cavity(points=64, progress=False)
SOLUTIONS = {
    "nested": lambda: _solve("nested"),
    "nested, T = 0": lambda: _solve("nested", temperature=0.0),
    "adaptive": lambda: _solve("adaptive"),
    "mixture": lambda: fw.mixture(fw.Network((5,), "erf"), X, Y, temperature=0.1),
    "student-t": lambda: fw.student_t_process(
        RELU, X, Y, temperature=0.1, degrees_of_freedom=5.0
    ),
}  # fmt: skip
SLOW = {
    "infinite": lambda: _solve("infinite"),
    "nested, deep": lambda: _solve("nested", DEEP),
    "wishart": lambda: _solve("wishart", DEEP),
    "corrected": lambda: _solve("corrected"),
    "perturbative": lambda: _solve("perturbative", fw.Network((1000,), "relu")),
    "nested, relu": lambda: _solve("nested", RELU),
    "mixture, relu": lambda: fw.mixture(RELU, X, Y, temperature=0.1),
    "mixture, deep": lambda: fw.mixture(DEEP, X, Y, temperature=0.1),
    "cavity": lambda: _solve(FEW),
}


def numbers(solution):
    """All that a solution says, as arrays."""
    prediction = solution.predict(X_TEST)
    values = {f"predicted {name}": value for name, value in vars(prediction).items()}
    joint = solution.predict(X_TEST, full_covariance=True)
    values |= {f"joint {name}": value for name, value in vars(joint).items()}
    for data in (solution.order_parameters, solution.generalization_error(X_TEST, Y_TEST)):
        values |= {str(name): array.values for name, array in data.items()}
    for name in ("action", "log_evidence", "residual", "converged", "criterion"):
        values[name] = getattr(solution, name)
    return {name: np.asarray(value) for name, value in values.items() if value is not None}


def check_copies(make):
    solution = make()
    # before anything is asked of it, and with what it has made since
    early = {name: way(solution) for name, way in WAYS.items()}
    expected = numbers(solution)
    late = {f"late {name}": way(solution) for name, way in WAYS.items()}
    for name, other in (early | late).items():
        assert type(other) is type(solution) and repr(other) == repr(solution)
        assert other.network == solution.network
        found = numbers(other)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert np.array_equal(found[key], value, equal_nan=True), (name, key)


@pytest.mark.parametrize("make", SOLUTIONS.values(), ids=SOLUTIONS)
def test_solutions_say_the_same_to_the_last_bit(make):
    check_copies(make)


@pytest.mark.slow
@pytest.mark.parametrize("make", SLOW.values(), ids=SLOW)
def test_slow_solutions_say_the_same_to_the_last_bit(make):
    check_copies(make)


@every_way
def test_equations_of_a_copy_are_the_same(way):
    solution = _solve("nested")
    expected = fw.fluctuations(solution, X_TEST, Y_TEST)
    assert way(solution).n_roots == solution.n_roots
    xr.testing.assert_identical(fw.fluctuations(way(solution), X_TEST, Y_TEST), expected)
    xr.testing.assert_identical(way(expected), expected)


def test_copies_share_what_is_compiled():
    """Own theories are found by name, so that a copy's kernel is the function that JAX knows."""
    for theory in fw.theories.available().values():
        for way in WAYS.values():
            assert way(theory) is theory
    few = WAYS["pickle"](FEW)
    assert few == FEW and few is not FEW


# Everything else


@every_way
def test_data_sets_stay_read_only(way):
    data = fw.load_dataset("random", n_train=6, n_test=3, n_inputs=3)
    other = way(data)
    for name in ("X_train", "y_train", "X_test", "y_test"):
        array = getattr(other, name)
        assert np.array_equal(array, getattr(data, name))
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0.0
    assert other.attrs == data.attrs and other.attrs is not data.attrs
    assert other.name == data.name


@every_way
def test_points_and_predictions(way):
    data = fw.Dataset(X, Y, X_TEST, Y_TEST, attrs={"made": ["here"]})
    point = way(fw.MapPoint(data, fw.Network((3,), "relu"), 0.5))
    assert point.network == fw.Network((3,), "relu") and point.temperature == 0.5
    assert np.array_equal(point.data.X_train, X)
    prediction = fw.Prediction(Y, Y**2, np.outer(Y, Y))
    for name, value in vars(way(prediction)).items():
        assert np.array_equal(value, getattr(prediction, name))


@every_way
def test_errors_keep_what_they_carry(way):
    error = way(fw.ConvergenceError("expected more", best=_solve("infinite")))
    assert str(error) == "expected more" and error.best.action == _solve("infinite").action
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"v": ("draw", Y)})})
    stopped = way(fw.SamplingInterrupted("interrupted after 6 draws", tree))
    assert str(stopped) == "interrupted after 6 draws" and stopped.tree.identical(tree)
    for kind in (fw.InputError, fw.PluginError, fw.AccuracyWarning):
        assert way(kind("expected X")).args == ("expected X",)


# Other processes


def elsewhere(solution, net):
    return numbers(solution)["predicted mean"], fw.solve(net, X, Y, temperature=0.1).action


@pytest.mark.slow
def test_spawned_process_says_the_same():
    nets = [fw.Network((5,), one) for one in ("relu", ACTIVATIONS["compiled function"])]
    solutions = [_solve("nested"), fw.mixture(nets[0], X, Y, temperature=0.1)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.starmap(elsewhere, zip(solutions, nets, strict=True))
    for (mean, action), solution, net in zip(found, solutions, nets, strict=True):
        assert np.array_equal(mean, solution.predict(X_TEST).mean)
        assert action == fw.solve(net, X, Y, temperature=0.1).action
