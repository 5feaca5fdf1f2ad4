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


def plot_kernel(
    kernel: Any, y: Any = None, *, before: Any = None, ax: Any = None
) -> "Axes | np.ndarray":
    """Plot a Gram matrix as a heat map, patterns sorted by label; or two, before and after.

    Parameters
    ----------
    kernel
        A symmetric matrix (pattern, pattern), for example of `finwidth.nngp_kernel`; or a
        `finwidth.Solution`, whose renormalised kernel K_R and labels are drawn.
    y
        Labels, shape (pattern,). Patterns are sorted by them (in their own order within a
        label), and lines separate up to ten classes. None: the order of the matrix.
    before
        A second matrix of the same shape, for example the infinite-width kernel beside a
        solution's own: drawn to the left, in the same colours.
    ax
        Axes to draw on, two with `before`. None: a new figure.

    Returns
    -------
    matplotlib.axes.Axes or numpy.ndarray
        The axes; an array of two with `before`.

    Raises
    ------
    InputError
        If a matrix is not square and finite, or `y` or `before` has another size.
    ImportError
        If matplotlib is not installed.
    """
    title = ""
    if hasattr(kernel, "renormalized_kernel"):
        title = rf"renormalised kernel $K_R$ ({kernel.theory})"
        y = kernel.problem.y if y is None else y
        kernel = kernel.renormalized_kernel
    matrices = [_matrix("kernel", kernel)]
    if before is not None:
        matrices.insert(0, _matrix("before", before))
        if matrices[0].shape != matrices[1].shape:
            raise InputError(
                f"expected before = a matrix of shape {matrices[1].shape}, as the kernel, got "
                f"shape {matrices[0].shape}"
            )
    edges: list[int] = []
    if y is not None:
        labels = check_labels(y, matrices[0].shape[0], of="the kernel")
        order = np.argsort(labels, kind="stable")
        matrices, labels = [one[np.ix_(order, order)] for one in matrices], labels[order]
        edges = [int(edge) for edge in np.flatnonzero(labels[1:] != labels[:-1]) + 1]
        edges = edges if len(edges) < 10 else []
    axes = _common.axes(ax, len(matrices), (4.2 * len(matrices) + 0.4, 3.8))
    largest = max(float(np.abs(one).max()) for one in matrices) or 1.0
    smallest = min(float(one.min()) for one in matrices)
    signed = smallest < 0
    image = None
    for axis, matrix in zip(axes, matrices, strict=True):
        image = axis.imshow(
            matrix,
            cmap="RdBu_r" if signed else "viridis",
            vmin=-largest if signed else math.nextafter(smallest, -math.inf),
            vmax=largest,
            interpolation="nearest",
        )
        for edge in edges:
            for draw in (axis.axhline, axis.axvline):
                draw(edge - 0.5, color="black" if signed else "white", linewidth=0.8)
        axis.spines[["top", "right"]].set_visible(True)
        axis.set_xlabel("pattern" + (", sorted by label" if y is not None else ""))
    axes[0].set_ylabel("pattern")
    axes[0].figure.colorbar(image, ax=list(axes), label="covariance")
    axes[-1].set_title(title or ("after" if before is not None else ""), fontsize="medium")
    if before is not None:
        axes[0].set_title("before", fontsize="medium")
    return axes[0] if before is None else axes


def _matrix(name: str, kernel: Any) -> np.ndarray:
    matrix = as_float64(name, kernel, "(pattern, pattern), a square matrix")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(
            f"expected {name} = a square matrix or a Solution, got shape {matrix.shape}"
        )
    return check_inputs(matrix, name)
