"""The 8 × 8 handwritten digits that ship with scikit-learn: no download, N_0 = 64."""

import numpy as np

from ._base import Dataset, Pool, Request, make_dataset

__all__ = ["load"]


def load(request: Request) -> Dataset:
    """Load scikit-learn's digits; the classes are the ints 0 to 9."""
    from sklearn.datasets import load_digits

    X, labels = load_digits(return_X_y=True)
    return make_dataset(
        request,
        name="digits",
        source="sklearn.datasets.load_digits",
        train=Pool(np.asarray(X), np.asarray(labels)),
        image_shape=(8, 8),
    )
