"""Gaussian inputs with random labels: nothing to learn, so that the kernel keeps its shape."""

import numpy as np

from .._basics.checks import check_count
from ._base import Dataset, Pool, Request, check_rows, make_dataset

__all__ = ["load"]


def load(request: Request, *, n_inputs: int = 50) -> Dataset:
    """Draw inputs from N(0, 1) and labels from {0, 1}, each with probability one half.

    Inputs and labels have generators of their own, so that the first rows stay the same
    whatever the number of rows. Inputs are standardised like those of every data set,
    which changes them by O(1/√(P N_0)).

    Parameters
    ----------
    request
        Sizes, classes (0 and 1) and seed; without a seed, seed 0.
    n_inputs
        N_0.
    """
    request = request.generated()
    n_inputs = check_count("n_inputs", n_inputs)
    check_rows(request, n_inputs)
    n_rows = request.n_train + request.n_test
    for_inputs, for_labels = np.random.default_rng(request.seed).spawn(2)
    X = for_inputs.standard_normal((n_rows, n_inputs))
    return make_dataset(
        request,
        name="random",
        source=f"Gaussian inputs with random labels, n_inputs={n_inputs}",
        train=Pool(X, for_labels.integers(0, 2, n_rows), known=(0, 1)),
        shuffle=False,
    )
