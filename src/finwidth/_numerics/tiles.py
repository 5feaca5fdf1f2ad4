"""Symmetric matrices over patterns, made and contracted tile by tile.

Kernels are maps of C entry by entry, so that only a tile's intermediate layers are ever held next
to the matrix itself, and only the lower triangle of tiles is computed.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float

__all__ = ["assemble", "contract", "tiles"]

_LARGEST = 512  # patterns to a side: a few MB, so that a tile stays in the cache


def tiles(n: int) -> Iterator[tuple[slice, slice]]:
    """Return (rows, columns) of tiles that cover the lower triangle of an n × n matrix.

    All tiles have one shape, for which a function needs to be compiled once; the last ones
    overlap their neighbours to fit.
    """
    count = -(-n // _LARGEST)
    size = -(-n // count)
    starts = [min(k * size, n - size) for k in range(count)]
    for i, row in enumerate(starts):
        for column in starts[: i + 1]:
            yield slice(row, row + size), slice(column, column + size)


def assemble(
    n: int, block: Callable[[slice, slice], Float[np.ndarray, "a b"]]
) -> Float[np.ndarray, "n n"]:
    """Return the symmetric matrix whose tiles are `block(rows, columns)`, in Fortran order."""
    matrix = np.empty((n, n), order="F")
    for rows, columns in tiles(n):
        tile = np.asarray(block(rows, columns))
        matrix[rows, columns] = tile
        if rows != columns:
            matrix[columns, rows] = tile.T
    return matrix


def contract(
    n: int,
    cotangent: Callable[[slice, slice], Float[np.ndarray, "a b"]],
    block: Callable[[slice, slice, Float[np.ndarray, "a b"]], np.ndarray],
) -> np.ndarray:
    """Return Σ block(rows, columns, G_tile), a sum over all entries of a symmetric n × n matrix G.

    Parameters
    ----------
    n
        Number of rows.
    cotangent
        Tile of G; only entries on or below the diagonal matter.
    block
        Linear in its tile of G: each entry on the diagonal comes once, each below it once, twice
        as large.
    """
    total: np.ndarray | float = 0.0
    last_row = last_column = 0
    skip_rows = 0
    for rows, columns in tiles(n):
        if columns.start == 0:
            skip_rows, last_row, last_column = last_row - rows.start, rows.stop, 0
        tile = 2.0 * cotangent(rows, columns)
        if columns.stop > rows.start:  # where the diagonal passes, or tiles overlap
            distance = (
                np.arange(rows.start, rows.stop)[:, None]
                - np.arange(columns.start, columns.stop)[None, :]
            )
            tile = np.where(distance > 0, tile, np.where(distance == 0, 0.5 * tile, 0.0))
        tile[:skip_rows] = 0.0  # where tiles overlap
        tile[:, : last_column - columns.start] = 0.0
        last_column = columns.stop
        total = total + block(rows, columns, tile)
    return np.asarray(total)
