"""What the draws of a run say of every score, with Monte Carlo standard errors."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .._basics.checks import check_tree
from .._basics.errors import InputError
from .._numerics.chains import Series, summarize
from .._observables._baseline import baselines
from .._observables._observable import Draws, Estimate, Observable, estimates, observables
from .attach import prediction_points

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["TestRun", "guesses", "quantities_of", "read_test_run", "scores"]


class TestRun(NamedTuple):
    """The draws of a run at its test points.

    Attributes
    ----------
    x_test, y_test
        The test set, in float64.
    draws
        f there.
    estimator
        What the draws are, in words.
    """

    x_test: np.ndarray
    y_test: np.ndarray
    draws: Draws
    estimator: str


def scores(tree: "xr.DataTree") -> "xr.Dataset":
    """Return every score that is defined for a run's test labels, from its draws.

    Parameters
    ----------
    tree
        What `finwidth.sample` returned with X_test and y_test.

    Returns
    -------
    xarray.Dataset
        The scores that `Solution.scores` gives for a theory, as `finwidth.compare` estimates them,
        and of each its Monte Carlo standard error as ``<name>_mcse``. Attributes: ``estimator``,
        whether the estimates are made of conditional moments or of draws of f, and, where the tree
        has the training labels, ``error_baseline`` and ``accuracy_baseline``, what a constant
        guess scores.

    Raises
    ------
    InputError
        If the tree lacks predictions or y_test.
    PluginError
        If an observable of a plugin gives no numbers, or of another shape.

    References
    ----------
    theory.md, section 14.
    """
    import xarray as xr

    run = read_test_run(check_tree(tree))
    sampled, series = quantities_of(run, observables(run.y_test))
    values = {}
    for name, mean, mcse in zip(sampled, series.mean, series.mcse, strict=True):
        values |= {name: mean, f"{name}_mcse": mcse}
    known = guesses(tree, run.y_test)
    guess = {f"{name}_baseline": known[name] for name in sampled if name in known}
    return xr.Dataset(values, attrs={"estimator": run.estimator} | guess)


def guesses(tree: "xr.DataTree", y_test: np.ndarray) -> dict[str, float]:
    """Return what a constant guess scores; nothing where the tree has no training labels."""
    group = tree.children.get("observed_data")
    if group is None or "y" not in group.data_vars:
        return {}
    return baselines(group.data_vars["y"].transpose("pattern", ...).values, y_test)


def read_test_run(tree: "xr.DataTree") -> TestRun:
    """Return the draws of f at the test points, or raise InputError.

    f, or f_mean and f_variance, has dimensions (chain, draw, test_pattern), and output with several
    outputs; f_covariance, where the outputs are not independent given a draw, ``output_`` as well;
    p, the probability of the class +1 where the likelihood is one of two classes, or of every
    class, those of f.
    """
    x_test, y_test = prediction_points(tree)
    if y_test is None:
        raise InputError(
            "expected tree with y_test in group 'predictions_constant_data', got none: "
            "sample with y_test=…"
        )
    y_test = np.asarray(y_test, dtype=np.float64)
    dims = ("chain", "draw", "test_pattern", "output")[: y_test.ndim + 2]
    group = tree.children.get("predictions")
    expected = f"expected tree with f ({', '.join(dims)}) in group 'predictions'"
    if group is None:
        raise InputError(f"{expected}, got no such group: sample with X_test=…")
    variables = group.data_vars

    def read(name: str, dims: tuple[str, ...], sizes: tuple[int, ...]) -> np.ndarray:
        if name not in variables:
            raise InputError(f"{expected}, got {sorted(map(str, variables))}")
        if set(variables[name].dims) != set(dims):
            raise InputError(f"{expected}, got {name} with dimensions {variables[name].dims}")
        ordered = variables[name].transpose(*dims)
        if ordered.shape[2:] != sizes:
            raise InputError(
                f"expected {name} at the {len(y_test)} patterns of y_test"
                f"{'' if y_test.ndim == 1 else f', {y_test.shape[1]} outputs each'}, got shape "
                f"{ordered.shape[2:]}"
            )
        return ordered.values.astype(np.float64)

    if not {"f_mean", "f_variance"} <= set(variables):
        f, probabilities = read("f", dims, y_test.shape), None
        if "p" in variables:
            p = read("p", dims, y_test.shape)
            probabilities = p if y_test.ndim > 1 else np.stack([1.0 - p, p], axis=-1)
        draws = Draws(f, np.zeros_like(f), probabilities=probabilities)
        return TestRun(x_test, y_test, draws, "draws of f")
    covariance = None
    if "f_covariance" in variables and y_test.ndim > 1:
        covariance = read("f_covariance", (*dims, "output_"), (*y_test.shape, y_test.shape[1]))
    draws = Draws(
        read("f_mean", dims, y_test.shape), read("f_variance", dims, y_test.shape), covariance
    )
    return TestRun(x_test, y_test, draws, "conditional moments (Rao-Blackwell)")


def quantities_of(run: TestRun, chosen: list[Observable]) -> tuple[dict[str, Estimate], Series]:
    """Return the estimates of all quantities, and in this order numbers, MCSE and diagnostics.

    A quantity that is the same in every draw although f moves has no MCSE (NaN).
    """
    sampled = estimates(chosen, run.draws, run.y_test)
    found = list(sampled.values())
    series = summarize(np.stack([one.series for one in found], axis=-1))
    mean = series.mean + np.array([one.offset for one in found])
    mcse = np.hypot(series.mcse, np.array([one.noise for one in found]))
    if np.any(run.draws.patterns.mcse > 0):
        watched = np.array([one.watched for one in found])
        mcse[(series.mcse == 0) & watched] = np.nan
    return sampled, series._replace(mean=mean, mcse=mcse)
