"""`finwidth plugins`: what is installed, and whether an activation keeps its promises."""

from typing import Annotated, Any

import typer

from .._errors import PluginError
from ._app import app
from ._options import Json
from ._output import print_json, print_table

__all__ = ["check", "list_"]

plugins = typer.Typer(
    name="plugins", help="Plugins and the activations they bring.", rich_markup_mode=None
)
app.add_typer(plugins)


@plugins.command("list")
def list_(json: Json = False) -> None:
    """List plugins: version, hooks, activations, and why one is left out."""
    records = _records()
    if json:
        print_json({"plugins": records})
        return
    rows = [
        (
            one["name"],
            one["version"],
            ", ".join(one["hooks"]),
            ", ".join(one["activations"]),
            one["error"] or "",
        )
        for one in records
    ]
    print_table("Plugins", ("name", "version", "hooks", "activations", "error"), rows)


def _records() -> list[dict[str, Any]]:
    import dataclasses

    from .._plugins import loaded_plugins, registered

    plain = [dataclasses.asdict(record) | {"activations": []} for record in loaded_plugins()]
    try:
        found = registered("finwidth_register_activations")
    except PluginError:  # the records say which plugin and why
        return plain
    for name, (_, record) in found.items():
        for one in plain:
            if (one["name"], one["source"]) == (record.name, record.source):
                one["activations"].append(name)
    return plain


@plugins.command("check")
def check(
    name: Annotated[str, typer.Argument(help="An activation.")],
    json: Json = False,
) -> None:
    """Check an activation: parity, closed form against quadrature, Gram matrix, gradients."""
    import finwidth as fw

    from .._plugins import failed_plugins

    for record in failed_plugins():
        if record.name == name:
            raise PluginError(f"expected a plugin that loads, got {name!r}: {record.error}")
    deviations = fw.testing.check_activation(fw.get_activation(name))
    if json:
        print_json({"activation": name, "passed": True, "deviations": deviations})
    else:
        rows = [(what, f"{value:.1e}") for what, value in deviations.items()]
        print_table(f"{name}: all checks passed", ("check", "worst deviation"), rows)
