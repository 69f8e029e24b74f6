"""Coverage and area of sets of places: unions of balls."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ipar._public import public
from ipar.metrics._alignment import turned_onto
from ipar.metrics.checks import FloatArray, as_floats, as_pair


@public
def in_regions(points: ArrayLike, places: ArrayLike, radii: ArrayLike) -> NDArray[np.bool_]:
    """Tell whether the point of each cell lies in the region of that cell.

    The region of a cell is the union of balls of one radius around its places. Points on a border lie inside.

    Parameters
    ----------
    points
        One point per cell, shape (n_cells, 2), in the frame of the places. A point with NaN lies in no region.
    places
        Places of each cell, shape (n_cells, K, 2) or (n_cells, 2 K), as in ``obsm["X_ipar_regions"]``.
    radii
        Radius of the balls of each cell, shape (n_cells,), or (n_cells, n_levels) with one column per level, as in
        ``obsm["X_ipar_regions_radii"]``.

    Returns
    -------
    Booleans of the shape of `radii`.

    Raises
    ------
    ValueError
        If shapes do not go together, or a radius is negative.
    """
    centres, radius = _checked(places, radii)
    where = as_floats(points, "points", "array of shape (n_cells, 2)")
    if where.shape != (len(centres), 2):
        msg = f"`points` must have shape ({len(centres)}, 2), one point per cell, found {where.shape}."
        raise ValueError(msg)
    nearest = np.linalg.norm(centres - where[:, None], axis=-1).min(axis=1)
    inside: NDArray[np.bool_] = nearest[:, None] <= radius
    return inside.reshape(np.shape(radii))


@public
def region_coverage(true: ArrayLike, pred: ArrayLike, places: ArrayLike, radii: ArrayLike) -> FloatArray:
    """Share of the cells of a slide whose true place lies in their region.

    Parameters
    ----------
    true, pred
        Coordinates of the same cells in the same order, shape (n_cells, 2), in any unit. `pred` is the layout in whose
        frame the regions are. The truth is centred, scaled to the RMS radius of the layout, and turned or mirrored onto it.
    places, radii
        As for `in_regions`.

    Returns
    -------
    Share for every level, shape (n_levels,), or (1,) for radii of shape (n_cells,).

    Raises
    ------
    ValueError
        If shapes do not go together, or a radius is negative.
    """
    truth, layout = as_pair(true, pred)
    inside = in_regions(turned_onto(layout, truth), places, radii)
    share: FloatArray = inside.reshape(len(truth), -1).mean(axis=0)
    return share


@public
def region_area(places: ArrayLike, radii: ArrayLike, *, n_points: int = 200) -> FloatArray:
    r"""Area of the region of each cell.

    .. math:: A = \sum_k \int_{B_k} \frac{\mathrm{d}z}{m(z)}

    where m(z) is the number of balls that hold z. The integral over each ball is a mean over points that fill it evenly.

    Parameters
    ----------
    places, radii
        As for `in_regions`.
    n_points
        Points per ball. With 200, areas have a relative error of about 2 %; that of a single ball is exact.

    Returns
    -------
    Areas of the shape of `radii`, float64, in squared units of the places.

    Raises
    ------
    ValueError
        If shapes do not go together, a radius is negative, or `n_points` is below 1.
    """
    centres, radius = _checked(places, radii)
    if n_points < 1:
        msg = f"`n_points` must be at least 1, found {n_points}."
        raise ValueError(msg)
    disc = _even_disc(n_points)
    columns = [_union_area(centres, one, disc) for one in radius.T]
    return np.stack(columns, axis=1).reshape(np.shape(radii))


def _union_area(centres: FloatArray, radius: FloatArray, disc: FloatArray) -> FloatArray:
    area = np.zeros(len(centres))
    for k in range(centres.shape[1]):
        points = centres[:, k, None] + radius[:, None, None] * disc  # (n, m, 2)
        holding = np.ones(points.shape[:2])  # the ball itself
        for other in np.delete(np.arange(centres.shape[1]), k):
            gap = points - centres[:, other, None]
            holding += np.square(gap).sum(axis=-1) <= np.square(radius)[:, None]
        area += np.pi * np.square(radius) * (1 / holding).mean(axis=1)
    return area


def _even_disc(n_points: int) -> FloatArray:
    """Points of the unit disc on Vogel's spiral, (m, 2): every one stands for an equal area."""
    i = np.arange(n_points) + 0.5
    angle = i * np.pi * (3 - 5**0.5)
    disc: FloatArray = np.sqrt(i / n_points)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return disc


def _checked(places: ArrayLike, radii: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Places (n, K, 2) and radii (n, n_levels)."""
    centres, radius = as_floats(places, "places", "array of places"), as_floats(radii, "radii", "array of radii")
    if centres.ndim == 2 and centres.shape[1] % 2 == 0:
        centres = centres.reshape(len(centres), -1, 2)
    if centres.ndim != 3 or centres.shape[2] != 2 or centres.shape[1] < 1:
        msg = f"`places` must have shape (n_cells, K, 2) or (n_cells, 2 K), found {np.shape(places)}."
        raise ValueError(msg)
    if radius.ndim not in (1, 2) or len(radius) != len(centres):
        msg = f"`radii` must have one row for each of {len(centres)} cells, found shape {radius.shape}."
        raise ValueError(msg)
    if (radius < 0).any():
        msg = "`radii` has negative values; pass those that ipar.tl.predict_regions writes."
        raise ValueError(msg)
    return centres, radius.reshape(len(radius), -1)
