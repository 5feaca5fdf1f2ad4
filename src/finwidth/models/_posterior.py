"""A sampling task: its checked arguments, its density, and what is stored of a draw."""

import dataclasses
import math
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._basics.arrays import check_inputs, check_labels, check_training, shown
from .._basics.checks import check_choice, check_iterable, check_temperature
from .._basics.errors import InputError
from .._problem.network import Network, check_network
from .._problem.traceable import traceable
from ..activations._contract import validate_kernel
from ..theories._mixture.law import check_mixture
from ._features import unit_dim
from ._mixture import SAMPLERS, MixtureProgram, mixture_inputs, mixture_sites
from ._rotation import InputRotation, rotate_inputs
from ._weights import WeightInputs, WeightProgram

__all__ = [
    "Task",
    "check_range",
    "check_sampler",
    "checked_task",
    "default_sampler",
    "run_inputs",
    "run_program",
    "site_shapes",
    "sites_to_keep",
    "stored_text",
]

# Without `keep`, hidden weights are stored as long as the posterior group stays below this.
_DEFAULT_STORE = 256 * 2**20


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """The checked arguments of a run."""

    network: Network
    X: np.ndarray
    y: np.ndarray
    temperature: float
    X_test: np.ndarray | None
    y_test: np.ndarray | None
    model: str
    theory: str  # of model "student_t"
    dtype: str
    rotation: InputRotation | None
    keep: tuple[str, ...]


def checked_task(
    net: Any,
    X: Any,
    y: Any,
    temperature: Any,
    X_test: Any,
    y_test: Any,
    model: Any,
    theory: Any,
    dtype: Any,
    data_name: Any,
) -> Task:
    """Check the arguments of a run and return them; raises InputError before any long work."""
    check_network(net)
    X, y = check_training(X, y)
    temperature = check_temperature(temperature, zero=False)
    validate_kernel(net.activation)
    check_choice("model", model, ("marginal", "network", "student_t"))
    check_choice("dtype", dtype, ("float32", "float64"))
    if model == "student_t":
        theory = "nested" if theory is None else theory
        check_mixture(net, theory)
    elif theory is not None:
        raise InputError(f"expected theory = None with model={model!r}, got {shown(theory)}")
    if data_name is not None and not isinstance(data_name, str):
        raise InputError(f"expected data_name = a string or None, got {shown(data_name)}")
    if X_test is not None:
        X_test = check_inputs(X_test, name="X_test", n_inputs=X.shape[1])
    if y_test is not None:
        if X_test is None:
            raise InputError("expected X_test together with y_test, got X_test=None")
        y_test = check_labels(y_test, X_test.shape[0], name="y_test", of="X_test")
    scales = {"X": X, "y": y, "temperature": temperature, "X_test": X_test}
    scales |= {name: getattr(net, name) for name in ("weight_precision", "bias_precision")}
    for name, value in scales.items():
        check_range(name, value, dtype)
    rotation = None
    if model != "student_t":
        nothing = np.zeros((0, X.shape[1]))
        rotation = rotate_inputs(X, nothing if X_test is None else X_test)
    theory = theory or ""
    return Task(net, X, y, temperature, X_test, y_test, model, theory, dtype, rotation, ())


def check_range(name: str, value: Any, dtype: str) -> None:
    """Raise InputError if numbers, or the largest of an array, are beyond those of `dtype`."""
    info = np.finfo(dtype)
    for leaf in jax.tree.leaves(value):
        if isinstance(leaf, (numbers.Real, np.ndarray, jax.Array)):
            largest = np.max(np.abs(np.asarray(leaf, np.float64)), initial=0.0)
            if largest > info.max or 0 < largest < info.tiny:
                raise InputError(
                    f"expected {name} = numbers of a size that {dtype} holds ({info.tiny:.1e} … "
                    f"{info.max:.1e}), got {largest:.3g}"
                )


def default_sampler(model: str) -> str:
    """Return the sampler of a model for which none is named."""
    return "nuts" if model == "student_t" else "split_hmc"


def check_sampler(model: str, sampler: str) -> None:
    """Raise InputError where the model's sites are not of the kind that the sampler needs."""
    if model == "student_t" and sampler not in SAMPLERS:
        raise InputError(
            f"expected sampler = one of {list(SAMPLERS)} with model='student_t', whose sites are "
            f"not Gaussian, got {sampler!r}"
        )


def site_shapes(task: Task) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Dimensions and shapes of the sites as they are stored, in the original inputs."""
    net = task.network
    if task.model == "student_t":
        return mixture_sites(net, task.theory)
    shapes = {}
    previous = ("input", task.X.shape[1])
    for layer, width in enumerate(net.widths, start=1):
        unit = unit_dim(net, layer)
        shapes[f"W_{layer}"] = ((unit, previous[0]), (width, previous[1]))
        if net.bias_precision is not None:
            shapes[f"b_{layer}"] = ((unit,), (width,))
        previous = (unit, width)
    shapes["v"] = ((previous[0],), (previous[1],))
    if net.bias_precision is not None:
        shapes["b_out"] = ((), ())
    return shapes


def _bytes(task: Task, names: Sequence[str], draws: int) -> int:
    shapes = site_shapes(task)
    return sum(math.prod(shapes[name][1]) for name in names) * draws * np.dtype(task.dtype).itemsize


def sites_to_keep(task: Task, keep: Any, draws: int) -> tuple[str, ...]:
    sites = tuple(site_shapes(task))
    if keep is None:
        readout = tuple(name for name in sites if name in ("v", "b_out"))
        return sites if _bytes(task, sites, draws) < _DEFAULT_STORE else readout
    names = check_iterable("keep", keep, f"names out of {list(sites)}")
    if not names or not all(isinstance(name, str) and name in sites for name in names):
        raise InputError(f"expected keep = names out of {list(sites)}, got {shown(keep)}")
    return tuple(name for name in sites if name in names)


def stored_text(task: Task, draws: int) -> str:
    """Say what a run will store."""
    size = _bytes(task, task.keep, draws)
    if task.X_test is not None:
        size += (1 if task.model == "network" else 3) * task.X_test.shape[0] * draws * 8
    what = ", ".join((*task.keep, *(() if task.X_test is None else ("f(X_test)",))))
    return f"storing {what}: {size / 2**20:.1f} MiB"


def run_inputs(task: Task) -> Any:
    """Return all arrays that the compiled code of a run takes, in the run's precision."""
    if task.model == "student_t":
        return mixture_inputs(
            task.network, task.X, task.y, task.temperature, task.X_test, task.theory
        )
    real, rotation = np.dtype(task.dtype), task.rotation
    arrays = WeightInputs(
        traceable(task.network),
        task.X if rotation is None else rotation.train,
        task.y,
        np.asarray(task.temperature),
        task.X_test,
        rotation,
    )
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, real), arrays)


def run_program(task: Task) -> "WeightProgram | MixtureProgram":
    """Return what the compiled code of a run depends on besides arrays."""
    if task.model == "student_t":
        return MixtureProgram(task.keep)
    return WeightProgram(task.model, task.keep)
