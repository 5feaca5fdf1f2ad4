"""Provenance: the program, machine and network behind a result, as one JSON record."""

import datetime
import importlib.metadata
import json
import math
import platform
from typing import TYPE_CHECKING, Any

import numpy as np

from .._basics.errors import InputError
from .._basics.plain import plain

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["provenance", "read_provenance", "require_same_run"]

_PACKAGES = ("finwidth", "jax", "jaxlib", "numpyro", "arviz", "numpy", "scipy", "xarray")


def provenance(network: Any, **extra: Any) -> dict[str, Any]:
    """Describe the program, machine and network behind a result, in plain JSON types.

    Parameters
    ----------
    network
        The `finwidth.Network` that was used.
    **extra
        Further entries (temperature, seed, sampler, name of the data …): anything JSON holds,
        NumPy numbers and arrays, and paths. An entry of the same name replaces the default one.

    Returns
    -------
    dict
        network, versions, device, plugins, created (UTC, ISO 8601) and `extra`.

    Raises
    ------
    InputError
        If an entry of `extra` has no JSON form.
    """
    import jax

    from .._plugins.registry import loaded_plugins

    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    device = jax.devices()[0]
    record = {
        "network": network.record(),
        "versions": {"python": platform.python_version()} | versions,
        "device": {"platform": device.platform, "kind": device.device_kind},
        "plugins": [plain("plugins", plugin) for plugin in loaded_plugins()],
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    return record | {name: plain(name, value) for name, value in extra.items()}


def read_provenance(tree: "xr.DataTree") -> dict[str, Any]:
    """Return the record that `provenance` made and the tree carries.

    Parameters
    ----------
    tree
        A run from `finwidth.sample` or `finwidth.load`.

    Returns
    -------
    dict

    Raises
    ------
    InputError
        If the tree has no provenance, or one that is not a JSON object.
    """
    expected = "expected tree.attrs['provenance'] = a JSON object as finwidth.sample writes it"
    text = getattr(tree, "attrs", {}).get("provenance")
    if text is None:
        raise InputError(f"{expected}, got none")
    try:
        record = json.loads(text)
    except (TypeError, ValueError) as error:
        raise InputError(f"{expected}, got {text!r}") from error
    if not isinstance(record, dict):
        raise InputError(f"{expected}, got {text!r}")
    return record


def require_same_run(theory: Any, tree: "xr.DataTree") -> dict[str, Any]:
    """Check that a theory and a tree have the same network, temperature and training set.

    The training set is compared where both carry it.

    Parameters
    ----------
    theory
        What `finwidth.solve` or `finwidth.mixture` returned.
    tree
        What `finwidth.sample` returned.

    Returns
    -------
    dict
        The tree's provenance.

    Raises
    ------
    InputError
        If the tree has no provenance, or the two differ; the message names the field.
    """
    record = read_provenance(tree)
    ours = theory.network.record()
    theirs = record.get("network")
    if not isinstance(theirs, dict):
        raise InputError(f"expected provenance['network'] = a JSON object, got {theirs!r}")
    if theirs.get("activation_digest") is None:  # a tree of before there was one
        del ours["activation_digest"]
    for field, value in ours.items():
        if theirs.get(field) != value:
            raise InputError(
                f"expected theory and tree of the same network, got {field} = {value} in the "
                f"theory and {theirs.get(field)} in the tree"
            )
    temperature = record.get("temperature")
    if not isinstance(temperature, (int, float)) or not math.isclose(
        temperature, float(theory.temperature), rel_tol=1e-12, abs_tol=0.0
    ):
        raise InputError(
            "expected theory and tree at the same temperature, got "
            f"{float(theory.temperature)!r} in the theory and {temperature!r} in the tree"
        )
    problem = getattr(theory, "problem", None)
    likelihood = getattr(problem, "likelihood", None)
    if likelihood is not None:
        ours, theirs = likelihood.name, record.get("likelihood", "gaussian")
        if ours != theirs:
            raise InputError(
                f"expected theory and tree of the same likelihood, got {ours!r} in the theory and "
                f"{theirs!r} in the tree"
            )
    for group, name in (("constant_data", "X"), ("observed_data", "y")):
        data = tree.children.get(group)
        if problem is None or data is None or name not in data.data_vars:
            continue
        ours, theirs = np.asarray(getattr(problem, name)), data.data_vars[name].values
        if ours.shape != theirs.shape:
            raise InputError(
                f"expected theory and tree of the same training set, got {name} of shape "
                f"{ours.shape} in the theory and {theirs.shape} in the tree"
            )
        if not np.allclose(ours, theirs, rtol=1e-5, atol=1e-6):  # float32 runs round their data
            raise InputError(
                f"expected theory and tree of the same training set, got different values of {name}"
            )
    return record
