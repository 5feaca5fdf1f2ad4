"""The user's own data in a NumPy archive."""

from pathlib import Path

from ._base import Dataset, Request, make_dataset
from ._files import check_file, read_npz

__all__ = ["load"]


def load(request: Request, *, path: str | Path | None = None) -> Dataset:
    """Load an .npz archive with the arrays X, y, or X_train, y_train, X_test, y_test.

    Beside X and y, arrays X_test and y_test are the test set. A warning names other arrays. Each
    column of X is standardised by itself, images by two scalars. Labels of several outputs, shape
    (pattern, output), are taken with ``classes=None``.

    Parameters
    ----------
    request
        Sizes, classes (labels as they stand in y) and seed.
    path
        The archive. Images, of shape (row, column) or (row, column, channel), become one row each
        unless they are asked for as images.
    """
    train, test = read_npz(check_file(path, "an .npz file"))
    return make_dataset(
        request,
        name="npz",
        source=str(path),
        train=train,
        test=test,
        table=train.image_shape is None,
    )
