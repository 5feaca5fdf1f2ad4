"""A symmetric matrix that is never held: its product with a block of vectors, tile by tile."""

import collections
import concurrent.futures
import contextlib
import functools
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from jaxtyping import Float

from .._basics.blas import blas_threads
from .tiles import tiles

__all__ = ["TiledMatrix"]

Tile = Callable[[slice, slice], np.ndarray]


class TiledMatrix:
    """A symmetric n × n matrix by the tiles of its lower triangle.

    Each product computes every tile once, whatever the number of vectors, and takes both products
    of a tile, with its own columns and with those that mirror it. The first tiles are kept for the
    next products as far as `memory` goes, in float64, so that the numbers do not depend on it; nor
    do they on the number of threads, since sums are taken in the order of the tiles.

    Parameters
    ----------
    n
        Rows.
    tile
        (rows, columns) -> the tile; called in any thread.
    memory
        Bytes for tiles that are kept.
    workers
        Threads that compute tiles.

    Attributes
    ----------
    tile_memory, most
        Bytes of a tile, and how many are kept at most.
    """

    def __init__(self, n: int, tile: Tile, memory: float = 0.0, workers: int = 1) -> None:
        self.n, self._tile, self._workers = n, tile, workers
        self._places = _places(n)
        size = self._places[0][1].stop
        self._kept: dict[int, np.ndarray] = {}
        self.tile_memory = 8.0 * size * size
        self.most = int(memory // self.tile_memory)

    @property
    def count(self) -> int:
        """Number of tiles, the steps of a product."""
        return len(self._places)

    def times(
        self, block: Float[np.ndarray, "n b"], tick: Callable[[int], None] = lambda steps: None
    ) -> Float[np.ndarray, "n b"]:
        """Return the product with `block`; `tick` is called with the number of tiles just done."""
        block = np.ascontiguousarray(block)
        product = np.zeros(block.shape)
        with contextlib.closing(self._parts(block)) as parts:
            for (_, rows, columns), (lower, upper) in zip(self._places, parts, strict=True):
                product[rows] += lower
                if upper is not None:
                    product[columns] += upper
                tick(1)
        return product

    def _parts(self, block: np.ndarray) -> Generator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield the products of all tiles, in their order."""
        part = functools.partial(self._part, block)
        if self._workers == 1:
            yield from map(part, range(self.count))
            return
        with blas_threads(1), concurrent.futures.ThreadPoolExecutor(self._workers) as pool:
            waiting: collections.deque[concurrent.futures.Future[Any]] = collections.deque()
            try:
                for index in range(self.count):
                    waiting.append(pool.submit(part, index))
                    if len(waiting) > 2 * self._workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:  # where the product is given up, nothing is begun any more
                for future in waiting:
                    future.cancel()

    def _part(self, block: np.ndarray, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        (whole, within), rows, columns = self._places[index]
        tile = self._kept.get(index)
        if tile is None:
            tile = np.asarray(self._tile(*whole))[within]
            if index < self.most:
                self._kept[index] = tile = np.array(tile)
        return tile @ block[columns], None if rows == columns else tile.T @ block[rows]


def _places(n: int) -> list[tuple[Any, slice, slice]]:
    """Return ((tile, part of it), rows, columns): tiles, and the parts that do not overlap."""
    places = []
    done_rows = 0
    for rows, columns in tiles(n):
        if columns.start == 0:
            start_row, done_rows, done_columns = done_rows, rows.stop, 0
        own_rows, own_columns = slice(start_row, rows.stop), slice(done_columns, columns.stop)
        within = np.s_[start_row - rows.start :, done_columns - columns.start :]
        places.append((((rows, columns), within), own_rows, own_columns))
        done_columns = columns.stop
    return places
