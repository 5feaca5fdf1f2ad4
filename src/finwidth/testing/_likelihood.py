"""Check of a likelihood: its halves, of theory and sampler, are one p(y|f)."""

import math
from typing import Any

import numpy as np

from .._basics.arrays import shown
from .._basics.errors import FinwidthError, InputError, PluginError
from .._numerics.precision import in_float64
from ._pickling import check_pickling

__all__ = ["check_likelihood"]

# Prior covariance of f at two training patterns and one other
_K = np.array([[1.0, 0.4, 0.6], [0.4, 2.0, -0.5], [0.6, -0.5, 1.5]])
_POINTS = 241  # of the grid over f, a dimension, within 12 standard deviations
_ALLOWED = {True: 1e-6, False: 0.1}  # exact, or an approximation whose quality is its author's
_STEP = 1e-4


@in_float64
def check_likelihood(likelihood: Any) -> dict[str, float]:
    """Check a likelihood of one output on two patterns, where integrals over f can be done.

    Labels are drawn by `observe`, which also gives log p(y|f) on a grid of f. What `condition`
    makes of the kernel is compared with integrals over that grid, at two temperatures. An
    approximation may be off; how far is for its author to say, and refused is more than 0.1.

    Parameters
    ----------
    likelihood
        A `finwidth.theories.Likelihood` of one output, or the name of one.

    Returns
    -------
    dict
        Check -> worst deviation found: "evidence", of log p(y); "mean" and "variance" of f at the
        patterns and at another point, in units of the prior's; "gradient" of the action in the
        kernel, against differences; "probabilities", of their sum from 1; "pickling".

    Raises
    ------
    PluginError
        At the first check that fails.
    InputError
        If `likelihood` is no likelihood, or one of several outputs.
    """
    from .._likelihoods import choose_likelihood

    likelihood = choose_likelihood(likelihood)
    if likelihood.one_label:
        raise InputError(
            "expected likelihood = one of one output, whose integrals can be done, got "
            f"{shown(likelihood.name)}"
        )
    first = likelihood.default_temperature or 0.5
    report: dict[str, float] = {}
    for temperature in (first, 2.0 * first):
        for check, gap in _at(likelihood, temperature).items():
            report[check] = max(gap, report.get(check, 0.0))
    return report | check_pickling(likelihood)


def _at(likelihood: Any, temperature: float) -> dict[str, float]:
    what = f"likelihood {likelihood.name!r}: expected"
    y = _labels(what, likelihood, temperature)
    try:
        given = likelihood.condition(np.asfortranarray(_K[:2, :2]), y, temperature)
        cross = _K[:2]
        mean = cross.T @ given.weights
        half = given.whiten(cross)
        variance = np.diag(_K) - np.sum(half**2, axis=0)
        action = float(given.action)
    except FinwidthError as error:
        raise PluginError(f"{what} to condition f on two labels, got {error}") from error
    log_z, exact_mean, exact_variance = _exact(what, likelihood, y, temperature)
    allowed = _ALLOWED[bool(likelihood.conjugate)]
    scale = np.sqrt(np.diag(_K))
    gaps = {
        "evidence": abs(-(action + 2 * math.log(2 * math.pi)) / 2 - log_z),
        "mean": float(np.max(np.abs(mean - exact_mean) / scale)),
        "variance": float(np.max(np.abs(variance - exact_variance) / scale**2)),
    }
    for name, gap in gaps.items():
        if not gap <= allowed:
            raise PluginError(
                f"{what} the {name} that integrals over p(y|f) of `observe` give at T = "
                f"{temperature:g}, got a deviation of {gap:.1e}, beyond {allowed:.0e}"
            )
    gaps["gradient"] = _gradient(what, likelihood, y, temperature, given)
    return gaps | _probabilities(what, likelihood)


def _labels(what: str, likelihood: Any, temperature: float) -> np.ndarray:
    """Return labels of both patterns, drawn as the sampler draws them, that are accepted."""
    import jax
    import jax.numpy as jnp
    import numpyro

    refused = None
    for seed in range(20):  # two labels of one class are refused by some
        with numpyro.handlers.seed(rng_seed=jax.random.key(seed)):
            trace = numpyro.handlers.trace(likelihood.observe).get_trace(
                jnp.asarray([0.7, -0.9]), None, temperature
            )
        if "y" not in trace or np.shape(trace["y"]["value"]) != (2,):
            raise PluginError(f"{what} observe to sample a site 'y' of shape (2,), got none")
        y = np.asarray(trace["y"]["value"], float)
        try:
            checked = np.asarray(likelihood.check(y))
        except InputError as error:
            refused = error
            continue
        if checked.shape != (2,):
            raise PluginError(f"{what} check to return labels of shape (2,), got {checked.shape}")
        return checked
    raise PluginError(f"{what} labels that it draws itself to be accepted, got {refused}")


def _exact(
    what: str, likelihood: Any, y: np.ndarray, temperature: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return log p(y), and mean and variance of f at all three points, by sums over a grid."""
    import jax
    import jax.numpy as jnp
    from numpyro.infer.util import log_density

    @jax.jit
    @jax.vmap
    def log_p(f: Any) -> Any:
        return log_density(lambda: likelihood.observe(f, y, temperature), (), {}, {})[0]

    inner = _K[:2, :2]
    lower = np.linalg.cholesky(inner)
    z = np.linspace(-12.0, 12.0, _POINTS)
    grid = np.stack(np.meshgrid(z, z, indexing="ij"), axis=-1).reshape(-1, 2)
    f = grid @ lower.T
    value = np.asarray(log_p(jnp.asarray(f))) - np.sum(grid**2, axis=1) / 2
    top = value.max()
    if not np.isfinite(top) or np.isnan(value).any():
        raise PluginError(f"{what} a log p(y|f) that is finite somewhere and nowhere NaN")
    weight = np.exp(value - top)
    total = weight.sum()
    log_z = float(top + math.log(total * (z[1] - z[0]) ** 2 / (2 * math.pi)))
    towards = np.linalg.solve(inner, _K[:2])  # E f of any point given f at the two
    expected = f @ towards
    mean = weight @ expected / total
    rest = np.diag(_K) - np.sum(_K[:2] * towards, axis=0)
    return log_z, mean, weight @ (expected - mean) ** 2 / total + rest


def _gradient(what: str, likelihood: Any, y: np.ndarray, temperature: float, given: Any) -> float:
    """How far the gradient is from differences of the action along two directions."""
    tile = np.asarray(given.gradient()(slice(0, 2), slice(0, 2)))
    gradient = np.tril(tile) + np.tril(tile, -1).T
    gaps = []
    for direction in (np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[1.0, 1.0], [1.0, 1.0]])):
        up, down = (
            likelihood.condition(np.asfortranarray(_K[:2, :2] + h * direction), y, temperature)
            for h in (_STEP, -_STEP)
        )
        slope = (float(up.action) - float(down.action)) / (2 * _STEP)
        gaps.append(abs(float(np.sum(gradient * direction)) - slope))
    if not max(gaps) <= 1e-4:
        raise PluginError(
            f"{what} the gradient of the action in the kernel to be that of differences, got a "
            f"deviation of {max(gaps):.1e}"
        )
    return max(gaps)


def _probabilities(what: str, likelihood: Any) -> dict[str, float]:
    mean, variance = np.array([-3.0, 0.0, 0.5]), np.array([0.1, 1.0, 4.0])
    p = likelihood.probabilities(mean, variance)
    if p is None:
        return {}
    p = np.asarray(p)
    if p.ndim != 2 or len(p) != 3 or not ((p >= 0) & (p <= 1)).all():
        raise PluginError(f"{what} probabilities of shape (3, class) from 0 to 1, got {shown(p)}")
    gap = float(np.abs(p.sum(axis=1) - 1).max())
    if not gap <= 1e-8:
        raise PluginError(f"{what} probabilities of all classes to sum to 1, got {1 - gap:g}")
    return {"probabilities": gap}
