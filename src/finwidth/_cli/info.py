"""`finwidth info`: versions, device, plugins and the names that options take."""

from ._app import app
from ._options import Json
from ._output import print_json, print_table

__all__ = ["info"]


@app.command()
def info(json: Json = False) -> None:
    """Show versions, device, plugins, and the names that options take; for bug reports."""
    import finwidth as fw

    from .. import (
        _layers,
        _likelihoods,
        _observables,
        activations,
        articles,
        datasets,
        samplers,
        theories,
    )
    from .._results.provenance import provenance

    record = provenance(fw.Network(widths=(1,)))
    del record["network"], record["created"]
    folders = (activations, articles, datasets, _layers, _likelihoods, _observables)
    folders += (samplers, theories)
    names = {
        folder.__name__.rpartition(".")[2].lstrip("_"): folder.SHELF.names() for folder in folders
    }
    record |= names
    if json:
        print_json(record)
        return
    rows = [(name, version) for name, version in record["versions"].items()]
    rows += [("device", f"{record['device']['platform']} ({record['device']['kind']})")]
    rows += [(name, ", ".join(several)) for name, several in names.items()]
    print_table(f"finwidth {fw.__version__}", ("", ""), rows)
