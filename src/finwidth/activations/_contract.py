"""What an activation must keep to, checked in a fraction of a second before any work."""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._basics.arrays import shown
from .._basics.errors import InputError, PluginError
from .._numerics.precision import float64
from ._activation import Activation

__all__ = [
    "COVARIANCES",
    "PATTERNS",
    "derivative",
    "deviations",
    "expect_finite",
    "validate_kernel",
]

# Five patterns in two dimensions: a plain one, its duplicate, a zero input, an opposite, a generic.
PATTERNS = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [-1.0, 0.0], [0.9, 1.2]])

# Covariances (c_xx, c_xy, c_yy) at which moments are compared with adaptive quadrature.
COVARIANCES = np.array(
    [
        (1.0, 0.5, 1.0),
        (1.0, 0.0, 2.0),
        (1.0, -0.9, 2.0),
        (0.01, 0.005, 0.02),
        (0.05, -0.5, 10.0),
        (25.0, 24.0, 25.0),
        (0.3, 0.3, 0.3),  # the diagonal, or duplicate patterns
        (4.0, 4.0, 4.0),
        (1.0, -1.0, 1.0),  # opposite patterns
        (0.0, 0.0, 1.0),  # a zero input
        (0.0, 0.0, 0.0),
    ]
)


def validate_kernel(activation: Any) -> None:
    """Check that `fn` is elementwise and of its parity, and the moments at a few points.

    Of the moments it looks at shape, type, finiteness and symmetry. Takes a fraction of a second,
    once per activation: `finwidth.solve` calls it before any long work. `check_activation` is the
    thorough version.

    Parameters
    ----------
    activation
        The activation to check.

    Raises
    ------
    PluginError
        If `fn`, `kernel` or `mean` breaks its contract; the message names the activation, what
        was expected and what came.
    InputError
        If `activation` is not a `finwidth.Activation`.
    """
    if not isinstance(activation, Activation):
        raise InputError(f"expected activation = a finwidth.Activation, got {shown(activation)}")
    try:
        hash(activation)
    except TypeError as error:
        raise PluginError(
            f"activation {activation.name!r}: expected hashable functions, got {error}"
        ) from None
    deviations(activation)


@functools.lru_cache(maxsize=256)
def deviations(activation: Activation) -> dict[str, float]:
    """Return the deviations "elementwise" and "parity" of `fn`."""
    with float64():
        gram = jnp.asarray(PATTERNS @ PATTERNS.T)
        c = jnp.diag(gram)
        report = _check_fn(activation)
        if activation.mean is not None:
            _call(activation, "mean", activation.mean, (c,))
            _call(activation, "mean", activation.mean, (c[0],))
        if activation.kernel is None:
            return report
        _call(activation, "kernel", activation.kernel, (c[0], gram[0, 1], c[1]))
        _call(activation, "kernel", activation.kernel, (c, c, c))
        matrix = _call(activation, "kernel", activation.kernel, (c[:, None], gram, c[None, :]))
        gap = np.abs(matrix - matrix.T)
        if gap.max() > 1e-10 * np.abs(matrix).max():
            i, j = np.unravel_index(gap.argmax(), gap.shape)
            raise PluginError(
                f"activation {activation.name!r}: expected a symmetric Gram matrix from kernel, "
                f"got {matrix[i, j]} and {matrix[j, i]} for the same pair"
            )
        expect_finite(activation, "the gradient of kernel", derivative(activation.kernel, 1))
        return report


def _call(
    activation: Activation, field: str, function: Callable[..., Any], arguments: tuple
) -> np.ndarray:
    """Evaluate under jit; expect a finite float64 array of the broadcast shape."""
    shape = np.broadcast_shapes(*(a.shape for a in arguments))
    given = ", ".join(str(a.shape) for a in arguments)
    name = "an elementwise fn" if field == "fn" else field
    prefix = f"activation {activation.name!r}: expected {name}"
    try:
        weakref.ref(function)
    except TypeError:  # one of NumPy's, with which jax.jit crashes
        raise PluginError(f"{prefix} to be a JAX function, got {function!r}") from None
    try:
        result = jax.jit(function)(*arguments)
    except Exception as error:
        raise PluginError(
            f"{prefix} to be a JAX function that takes arguments {given}, got {_describe(error)}"
        ) from error
    got = getattr(result, "shape", type(result).__name__)
    if got != shape:
        raise PluginError(f"{prefix} to return shape {shape} for arguments {given}, got {got}")
    if result.dtype != arguments[0].dtype:
        raise PluginError(f"{prefix} to return {arguments[0].dtype}, got {result.dtype}")
    values = np.asarray(result)
    if not np.isfinite(values).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        point = [float(np.broadcast_to(np.asarray(a), shape)[where]) for a in arguments]
        raise PluginError(f"{prefix} to be finite, got {values[where]} at {point}")
    return values


def _describe(error: Exception) -> str:
    """What was raised, without the text: JAX's runs over many lines. It is the cause, in full."""
    return f"{type(error).__name__} (are all its operations JAX's, and for arrays of any shape?)"


def _check_fn(activation: Activation) -> dict[str, float]:
    """`fn` works element by element, is finite, and has the parity that it claims."""
    _call(activation, "fn", activation.fn, (jnp.linspace(-3.0, 3.0, 12).reshape(4, 3),))
    sizes = np.concatenate([np.linspace(0, 40, 117)[1:] ** 1.01, 41 * 1.6 ** np.arange(30.0)])
    h = np.random.default_rng(0).permutation(np.concatenate([sizes, -sizes, np.zeros(8)]))
    single = _values(activation, jax.vmap(activation.fn), h, "a single number")
    _expect_finite_fn(activation, h, single)
    # rounding is relative to the largest value at arguments no larger
    order = np.argsort(np.abs(h), kind="stable")
    scale = np.empty(h.size)
    finite = np.where(np.isfinite(single), np.abs(single), 0.0)
    least = max(1e-6 * finite[np.abs(h) < 3].max(), 1e-300)
    scale[order] = np.maximum(np.maximum.accumulate(finite[order]), least)
    tolerance = np.where(np.abs(h) > 1e3, 1e-6, 1e-10)
    worst = 0.0
    for shape in ((h.size,), (4, 3), (5, 6, h.size // 30), (40, h.size)):
        index = np.resize(np.arange(h.size), shape)
        values = _values(activation, activation.fn, h[index], f"shape {shape}")
        gap = _gap(values, single[index]) / scale[index]
        if not (gap <= tolerance[index]).all():
            raise PluginError(
                f"activation {activation.name!r}: expected an elementwise fn, got values that "
                f"depend on the other elements or on the shape (by {gap.max():.1e} for {shape})"
            )
        worst = max(worst, float(gap.max()))
    odd = activation.parity == "odd"
    parity = _expect_odd(activation, h, single, scale) if odd else 0.0
    return {"elementwise": worst, "parity": parity}


def _values(activation: Activation, fn: Callable[..., Any], h: np.ndarray, what: str) -> np.ndarray:
    prefix = f"activation {activation.name!r}: expected an elementwise fn"
    try:
        values = np.asarray(jax.jit(fn)(jnp.asarray(h)))
    except Exception as error:
        raise PluginError(f"{prefix} to take {what}, too, got {_describe(error)}") from error
    if values.shape != h.shape:
        raise PluginError(f"{prefix} to return the shape of its argument, got another for {what}")
    return values


def _gap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a − b|; zero where both are the same infinity."""
    with np.errstate(invalid="ignore"):
        return np.where(a == b, 0.0, np.abs(a - b))


def _expect_finite_fn(activation: Activation, h: np.ndarray, values: np.ndarray) -> None:
    """`fn` is finite, or infinite after it has grown: the exponential may overflow."""
    order = np.argsort(np.abs(h), kind="stable")
    for sign in (1, -1):
        side = order[sign * h[order] >= 0]
        finite = np.isfinite(values[side])
        reached = np.maximum.accumulate(np.where(finite, np.abs(values[side]), 0.0))
        bad = np.isnan(values[side]) | (~finite & (reached < 1e20))
        if bad.any():
            at = side[int(np.argmax(bad))]
            raise PluginError(
                f"activation {activation.name!r}: expected an elementwise fn to be finite, got "
                f"{values[at]} at {h[at]:.4g}"
            )


def _expect_odd(
    activation: Activation, h: np.ndarray, values: np.ndarray, scale: np.ndarray
) -> float:
    """Largest |σ(h) + σ(-h)|, relative to the largest |σ| up to there."""
    order = np.argsort(h)  # symmetric about the middle
    deviation = np.empty(h.size)
    deviation[order] = _gap(values[order], -values[order[::-1]])
    deviation = deviation / scale
    worst = int(np.argmax(np.where(np.isnan(deviation), np.inf, deviation)))
    if not deviation[worst] <= 1e-10:
        raise PluginError(
            f"activation {activation.name!r}: expected fn(-h) = -fn(h) because parity = 'odd', got "
            f"fn({h[worst]:.4g}) = {values[worst]:.6g} and fn(-h) + fn(h) = "
            f"{deviation[worst] * scale[worst]:.3g}"
        )
    return float(deviation[worst])


def derivative(function: Callable[..., Any], order: int) -> Callable[..., Any]:
    """Gradient or Hessian in the three covariances, for rows (c_xx, c_xy, c_yy)."""

    def scalar(point: Any) -> Any:
        return function(point[0], point[1], point[2])

    return jax.jit(jax.vmap(jax.grad(scalar) if order == 1 else jax.hessian(scalar)))


def expect_finite(activation: Activation, label: str, derivative: Callable[..., Any]) -> np.ndarray:
    """Evaluate a derivative on the diagonal, for duplicates, opposites and zero inputs."""
    try:
        values = np.asarray(derivative(jnp.asarray(COVARIANCES)))
    except Exception as error:
        raise PluginError(
            f"activation {activation.name!r}: expected {label} to exist, got {_describe(error)}"
        ) from error
    finite = np.isfinite(values).reshape(len(COVARIANCES), -1).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise PluginError(
            f"activation {activation.name!r}: expected {label} to be finite at (c_xx, c_xy, c_yy) "
            f"= {tuple(COVARIANCES[row].tolist())}, got {values[row].tolist()}"
        )
    return values
