"""Symmetric matrices by tiles."""

import numpy as np
import pytest

from finwidth._numerics import tiles as _tiles


@pytest.fixture(params=[3, 512])
def largest(request, monkeypatch):
    monkeypatch.setattr(_tiles, "_LARGEST", request.param)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 10, 11, 13])
def test_tiles_cover_the_matrix_and_sums_count_every_entry_once(n, largest):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(2, n, n))
    a, b = a + a.T, b + b.T
    made = _tiles.assemble(n, lambda rows, columns: a[rows, columns])
    np.testing.assert_array_equal(made, a)
    assert made.flags.f_contiguous
    # above the diagonal nothing may be read
    lower = np.where(np.tri(n, dtype=bool), a, 1e300)
    total = _tiles.contract(
        n,
        lambda rows, columns: lower[rows, columns],
        lambda rows, columns, tile: np.sum(tile * b[rows, columns]),
    )
    assert total == pytest.approx(np.sum(a * b), rel=1e-12, abs=1e-12)


def test_all_tiles_have_one_shape():
    shapes = {(r.stop - r.start, c.stop - c.start) for r, c in _tiles.tiles(2001)}
    assert len(shapes) == 1
    assert max(*shapes.pop()) <= 512
