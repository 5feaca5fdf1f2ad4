"""The moments of an activation against draws, and where variances are very small or large."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._basics.errors import InputError, PluginError
from .._numerics.precision import in_float64
from ..activations import _moments
from ..activations._activation import Activation
from ..activations._contract import COVARIANCES, derivative, validate_kernel
from ..activations._rules import Rule, choose

__all__ = ["check_monte_carlo", "check_scales"]

_DRAWS = 200_000
_STANDARD_ERRORS = 6.0
_SCALES = (1e-12, 1e-4, 1e4, 1e12)


@in_float64
def check_monte_carlo(activation: Any) -> dict[str, float]:
    """Compare E[σ(h)] and E[σ(h)σ(h')] with averages over draws of (h, h').

    Parameters
    ----------
    activation
        The activation to check.

    Returns
    -------
    dict
        "Monte Carlo": the worst deviation, relative to √E[σ(h)²] for each factor.

    Raises
    ------
    PluginError
        If one is more than six standard errors away, or the activation breaks its contract.
    InputError
        If `activation` is not a `finwidth.Activation`.
    """
    validate_kernel(activation)
    rule = choose(activation, float(COVARIANCES.max()))
    c_xx, c_xy, c_yy = map(jnp.asarray, COVARIANCES.T)
    kernel = np.asarray(_moments.kernel(activation, c_xx, c_xy, c_yy, rule=rule))
    mean = np.asarray(_moments.mean(activation, c_xx, rule=rule))
    z = np.random.default_rng(0).normal(size=(2, _DRAWS))
    fn = jax.jit(activation.fn)
    worst = 0.0
    for point, second, first in zip(COVARIANCES.tolist(), kernel, mean, strict=True):
        c_xx, c_xy, c_yy = point
        slope = c_xy / c_xx if c_xx > 0 else 0.0
        h = math.sqrt(c_xx) * z[0]
        other = slope * h + math.sqrt(max(c_yy - slope * c_xy, 0.0)) * z[1]
        one, two = np.asarray(fn(jnp.asarray(h))), np.asarray(fn(jnp.asarray(other)))
        scales = [max(math.sqrt(np.mean(part**2)), 1e-12) for part in (one, two)]
        for name, draws, value, scale in (
            ("E[σ(h)]", one, first, scales[0]),
            ("E[σ(h)σ(h')]", one * two, second, scales[0] * scales[1]),
        ):
            gap = abs(float(draws.mean()) - float(value))
            error = float(draws.std()) / math.sqrt(_DRAWS)
            if not gap <= _STANDARD_ERRORS * error + max(1e-9, rule.error) * scale:
                raise PluginError(
                    f"activation {activation.name!r}: expected {name} = {draws.mean():.6g} ± "
                    f"{error:.1g} at (c_xx, c_xy, c_yy) = {tuple(point)} (the average over "
                    f"draws), got {float(value):.6g}"
                )
            worst = max(worst, gap / scale)
    return {"Monte Carlo": worst}


@in_float64
def check_scales(activation: Any) -> dict[str, float]:
    """Check the moments at variances from 1e-12 to 1e12, as inputs of any unit have.

    There E[σ(h)²] is compared with quadrature on panels of every size; covariances obey
    Cauchy-Schwarz and all first derivatives are finite. Scales at which σ overflows or oscillates
    too fast for the panels, or which finwidth refuses since no quadrature reaches them, are left
    out.

    Parameters
    ----------
    activation
        The activation to check.

    Returns
    -------
    dict
        "extreme scales": the worst relative deviation of E[σ(h)²].

    Raises
    ------
    PluginError
        If the moments are wrong at one of the scales, or the activation breaks its contract.
    InputError
        If `activation` is not a `finwidth.Activation`.
    """
    validate_kernel(activation)
    return {"extreme scales": max(_at_scale(activation, scale) for scale in _SCALES)}


def _at_scale(activation: Activation, scale: float) -> float:
    expected, half = (_second_moment(activation, scale, factor) for factor in (4.0, 2.0))
    if not abs(half - expected) <= 1e-8 * abs(half):  # neither number is known
        return 0.0
    try:
        rule = choose(activation, scale)
    except InputError:  # finwidth refuses such inputs in one line
        return 0.0
    if not math.isfinite(expected) or expected == 0:
        return 0.0
    what = f"activation {activation.name!r}: expected at variances of {scale:.0e}"
    kernel = functools.partial(_kernel, activation, rule)
    rho = np.array([1.0, 0.9, 0.0, -0.9, -1.0])
    values = np.asarray(kernel(*(jnp.asarray(scale * one) for one in (rho**0, rho, rho**0))))
    if not np.isfinite(values).all() or not np.abs(values).max() <= values[0] * (1 + 1e-9):
        raise PluginError(f"{what} |kernel| of no more than E[σ²] = {values[0]:.6g}, got {values}")
    gap = abs(float(values[0]) / expected - 1)
    if not gap <= max(1e-7, 2 * rule.error):
        raise PluginError(f"{what} E[σ(h)²] = {expected:.10g} (quadrature), got {values[0]:.10g}")
    points = jnp.asarray(scale * np.stack([np.ones(5), rho, np.ones(5)], axis=1))
    slopes = np.asarray(derivative(kernel, 1)(points))
    if not np.isfinite(slopes).all():
        raise PluginError(f"{what} finite derivatives of kernel, got {slopes.tolist()}")
    return gap


def _kernel(activation: Activation, rule: Rule, *covariance: Any) -> Any:
    return _moments.kernel(activation, *covariance, rule=rule)


def _second_moment(activation: Activation, c: float, factor: float) -> float:
    """E[σ(√c z)²] by Gauss-Legendre rules on panels that shrink towards 0 by `factor`."""
    edges = 12.0 / factor ** np.arange(round(80 / math.log2(factor)))
    edges = np.concatenate([-edges, [0.0], edges[::-1]])
    x, weight = np.polynomial.legendre.leggauss(40)
    half = np.diff(edges)[:, None] / 2
    z = edges[:-1, None] + half * (1 + x)
    values = np.asarray(jax.jit(activation.fn)(jnp.asarray(math.sqrt(c) * z)))
    with np.errstate(over="ignore"):
        return float(np.sum(half * weight * values**2 * np.exp(-(z**2) / 2)) / math.sqrt(2 * np.pi))
