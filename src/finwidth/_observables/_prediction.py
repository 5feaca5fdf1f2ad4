"""Mean and variance of the output at some points, and the Gaussians that its law may consist of."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from .._basics.checks import check_iterable
from .._basics.errors import InputError

__all__ = ["Components", "Prediction", "average"]


class Components(NamedTuple):
    """Gaussians that a law of f is a mixture of.

    Attributes
    ----------
    weights
        Their probabilities, shape (component,).
    mean, variance
        As those of a `Prediction`, with a first axis component.
    output_covariance
        Likewise, or None.
    """

    weights: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    output_covariance: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """Moments of the latent f at test points (T is not added).

    Attributes
    ----------
    mean, variance
        Shape (test_pattern,), or (test_pattern, output) with several outputs.
    covariance
        Shape (test_pattern, test_pattern) where it was asked for, else None; with several outputs
        (test_pattern, output, test_pattern, output).
    output_covariance
        Covariance of the outputs at each point, shape (test_pattern, output, output), where there
        are several, else None.
    probabilities
        Of each class, shape (test_pattern, label), where the likelihood is one of classes, the
        lowest label first (−1, +1), else None: E p(c|f), at T = 1.
    components
        Where the law of f is known to be a mixture of Gaussians, these; None where mean and
        variance are all there is, which are then taken as those of a Gaussian.
    """

    mean: Float[np.ndarray, " test_pattern"] | Float[np.ndarray, "test_pattern output"]
    variance: Float[np.ndarray, " test_pattern"] | Float[np.ndarray, "test_pattern output"]
    covariance: (
        Float[np.ndarray, "test_pattern test_pattern"]
        | Float[np.ndarray, "test_pattern output test_pattern output"]
        | None
    ) = None
    output_covariance: Float[np.ndarray, "test_pattern output output"] | None = None
    probabilities: Float[np.ndarray, "test_pattern label"] | None = None
    components: Components | None = dataclasses.field(default=None, repr=False)

    @classmethod
    def join(cls, blocks: "Sequence[Prediction]") -> "Prediction":
        """Return the prediction at all points of several, which have no covariance."""
        joined: dict[str, Any] = {}
        blocks = check_iterable("blocks", blocks, "Prediction objects, at least one")
        if not blocks or not all(isinstance(block, cls) for block in blocks):
            raise InputError("expected blocks = Prediction objects, at least one, got others")
        for field in dataclasses.fields(cls):
            parts = [getattr(block, field.name) for block in blocks]
            join = _join if field.name == "components" else np.concatenate
            joined[field.name] = None if parts[0] is None else join(parts)
        return cls(**joined)


def _join(blocks: Sequence[Components]) -> Components:
    """Return the components at all points of several, whose weights are the same."""
    weights, *rest = zip(*blocks, strict=True)
    joined = (None if part[0] is None else np.concatenate(part, axis=1) for part in rest)
    return Components(weights[0], *joined)  # pyright: ignore[reportArgumentType]


def average(
    prediction: Any, function: Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]
) -> np.ndarray:
    """Return the expectation of something that is known for Gaussian f.

    Parameters
    ----------
    prediction
        `Prediction`, or what has `mean` and `variance`.
    function
        Takes mean, variance and output_covariance (or None), which may have further axes in front,
        to numbers of shape (…, test_pattern).
    """
    parts = getattr(prediction, "components", None)
    if parts is None:
        covariance = getattr(prediction, "output_covariance", None)
        return function(prediction.mean, prediction.variance, covariance)
    values = function(parts.mean, parts.variance, parts.output_covariance)
    return np.tensordot(parts.weights, values, axes=1)
