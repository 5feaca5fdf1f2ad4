"""Labels from a random teacher: one draw of a finite-width network of the library's own kind."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from .._basics.checks import check_count, check_number
from .._numerics.precision import float64
from .._problem.network import Network
from ._base import Dataset, Pool, Request, check_rows, make_dataset

__all__ = ["load"]


def load(
    request: Request,
    *,
    n_inputs: int = 50,
    teacher_width: int | Sequence[int] = 50,
    activation: str = "erf",
    noise: float = 0.0,
) -> Dataset:
    """Draw Gaussian inputs and label them by a network drawn from its unit-precision prior.

    The teacher's output on the standardised inputs, plus noise, is g. Class 0 is g <= 0 and
    class 1 is g > 0; with ``classes=None`` the labels are g itself, by default as it is: it has
    the prior's scale.

    Parameters
    ----------
    request
        Sizes, classes and seed; without a seed, seed 0.
    n_inputs
        N_0.
    teacher_width
        Width of the teacher's hidden layer, or one width per hidden layer.
    activation
        Name of a registered activation.
    noise
        Standard deviation of the Gaussian noise on the teacher's output.
    """
    request = request.generated()
    n_inputs = check_count("n_inputs", n_inputs)
    noise = check_number("noise", noise, 0.0, include_low=True)
    widths = teacher_width if isinstance(teacher_width, Sequence) else (teacher_width,)
    teacher = Network(widths=widths, activation=activation)
    check_rows(request, n_inputs)
    n_rows = request.n_train + request.n_test
    for_inputs, for_weights, for_noise = np.random.default_rng(request.seed).spawn(3)
    X = for_inputs.standard_normal((n_rows, n_inputs))
    training = X[: request.n_train]
    X = (X - training.mean()) / training.std()
    g = _output(teacher, X, for_weights) + noise * for_noise.standard_normal(n_rows)
    return make_dataset(
        request,
        name="teacher",
        source=(
            f"random teacher, n_inputs={n_inputs}, widths={list(teacher.widths)}, "
            f"activation={teacher.activation.name}, noise={noise}"
        ),
        train=Pool(X, g if request.classes is None else (g > 0).astype(int), known=(0, 1)),
        shuffle=False,
    )


def _output(teacher: Network, X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return f(X) of shape (pattern,) for one draw of the weights (theory.md, section 1)."""
    features = X
    with float64():
        for width in teacher.widths:
            weights = rng.standard_normal((width, features.shape[1]))
            fields = features @ weights.T / math.sqrt(features.shape[1])
            features = np.asarray(teacher.activation.fn(jnp.asarray(fields)), dtype=np.float64)
    return features @ rng.standard_normal(features.shape[1]) / math.sqrt(features.shape[1])
