"""A network from what its record says."""

from collections.abc import Mapping
from typing import Any

from .._basics.errors import InputError
from .._layers import SHELF
from .._layers.layer import Layer
from .network import Network

__all__ = ["restored_layer", "restored_network"]


def restored_layer(record: Any) -> Layer:
    """Return the layer of a `Layer.record`.

    Raises
    ------
    InputError
        If no layer of that name is registered, or one of other code.
    """
    if not isinstance(record, Mapping) or "layer" not in record:
        raise InputError(f"expected the record of a layer = a dict with its name, got {record!r}")
    fields = {name: value for name, value in record.items() if name not in ("layer", "digest")}
    try:
        layer = SHELF.get(record["layer"])(**fields)
    except TypeError as error:
        raise InputError(f"expected a layer of the record {record}, got {error}") from None
    if layer.record() != dict(record):
        raise InputError(
            f"expected layer {record['layer']!r} to be what it was when the record was written, "
            f"{record}, got {layer.record()}"
        )
    return layer


def restored_network(record: Mapping[str, Any]) -> Network:
    """Return the network of a `Network.record`.

    Of activations it has the names: those of the digests are compared elsewhere.

    Raises
    ------
    InputError
        If it is no such record, or an activation or layer is not known here.
    """
    fields = {name: value for name, value in record.items() if not name.endswith("_digest")}
    if "layers" in fields:
        fields.pop("widths", None)
        fields["layers"] = [restored_layer(one) for one in fields["layers"]]
    try:
        return Network(**fields)
    except TypeError as error:
        raise InputError(f"expected the record of a network, got one with {error}") from None
