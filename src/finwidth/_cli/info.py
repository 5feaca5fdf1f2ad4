"""`finwidth info`: versions, device, plugins and the names that options take."""

from ._app import app
from ._options import Json
from ._output import print_json, print_table

__all__ = ["info"]


@app.command()
def info(json: Json = False) -> None:
    """Show versions, device, plugins, and the names that options take; for bug reports."""
    import finwidth as fw

    from .._provenance import provenance
    from ..datasets import list_datasets
    from ..theories import available

    record = provenance(fw.Network(widths=(1,)))
    del record["network"], record["created"]
    record |= {
        "activations": fw.list_activations(),
        "datasets": list_datasets(),
        "theories": sorted(available()),
    }
    if json:
        print_json(record)
        return
    rows = [(name, version) for name, version in record["versions"].items()]
    rows += [("device", f"{record['device']['platform']} ({record['device']['kind']})")]
    rows += [(name, ", ".join(record[name])) for name in ("activations", "datasets", "theories")]
    print_table(f"finwidth {fw.__version__}", ("", ""), rows)
