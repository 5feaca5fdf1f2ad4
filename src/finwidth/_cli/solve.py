"""`finwidth solve`: the theory's prediction."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._app import app
from ._hidden import Hidden
from ._options import Report, Setting, options
from ._output import Folder, print_json, print_table, write_json
from ._records import setting_record, solution_record
from ._run import SCORES, solve_theory

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["solve"]

_MOST_ROWS = 16  # of one order parameter
_NAMES = {
    "q_bar": "Q̄",
    "q": "Q",
    "action": "action",
    "log_evidence": "log evidence",
    "residual": "residual",
    "criterion": "criterion",
    "n_roots": "distinct solutions",
} | SCORES


@app.command()
@options()
def solve(
    setting: Setting,
    hidden: Hidden,
    report: Report,
    roots: Annotated[
        bool,
        typer.Option(
            "--roots",
            help="Count the distinct solutions found from many starts; takes several times as "
            "long.",
        ),
    ] = False,
) -> None:
    """Solve a theory: order parameters, evidence, test error, accuracy.

    The baseline is what a constant guess scores: the mean of the training labels, their most
    frequent class. With --out, DIR/solve.json holds what --json prints.
    """
    folder = None if report.out is None else Folder(report.out, "solve.json")
    network = setting.network(**hidden.fields())
    data = setting.dataset(network)
    solution = solve_theory(setting, network, data)
    record = setting_record(network, solution.temperature, data)
    record |= solution_record(solution, data, roots)
    if folder is not None:
        write_json(record, folder.file("solve.json"))
    if report.json:
        print_json(record)
        return
    print_table(
        f"{setting.theory} theory, {data.name}, widths {list(network.widths)}, "
        f"T = {solution.temperature:g}",
        ("", "value", "baseline"),
        _order_rows(solution.order_parameters) + _rows(record),
    )


def _order_rows(order: "xr.Dataset") -> list[tuple[str, str, str]]:
    """Return the rows of order parameters, one for each layer, with standard errors beside them."""
    import numpy as np

    rows = []
    for name in map(str, order.data_vars):
        if name.endswith("_se"):
            continue
        array, error = order[name], order.get(f"{name}_se")
        if array.size > _MOST_ROWS:  # a matrix over patches; --json has every entry
            sizes = " × ".join(f"{size} {str(dim).strip('_')}" for dim, size in array.sizes.items())
            ends = (_number(float(end)) for end in (array.min(), array.max()))
            rows.append((f"{_NAMES.get(name, name)}, {sizes}", " … ".join(ends), ""))
            continue
        for index in np.ndindex(array.shape):
            at = array[index]
            where = [
                f"{dim} {at[dim].item() if dim in at.coords else i + 1}"
                for dim, i in zip(array.dims, index, strict=True)
            ]
            label = " ".join([_NAMES.get(name, name.replace("_", " ")), *where])
            value = _number(at.item(), None if error is None else error[index].item())
            rows.append((label, value, ""))
    return rows


def _rows(record: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the rows of the numbers that every solution has."""
    import numpy as np

    rows = []
    for name in list(_NAMES)[2:]:
        if name in record and np.ndim(record[name]):  # one for each direction of the outputs
            for i, value in enumerate(record[name], start=1):
                rows.append((f"{_NAMES[name]} direction {i}", _number(float(value)), ""))
        elif name in record:
            value, error = record[name], record.get(f"{name}_se")
            text = f"{value:.1e}" if name == "residual" else _number(value, error)
            guess = record.get(f"{name}_baseline")
            rows.append((_NAMES[name], text, "" if guess is None else _number(guess)))
    return rows


def _number(value: float | int, error: float | None = None) -> str:
    if math.isnan(value):
        return "not computed"
    if isinstance(value, int):
        return str(value)
    return f"{value:.6f}" if error is None else f"{value:.6f} ± {error:.6f}"
