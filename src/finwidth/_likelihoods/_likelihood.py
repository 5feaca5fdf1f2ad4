"""What a likelihood is, to theory and sampler alike.

Theory and sampler both take f to be Gaussian given the order parameters, or the hidden weights:
what a likelihood adds is how that Gaussian is conditioned on labels, and how labels are observed.
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from .._basics.arrays import shown
from .._basics.checks import check_temperature
from .._basics.errors import InputError

__all__ = ["Conditioned", "Likelihood", "check_likelihood"]

Tile = Callable[[slice, slice], np.ndarray]


class Conditioned(abc.ABC):
    """A Gaussian prior N(0, K) of f on the training set, conditioned on the labels.

    All that an action and a prediction need; f is then Gaussian, exactly or in the likelihood's
    approximation.
    """

    @property
    @abc.abstractmethod
    def action(self) -> float:
        """−2 log ∫ N(f; 0, K) p(y|f) df − P log 2π; logdet A + yᵀA⁻¹y if Gaussian."""

    @property
    @abc.abstractmethod
    def weights(self) -> Float[np.ndarray, " pattern"]:
        """a with E f(x) = k(x)·a, shape (pattern,)."""

    @abc.abstractmethod
    def whiten(self, b: np.ndarray) -> np.ndarray:
        """Return W b with Var f(x) = k(x, x) − |W k(x)|², for b of shape (pattern, b)."""

    @abc.abstractmethod
    def gradient(self) -> Tile:
        """Return (rows, columns) -> a tile of ∂action/∂K, each entry of K by itself."""

    def warn(self) -> None:  # noqa: B027 - by default there is nothing to warn of
        """Warn where rounding or the approximation cost accuracy."""


class Likelihood(abc.ABC):
    """How labels follow from f: p(y|f)^(1/T), pattern by pattern.

    Attributes
    ----------
    name
        What users write in ``likelihood=name``.
    conjugate
        Whether f given the labels is exactly Gaussian, so that a readout can be integrated.
    homogeneous
        Whether A = K + T·1, one noise for all patterns: then only a scale of K may vary cheaply.
    default_temperature
        T where none is given; None where one has to be.
    one_label
        Whether each pattern has one label, the index of its class, whatever the number of outputs.
    """

    name: ClassVar[str]
    conjugate: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False
    default_temperature: ClassVar[float | None] = None
    one_label: ClassVar[bool] = False

    def temperature(self, temperature: Any) -> float:
        """Return T, the default for None, or raise InputError; T = 0 is for regression alone."""
        if temperature is None:
            if self.default_temperature is None:
                raise InputError(
                    f"expected temperature = a float with likelihood={self.name!r}, got None"
                )
            return self.default_temperature
        return check_temperature(temperature, zero=self.homogeneous)

    def approximated(self, approximation: Any) -> "Likelihood":
        """Return the likelihood with another approximation of f given labels, or InputError."""
        raise InputError(
            f"expected approximation = None with likelihood={self.name!r}, got "
            f"{shown(approximation)}"
        )

    @abc.abstractmethod
    def check(self, y: Float[np.ndarray, " pattern"]) -> Float[np.ndarray, " pattern"]:
        """Return finite labels as the likelihood takes them, or raise InputError."""

    def check_classes(self, y: np.ndarray, outputs: int) -> None:  # noqa: B027
        """Raise InputError where checked labels do not fit the number of outputs."""

    @abc.abstractmethod
    def condition(
        self,
        kernel: Float[np.ndarray, "pattern pattern"],
        y: Float[np.ndarray, " pattern"],
        temperature: float,
    ) -> Conditioned:
        """Return f ~ N(0, kernel) conditioned on the labels.

        `kernel` is in Fortran order and may be overwritten. InputError where it cannot be done to
        working precision.
        """

    def gradient(
        self,
        kernel: Float[np.ndarray, "pattern pattern"],
        y: Float[np.ndarray, " pattern"],
        temperature: float,
    ) -> Tile | None:
        """Return what `Conditioned.gradient` does, or None where the kernel does not allow it."""
        try:
            return self.condition(kernel, y, temperature).gradient()
        except InputError:
            return None

    def conditioner(
        self, y: Float[np.ndarray, " pattern"], temperature: float
    ) -> Callable[[np.ndarray], Conditioned]:
        """Return kernel -> `condition`, for kernels that change little from call to call.

        What it has found before may save it work, and changes what it returns by rounding alone.
        """
        return lambda kernel: self.condition(kernel, y, temperature)

    def gradients(
        self, y: Float[np.ndarray, " pattern"], temperature: float
    ) -> Callable[[np.ndarray], Tile | None]:
        """Return kernel -> `gradient`, likewise."""
        return lambda kernel: self.gradient(kernel, y, temperature)

    def probabilities(self, mean: np.ndarray, variance: np.ndarray) -> np.ndarray | None:
        """Return E p(c|f) for f ~ N(mean, variance), classes last; None where there are none.

        The arrays have the shape of f: any for one output, outputs last for several.
        """
        return None

    @abc.abstractmethod
    def observe(self, f: Any, y: Any, temperature: Any) -> None:
        """Sample the NumPyro site "y", shape (pattern,), given f, observed where y is not None."""

    def subset(self, rows: np.ndarray) -> "Likelihood":
        """Return the likelihood of some of the patterns, by default the same for all."""
        return self

    def record(self) -> dict[str, Any] | None:
        """Return, as plain JSON types, what results depend on besides the data.

        Results are stored under it and found again; None, where nothing tells it, stores nothing.
        """
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def check_likelihood(likelihood: Any) -> Likelihood:
    """Return `likelihood` if it keeps its protocol on a small example, or raise InputError."""
    if not isinstance(likelihood, Likelihood):
        raise InputError(
            "expected likelihood = a name or a finwidth Likelihood, got " + shown(likelihood)
        )
    if not isinstance(getattr(likelihood, "name", None), str):
        raise InputError(
            f"expected likelihood = one with a name, got {type(likelihood).__name__} without"
        )
    return likelihood


def check_conditioned(conditioned: Any, likelihood: Likelihood, n_patterns: int) -> Conditioned:
    """Return what a likelihood makes of a kernel, or raise InputError where it is not usable."""
    what = f"expected the likelihood {likelihood.name!r} to condition"
    if not isinstance(conditioned, Conditioned):
        raise InputError(f"{what} into a Conditioned, got {type(conditioned).__name__}")
    weights = np.asarray(conditioned.weights)
    if weights.shape != (n_patterns,):
        raise InputError(f"{what} with weights of shape ({n_patterns},), got {weights.shape}")
    if not np.all(np.isfinite(weights)) or not np.isfinite(conditioned.action):
        raise InputError(f"{what} to finite numbers, got NaN or infinite ones")
    return conditioned
