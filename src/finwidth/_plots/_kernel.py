"""Gram matrices as heat maps."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .._errors import InputError
from .._inputs import as_float64, check_labels
from . import _common

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_kernel"]


def _labels(y: Any, n_patterns: int) -> np.ndarray:
    """Return labels, numbers or words, or raise InputError."""
    try:
        labels = np.asarray(y)
    except Exception:
        labels = np.array(None)
    if labels.dtype.kind in "US" and labels.shape == (n_patterns,):
        return labels
    return check_labels(y, n_patterns, of="kernel")


def plot_kernel(kernel: Any, y: Any = None, *, ax: Any = None) -> "Axes":
    """Plot a Gram matrix as a heat map, patterns sorted by label.

    Parameters
    ----------
    kernel
        A symmetric matrix (pattern, pattern), for example of `finwidth.nngp_kernel`; or a
        `finwidth.Solution`, whose renormalised kernel K_R and labels are drawn.
    y
        Labels, shape (pattern,). Patterns are sorted by them (in their own order within a
        label), and lines separate up to ten classes. None: the order of the matrix.
    ax
        Axes to draw on. None: a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If the matrix is not square and finite, or `y` has another length.
    ImportError
        If matplotlib is not installed.
    """
    title = ""
    if hasattr(kernel, "renormalized_kernel"):
        title = rf"renormalised kernel $K_R$ ({kernel.theory})"
        y = kernel.problem.y if y is None else y
        kernel = kernel.renormalized_kernel
    matrix = as_float64("kernel", kernel, "(pattern, pattern)")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise InputError(
            f"expected kernel = a square matrix or a Solution, got shape {matrix.shape}"
        )
    if not np.isfinite(matrix).all():
        raise InputError("expected kernel = finite values only, got NaN or infinite entries")
    edges: list[int] = []
    if y is not None:
        labels = _labels(y, matrix.shape[0])
        order = np.argsort(labels, kind="stable")
        matrix, labels = matrix[np.ix_(order, order)], labels[order]
        edges = [int(edge) for edge in np.flatnonzero(labels[1:] != labels[:-1]) + 1]
        edges = edges if len(edges) < 10 else []
    (axis,) = _common.axes(ax, 1, (4.6, 3.8))
    largest = float(np.abs(matrix).max()) or 1.0
    signed = float(matrix.min()) < 0
    image = axis.imshow(
        matrix,
        cmap="RdBu_r" if signed else "viridis",
        vmin=-largest if signed else math.nextafter(float(matrix.min()), -math.inf),
        vmax=largest,
        interpolation="nearest",
    )
    for edge in edges:
        for draw in (axis.axhline, axis.axvline):
            draw(edge - 0.5, color="black" if signed else "white", linewidth=0.8)
    axis.figure.colorbar(image, ax=axis, label="covariance")
    axis.set_xlabel("pattern" + (", sorted by label" if y is not None else ""))
    axis.set_ylabel("pattern")
    axis.set_title(title, fontsize="medium")
    return axis
