"""`finwidth info`: versions, device, plugins and the names that options take."""

from ._app import app
from ._options import Json
from ._output import print_json, print_table

__all__ = ["info"]

_NAMES = ("activations", "datasets", "samplers", "theories")


@app.command()
def info(json: Json = False) -> None:
    """Show versions, device, plugins, and the names that options take; for bug reports."""
    import finwidth as fw

    from .._results.provenance import provenance
    from ..datasets import list_datasets
    from ..samplers import available as samplers
    from ..theories import available as theories

    record = provenance(fw.Network(widths=(1,)))
    del record["network"], record["created"]
    record |= {
        "activations": fw.list_activations(),
        "datasets": list_datasets(),
        "samplers": sorted(samplers()),
        "theories": sorted(theories()),
    }
    if json:
        print_json(record)
        return
    rows = [(name, version) for name, version in record["versions"].items()]
    rows += [("device", f"{record['device']['platform']} ({record['device']['kind']})")]
    rows += [(name, ", ".join(record[name])) for name in _NAMES]
    print_table(f"finwidth {fw.__version__}", ("", ""), rows)
