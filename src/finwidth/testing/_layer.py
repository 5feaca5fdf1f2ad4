"""Check of a layer: its halves, of theory and sampler, describe one prior."""

import inspect
from typing import Any

import numpy as np

from .._basics.errors import ConvergenceError, InputError, PluginError
from .._basics.plain import plain
from ._pickling import check_pickling

__all__ = ["check_layer"]

_WIDTH = 12
_DRAWS = 4000
_STANDARD_ERRORS = 6.0


def check_layer(layer: Any) -> dict[str, float]:
    """Check a layer behind a dense one and as the first one, wherever it may stand.

    Weights are drawn from the prior and taken forwards; with a linear readout, the average of f f'
    over them is, at any width, the kernel that the layer's link makes at infinite width.

    Parameters
    ----------
    layer
        A `finwidth.theories.Layer`, the class of one, whose other arguments than the width then
        have their defaults, or the name of one.

    Returns
    -------
    dict
        Check -> worst value found: "prior", how far the average over draws is from the kernel, in
        standard errors; "residual" of the "nested" theory, where the layer has it; "pickling".

    Raises
    ------
    PluginError
        At the first check that fails.
    InputError
        If `layer` is no layer.
    """
    layer = _made(layer)
    what = f"expected {layer!r}"
    networks = _networks(what, layer)
    if layer.resize(layer.width + 1).width != layer.width + 1:
        raise PluginError(f"{what} to have another width after resize")
    try:
        hash(layer)
        plain("record", layer.record())
    except (TypeError, InputError) as error:
        raise PluginError(
            f"{what} to have a hash and a record of JSON types, got {error}"
        ) from None
    report = {"prior": max(_prior(what, network, X) for network, X in networks)}
    return report | _residual(what, *networks[0]) | check_pickling(layer)


def _made(layer: Any) -> Any:
    from .._layers import SHELF
    from .._layers.layer import Layer, check_layer

    kind = SHELF.get(layer) if isinstance(layer, str) else layer
    if not (inspect.isclass(kind) and issubclass(kind, Layer)):
        return check_layer(kind)
    SHELF.accept([kind])
    needed = [
        one
        for one in inspect.signature(kind).parameters.values()
        if one.default is inspect.Parameter.empty
    ]
    numbers = [_WIDTH, *[2] * (len(needed) - 1)]  # a convolution's patch, for example
    try:
        return kind(**{one.name: number for one, number in zip(needed, numbers, strict=True)})
    except Exception as error:  # whatever its own checks raise
        raise PluginError(
            f"expected layer {kind.name!r} to be made with width = {_WIDTH}, got {error}"
        ) from error


def _networks(what: str, layer: Any) -> list[tuple[Any, np.ndarray]]:
    """Return the networks that the layer can be in, and patterns that they take."""
    from .._layers.dense import Dense
    from .._problem.network import Network

    rng, found, reasons = np.random.default_rng(0), [], []
    shape = (4, 4) if layer.images else (3,)
    for layers in ((Dense(layer.width), layer), (layer,)):
        try:
            network = Network(
                layers=layers,
                weight_precision=(1.2, 0.8, 1.5)[: len(layers) + 1],
                bias_precision=2.0,
                readout_activation="identity",
            )
            found.append((network, network.layers[0].check_inputs(rng.normal(size=(5, *shape)))))
        except InputError as error:
            reasons.append(str(error))
    if not found:
        raise PluginError(
            f"{what} to follow a dense layer or be the first, got: {'; '.join(reasons)}"
        )
    return found


def _prior(what: str, network: Any, X: np.ndarray) -> float:
    import jax
    import jax.numpy as jnp

    from .._numerics.precision import float64
    from .._problem.nngp import nngp_kernel
    from ..models._features import hidden_features, readout_features
    from ..models._sites import hidden_sites

    try:
        kernel = nngp_kernel(network, X)
    except InputError as error:
        raise PluginError(f"{what} to have a kernel at infinite width, got {error}") from None
    sites = hidden_sites(network, X.shape[1:])
    for name, site in sites.items():
        if site.precision is None:
            raise PluginError(f"{what} to have Gaussian weights, got {name!r} of another law")
    with float64():
        points = jnp.asarray(X)

        def second_moments(key: Any) -> Any:
            keys = jax.random.split(key, len(sites))
            values = {
                name: jax.random.normal(one, site.shape) / site.precision**0.5
                for one, (name, site) in zip(keys, sites.items(), strict=True)
            }
            features = readout_features(network, hidden_features(network, values, points))
            return features @ features.T

        try:
            keys = jax.random.split(jax.random.key(0), _DRAWS)
            draws = np.asarray(jax.jit(jax.vmap(second_moments))(keys))
        except (TypeError, ValueError) as error:
            message = str(error).splitlines()[0] if str(error) else ""
            raise PluginError(
                f"{what} to go forwards as a JAX function, got {type(error).__name__}: {message}"
            ) from error
    error = draws.std(axis=0) / np.sqrt(_DRAWS)
    gap = np.abs(draws.mean(axis=0) - kernel) / np.maximum(error, 1e-9 * np.abs(kernel).max())
    worst = np.unravel_index(int(np.argmax(gap)), gap.shape)
    if not gap[worst] <= _STANDARD_ERRORS:
        raise PluginError(
            f"{what} to have the same prior in theory and sampling, got E f f' = "
            f"{kernel[worst]:.5g} from its link and {draws.mean(axis=0)[worst]:.5g} ± "
            f"{error[worst]:.1g} from weights drawn"
        )
    return float(gap[worst])


def _residual(what: str, network: Any, X: np.ndarray) -> dict[str, float]:
    """The saddle point, for networks that the theory takes."""
    from .._solve import solve

    y = np.linspace(-1.0, 1.0, len(X))
    try:
        network = network.replace(readout_activation=network.activation)
        solution = solve(network, X, y, temperature=0.5, theory="nested")
    except InputError:  # a layer need not have a theory of finite width
        return {}
    except ConvergenceError as error:
        raise PluginError(f"{what} to have a saddle point, got {error}") from None
    return {"residual": float(solution.residual)}
