"""Every public argument: a wrong value is refused in one line, before any work, or is valid.

The surface is walked by signature: the functions and classes of `finwidth` and of the modules that
users import from it, and the methods of the classes. Each argument in turn gets values that are
wrong for most arguments, the others being valid. A value that an argument happens to take must
give a result. A new function is covered by its parameters' names; one with a parameter that `VALID`
does not know fails here, by name.
"""

import datetime
import functools
import inspect
import shutil
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import finwidth as fw

pytestmark = pytest.mark.usefixtures("unchecked_types")

MODULES = (fw, fw.datasets, fw.diagnostics, fw.infer, fw.models, fw.testing)
N, INPUTS = 6, 3


class Made(NamedTuple):
    """A value that is made when it is asked for."""

    make: Callable[[], Any]


class _Plugin:
    @staticmethod
    @fw.hookimpl
    def finwidth_register_activations():
        return []


@functools.cache
def problem():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, INPUTS))
    return X, np.sign(X[:, 0]), fw.Network((4,), "identity")


@functools.cache
def solution():
    X, y, net = problem()
    return fw.solve(net, X, y, temperature=0.5)


@functools.cache
def tree():
    X, y, net = problem()
    names = ("num_warmup", "num_samples", "num_chains", "progress")  # as below: compiled once
    settings = {name: VALID[name] for name in names}
    return fw.sample(net, X, y, temperature=0.5, X_test=X, y_test=y, **settings)


@functools.cache
def kernel(cls):
    """Return a NumPyro kernel and the state of a chain that it has started."""
    made = cls(model)
    X, y, net = problem()
    return made, made.init(jax.random.key(0), 2, None, (net, X, y), {})


@functools.cache
def report():
    return fw.compare(solution(), tree())


@functools.cache
def curve():
    X, y, net = problem()
    sizes = {"widths": [2, 4], "temperature": 0.5}
    return fw.solve_many(net, X, y, X_test=X, y_test=y, **sizes)


@functools.cache
def error_map():
    points = {name: ("point", [1.0, 1.0]) for name in ("exact_error", "exact_mcse", "load")}
    names = {name: ("point", ["a", "a"]) for name in ("data", "activation")}
    both = {name: (("point", "theory"), np.zeros((2, 1))) for name in ("relative_error", "z")}
    return xr.Dataset(
        points | both | {"counted": ("point", [True, True])},
        coords=names
        | {"depth": ("point", [1, 1]), "temperature": ("point", [0.1, 0.1])}
        | {"width": ("point", [2, 4]), "theory": ["nested"]},
    )


def model(net, X, y=None):
    fw.models.network(net, X, y, temperature=1.0)


#: A valid value for each name of a parameter; where a name means several things, for
#: "function.name". Functions make what takes a moment.
VALID: dict[str, Any] = {
    "X": Made(lambda: problem()[0]),
    "X2": Made(lambda: problem()[0]),
    "X_test": Made(lambda: problem()[0]),
    "X_train": Made(lambda: problem()[0]),
    "accuracy": 1e-8,
    "activation": "identity",
    "check_activation.activation": Made(lambda: fw.get_activation("identity")),
    "validate_kernel.activation": Made(lambda: fw.get_activation("identity")),
    "adapt_step_size": True,
    "adjusted": True,
    "attrs": {"source": "here"},
    "ax": None,
    "bias_precision": 1.0,
    "blas_threads": 1,
    "blocks": Made(lambda: [solution().predict(problem()[0])]),
    "by": ("data",),
    "chain_method": None,
    "checkpoint": None,
    "classes": (0, 1),
    "data": Made(lambda: fw.Dataset(*problem()[:2], *problem()[:2])),
    "data_name": "here",
    "dataset": Made(curve),
    "plot_error_map.dataset": Made(error_map),
    "summarize_error_map.dataset": Made(error_map),
    "degrees_of_freedom": 3.0,
    "depths": [1],
    "dtype": "float64",
    "ess_per_chain": 100.0,
    "features": Made(lambda: jnp.ones((N, 4))),
    "fn": jnp.tanh,
    "folder": None,
    "friction": 1.0,
    "full_covariance": False,
    "infinite": None,
    "jitter": 0.1,
    "keep": None,
    "kernel": Made(lambda: np.eye(3)),
    "Activation.kernel": None,
    "layer": 1,
    "max_draws": 4,
    "max_num_steps": 4,
    "mean": None,
    "model": "marginal",
    "SplitHMC.model": model,
    "Langevin.model": model,
    "n_test": 2,
    "n_train": 2,
    "name": "here",
    "load_dataset.name": "digits",
    "get_activation.name": "erf",
    "net": Made(lambda: problem()[2]),
    "network": Made(lambda: problem()[2]),
    "num_chains": 2,
    "num_samples": 4,
    "num_steps": 1,
    "num_warmup": 2,
    "Network.replace.changes": {"widths": (3,)},
    "load_dataset.options": {},
    "parity": "none",
    "path": "run.nc",
    "plugin": _Plugin,
    "points": Made(lambda: [INSTANCES["MapPoint"].make()]),
    "progress": False,
    "r_hat_limit": 1.01,
    "reference": "here",
    "relative_mcse": 0.5,
    "replace": True,
    "reports": Made(report),
    "sampler": "split_hmc",
    "sampler_options": None,
    "seed": 0,
    "solution": Made(solution),
    "SplitHMC.end_warmup.state": Made(lambda: kernel(fw.infer.SplitHMC)[1]),
    "SplitHMC.pool.states": Made(lambda: [kernel(fw.infer.SplitHMC)[1]]),
    "state": Made(lambda: kernel(fw.infer.Langevin)[1]),
    "states": Made(lambda: [kernel(fw.infer.Langevin)[1]]),
    "step_size": 0.1,
    "target_accept_prob": 0.8,
    "target_ess": None,
    "error_map.target_ess": 1.0,
    "target_mcse": None,
    "temperature": 0.5,
    "theories": ["infinite"],
    "theory": "nested",
    "attach.theory": Made(solution),
    "compare.theory": Made(solution),
    "sample.theory": None,
    "thin": 1,
    "trajectory": 1.0,
    "tree": Made(tree),
    "values": Made(lambda: {"W_1": jnp.ones((4, INPUTS))}),
    "weight_precision": 1.0,
    "solve_many.weight_precision": [1.0],
    "widths": [3],
    "Network.widths": (3,),
    "x": "width",
    "y": Made(lambda: problem()[1]),
    "plot_kernel.y": None,
    "y_test": Made(lambda: problem()[1]),
    "y_train": Made(lambda: problem()[1]),
    "z_limit": 4.0,
}

#: An instance of each class whose methods are public.
INSTANCES = {
    "SplitHMC": Made(lambda: kernel(fw.infer.SplitHMC)[0]),
    "Langevin": Made(lambda: kernel(fw.infer.Langevin)[0]),
    "Dataset": Made(lambda: VALID["data"].make()),
    "MapPoint": Made(lambda: fw.MapPoint(VALID["data"].make(), problem()[2], 0.5)),
    "MixtureSolution": Made(lambda: fw.mixture(problem()[2], *problem()[:2], temperature=0.5)),
    "Network": Made(lambda: problem()[2]),
    "Prediction": Made(lambda: solution().predict(problem()[0])),
    "Solution": Made(solution),
    "StudentTProcessSolution": Made(
        lambda: fw.student_t_process(
            problem()[2], *problem()[:2], temperature=0.5, degrees_of_freedom=3.0
        )
    ),
}


class _Odd:
    """An object with nothing that can be asked of it, and a repr of several lines."""

    def __repr__(self):
        return "odd\nobject"


class _Broken:
    """An object that cannot be looked at."""

    def __array__(self, *_, **__):
        raise RuntimeError("broken")

    def __repr__(self):
        raise RuntimeError("broken")


WRONG: dict[str, Any] = {
    "None": None,
    "int": 3,
    "negative": -1,
    "NaN": float("nan"),
    "complex": 1j,
    "infinite": float("inf"),
    "too large": 10**400,
    "True": True,
    "text": "text\nof two lines",
    "empty text": "",
    "a folder": ".",
    "no name of a file": "a\0b",
    "bytes": b"bytes",
    "date": datetime.date(2020, 1, 1),
    "missing": pd.NA,
    "set": {"a"},
    "iterator": iter(["a"]),
    "list": [],
    "list of a list": [[]],
    "ragged": [[1.0], [1.0, 2.0]],
    "dict": {"a": 1},
    "object": _Odd(),
    "class": _Odd,
    "broken object": _Broken(),
    "array": np.ones((2, 2, 2)),
    "no patterns": np.ones((0, INPUTS)),
    "other patterns": np.ones((N + 1, INPUTS + 1)),
    "labels": np.array(["a", "b"]),
    "masked": np.ma.masked_array(np.ones((N, INPUTS)), np.eye(N, INPUTS) > 0),
    "dataset": xr.Dataset(),
    "tree": xr.DataTree(),
}


def _own(member: Any) -> bool:
    return getattr(member, "__module__", "").split(".")[0] == "finwidth"


def _methods(cls: type) -> dict[str, Any]:
    """Public methods, but for those of a class of another library, whose protocol they are."""
    outside = {name for base in cls.__mro__ if not _own(base) for name in vars(base)}
    names = [name for name in dir(cls) if not name.startswith("_") and name not in outside]
    members = {name: getattr(cls, name) for name in names}
    return {
        name: member
        for name, member in members.items()
        if inspect.isfunction(member) or inspect.ismethod(member)
    }


def _surface() -> dict[str, Any]:
    """Return what a user can call, by the name that `VALID` uses."""
    found: dict[str, Any] = {}
    for module in MODULES:
        for name in module.__all__:
            member = getattr(module, name)
            if inspect.isfunction(member):
                found[member.__name__ if name != "register_plugin" else name] = member
            elif inspect.isclass(member) and not issubclass(member, BaseException):
                if "Parameters\n" in (member.__doc__ or ""):  # else it is made by finwidth alone
                    found[name] = member
                for method in _methods(member):
                    found[f"{name}.{method}"] = (name, method)
    return found


SURFACE = _surface()


def _valid(where: str, parameter: str) -> Any:
    key = f"{where}.{parameter}"
    if key not in VALID:
        key = parameter
    value = VALID[key]
    return value.make() if isinstance(value, Made) else value


def _callable(where: str) -> Any:
    member = SURFACE[where]
    if isinstance(member, tuple):
        return getattr(INSTANCES[member[0]].make(), member[1])
    return member


def _parameters(where: str) -> dict[str, inspect.Parameter]:
    member = SURFACE[where]
    if isinstance(member, tuple):
        cls = next(getattr(m, member[0]) for m in MODULES if hasattr(m, member[0]))
        member = getattr(cls, member[1])
        found = dict(inspect.signature(member).parameters)
        found.pop("self", None)
        return found
    return dict(inspect.signature(member).parameters)


def _call(where: str, changed: dict[str, Any]) -> Any:
    parameters = _parameters(where)
    positional, named = [], {}
    for name, parameter in parameters.items():
        value = changed[name] if name in changed else _valid(where, name)
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            named |= value
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            positional.append(value)
        else:
            named[name] = value
    function = _callable(where)
    if where in ("network", "marginal", "student_t"):  # NumPyro models
        import numpyro

        function = numpyro.handlers.seed(function, jax.random.key(0))
    return function(*positional, **named)


def _arguments() -> list[tuple[str, str]]:
    return [(where, name) for where in SURFACE for name in _parameters(where)]


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    return fw.save(tree(), tmp_path_factory.mktemp("run") / "run.nc")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, run_file):
    import matplotlib.pyplot as plt

    from finwidth import _plugins

    monkeypatch.chdir(tmp_path)
    shutil.copy(run_file, "run.nc")
    yield tmp_path
    plt.close("all")
    if any(record.origin == "program" for record in _plugins.loaded_plugins()):
        _plugins.reset()


def _one_line(error: fw.FinwidthError) -> bool:
    return len(str(error).splitlines()) == 1


@pytest.mark.parametrize(("where", "name"), _arguments())
def test_wrong_values_are_refused_in_one_line(where, name):
    raw = []
    kind, default = _parameters(where)[name].kind, _parameters(where)[name].default
    for label, wrong in WRONG.items():
        if wrong is None and default is None:
            continue  # what is not given is not wrong, and may ask for work
        if kind is inspect.Parameter.VAR_KEYWORD:
            wrong = {"odd_name": wrong} if not isinstance(wrong, dict) else {"a b": 1}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # that a result is worse than wanted
                _call(where, {name: wrong})
            if label == "object":
                raw.append("an object is accepted")
        except fw.FinwidthError as error:
            if not _one_line(error):
                raw.append(f"{label}: several lines, {error!r}")
        except Exception as error:
            raw.append(f"{label}: {type(error).__name__}: {error}")
    assert not raw, "\n".join(raw)


@pytest.mark.parametrize("where", SURFACE)
def test_the_valid_values_are_valid(where):
    """Else a wrong value might be refused for what is wrong with another argument."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        _call(where, {})
