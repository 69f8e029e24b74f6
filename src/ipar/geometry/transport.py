"""Cells moved onto the places of a tissue."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

FloatArray = NDArray[np.float64]
Rows = NDArray[np.int64]


def transported(
    coords: NDArray[np.floating], places: NDArray[np.floating], *, most_at_once: int = 500, random_state: int = 0
) -> FloatArray:
    """Cells on the places of a tissue, so that they fill it evenly and are moved as little as can be.

    This is optimal transport with equal shares: of more cells than places, each place holds like numbers; of fewer, a cell
    stands in the middle of several places. Large problems are halved along their longer side, cells and places alike, until
    each part can be solved exactly, so that time and memory are linear in cells.

    Parameters
    ----------
    coords
        Coordinates of cells, ``(n, 2)``.
    places
        Places of the tissue, ``(m, 2)``.
    most_at_once
        Cells or places of a problem that is solved exactly.
    random_state
        Seed of which places hold one cell more than others.

    Returns
    -------
    NDArray
        Where every cell goes, ``(n, 2)``.
    """
    x, y = np.asarray(coords, dtype=np.float64), np.asarray(places, dtype=np.float64)
    rng, size = np.random.default_rng(random_state), max(len(x), len(y))
    cells, seats = (np.concatenate([rng.permutation(n) for _ in range(-(-size // n))])[:size] for n in (len(x), len(y)))
    moved = np.zeros_like(x)
    for some, their in _halved(x, y, cells, seats, most_at_once):
        rows, columns = linear_sum_assignment(cdist(x[some], y[their], "sqeuclidean"))
        np.add.at(moved, some[rows], y[their[columns]])
    return moved / np.bincount(cells)[:, None]


def _halved(coords: FloatArray, places: FloatArray, cells: Rows, seats: Rows, most: int) -> Iterator[tuple[Rows, Rows]]:
    """Parts of a problem, each small enough: as many cells as seats, which lie on the same side of every cut."""
    if len(cells) <= most:
        yield cells, seats
        return
    axis = int(np.argmax(np.ptp(places[seats], axis=0)))
    half = len(cells) // 2
    # of cells in one row of a grid, the other axis tells where to cut: cells and places alike
    one, other = (
        rows[np.lexsort((x[rows, 1 - axis], x[rows, axis]))] for rows, x in ((cells, coords), (seats, places))
    )
    yield from _halved(coords, places, one[:half], other[:half], most)
    yield from _halved(coords, places, one[half:], other[half:], most)


def covered_places(coords: NDArray[np.floating], places: NDArray[np.floating], reach: float) -> NDArray[np.bool_]:
    """Which places ``(m, 2)`` have a cell ``(n, 2)`` within a distance, or are the nearest of a cell, ``(m,)``."""
    covered: NDArray[np.bool_] = cKDTree(coords).query(places)[0] <= reach
    covered[cKDTree(places).query(coords)[1]] = True  # so that there is a place for every cell
    return covered
