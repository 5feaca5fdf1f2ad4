"""A theory's prediction beside the draws."""

import json
from typing import Any

import numpy as np
import xarray as xr

from .._basics.checks import check_pair
from .._basics.errors import InputError, PluginError
from .._observables._labels import as_rows
from .._observables._observable import observables, predictions
from .provenance import require_same_run

__all__ = ["attach", "prediction_points", "predictive_law"]


def prediction_points(tree: "xr.DataTree") -> tuple[np.ndarray, np.ndarray | None]:
    """Return X_test and, where known, y_test of a run.

    Parameters
    ----------
    tree
        What `finwidth.sample` returned.

    Returns
    -------
    X_test
        Shape (test_pattern, input).
    y_test
        Shape (test_pattern,), or (test_pattern, output) for several outputs, or None. Class
        indices become rows of a one and zeros.

    Raises
    ------
    InputError
        If the tree has no X_test.
    """
    group = "predictions_constant_data"
    data = tree.children.get(group)
    if data is None or "X_test" not in data.data_vars:
        raise InputError(
            f"expected tree with X_test in group {group!r}, got none: sample with X_test=…"
        )
    x_test = data.data_vars["X_test"].transpose("test_pattern", ...).values
    if "y_test" not in data.data_vars:
        return x_test, None
    y_test = data.data_vars["y_test"].transpose("test_pattern", ...).values
    drawn = tree.children.get("predictions")
    if y_test.ndim == 1 and drawn is not None and "p" in drawn and "output" in drawn["p"].dims:
        y_test = as_rows(np.asarray(y_test, np.float64), drawn.sizes["output"])
    return x_test, y_test


def predictive_law(theory: Any, x_test: np.ndarray) -> Any:
    """Return what a theory says of f, the Gaussians of its law included where it tells them."""
    return getattr(theory, "predictive_law", theory.predict)(x_test)


def attach(tree: "xr.DataTree", theory: Any) -> "xr.DataTree":
    """Put a theory's prediction into the run, under ``theory/<name>``.

    Parameters
    ----------
    tree
        What `finwidth.sample` returned, with X_test. It gets the new group.
    theory
        What `finwidth.solve` or `finwidth.mixture` returned, for the same network and
        temperature.

    Returns
    -------
    xarray.DataTree
        The same tree. The group holds f_mean and f_variance (test_pattern), for several outputs
        (test_pattern, output) and f_covariance (test_pattern, output, ``output_``), q_bar and q
        (layer), action, log_evidence and residual where the theory has them, and every score of
        `Solution.scores` where the tree has y_test. A group of that name is replaced.

    Raises
    ------
    InputError
        If the tree has no X_test, or theory and tree differ in network or temperature.
    """
    import xarray as xr

    check_pair(theory, tree, "attach(tree, theory)")
    require_same_run(theory, tree)
    x_test, y_test = prediction_points(tree)
    prediction = predictive_law(theory, x_test)
    moments = {"f_mean": prediction.mean, "f_variance": prediction.variance}
    covariance = getattr(prediction, "output_covariance", None)
    if covariance is not None:
        moments["f_covariance"] = covariance
    dims = ("test_pattern", "output", "output_")
    dataset = xr.Dataset(
        {name: (dims[: np.ndim(array)], np.asarray(array)) for name, array in moments.items()},
        attrs={
            "theory": str(theory.theory),
            "network": json.dumps(theory.network.record()),
            "temperature": float(theory.temperature),
        },
    )
    coordinate = tree["predictions_constant_data"].coords.get("test_pattern")
    if coordinate is not None:
        dataset = dataset.assign_coords(test_pattern=coordinate.values)
    order_parameters = getattr(theory, "order_parameters", None)
    if order_parameters is not None:
        dataset = dataset.merge(order_parameters.drop_attrs())
    for name in ("action", "log_evidence", "residual"):
        value = getattr(theory, name, None)
        if value is not None:
            dataset[name] = ((), float(value))
    if y_test is not None:
        y_test = np.asarray(y_test, dtype=np.float64)
        for name, value in predictions(observables(y_test), prediction, y_test).items():
            if name in dataset.variables:
                raise PluginError(
                    f"expected names of their own for an observable's quantities, got {name!r}, "
                    f"which theory {theory.theory!r} has too"
                )
            dataset[name] = ((), value)
    tree[f"theory/{theory.theory}"] = xr.DataTree(dataset=dataset)
    return tree
