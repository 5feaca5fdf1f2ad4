"""Nonsense for every argument of every public function: accepted, or one line that says why not.

The surface is walked by signature: what finwidth exports, what its public modules export, the
public methods of its classes, the theories and their settings, the methods of the kernels that
NumPyro calls, and the options of its data sets. Each argument in turn is given
wrong types, shapes, ranges and paths while all others are valid. A function that is added is
covered when it appears; a parameter that `VALID` does not know fails by its name.
"""

import datetime
import functools
import inspect
import pathlib
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pandas as pd
import pytest
import xarray as xr

import finwidth as fw
from finwidth._plugins import registry

X = np.random.default_rng(0).normal(size=(6, 2))
Y = np.sign(X[:, 0])
X_TEST, Y_TEST = X[:3] + 0.5, Y[:3]
NET = fw.Network((4,), "erf")
DATA = fw.Dataset(X, Y, X_TEST, Y_TEST, name="tiny")

# --- valid values ----------------------------------------------------------------------------


class Lazy(NamedTuple):
    """A value that takes some work, or a file: made when a test needs it."""

    make: Callable[[], Any]


@functools.cache
def solution() -> fw.Solution:
    return fw.solve(NET, X, Y, temperature=0.5)


@functools.cache
def tree() -> xr.DataTree:
    settings = {name: VALID[name] for name in ("num_warmup", "num_samples", "num_chains")}
    return fw.sample(
        NET, X, Y, temperature=0.5, X_test=X_TEST, y_test=Y_TEST, progress=False, **settings
    )


@functools.cache
def report() -> xr.Dataset:
    return fw.compare(solution(), tree())


@functools.cache
def grid() -> xr.Dataset:
    return fw.solve_many(NET, X, Y, widths=[4, 8], temperature=0.5, X_test=X_TEST, y_test=Y_TEST)


@functools.cache
def error_map() -> xr.Dataset:
    """A map as `finwidth.error_map` returns it, without the sampling."""
    by_point = {name: ("point", [0.1, 0.1]) for name in ("exact_error", "exact_mcse")}
    names = ("relative_error", "z", "error")
    by_theory = {name: (("point", "theory"), [[0.1], [0.2]]) for name in names}
    coordinates = {
        "data": ["tiny"] * 2,
        "activation": ["erf"] * 2,
        "depth": [1, 1],
        "width": [4, 8],
        "load": [1.5, 0.75],
        "temperature": [0.5, 0.5],
    }
    return xr.Dataset(
        by_point | by_theory | {"counted": ("point", [True, True])},
        {name: ("point", value) for name, value in coordinates.items()} | {"theory": ["nested"]},
    )


@functools.cache
def problem() -> fw.theories.Problem:
    return fw.theories.Problem(NET, X, Y, 0.5)


@functools.cache
def images() -> fw.theories.Problem:
    net = fw.Network(layers=(fw.Convolution(4, 1),), activation="erf")
    return fw.theories.Problem(net, X[:, None], Y, 0.5)


def model(net: Any, X: Any, y: Any, *, temperature: Any) -> None:
    """A model without the annotations' run-time checks, behind which no signature can be seen."""
    fw.models.network(net, X, y, temperature=temperature)


@functools.cache
def kernel(kind: Any) -> tuple[Any, Any]:
    """A kernel for NumPyro, and the state of a chain that it has started."""
    made = kind(model)
    return made, made.init(jax.random.key(0), 2, None, (NET, X, Y), {"temperature": 0.5})


def state(kind: Any) -> Lazy:
    return Lazy(lambda: kernel(kind)[1])


def run_file() -> str:
    fw.save(tree(), "run.nc")
    return "run.nc"


def archive() -> str:
    np.savez("data.npz", X=np.concatenate([X, X + 1.0]), y=np.tile([0, 1], 6))
    return "data.npz"


def table() -> str:
    rows = (f"{i},{i * i % 7},{i % 2}" for i in range(12))
    pathlib.Path("data.csv").write_text("\n".join(["a,b,label", *rows]) + "\n")
    return "data.csv"


def weights() -> dict[str, Any]:
    return {"W_1": jnp.ones((4, 2)), "v": jnp.ones(4)}


@functools.cache
def covariance() -> fw.theories.Covariance:
    gram = jnp.asarray(X @ X.T)
    return fw.theories.Covariance(gram, jnp.diag(gram), jnp.diag(gram))


def wave(frequency: float = 1.0) -> fw.Activation:
    """Make a member of a family."""
    return fw.Activation("wave", lambda h: jnp.sin(frequency * h), "odd")


class Plugin:
    """A plugin without activations."""

    @staticmethod
    @fw.hookimpl
    def finwidth_register_activations() -> list[fw.Activation]:
        return []


#: Of every parameter by its name; where a name has several meanings, by function and name.
VALID: dict[str, Any] = {
    "X": X,
    "X2": X_TEST,
    "X_test": X_TEST,
    "X_train": X,
    "accuracy": 1e-8,
    "activation": fw.get_activation("erf"),
    "adapt_step_size": True,
    "adjusted": True,
    "approximation": None,
    "args": (NET, X, Y),
    "attrs": {},
    "ax": None,
    "Residual.check.before": fw.Dense(4),
    "before": None,
    "branch": 0.5,
    "bias_precision": None,
    "blas_threads": 1,
    "blocks": [fw.Prediction(np.zeros(2), np.ones(2))],
    "by": ("data",),
    "chain_method": None,
    "channels": 4,
    "changes": {"widths": (4,), "activation": "erf", "weight_precision": 1, "bias_precision": None},
    "checkpoint": None,
    "classes": (0, 1),
    "covariance": Lazy(covariance),
    "data": DATA,
    "data_name": None,
    "dataset": Lazy(error_map),
    "degrees_of_freedom": 5.0,
    "depths": [1],
    "direction": None,
    "dtype": "float64",
    "error_map": None,
    "ess_per_chain": 100.0,
    "features": jnp.ones((3, 4)),
    "fn": jnp.tanh,
    "folder": "map",
    "full_covariance": False,
    "grayscale": False,
    "grid": fw.grid(data=DATA, net=NET, temperature=0.5, theory="infinite"),
    "image": False,
    "infinite": None,
    "init_params": None,
    "item": NET,
    "jitter": 0.3,
    "keep": None,
    "kernel": None,
    "layer": 1,
    "layers": None,
    "likelihood": "gaussian",
    "log_likelihood": True,
    "max_draws": 4,
    "max_num_steps": 10,
    "mean": None,
    "memory_limit": None,
    "method": None,
    "model": "marginal",
    "model_args": (NET, X, Y),
    "model_kwargs": {"temperature": 0.5},
    "n_inputs": 2,
    "n_samples": 2,
    "n_test": 3,
    "n_train": 4,
    "name": "erf",
    "net": NET,
    "network": NET,
    "neighbours": 2,
    "noise": 0.1,
    "num_chains": 1,
    "num_samples": 4,
    "num_steps": 1,
    "num_warmup": 2,
    "parity": "odd",
    "output": 0,
    "outputs": 1,
    "overlap": True,
    "path": Lazy(run_file),
    "options": {},
    "order": fw.theories.OrderParameters.of(np.ones(1), np.ones(1)),
    "patch": 2,
    "plugin": Plugin(),
    "pooling": "none",
    "prediction": fw.Prediction(np.zeros(2), np.ones(2)),
    "points": [fw.MapPoint(DATA, NET, 0.5)],
    "posterior_predictive": True,
    "prior": 0,
    "problem": Lazy(problem),
    "progress": False,
    "r_hat_limit": 1.01,
    "random_state": 0,
    "reference": "",
    "readout_precision": None,
    "request": fw.datasets.Request((-1, 1), 2, 1, None),
    "shuffle": True,
    "source": "a table",
    "table": False,
    "text": "2.5",
    "relative_mcse": 0.1,
    "replace": True,
    "return_std": True,
    "rng_key": jax.random.key(0),
    "sample": False,
    "sampler": None,
    "sampler_options": None,
    "sample_weight": None,
    "sampling": None,
    "scheduler": None,
    "seed": 0,
    "size": None,
    "solution": Lazy(solution),
    "stack": Lazy(lambda: fw.theories.Stack.of(NET, (None,))),
    "standardise_X": True,
    "standardise_y": True,
    "start": None,
    "step_size": 0.1,
    "stiffness": 6.0,
    "stride": 1,
    "store": "runs",
    "target": None,
    "target_accept_prob": 0.8,
    "target_ess": None,
    "target_mcse": None,
    "teacher_width": 3,
    "temperature": 0.5,
    "theories": ["infinite"],
    "theory": "nested",
    "thin": 1,
    "tolerance": 0.3,
    "trajectory": 1.4,
    "tree": Lazy(tree),
    "values": Lazy(weights),
    "weight_precision": 1.0,
    "readout_activation": None,
    "shared": False,
    "skip": 1.0,
    "width": 4,
    "widths": (4,),
    "wrapper": lambda model: model,
    "x": "width",
    "y": Y,
    "y_mean": 0.0,
    "y_scale": 1.0,
    "y_test": Y_TEST,
    "y_train": Y,
    "z_limit": 4.0,
    # one word, another meaning
    **{
        f"{kind.__name__}.{name}.state": state(kind)
        for kind in (fw.infer.Langevin, fw.infer.SplitHMC)
        for name in ("end_warmup", "get_diagnostics_str", "refresh", "sample")
    },
    "Langevin.pool.states": Lazy(lambda: [kernel(fw.infer.Langevin)[1]]),
    "SplitHMC.pool.states": Lazy(lambda: [kernel(fw.infer.SplitHMC)[1]]),
    "Langevin.model": fw.models.network,
    "SplitHMC.model": fw.models.network,
    "Problem.likelihood": Lazy(lambda: problem().likelihood),
    "attach.theory": Lazy(solution),
    "cavity theory.points": 64,
    "compare.theory": Lazy(solution),
    "error_map.target_ess": 5.0,
    "ActivationFamily.make": wave,
    "Request.outputs": None,
    "check_dataset.source": "random",
    "check_layer.layer": fw.Dense(4),
    "check_sampler.sampler": "hmc",
    "check_observable.observable": "squared_error",
    "load_dataset.name": "digits",
    "load_dataset.outputs": None,
    "load_dataset('cifar10').path": Lazy(archive),
    "load_dataset('csv').path": Lazy(table),
    "load_dataset('mnist').path": Lazy(archive),
    "load_dataset('npz').path": Lazy(archive),
    "plot_comparison.theory": Lazy(report),
    "plot_comparison.tree": None,
    "plot_kernel.kernel": X @ X.T,
    "plot_learning_curve.y": "error",
    "plot_order_parameters.theory": Lazy(solution),
    "plot_order_parameters.x": "layer",
    "plot_predictions.theory": Lazy(solution),
    "plot_learning_curve.dataset": Lazy(grid),
    "register_plugin.name": "plugin",
    "sample.theory": None,
    "scalar theory.check.network": fw.Network(layers=(fw.Convolution(4, 1),), activation="erf"),
    "scalar theory.solve.problem": Lazy(lambda: images()),
    "solve_many.weight_precision": None,
    "sweep.target_ess": 5.0,
}

#: An instance of each class that has public methods.
INSTANCES: tuple[Any, ...] = (
    fw.Residual(4),
    fw.Dense(4),
    fw.Convolution(4, 2),
    NET,
    DATA,
    fw.ActivationFamily("wave", wave),
    VALID["points"][0],
    VALID["blocks"][0],
    Lazy(solution),
    Lazy(lambda: fw.mixture(NET, X, Y, temperature=0.5)),
    Lazy(lambda: fw.FiniteWidthRegressor((4,), temperature=0.5).fit(X, Y)),
    Lazy(lambda: fw.FiniteWidthClassifier((4,), temperature=0.5).fit(X, Y)),
    Lazy(lambda: kernel(fw.infer.SplitHMC)[0]),
    Lazy(lambda: kernel(fw.infer.Langevin)[0]),
    Lazy(lambda: fw.student_t_process(NET, X, Y, temperature=0.5, degrees_of_freedom=5.0)),
)

# --- nonsense --------------------------------------------------------------------------------


class Broken:
    """An object that cannot even be looked at."""

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise RuntimeError("broken")

    def __repr__(self) -> str:
        raise RuntimeError("broken")


NONSENSE: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "-1": lambda: -1,
    "0": lambda: 0,
    "3": lambda: 3,
    "2**70": lambda: 2**70,
    "10**400": lambda: 10**400,
    "2.5": lambda: 2.5,
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "1j": lambda: 1j,
    "empty text": lambda: "",
    "text": lambda: "text",
    "two lines": lambda: "two\nlines",
    "NUL": lambda: "nul\0",
    "long text": lambda: "x" * 5000,
    "bytes": lambda: b"text",
    "[]": lambda: [],
    "()": lambda: (),
    "{}": lambda: {},
    "[None]": lambda: [None],
    "[3]": lambda: [3],
    "[-1.5]": lambda: [-1.5],
    "['text']": lambda: ["text"],
    "[[]]": lambda: [[]],
    "ragged": lambda: [[1.0, 2.0], [3.0]],
    "{'text': 3}": lambda: {"text": 3},
    "{3: 3}": lambda: {3: 3},
    "{3}": lambda: {3},
    "object()": object,
    "[object()]": lambda: [object()],
    "function": lambda: lambda *_: None,
    "class": lambda: int,
    "iterator": lambda: iter([3]),
    "0-d array": lambda: np.array(2.5),
    "empty array": lambda: np.zeros((0, 2)),
    "array (2, 7)": lambda: np.ones((2, 7)),
    "array (6,)": lambda: np.ones(6),
    "array (6, 2) of NaN": lambda: np.full((6, 2), np.nan),
    "array (2, 2) of ints": lambda: np.ones((2, 2), np.uint32),
    "array (6,) of NaN": lambda: np.full(6, np.nan),
    "array (2, 2, 2)": lambda: np.ones((2, 2, 2)),
    "array of text": lambda: np.array([["a", "b"]]),
    "array of objects": lambda: np.array([[None, {}]], dtype=object),
    "array of dates": lambda: np.zeros((6, 2), "datetime64[s]"),
    "complex array": lambda: np.ones((6, 2), complex),
    "JAX array": lambda: jnp.ones((2, 7)),
    "masked array": lambda: np.ma.masked_array(np.ones((6, 2)), np.eye(6, 2) > 0),
    "missing": lambda: pd.NA,
    "date": lambda: datetime.date(2020, 1, 1),
    "broken object": Broken,
    "Dataset": xr.Dataset,
    "DataTree": xr.DataTree,
    "Network": lambda: NET,
    "Solution": solution,
    "absent path": lambda: pathlib.Path("absent/file.nc"),
    "folder": lambda: pathlib.Path("."),
    "file as folder": lambda: pathlib.Path("in the way/file.nc"),
}

# --- the surface -----------------------------------------------------------------------------


class Target(NamedTuple):
    """One public callable: its name in `VALID`, and how to get it."""

    name: str
    parameters: tuple[inspect.Parameter, ...]
    get: Callable[[], Callable[..., Any]]


def ours(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).split(".")[0] == "finwidth"


def keeps_anything(kind: type) -> bool:
    """Errors, interfaces, and records that the library fills in: nothing is checked there."""
    record = not hasattr(kind, "__post_init__") and kind.__init__ is not object.__init__
    generated = hasattr(kind, "__dataclass_params__") and kind.__dataclass_params__.init
    return (
        issubclass(kind, (BaseException, tuple)) or inspect.isabstract(kind) or generated and record
    )


def exported() -> Iterator[tuple[str, Any]]:
    """What finwidth exports, and what its public modules do, each once."""
    seen = set()
    for name in fw.__all__:
        value = getattr(fw, name)
        inner = (
            [(n, getattr(value, n)) for n in value.__all__] if isinstance(value, ModuleType) else []
        )
        for one, member in inner or [(name, value)]:
            if callable(member) and ours(member) and id(member) not in seen:
                seen.add(id(member))
                yield one, member


def parameters(function: Any) -> tuple[inspect.Parameter, ...]:
    given = inspect.signature(function).parameters
    return tuple(one for one in given.values() if not one.name.startswith("_"))


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    """Public methods, but for those of a layer, which theory and sampler call."""
    traced = tuple(vars(fw.theories.Layer)) if issubclass(kind, fw.theories.Layer) else ()
    traced = tuple(name for name in traced if name != "resize")
    for name, member in inspect.getmembers(kind, callable):
        public = not name.startswith("_") and name not in traced
        if public and ours(member) and not isinstance(member, type):
            yield name, member


def instance(kind: type) -> Any:
    for one in INSTANCES:
        made = one.make() if isinstance(one, Lazy) else one
        if isinstance(made, kind):
            return made
    raise AssertionError(f"expected an instance of {kind.__name__} in INSTANCES, got none")


def targets() -> Iterator[Target]:
    for name, value in exported():
        if not isinstance(value, type):
            yield Target(name, parameters(value), functools.partial(lambda f: f, value))
            continue
        if not keeps_anything(value):
            yield Target(name, parameters(value), functools.partial(lambda f: f, value))
        if value is fw.Observable:  # finwidth calls its methods, with what it has checked
            continue
        if value in (getattr(fw, name, None), getattr(fw.infer, name, None)):
            for method, member in methods(value):
                given = parameters(member)[not inspect.ismethod(member) :]
                get = functools.partial(lambda k, m: getattr(instance(k), m), value, method)
                yield Target(f"{name}.{method}", given, get)
    for name, theory in fw.theories.available().items():
        yield Target(f"{name} theory", parameters(type(theory)), functools.partial(type, theory))
        for method in ("record", "check", "solve"):  # the rest is for theories of one's own
            get = functools.partial(lambda t, m: getattr(quick(t), m), theory, method)
            yield Target(f"{name} theory.{method}", parameters(get()), get)
    for name in fw.datasets.list_datasets():
        module = __import__(f"finwidth.datasets.{name}", fromlist=["load"])
        options = tuple(p for p in parameters(module.load) if p.kind is p.KEYWORD_ONLY)
        get = functools.partial(lambda n: functools.partial(fw.load_dataset, n, **SMALL), name)
        yield Target(f"load_dataset({name!r})", options, get)


def quick(theory: fw.theories.Theory) -> fw.theories.Theory:
    """The theory with the settings of the table `VALID`."""
    kind, prefix = type(theory), f"{theory.name} theory"
    return kind(
        **{
            one.name: VALID.get(f"{prefix}.{one.name}", VALID.get(one.name))
            for one in parameters(kind)
        }
    )


SMALL = {"n_train": 4, "n_test": 3}
TARGETS = {target.name: target for target in targets()}


def valid(target: Target) -> dict[str, Any]:
    """Valid values of the arguments; where the function takes any names, of those it knows."""
    values = {}
    for parameter in target.parameters:
        key = f"{target.name}.{parameter.name}"
        value = VALID.get(key, VALID.get(parameter.name, KeyError))
        assert value is not KeyError, f"expected a valid {key} in the table VALID, got none"
        value = value.make() if isinstance(value, Lazy) else value
        values |= value if parameter.kind is parameter.VAR_KEYWORD else {parameter.name: value}
    return values


def arguments(target: Target) -> Iterator[str]:
    """The names of all arguments; where the function takes any names, an unknown one, too."""
    for parameter in target.parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            yield from (*VALID.get(parameter.name, ()), "nonsense")
        else:
            yield parameter.name


CASES = [(name, one) for name, target in TARGETS.items() for one in arguments(target)]


def outcome(call: Callable[[], Any]) -> str:
    """What is wrong with how a call ends; nothing if it returns or is refused in one line."""
    import matplotlib.pyplot as plt

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fw.AccuracyWarning)
            with numpyro.handlers.seed(rng_seed=0):
                call()
    except fw.FinwidthError as error:
        text = str(error)
        if not re.fullmatch(r"[^\r\n]{10,1000}", text):
            return (
                f"a message of {len(text)} characters, {len(text.splitlines())} lines: {text[:300]}"
            )
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        plt.close("all")
    return ""


@pytest.fixture(autouse=True)
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in, but for a file where a folder could be."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("in the way").touch()


@pytest.fixture(autouse=True, scope="module")
def own_plugins() -> Iterator[None]:
    """Other tests do not see the plugins that are registered here."""
    yield
    registry.reset()


# seconds of work each, of which other tests have their own
LONG = (
    "cavity theory.solve",
    *(f"check_{what}" for what in ("activation", "against_run", "layer", "sampler", "theory")),
    *(f"check_{what}" for what in ("monte_carlo", "scales")),
    "error_map",
    "student_t",
)


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.slow if one in LONG else ()) for one in TARGETS]
)
@pytest.mark.usefixtures("unchecked_types")
def test_what_the_table_holds_is_accepted(name: str) -> None:
    target = TARGETS[name]
    with warnings.catch_warnings(), numpyro.handlers.seed(rng_seed=0):
        warnings.simplefilter("ignore", fw.AccuracyWarning)
        target.get()(**valid(target))


def check_nonsense(name: str, argument: str, kinds: Iterable[str]) -> None:
    target = TARGETS[name]
    function, others = target.get(), valid(target)
    defaults = {one.name: one.default for one in target.parameters}
    wrong = {}
    for nonsense in kinds:
        if nonsense == "None" and defaults.get(argument, 0) is None:
            continue  # as if it were not given, which may ask for much more than `VALID` does
        call = functools.partial(function, **(others | {argument: NONSENSE[nonsense]()}))
        if problem := outcome(call):
            wrong[nonsense] = problem
    assert not wrong, "\n".join(f"{name}({argument}={key}): {text}" for key, text in wrong.items())


@pytest.mark.parametrize(("name", "argument"), CASES)
@pytest.mark.usefixtures("unchecked_types")
def test_some_nonsense(name: str, argument: str) -> None:
    """A quarter of it, another one for each argument of a function."""
    place = zlib.crc32(name.encode()) + [p for n, p in CASES if n == name].index(argument)
    check_nonsense(name, argument, list(NONSENSE)[place % 4 :: 4])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "argument"), CASES)
@pytest.mark.usefixtures("unchecked_types")
def test_nonsense(name: str, argument: str) -> None:
    check_nonsense(name, argument, NONSENSE)
