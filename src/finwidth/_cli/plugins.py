"""`finwidth plugins`: what is installed, whether it keeps its promises, and a new one."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .._basics.errors import InputError, PluginError
from ._app import app
from ._option import option
from ._options import Json
from ._output import print_json, print_table

__all__ = ["check", "list_", "new"]

plugins = typer.Typer(name="plugins", help="Plugins and what they bring.", rich_markup_mode=None)
app.add_typer(plugins)


@plugins.command("list")
def list_(json: Json = False) -> None:
    """List plugins: version, what they bring, and why one is left out."""
    from .._plugins.registry import shelves

    kinds = shelves()
    records = _records(kinds)
    if json:
        print_json({"plugins": records})
        return
    brought: dict[tuple[str, str, str], list[str]] = {}  # a line for each kind of a distribution
    for one in records:
        for kind in kinds:
            key = (one["name"], one["version"], kind)
            brought[key] = brought.get(key, []) + one[kind]
    rows = [(*key, ", ".join(names)) for key, names in brought.items() if names]
    rows += [
        (one["name"], one["version"], "left out", one["error"]) for one in records if one["error"]
    ]
    print_table("Plugins", ("name", "version", "brings", ""), rows)


def _records(kinds: dict[str, Any]) -> list[dict[str, Any]]:
    import dataclasses

    from .._plugins.registry import loaded_plugins

    plain = [
        dataclasses.asdict(record) | {kind: [] for kind in kinds} for record in loaded_plugins()
    ]
    for kind, shelf in kinds.items():
        try:
            sources = shelf.sources()
        except PluginError:  # the records say which plugin and why
            continue
        for name, record in sources.items():
            for one in plain:
                if (one["name"], one["source"]) == (record.name, record.source):
                    one[kind].append(name)
    return plain


_KIND = "activation, theory, sampler, data, layer, likelihood or observable."


@plugins.command("check")
def check(
    name: Annotated[str, typer.Argument(help=f"What has the kind {_KIND}")],
    kind: Annotated[
        str | None, option("--kind", f"Where several things have the name: {_KIND}")
    ] = None,
    json: Json = False,
) -> None:
    """Check that something keeps the promises of its kind, and print how well.

    An activation: parity, closed form against quadrature and draws, Gram matrix, gradients, scales.
    A theory: symmetries, infinite width, a short exact run. A sampler: a posterior that is known. A
    layer: one prior for theory and sampler. A data set: its splits. A likelihood: theory against
    integrals over the sampler's p(y|f). An observable: predictions and draws of one law.
    """
    from .._plugins.registry import failed_plugins

    for record in failed_plugins():
        if record.name == name:
            raise PluginError(f"expected a plugin that loads, got {name!r}: {record.error}")
    kind = _kind(name, kind)
    deviations = _check(kind, name)
    if json:
        print_json({kind: name, "kind": kind, "passed": True, "deviations": deviations})
    else:
        rows = [(what, f"{value:.1e}") for what, value in deviations.items()]
        print_table(f"{name}: all checks passed", ("check", "worst deviation"), rows)


def _kind(name: str, kind: str | None) -> str:
    """Return the kind of what has this name, or raise InputError where it is not one thing."""
    import importlib

    from .._basics.checks import check_choice
    from .._plugins.hooks import PACKAGES
    from .._plugins.kit import KINDS
    from .._plugins.shelf import NOT_INSTALLED

    if kind is not None:
        return check_choice("--kind", kind, KINDS)
    base = name.partition(":")[0]  # of a family of activations
    shelves = {
        one: importlib.import_module(PACKAGES[described.hook]).SHELF
        for one, described in KINDS.items()
    }
    names = {one: shelf.names() for one, shelf in shelves.items()}
    found = [one for one, known in names.items() if base in known]
    if len(found) > 1:
        raise InputError(
            f"expected --kind = {' or '.join(found)}, since {name!r} is the name of each, got none"
        )
    if not found:
        several = sorted({one for known in names.values() for one in known})
        try:
            check_choice("NAME", base, several)
        except InputError as error:
            raise InputError(f"{error} ({NOT_INSTALLED})") from None
    return found[0]


def _check(kind: str, name: str) -> dict[str, float]:
    import finwidth as fw

    if kind == "activation":
        activation = fw.get_activation(name)
        checks = ("activation", "monte_carlo", "scales", "pickling")
        return _all(checks, activation)
    checks = {"theory": ("theory", "against_run"), "data": ("dataset",)}.get(kind, (kind,))
    return _all(checks, name)


def _all(checks: tuple[str, ...], item: Any) -> dict[str, float]:
    import finwidth as fw

    report: dict[str, float] = {}
    for one in checks:
        report |= getattr(fw.testing, f"check_{one}")(item)
    return report


@plugins.command("new")
def new(
    name: Annotated[str, typer.Argument(help="What users will write, such as soft_step.")],
    kind: Annotated[str, option("--kind", f"What it is: {_KIND}")] = "activation",
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder that finwidth-NAME goes to.")
    ] = Path("."),
) -> None:
    """Write a new distribution finwidth-NAME: code, tests, README, licence and CI that work."""
    import shlex

    from .._plugins.kit import KINDS, new_plugin

    folder = new_plugin(name, kind, out)
    use = KINDS[kind].use.format(name=name)
    print(f"written: {folder}")
    for line in (
        f"pip install -e {shlex.quote(str(folder))}",
        f"finwidth plugins check {name}",
        f"finwidth {use}",
    ):
        print(f"  {line}")
    print(
        "without pip, in finwidth's repository: "
        f"make plugin DIR={shlex.quote(str(folder.resolve()))}"
    )
