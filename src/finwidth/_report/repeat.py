"""How a result is made again: the command that made it, or the same in Python."""

import json
from typing import Any

from .._results.kinds import Result
from .._results.provenance import read_provenance

__all__ = ["repeat"]

_SETTINGS = ("model", "sampler", "num_warmup", "num_samples", "num_chains", "seed", "thin", "dtype")
_OPTIONAL = ("likelihood", "theory")


def repeat(result: Result) -> tuple[str, str]:
    """Return a sentence and the lines that make the result again; no lines where none are known."""
    commands = [tree.attrs.get("command") for tree in result.runs.values()]
    if result.dataset is not None:
        commands = [result.dataset.attrs.get("command")]
    elif not result.runs:
        commands = [report.attrs.get("command") for report in result.reports]
    known = list(dict.fromkeys(str(one) for one in commands if one))
    if known:
        return "The command that wrote it:", "\n".join(known)
    for file, tree in result.runs.items():
        return (
            "It was made in Python; its file holds the data:",
            _script(file, read_provenance(tree), tree),
        )
    return "The file does not say by which command it was made.", ""


def _script(file: str, record: dict[str, Any], tree: Any) -> str:
    network = record["network"]
    fields = (
        "widths",
        "activation",
        "weight_precision",
        "bias_precision",
        "outputs",
        "readout_activation",
    )
    given = [(name, network[name]) for name in fields if network.get(name) is not None]
    if "layers" in network:
        given = [("layers", _Code(f"({', '.join(map(_layer, network['layers']))},)")), *given[1:]]
    net = ", ".join(f"{name}={_written(value)}" for name, value in given)
    lines = [
        "import finwidth as fw",
        "",
        f"old = fw.load({json.dumps(file)})",
        f"net = fw.Network({net})",
        "tree = fw.sample(",
        "    net,",
        '    old["constant_data"]["X"].values,',
        '    old["observed_data"]["y"].values,',
        f"    temperature={record['temperature']!r},",
    ]
    constants = tree.children.get("predictions_constant_data")
    for name in ("X_test", "y_test"):
        if constants is not None and name in constants.data_vars:
            lines.append(f'    {name}=old["predictions_constant_data"]["{name}"].values,')
    for name in (*_SETTINGS, *_OPTIONAL):
        if record.get(name) is not None:
            lines.append(f"    {name}={_written(record[name])},")
    if record.get("sampler_options"):
        lines.append(f"    sampler_options={record['sampler_options']!r},")
    return "\n".join([*lines, ")"])


def _layer(record: dict[str, Any]) -> str:
    """Return the layer of a record as code."""
    from .._layers import SHELF

    name = record["layer"]
    if name in SHELF.names():
        kind = SHELF.get(name)
        ours = kind.__module__.startswith("finwidth.")
        name = f"fw.{kind.__name__}" if ours else kind.__name__
    numbers = {k: v for k, v in record.items() if k not in ("layer", "digest")}
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in numbers.items())})"


class _Code(str):
    """Text that is code already."""


def _written(value: Any) -> str:
    if isinstance(value, _Code):
        return str(value)
    return repr(tuple(value)) if isinstance(value, list) else repr(value)
