"""How evenly a layout is filled."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from ipar._public import public
from ipar.metrics.checks import FloatArray, as_coordinates, check_n_neighbors, in_range, rms_radius


@public
def evenness(coords: ArrayLike, *, n_neighbors: int = 6) -> float:
    """Standard deviation of the log distance to the sixth neighbour: how unevenly a layout is filled.

    Lower is more even. Clumps and holes raise it.

    Parameters
    ----------
    coords
        Coordinates of one layout, shape (n_cells, 2), in any unit.
    n_neighbors
        Which neighbour, without the cell itself.

    Returns
    -------
    Standard deviation in nats. A regular array has about 0.1, from its edge. Cells placed at random in a square have about
    0.22, and more in a small sample. All cells on one point have 0.

    Notes
    -----
    Tissues differ, and spots are more even than single cells. Compare a prediction with the measured coordinates of its own
    slide, or with those of other slides of the tissue: a ratio near 1 is right, and a smaller one is no better. The
    order of the cells plays no part, so it does not say whether cells are in the right place.

    Distances are not taken below a hundredth of the mean distance between cells on a round tissue, so that coincident cells
    count as a clump.
    """
    layout, _ = in_range(as_coordinates(coords, "coords"))
    check_n_neighbors(n_neighbors, len(layout), len(layout) - 1)
    radius = rms_radius(layout)
    if radius == 0:
        return 0.0
    least = 0.01 * radius * np.sqrt(2 * np.pi / len(layout))
    return float(np.log(np.maximum(_kth_distances(layout, n_neighbors), least)).std())


def _kth_distances(layout: FloatArray, k: int) -> FloatArray:
    """Distance of every cell to its k-th neighbour, ``(n,)``."""
    # a cell is its own first neighbour, or as near as another that coincides with it
    distance: FloatArray = cKDTree(layout).query(layout, k=[k + 1])[0][:, 0]
    return distance
