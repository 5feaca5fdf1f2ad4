"""What the layers of a network are called in a table or a picture."""

import inspect

from .._layers.layer import Layer
from .._problem.network import Network

__all__ = ["kind_text", "layers_text"]


def layers_text(network: Network) -> str:
    """Return the layers, each as ``--layer`` takes it: 'dense:20 residual:20,skip=0.5'."""
    return " ".join(
        ",".join((f"{_name(layer)}:{layer.width}", *_options(layer))) for layer in network.layers
    )


def kind_text(network: Network) -> str:
    """Return what a network is apart from widths and depth: 'dense', 'residual skip=0.5'.

    Dense layers are named where there is nothing else, a readout activation where it is another
    one.
    """
    special = [layer for layer in network.layers if _name(layer) != "dense"]
    kinds = [" ".join((_name(layer), *_options(layer))) for layer in special]
    last = network.readout_activation
    more = [] if last == network.activation else [f"readout={last.name}"]
    return " ".join((", ".join(dict.fromkeys(kinds)) or "dense", *more))


def _name(layer: Layer) -> str:
    return type(layer).name or type(layer).__qualname__


def _options(layer: Layer) -> list[str]:
    """Return what a layer has besides its width, where it is not the default."""
    _, *others = inspect.signature(type(layer)).parameters.values()
    found = [(one, getattr(layer, one.name)) for one in others]
    return [
        f"{one.name}={value:g}" if isinstance(value, float) else f"{one.name}={value}"
        for one, value in found
        if value != one.default
    ]
