"""Check of an observable: of a prediction and of draws of the same law it is one number."""

from typing import Any

import numpy as np

from .._basics.arrays import shown
from .._basics.errors import InputError, PluginError
from ._pickling import check_pickling

__all__ = ["check_observable"]

_POINTS = 6
_CHAINS, _DRAWS = 4, 1000
_STANDARD_ERRORS = 6.0


def check_observable(observable: Any) -> dict[str, float]:
    """Check an observable on labels ±1, numbers, and one-hot rows, as far as it is defined there.

    A Gaussian law of f is given to it as a prediction; as draws of f itself; and as draws of which
    each is a Gaussian, as where the readout was integrated. What it says of them is the same, up
    to its own Monte Carlo errors.

    Parameters
    ----------
    observable
        A `finwidth.Observable`, or the name of one.

    Returns
    -------
    dict
        Quantity -> the largest difference found, in standard errors; "pickling".

    Raises
    ------
    PluginError
        If the numbers differ by more than six standard errors, are not those that the observable
        names, or are not finite; if it is defined for none of the labels.
    InputError
        If `observable` is no observable.
    """
    from .._observables import SHELF, Observable

    if isinstance(observable, str):
        observable = SHELF.get(observable)
    elif not isinstance(observable, Observable):
        raise InputError(
            f"expected observable = a finwidth.Observable, or a name, got {shown(observable)}"
        )
    else:
        SHELF.accept([observable])
    rng = np.random.default_rng(0)
    labels = {
        "±1": np.sign(rng.normal(size=_POINTS)),
        "numbers": rng.normal(size=_POINTS),
        "one-hot rows": np.eye(3)[rng.integers(0, 3, _POINTS)],
    }
    report: dict[str, float] = {}
    for kind, y in labels.items():
        for quantity, gap in _on(observable, kind, y, rng).items():
            report[quantity] = max(gap, report.get(quantity, 0.0))
    if not report:
        raise PluginError(
            f"observable {observable.name!r}: expected it to be defined for labels ±1, numbers or "
            "one-hot rows, got none of them"
        )
    return report | check_pickling(observable)


def _on(observable: Any, kind: str, y: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Return the difference of each quantity in standard errors, or nothing where undefined."""
    from scipy.special import ndtr

    from .._numerics.chains import summarize
    from .._observables import Draws, Prediction
    from .._observables._observable import estimates, predictions

    defined = observable.defined(y)
    if not isinstance(defined, (bool, np.bool_)):
        raise PluginError(
            f"observable {observable.name!r}: expected defined = True or False, got "
            f"{shown(defined)}"
        )
    if not defined:
        return {}
    mean, variance = y * 0.6 + 0.3 * rng.normal(size=y.shape), rng.uniform(0.2, 0.8, y.shape)
    shape = (_CHAINS, _DRAWS, *y.shape)
    f = mean + np.sqrt(variance) * rng.normal(size=shape)
    part = mean + np.sqrt(variance / 2) * rng.normal(size=shape)
    worst: dict[str, float] = {}
    for classes in (False, True):  # whether there are probabilities, here those of probit

        def of(m: Any, v: Any, classes: bool = classes) -> Any:
            if not classes or y.ndim > 1:
                return None
            p = ndtr(m / np.sqrt(1 + v))
            return np.stack([1 - p, p], axis=-1)

        given = Prediction(mean, variance, probabilities=of(mean, variance))
        if not observable.covers(given, y) or classes and given.probabilities is None:
            continue
        expected = predictions([observable], given, y)
        half = np.broadcast_to(variance / 2, shape)
        for draws in (
            Draws(f, np.zeros(shape), probabilities=of(f, 0.0)),
            Draws(part, half, probabilities=of(part, half)),
        ):
            for quantity, one in estimates([observable], draws, y).items():
                series = summarize(one.series[..., None])
                gap = abs(float(series.mean[0]) + one.offset - expected[quantity])
                error = float(np.hypot(series.mcse[0], one.noise))
                if not gap <= _STANDARD_ERRORS * error + 1e-9:
                    raise PluginError(
                        f"observable {observable.name!r}: expected {quantity} = "
                        f"{expected[quantity]:.6g}, that of a prediction, of {_CHAINS * _DRAWS} "
                        f"draws of the same law (labels: {kind}), got a difference of {gap:.2g}, "
                        f"beyond six standard errors of {error:.1g}"
                    )
                worst[quantity] = max(worst.get(quantity, 0.0), gap / error if error else 0.0)
    return worst
