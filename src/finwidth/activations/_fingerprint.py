"""What an activation's functions are: a digest of their values, and what pickle can carry of them.

A name does not say which function it stands for, so results that are found again, and activations
that come out of a pickle, are told apart by values.
"""

import functools
import hashlib
import importlib
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._basics.errors import PluginError
from .._numerics.precision import float64

__all__ = ["carry", "fingerprint", "restore"]

_DIGITS = 28  # bits that are kept of a value
_COARSE = 18  # the same, on the dense points
_DENSE = 2**18
_CHUNK = 2**12  # dense points at a time: a function may make large arrays of each
_LARGE = tuple(2.0**k for k in range(4, 41, 4))
_SMALL = tuple(2.0**-k for k in range(8, 41, 4))


def _spread(n: int, ratio: float) -> np.ndarray:
    """Return n numbers in [0, 1), a golden-ratio sequence: no period for a function to hide in."""
    return np.arange(1, n + 1) * ratio % 1.0


def _points() -> np.ndarray:
    """Return zero, points in [-8, 8), and some down to 2^-40 and up to 2^40 of both signs."""
    near = 16.0 * _spread(192, 0.6180339887498949) - 8.0
    # short binary fractions: the values of ReLU and the like then end far from where rounding turns
    near = np.rint(near * 2.0**16) / 2.0**16
    far = np.array(_SMALL + _LARGE)
    return np.concatenate([[0.0], near, far, -far])


def _dense() -> np.ndarray:
    """Return points in [-8, 8) no further apart than 2e-4, as rows.

    The few points of `_points` lie 0.1 apart: two functions that differ between neighbours only,
    in where a step or a threshold is, would be one. In general position, unlike those, so that the
    values of ReLU and the like, which here keep fewer bits, are not where rounding turns.
    """
    return (16.0 * _spread(_DENSE, 0.6180339887498949) - 8.0).reshape(-1, _CHUNK)


def _covariances() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return c_xx, c_xy, c_yy with |ρ| ≤ 0.9, where no closed form loses digits."""
    x, y, rho = (
        _spread(32, ratio) for ratio in (0.8191725133961645, 0.671043606703789, 0.549700477901970)
    )
    x, y = 0.01 + 4.0 * x, 0.01 + 4.0 * y
    cross = (1.8 * rho - 0.9) * np.sqrt(x * y)
    scales = np.array([[1.0], [2.0**12], [2.0**24]])
    return (scales * x).ravel(), (scales * cross).ravel(), (scales * y).ravel()


def _rounded(values: np.ndarray, sizes: np.ndarray, digits: int = _DIGITS) -> np.ndarray:
    """Round values so that the last bits, which differ between machines, do not show.

    A value keeps `digits` bits, or what is left of them above a floor: of the function's own scale
    (the largest value at arguments of order 1), more at large arguments, whose cancellation may
    leave rounding errors of their size. The unit is a power of two and the result is a number, so
    that 1 and its neighbour below become the same one although their exponents differ. Values
    that differ by a few 2^-52 are then the same unless a boundary lies between them; with some 300
    values of 28 bits and 2^18 of 18 bits that happens to one function in 5000, whose results are
    computed anew on the other machine: a wrong number is never the outcome.
    """
    values = np.where(np.isnan(values), np.nan, values)  # one NaN of the many
    near = np.abs(values[(sizes <= 8.0) & np.isfinite(values)])
    largest = float(np.max(near, initial=0.0)) or 1.0
    # the nearest power of two: at 1, where erf and tanh have their largest value, it does not jump
    scale = float(np.rint(np.log2(largest)))
    finite = np.where(np.isfinite(values), values, 0.0)
    exponent = np.frexp(finite)[1].astype(np.float64)
    exponent = np.maximum(np.where(finite == 0.0, scale, exponent), scale)
    lost = np.rint(np.log2(np.maximum(sizes, 8.0))) - 3.0 + scale - 12.0
    unit = np.exp2(np.maximum(exponent, lost) - digits)
    return np.where(np.isfinite(values), np.rint(finite / unit) * unit + 0.0, values)


@functools.lru_cache(maxsize=256)
def fingerprint(activation: Any) -> str | None:
    """Return a digest of what an `Activation` computes, or None where that fails.

    Of the values of `fn`, and of `kernel` and `mean` where given, on fixed points up to 2^40, to
    28 bits, and of `fn` on points 2e-4 apart, to 18 bits; the same on every machine. Values and not
    bytecode: that changes with Python's version and says nothing of what a function refers to.
    """
    x, dense, (c_xx, c_xy, c_yy) = _points(), _dense(), _covariances()
    # one call for both, in rows, which is compiled once
    rows = np.concatenate([np.resize(x, (1, _CHUNK)), dense])
    arguments = {"kernel": (c_xx, c_xy, c_yy), "mean": (c_xx,)}
    sizes = {"kernel": np.sqrt(c_xx * c_yy), "mean": c_xx}
    functions = {name: getattr(activation, name) for name in arguments}
    functions = {name: one for name, one in functions.items() if one is not None}

    def evaluate(arguments: dict[str, tuple[Any, ...]], rows: Any) -> tuple[dict[str, Any], Any]:
        moments = {name: one(*arguments[name]) for name, one in functions.items()}
        return moments, jax.lax.map(activation.fn, rows)

    total = hashlib.sha256(activation.parity.encode())
    try:
        with float64(), jax.debug_nans(False), jax.debug_infs(False):
            found, fn = jax.jit(evaluate)(*jax.tree.map(jnp.asarray, (arguments, rows)))
            fn = np.asarray(fn, np.float64)
            values = {name: np.asarray(found[name], np.float64) for name in functions}
    except Exception:  # whatever a function of the user's raises
        return None
    if fn.shape != rows.shape:
        return None
    total.update(_rounded(fn[0, : len(x)], np.abs(x)).astype("<f8").tobytes())
    total.update(_rounded(fn[1:], np.abs(dense), _COARSE).astype("<f8").tobytes())
    for name, value in values.items():
        if value.shape != sizes[name].shape:
            return None
        total.update(name.encode() + _rounded(value, sizes[name]).astype("<f8").tobytes())
    return total.hexdigest()[:16]


# --- pickling ---------------------------------------------------------------------------------


def carry(function: Any) -> Any:
    """Return what pickle can carry of a function: itself, or where to find it.

    Pickle looks plain functions up by module and name. Those that `jax.jit` or `jax.custom_jvp`
    made, `jax.numpy.tanh` among them, it takes apart, and then finds that the function inside is
    not what the module has under that name.
    """
    if isinstance(function, functools.partial):
        return _Bound(carry(function.func), function.args, function.keywords)
    if function is None or isinstance(function, (types.FunctionType, types.BuiltinFunctionType)):
        return function
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    if not (isinstance(module, str) and isinstance(name, str)) or not _is_at(
        function, module, name
    ):
        return function
    if module != "__main__":
        return _Place(module, name)
    try:  # other processes have a __main__ of their own, which need not have it
        import cloudpickle

        return _Place(module, name, cloudpickle.dumps(function))
    except Exception:  # absent, or it cannot carry what the function refers to
        return function


def restore(carried: Any) -> Any:
    """Return the function that `carry` took."""
    return carried.function() if isinstance(carried, (_Bound, _Place)) else carried


def _is_at(function: Any, module: str, name: str) -> bool:
    try:
        return _look_up(sys.modules.get(module), name) is function
    except AttributeError:
        return False


def _look_up(module: Any, name: str) -> Any:
    found = module
    for part in name.split("."):
        found = getattr(found, part)
    return found


class _Place:
    """Where a function is, and for one of a script the function itself, should it not be there."""

    def __init__(self, module: str, name: str, content: bytes | None = None) -> None:
        self.module, self.name, self.content = module, name, content

    def function(self) -> Callable[..., Any]:
        try:
            if self.content is not None and not hasattr(sys.modules.get(self.module), self.name):
                return pickle.loads(self.content)
            return _look_up(importlib.import_module(self.module), self.name)
        except (ImportError, AttributeError) as error:
            raise PluginError(
                f"expected the function {self.name!r} of module {self.module!r}, which a pickled "
                f"activation uses, got {error}"
            ) from None


class _Bound:
    """A `functools.partial` of a function that is elsewhere."""

    def __init__(self, inside: Any, args: tuple, keywords: dict[str, Any]) -> None:
        self.inside, self.args, self.keywords = inside, args, keywords

    def function(self) -> Callable[..., Any]:
        return functools.partial(restore(self.inside), *self.args, **self.keywords)
