"""Whether a layout has collapsed onto a line, a point or clumps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from ipar._options import AtLeastTwo
from ipar._public import public
from ipar.metrics.checks import FloatArray, as_coordinates, gauge_fix


class Collapse(NamedTuple):
    """Figures of the shape of a layout; see `collapse`."""

    axis_ratio: float
    """λ₂/λ₁, the smaller over the larger variance along the principal axes. Below 0.01 the layout is a line."""
    median_distance: float
    """Median distance between cells, in RMS radii. Below 0.01 most cells lie on one point."""
    nearest_p5: float
    """5th percentile of the distance to the nearest cell, in RMS radii."""
    nearest_cv: float
    """Coefficient of variation of that distance."""


@public
def collapse(coords: ArrayLike, *, max_cells: AtLeastTwo = 2_000) -> Collapse:
    """Figures that show whether a layout has collapsed onto a line, a point or clumps.

    Parameters
    ----------
    coords
        Coordinates of one layout, shape (n_cells, 2), in any unit.
    max_cells
        Of more cells, the median distance is that of an even sample of so many, since pairs grow with their square.

    Returns
    -------
    Named tuple ``axis_ratio, median_distance, nearest_p5, nearest_cv``. All are 0 for cells on one point.

    Notes
    -----
    Cells placed at random in a disc have an axis ratio near 1, a median distance of about 1.3, and a coefficient of variation
    near 0.52. Tissues have axis ratios of about 0.2 to 1. Coincident cells lower the percentile and raise the variation.
    """
    layout = gauge_fix(as_coordinates(coords, "coords"))
    variances = np.linalg.eigvalsh(layout.T @ layout)
    if variances[1] == 0:
        return Collapse(0.0, 0.0, 0.0, 0.0)
    sample = layout[np.linspace(0, len(layout) - 1, min(len(layout), max_cells)).astype(int)]
    nearest: FloatArray = cKDTree(layout).query(layout, k=[2])[0][:, 0]
    mean = float(nearest.mean())
    return Collapse(
        axis_ratio=max(float(variances[0] / variances[1]), 0.0),
        median_distance=float(np.median(pdist(sample))),
        nearest_p5=float(np.percentile(nearest, 5)),
        nearest_cv=float(nearest.std()) / mean if mean else 0.0,
    )
