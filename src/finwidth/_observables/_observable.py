"""The interface of an observable, and the checks of what one returns."""

import abc
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from .._basics.arrays import as_float64, as_number, shown
from .._basics.errors import InputError, PluginError
from .._numerics.chains import Series, summarize
from .._plugins.shelf import Shelf

__all__ = [
    "SHELF",
    "Draws",
    "Estimate",
    "Labels",
    "Observable",
    "estimates",
    "observables",
    "predictions",
]

Labels = Float[np.ndarray, " test_pattern"] | Float[np.ndarray, "test_pattern output"]


@dataclasses.dataclass(frozen=True, eq=False)
class Estimate:
    """What draws say of a quantity: the mean of a series, to which a number may be added.

    Parameters
    ----------
    series
        One number for each draw, shape (chain, draw). The Monte Carlo standard error (MCSE) of the
        estimate is that of its mean.
    offset
        What is added to the mean.
    noise
        What is added to the MCSE in quadrature.
    watched
        Whether R-hat and ESS of the series tell whether the chains have mixed. If not, a series
        that never changes has the MCSE 0, not an unknown one.
    """

    series: Any  # an array; `estimates` checks what an observable gave
    offset: float = 0.0
    noise: float = 0.0
    watched: bool = True


@dataclasses.dataclass(frozen=True, eq=False)
class Draws:
    """f at the test points in every draw: a Gaussian given the draw, or f itself, of variance 0.

    Attributes
    ----------
    mean, variance
        Shape (chain, draw, test_pattern), and output as the last axis where there are several:
        conditional moments of f where the readout was integrated exactly; otherwise f and 0.
    output_covariance
        Covariance of the outputs given the draw, shape (chain, draw, test_pattern, output,
        output); None for one output, and where they are independent.
    probabilities
        Of each class given the draw, shape (chain, draw, test_pattern, label), where the labels
        are classes to the likelihood, else None.
    """

    mean: (
        Float[np.ndarray, "chain draw test_pattern"]
        | Float[np.ndarray, "chain draw test_pattern output"]
    )
    variance: (
        Float[np.ndarray, "chain draw test_pattern"]
        | Float[np.ndarray, "chain draw test_pattern output"]
    )
    output_covariance: Float[np.ndarray, "chain draw test_pattern output output"] | None = None
    probabilities: Float[np.ndarray, "chain draw test_pattern label"] | None = None

    @functools.cached_property
    def patterns(self) -> Series:
        """Mean over all draws, MCSE, R-hat and bulk ESS of `mean`, each as one draw of it."""
        shape = self.mean.shape
        series = summarize(self.mean.reshape(*shape[:2], -1))
        return Series(*(one.reshape(shape[2:]) for one in series))

    def of_posterior_mean(self, value: float, slopes: Any, noise: float = 0.0) -> Estimate:
        """Return the estimate of a function of the posterior mean m̄, by linear propagation.

        Parameters
        ----------
        value
            The function at m̄ = ``patterns.mean``.
        slopes
            Its derivatives there, shape (test_pattern,), or (test_pattern, output): its MCSE is
            that of Σ slopes (m_t − m̄).
        noise
            What linear propagation leaves out, added to the MCSE in quadrature.
        """
        size = self.patterns.mean.shape
        slopes = as_float64("slopes", slopes, f"{size}, that of a draw")
        if slopes.shape != size:
            raise InputError(f"expected slopes of shape {size}, got {slopes.shape}")
        series = np.tensordot(self.mean - self.patterns.mean, slopes, axes=slopes.ndim)
        return Estimate(series, as_number(value), as_number(noise), watched=False)


class Observable(abc.ABC):
    """Numbers that a theory's prediction and the draws of a run both have on a test set.

    Attributes
    ----------
    name
        By which it is found.
    quantities
        Names of the numbers.
    """

    name: str
    quantities: tuple[str, ...]

    def defined(self, y_test: Labels) -> bool:
        """Return whether the numbers have a meaning for these labels; by default always."""
        return True

    def covers(self, given: Any, y_test: np.ndarray) -> bool:
        """Return whether a prediction, or draws, have what the numbers need; by default always."""
        return True

    @abc.abstractmethod
    def of_prediction(self, prediction: Any, y_test: Labels) -> Mapping[str, float]:
        """Return each quantity of a prediction.

        Parameters
        ----------
        prediction
            `finwidth.Prediction`, or what has `mean` and `variance`, shapes as that of y_test; its
            `components`, where it has any, are the Gaussians that the law of f is a mixture of.
        y_test
            Labels, shape (test_pattern,), or (test_pattern, output) for several outputs.
        """

    @abc.abstractmethod
    def of_draws(self, draws: Draws, y_test: Labels) -> Mapping[str, np.ndarray | Estimate]:
        """Return each quantity of every draw, whose mean is the quantity of the posterior.

        Parameters
        ----------
        draws
            `mean` and `variance` of f given the draw, shape (chain, draw, test_pattern), or
            (chain, draw, test_pattern, output) for several outputs, and `output_covariance`; where
            the draws are of f itself the variance is 0.
        y_test
            Labels, as above.

        Returns
        -------
        dict
            For each quantity an array, shape (chain, draw), or an estimate: for a function of the
            posterior mean ``draws.of_posterior_mean(value, slopes)``.
        """


def _check(observable: Observable) -> None:
    """Raise PluginError for quantities that are none."""
    names = getattr(observable, "quantities", None)
    if (
        not isinstance(names, tuple)
        or not names
        or not all(isinstance(name, str) and name for name in names)
        or len(set(names)) < len(names)
    ):
        raise PluginError(
            f"expected quantities of observable {observable.name!r} = a tuple of different names, "
            f"got {shown(names)}"
        )


SHELF: Shelf[Observable] = Shelf(
    "finwidth._observables",
    "observable",
    Observable,
    "finwidth.Observable",
    hook="finwidth_register_observables",
    check=_check,
)


def observables(y_test: Labels) -> list[Observable]:
    """Return the observables that are defined for these labels, the squared error first.

    Raises
    ------
    PluginError
        If two of them have a quantity of one name, or `defined` does not return a bool.
    """
    found = sorted(SHELF.items().values(), key=lambda one: (one.name != "squared_error", one.name))
    owners: dict[str, str] = {}
    chosen = []
    for one in found:
        for quantity in one.quantities:
            if quantity in owners:
                raise PluginError(
                    f"expected every quantity to belong to one observable, got {quantity!r} of "
                    f"{owners[quantity]!r} and of {one.name!r}"
                )
            owners[quantity] = one.name
        defined = one.defined(y_test)
        if not isinstance(defined, (bool, np.bool_)):
            raise PluginError(
                f"expected defined of observable {one.name!r} = True or False, got {shown(defined)}"
            )
        if defined:
            chosen.append(one)
    return chosen


def predictions(chosen: Sequence[Observable], prediction: Any, y_test: Labels) -> dict[str, float]:
    """Return the quantities of all observables that cover a prediction.

    Raises
    ------
    PluginError
        If an observable returns other names, no numbers, or numbers that are not finite although
        the prediction is.
    """
    usual = _usual(prediction.mean, prediction.variance, y_test)
    result = {}
    for one in chosen:
        if not one.covers(prediction, y_test):
            continue
        values = _named(one, "of_prediction", one.of_prediction(prediction, y_test))
        for quantity, value in values.items():
            number = as_number(value)
            if usual and not np.isfinite(number):
                raise PluginError(
                    f"observable {one.name!r}: expected {quantity} of a prediction = a finite "
                    f"float, got {shown(value)}"
                )
            result[quantity] = number
    return result


def estimates(chosen: Sequence[Observable], draws: Draws, y_test: Labels) -> dict[str, Estimate]:
    """Return the quantities of all observables that cover draws.

    Raises
    ------
    PluginError
        If an observable returns other names, arrays of another shape, or numbers that are not
        finite although the draws are.
    """
    usual, known = _usual(draws.mean, draws.variance, y_test), _usual(draws.patterns.mcse)
    shape = draws.mean.shape[:2]
    result = {}
    for one in chosen:
        if not one.covers(draws, y_test):
            continue
        try:
            values = _named(one, "of_draws", one.of_draws(draws, y_test))
            for quantity, value in values.items():
                result[quantity] = _estimate(quantity, value, shape, usual, known)
        except InputError as error:
            raise PluginError(f"observable {one.name!r}: {error}") from error
    return result


def _estimate(
    quantity: str, value: Any, shape: tuple[int, ...], finite: bool, known: bool
) -> Estimate:
    """Return one estimate, or raise InputError; `known` says whether the draws have an MCSE."""
    estimate = value if isinstance(value, Estimate) else Estimate(value)
    expected = f"{shape}, (chain, draw)"
    series = as_float64(quantity, estimate.series, expected)
    if series.shape != shape:
        raise InputError(
            f"expected {quantity} of draws = an array of shape {expected}, got {series.shape}"
        )
    numbers = np.append(series, [estimate.offset, estimate.noise] if known else [])
    bad = numbers[~np.isfinite(numbers)]
    if finite and bad.size:
        raise InputError(
            f"expected {quantity} of draws = finite numbers, got {bad.size} of {numbers.size} that "
            f"are not, the first {bad[0]}"
        )
    return dataclasses.replace(estimate, series=series)


def _named(one: Observable, method: str, values: Any) -> dict[str, Any]:
    """Return the quantities in the order of the observable, or raise PluginError."""
    if not isinstance(values, Mapping) or set(values) != set(one.quantities):
        got = shown(sorted(map(str, values)) if isinstance(values, Mapping) else values)
        raise PluginError(
            f"observable {one.name!r}: expected {method} = a mapping with {list(one.quantities)}, "
            f"got {got}"
        )
    return {quantity: values[quantity] for quantity in one.quantities}


def _usual(*arrays: Any) -> bool:
    """Whether all numbers are finite, and their squares: what an observable can be asked for."""
    with np.errstate(over="ignore"):
        return all(bool(np.isfinite(np.square(np.asarray(one))).all()) for one in arrays)
