"""Checks of an activation against its contract: for plugin authors, and before a long run."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._basics.errors import PluginError
from .._numerics.precision import in_float64
from ..activations import _moments
from ..activations._activation import Activation
from ..activations._contract import (
    COVARIANCES,
    derivative,
    deviations,
    expect_finite,
    validate_kernel,
)
from ..activations._rules import choose

__all__ = ["check_activation"]

_GENERIC = slice(0, 6)  # those of COVARIANCES inside the cone, where K is smooth


@in_float64
def check_activation(activation: Any) -> dict[str, float]:
    """Check that an activation is what it says it is.

    The moments are compared with adaptive quadrature (`scipy.integrate.cubature`, in polar
    coordinates), which shares no code with the quadrature that finwidth computes with.

    Parameters
    ----------
    activation
        The activation to check.

    Returns
    -------
    dict
        Check -> worst relative deviation found: "elementwise" and "parity" of `fn`; "symmetry"
        of the kernel; "positive semidefinite", how negative an eigenvalue of a Gram matrix is;
        "gradient" against finite differences; "mean" and "kernel" against quadrature.

    Raises
    ------
    PluginError
        At the first check that fails; the message says what was expected and what came.
    InputError
        If `activation` is not a `finwidth.Activation`.

    Examples
    --------
    >>> import finwidth as fw
    >>> report = fw.testing.check_activation(fw.get_activation("erf"))
    >>> report["kernel"] < 1e-7
    True
    """
    validate_kernel(activation)
    report = deviations(activation)
    rule = choose(activation, float(COVARIANCES.max()))
    tolerance = max(1e-7, rule.error)
    kernel = jax.jit(functools.partial(_moments.kernel, activation, rule=rule))
    mean = jax.jit(functools.partial(_moments.mean, activation, rule=rule))
    report = report | {
        "symmetry": _check_symmetry(activation, kernel),
        "positive semidefinite": _check_gram(activation, kernel),
        "gradient": _check_gradients(activation, kernel, mean),
    }
    return report | _check_moments(activation, kernel, mean, tolerance)


def _check_moments(
    activation: Activation, kernel: Callable[..., Any], mean: Callable[..., Any], tolerance: float
) -> dict[str, float]:
    """E[σ(h)] and E[σ(h)σ(h')] against quadrature; the scale is √E[σ(h)²] for each factor."""
    fn = jax.jit(activation.fn)  # thousands of calls
    variances = np.unique(COVARIANCES[:, [0, 2]])
    scales = {c: math.sqrt(_moment(fn, c, c, c, 2)[0]) for c in variances.tolist()}
    report = {"mean": 0.0, "kernel": 0.0}

    def compare(name: str, arguments: tuple, value: float, scale: float, power: int) -> None:
        c_xx, c_xy, c_yy = arguments if power == 2 else arguments * 3
        expected, error = _moment(fn, c_xx, c_xy, c_yy, power)
        deviation = abs(float(value) - expected) / max(scale, 1e-12)
        if not deviation <= tolerance + error / max(scale, 1e-12):
            raise PluginError(
                f"activation {activation.name!r}: expected {name}{arguments} = {expected:.10g} "
                f"(quadrature of fn), got {float(value):.10g}; the deviation {deviation:.1e} "
                f"exceeds {tolerance:.0e}"
            )
        report[name] = max(report[name], deviation)

    for c, value in zip(variances.tolist(), np.asarray(mean(variances)), strict=True):
        compare("mean", (c,), value, scales[c], 1)
    values = np.asarray(kernel(*COVARIANCES.T))
    for covariance, value in zip(COVARIANCES.tolist(), values, strict=True):
        compare(
            "kernel", tuple(covariance), value, scales[covariance[0]] * scales[covariance[2]], 2
        )
    return report


def _check_symmetry(activation: Activation, kernel: Callable[..., Any]) -> float:
    """The kernel does not depend on the order of the two patterns."""
    c_xx, c_xy, c_yy = COVARIANCES.T
    one, other = np.asarray(kernel(c_xx, c_xy, c_yy)), np.asarray(kernel(c_yy, c_xy, c_xx))
    gap = float((np.abs(one - other) / np.maximum(np.abs(one), 1e-12)).max())
    if not gap <= 1e-9:
        raise PluginError(
            f"activation {activation.name!r}: expected kernel(c_xx, c_xy, c_yy) = "
            f"kernel(c_yy, c_xy, c_xx), got a relative difference of {gap:.1e}"
        )
    return gap


def _check_gram(activation: Activation, kernel: Callable[..., Any]) -> float:
    """Gram matrices are positive semidefinite, with duplicate and opposite patterns too."""
    rng = np.random.default_rng(0)
    worst = 0.0
    for inputs in (2, 8):
        points = rng.normal(size=(12, inputs))
        points = np.concatenate([points, points[:2], -points[:1], points[:1] * (1 + 1e-7)])
        covariance = points @ points.T / inputs
        c = np.diag(covariance)
        gram = np.asarray(kernel(c[:, None], covariance, c[None, :]))
        lowest = float(np.linalg.eigvalsh(gram).min() / max(np.linalg.norm(gram), 1e-300))
        if not lowest >= -1e-9:
            raise PluginError(
                f"activation {activation.name!r}: expected a positive semidefinite Gram matrix "
                f"from kernel, got an eigenvalue of {lowest:.1e} times its norm"
            )
        worst = max(worst, -lowest)
    return worst


def _check_gradients(
    activation: Activation, kernel: Callable[..., Any], mean: Callable[..., Any]
) -> float:
    """First and second derivatives are finite everywhere; first ones match differences."""
    gradients = expect_finite(activation, "the gradient of kernel", derivative(kernel, 1))
    expect_finite(activation, "the second derivative of kernel", derivative(kernel, 2))

    def of_variance(c_xx: Any, c_xy: Any, c_yy: Any) -> Any:
        return mean(c_xx) + mean(c_yy)

    expect_finite(activation, "the gradient of mean", derivative(of_variance, 1))
    points = COVARIANCES[_GENERIC]
    worst = 0.0
    for i in range(3):
        step = np.zeros_like(points)
        step[:, i] = 1e-4 * np.minimum(points[:, 0], points[:, 2])
        difference = np.asarray(kernel(*(points + step).T) - kernel(*(points - step).T))
        expected = difference / (2 * step[:, i])
        got = gradients[_GENERIC, i]
        scale = np.abs(gradients[_GENERIC]).max(axis=1)
        worst = max(worst, float((np.abs(got - expected) / np.maximum(scale, 1e-12)).max()))
    if not worst <= 1e-3:
        raise PluginError(
            f"activation {activation.name!r}: expected the gradient of kernel to match finite "
            f"differences, got a relative deviation of {worst:.1e}"
        )
    return worst


def _moment(
    fn: Callable[..., Any], c_xx: float, c_xy: float, c_yy: float, power: int
) -> tuple[float, float]:
    """E[σ(h)σ(h')] (power 2) or E[σ(h)] (power 1) by adaptive quadrature, and its error.

    With h = √c_xx r cos φ and h' = √c_yy r cos(φ − θ), cos θ the correlation, h and h' change
    sign at fixed angles, so that a kink at 0 lies on the edge of a region.
    """
    from scipy.integrate import cubature

    product = math.sqrt(c_xx * c_yy)
    theta = math.acos(min(1.0, max(-1.0, c_xy / product))) if product > 0 else math.pi / 2

    def integrand(points: np.ndarray) -> np.ndarray:
        r, phi = points[:, 0], points[:, 1]
        value = np.asarray(fn(jnp.asarray(math.sqrt(c_xx) * r * np.cos(phi))))
        if power == 2:
            value = value * np.asarray(fn(jnp.asarray(math.sqrt(c_yy) * r * np.cos(phi - theta))))
        return value * r * np.exp(-(r**2) / 2) / (2 * math.pi)

    half = math.pi / 2
    edges = sorted({-half, half, 3 * half, theta - half, theta + half})
    total = error = 0.0
    for lower, upper in zip(edges[:-1], edges[1:], strict=True):
        if upper - lower > 1e-12:
            start, end = [0.0, lower], [11.0, upper]
            region = cubature(integrand, start, end, rtol=1e-9, max_subdivisions=100)
            total += float(region.estimate)
            error += float(region.error)
    return total, error
