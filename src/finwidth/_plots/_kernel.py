"""Gram matrices as heat maps."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .._basics.arrays import as_float64, check_inputs, check_labels
from .._basics.errors import InputError
from . import _common

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_kernel"]


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
    matrix = as_float64("kernel", kernel, "(pattern, pattern), a square matrix")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(
            f"expected kernel = a square matrix or a Solution, got shape {matrix.shape}"
        )
    check_inputs(matrix, "kernel")
    edges: list[int] = []
    if y is not None:
        labels = check_labels(y, matrix.shape[0], of="the kernel")
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
