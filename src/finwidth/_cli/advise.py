"""`finwidth advise`: which theory to use, and how far to trust it."""

import math
from typing import TYPE_CHECKING, Annotated, Any

from .._basics.errors import InputError
from ._app import app
from ._hidden import Hidden
from ._option import float_option, int_option
from ._options import Given, Report, Setting, options
from ._output import Folder, print_json, print_table, write_json
from ._records import setting_record

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["advise"]

_NO_USE = ("theory", "seed")  # shared options that an advice does not depend on
_OF_POINTS = ("data", "activation", "network", "widths", "n_patterns", "load")


@app.command()
@options(*_NO_USE)
def advise(
    given: Given,
    setting: Setting,
    hidden: Hidden,
    report: Report,
    tolerance: Annotated[
        float,
        float_option(
            "--tolerance", "By how much a test error may be off, relative to the exact one."
        ),
    ] = 0.1,
    neighbours: Annotated[
        int, int_option("--neighbours", "Measured points to show of each theory.")
    ] = 3,
) -> None:
    """Say which theory to use, what error to expect of it, and when only sampling will do.

    The nearest points of the error map that comes with finwidth are looked up; of the test set a
    quick theory says what accuracy to expect. With --out, DIR/advice.json holds what --json prints.
    """
    import finwidth as fw

    for name in _NO_USE:
        if name in given:
            raise InputError(f"expected no --{name} with advise, which speaks of all theories")
    if isinstance(setting.temperature, str):
        raise InputError(
            f"expected --temperature = a float with advise, got {setting.temperature!r}"
        )
    folder = None if report.out is None else Folder(report.out, "advice.json")
    network = setting.network(**hidden.fields())
    data = setting.dataset(network)
    advice = fw.advise(
        network,
        data.X_train,
        data.y_train,
        temperature=setting.temperature,
        likelihood=setting.likelihood,
        X_test=data.X_test,
        y_test=data.y_test,
        tolerance=tolerance,
        neighbours=neighbours,
    )
    record = setting_record(network, setting.temperature, data) | _record(advice)
    if folder is not None:
        write_json(record, folder.file("advice.json"))
    if report.json:
        print_json(record)
        return
    print(advice.attrs["verdict"])
    print_table(
        "Deviation of the test error from the exact one: expected, likely below, largest",
        ("theory", "expect", "likely", "largest", "solved", "known", "s at P"),
        [_row(advice.sel(theory=name)) for name in advice["theory"].values],
    )
    print("Nearest measured points, by steps, with each theory's deviation:")
    for line in _nearest(advice):
        print(line)


def _row(row: "xr.Dataset") -> tuple[str, ...]:
    seconds = float(row["seconds"])
    quick = "<0.1" if seconds < 0.1 else f"{seconds:.2g}"
    return (
        str(row["theory"].values),
        *(_percent(float(row[f"{which}_error"])) for which in ("expected", "likely", "largest")),
        _percent(float(row["share_solved"]), digits=0),
        str(row["trust"].values),
        f"{quick} at {int(row['seconds_patterns'])}" if math.isfinite(seconds) else "–",
    )


def _nearest(advice: "xr.Dataset") -> list[str]:
    """Return lines of the points that are near for some theory, nearest first."""
    from .._advice.words import point_text

    found: dict[tuple[float, str], list[str]] = {}
    for name in advice["theory"].values:
        row = advice.sel(theory=name)
        for i in range(row.sizes["neighbour"]):
            point = row.isel(neighbour=i)
            distance = float(point["distance"])
            if math.isfinite(distance):
                key = distance, point_text(point, float(point["point_temperature"]))
                deviation = float(point["relative_error"])
                shown = _percent(deviation, "+") if math.isfinite(deviation) else "no solution"
                found.setdefault(key, []).append(f"{name} {shown}")
    return [
        line
        for (distance, text), deviations in sorted(found.items())
        for line in (f"  {distance:.1f}  {text}", f"       {', '.join(deviations)}")
    ]


def _percent(value: float, sign: str = "", digits: int = 1) -> str:
    return f"{100 * value:{sign}.{digits}f} %" if math.isfinite(value) else "–"


def _record(advice: "xr.Dataset") -> dict[str, Any]:
    """Return the advice as plain numbers; what is not known is left out."""
    theories = {}
    for name in map(str, advice["theory"].values):
        row = advice.sel(theory=name)
        one: dict[str, Any] = {
            str(key): value.item() for key, value in row.data_vars.items() if not value.dims
        }
        one["nearest"] = [
            _known(_point(row.isel(neighbour=i))) for i in range(row.sizes["neighbour"])
        ]
        one["nearest"] = [point for point in one["nearest"] if "distance" in point]
        theories[name] = _known(one)
    return _known(dict(advice.attrs)) | {"theories": theories}


def _point(point: "xr.Dataset") -> dict[str, Any]:
    names = ("distance", "relative_error", "z", "exact_error", *_OF_POINTS)
    found = {name: point[name].item() for name in names if name in point}
    found["temperature"] = point["point_temperature"].item()
    steps = zip(point["feature"].values.tolist(), point["difference"].values.tolist(), strict=True)
    found["difference"] = {name: value for name, value in steps if value > 0}
    return found


def _known(record: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in record.items()
        if not (isinstance(value, float) and math.isnan(value))
    }
