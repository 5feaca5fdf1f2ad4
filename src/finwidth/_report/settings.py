"""What a page says of how a result came about: settings, data, program and machine."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._results.kinds import Result
from .._results.provenance import read_provenance
from .table import Table, plain

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["headline", "provenance_rows", "settings"]


def settings(result: Result) -> Table:
    """Return what was asked for: network, data, temperature, how it was sampled."""
    rows: list[tuple[str, str]] = []
    tree = next(iter(result.runs.values()), None)
    if tree is not None:
        rows += _run_settings([read_provenance(one) for one in result.runs.values()], tree)
    elif result.reports:
        rows += _report_settings(result.reports)
    elif result.dataset is not None:
        rows += _grid_settings(result.dataset)
    return Table("Settings", ("setting", "value"), rows)


def headline(result: Result) -> str:
    """Return data, networks and temperature in a line; nothing where they are many."""
    records = [read_provenance(tree) for tree in result.runs.values()]
    nets, parts = [record["network"] for record in records], []
    if len(records) == 1:
        parts.append(f"widths {plain(nets[0].get('widths'))}")
    elif records:
        first = sorted(net["widths"][0] for net in nets)
        parts.append(f"N₁ = {', '.join(map(str, dict.fromkeys(first)))}")
    for key, text in (("data_name", "{}"), ("temperature", "T = {}")):
        values = dict.fromkeys(plain(one[key]) for one in records if one.get(key) is not None)
        parts += [text.format(", ".join(values))] if values else []
    activations = dict.fromkeys(str(net.get("activation")) for net in nets)
    return ", ".join([*parts, *activations])


def _run_settings(records: Sequence[Mapping[str, Any]], tree: Any) -> list[tuple[str, str]]:
    rows = []
    networks = [record["network"] for record in records]
    for name in ("widths", "activation", "weight_precision", "bias_precision", "outputs", "layers"):
        values = list(dict.fromkeys(plain(one.get(name)) for one in networks))
        if values != ["none"] or name == "bias_precision":
            rows.append((name.replace("_", " "), "; ".join(values)))
    sizes = _sizes(tree)
    skip = ("network", "versions", "device", "plugins", "created", "stuck", "data")
    for name in dict.fromkeys(key for record in records for key in record if key not in skip):
        values = list(dict.fromkeys(plain(record.get(name)) for record in records))
        text = "; ".join(value for value in values if value)
        rows.append((name.replace("_", " "), text))
    return rows + sizes


def _sizes(tree: Any) -> list[tuple[str, str]]:
    """Return the sizes of the data, and of classes how many patterns each has."""
    rows = []
    for group, x, y, name in (
        ("observed_data", "X", "y", "training patterns"),
        ("predictions_constant_data", "X_test", "y_test", "test patterns"),
    ):
        if group not in tree.children or y not in tree[group].data_vars:
            continue
        labels = np.asarray(tree[group][y].values)
        rows.append((name, str(len(labels)) + _balance(labels)))
        if x in tree[group].data_vars:
            rows.append(("inputs", str(tree[group][x].shape[-1])))
    return rows


def _balance(labels: np.ndarray) -> str:
    if labels.ndim == 2 and np.isin(labels, (0.0, 1.0)).all():
        labels = labels.argmax(axis=1)
    if labels.ndim != 1:
        return ""
    values, counts = np.unique(labels, return_counts=True)
    if len(values) > 10:
        return ""
    return f" ({', '.join(f'{n} of y = {v:g}' for v, n in zip(values, counts, strict=True))})"


def _report_settings(reports: "Sequence[xr.Dataset]") -> list[tuple[str, str]]:
    rows = []
    networks = list(dict.fromkeys(str(one.attrs.get("network", "")) for one in reports))
    for text in networks:
        try:
            network = json.loads(text)
        except ValueError:
            continue
        rows += [(name.replace("_", " "), plain(value)) for name, value in network.items()]
    first = reports[0]
    rows.append(("temperature", f"{float(first['temperature']):g}"))
    for name in ("posterior", "model", "sampler", "estimator"):
        if first.attrs.get(name):
            rows.append((name, str(first.attrs[name])))
    return rows


def _grid_settings(dataset: "xr.Dataset") -> list[tuple[str, str]]:
    rows = []
    for name in map(str, dataset.coords):
        values = dataset[name].values
        if values.ndim == 1:
            different = list(dict.fromkeys(plain(one) for one in values.tolist()))
            text = ", ".join(different[:12]) + (", …" if len(different) > 12 else "")
            rows.append((name.replace("_", " "), text))
        elif values.ndim == 0:
            rows.append((name.replace("_", " "), plain(values.item())))
    for name, value in dataset.attrs.items():
        if name not in ("command", "provenance", "finwidth"):
            rows.append((str(name).replace("_", " "), plain(value)))
    return rows


def provenance_rows(result: Result) -> Table:
    """Return what program and machine produced it."""
    rows: list[tuple[str, str]] = []
    for file, tree in result.runs.items():
        record = read_provenance(tree)
        device = record.get("device", {})
        where = f"{file}: " if len(result.runs) > 1 else ""
        rows.append((f"{where}created", str(record.get("created", ""))))
        if rows[1:]:
            continue  # the same program, mostly; each file tells
        versions = record.get("versions", {})
        rows.append(("versions", ", ".join(f"{k} {v}" for k, v in versions.items())))
        rows.append(("device", f"{device.get('platform', '')} ({device.get('kind', '')})"))
        plugins = {
            f"{one.get('name')} {one.get('version')}"
            for one in record.get("plugins", [])
            if one.get("origin") != "built-in"
        }
        rows.append(("plugins", ", ".join(sorted(plugins)) or "none"))
        if record.get("data"):
            rows.append(("digest of the data", str(record["data"])))
    if result.dataset is not None and "finwidth" in result.dataset.attrs:
        rows.append(("versions", f"finwidth {result.dataset.attrs['finwidth']}"))
    rows.append(("file", result.path.name))
    return Table("Provenance", ("what", "value"), rows)
