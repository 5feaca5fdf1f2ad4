"""`finwidth plugins`: what is installed, and whether an activation keeps its promises."""

from typing import Annotated, Any

import typer

from .._basics.errors import PluginError
from ._app import app
from ._options import Json
from ._output import print_json, print_table

__all__ = ["check", "list_"]

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
    rows = [
        (
            one["name"],
            one["version"],
            *(", ".join(one[kind]) for kind in kinds),
            one["error"] or "",
        )
        for one in records
    ]
    print_table("Plugins", ("name", "version", *kinds, "error"), rows)


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


@plugins.command("check")
def check(
    name: Annotated[str, typer.Argument(help="An activation.")],
    json: Json = False,
) -> None:
    """Check an activation: parity, closed form against quadrature, Gram matrix, gradients."""
    import finwidth as fw

    from .._plugins.registry import failed_plugins

    for record in failed_plugins():
        if record.name == name:
            raise PluginError(f"expected a plugin that loads, got {name!r}: {record.error}")
    deviations = fw.testing.check_activation(fw.get_activation(name))
    if json:
        print_json({"activation": name, "passed": True, "deviations": deviations})
    else:
        rows = [(what, f"{value:.1e}") for what, value in deviations.items()]
        print_table(f"{name}: all checks passed", ("check", "worst deviation"), rows)
