from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ipar.metrics._checks import FloatArray, as_pair, rms_radius


class ProcrustesError(NamedTuple):
    """Errors after the best similarity transform; see `procrustes_error`."""

    rmse: float
    """Root mean squared error over cells, in RMS radii of the true layout."""
    median: float
    """Median error over cells, in tissue widths."""


def _orthogonal(true: FloatArray, pred: FloatArray) -> tuple[FloatArray, float]:
    # R (2, 2) maximises tr(R' pred' true) over O(2); the second value is that maximum
    u, singular, vt = np.linalg.svd(pred.T @ true)
    return u @ vt, float(singular.sum())


def procrustes_align(true: ArrayLike, pred: ArrayLike) -> FloatArray:
    r"""Align a prediction with the truth by shift, rotation or reflection, and scale.

    .. math:: \min_{s, R, c} \sum_i \lVert t_i - (s\, p_i R + c) \rVert^2, \qquad R \in O(2),\ s \ge 0

    Parameters
    ----------
    true, pred
        Coordinates of the same cells in the same order, shape (n_cells, 2), in any unit.

    Returns
    -------
    Aligned prediction, shape (n_cells, 2), float64, in the frame and unit of `true`. A prediction on one point is placed
    at the centroid of the truth.

    Raises
    ------
    ValueError
        If the shapes differ or are not (n, 2), a value is NaN or infinite, there are fewer than four cells, or all true
        cells coincide.

    Notes
    -----
    This solves the orthogonal Procrustes problem with scaling (Schönemann and Carroll, Psychometrika 35, 1970).
    Reflections are allowed because sections share no frame and some are mirrored.
    """
    truth, layout = as_pair(true, pred)
    centre = truth.mean(axis=0)
    if rms_radius(layout) == 0:
        return np.broadcast_to(centre, truth.shape).copy()
    centred = layout - layout.mean(axis=0)
    rotation, trace = _orthogonal(truth - centre, centred)
    aligned: FloatArray = centred @ rotation * (trace / (centred**2).sum()) + centre
    return aligned


def cell_errors(true: ArrayLike, pred: ArrayLike) -> FloatArray:
    """Distance of each cell from its true position after Procrustes alignment.

    Parameters
    ----------
    true, pred
        Coordinates of the same cells in the same order, shape (n_cells, 2), in any unit.

    Returns
    -------
    Errors, shape (n_cells,), float64, in RMS radii of the true layout, which makes slides of any size comparable.

    Raises
    ------
    ValueError
        As for `procrustes_align`.
    """
    truth, _ = as_pair(true, pred)
    residual = np.linalg.norm(truth - procrustes_align(true, pred), axis=1)
    return np.asarray(residual / rms_radius(truth), dtype=np.float64)


def procrustes_error(true: ArrayLike, pred: ArrayLike) -> ProcrustesError:
    """Error after the best shift, rotation or reflection, and uniform scale.

    Parameters
    ----------
    true, pred
        Coordinates of the same cells in the same order, shape (n_cells, 2), in any unit.

    Returns
    -------
    `ProcrustesError` with ``rmse`` in RMS radii of the truth and ``median`` in tissue widths. An ``rmse`` of 0 is perfect,
    1 is every cell at the centroid. The tissue width is the longer side of the bounding box of `true`.

    Raises
    ------
    ValueError
        As for `procrustes_align`.
    """
    truth, _ = as_pair(true, pred)
    errors = cell_errors(true, pred)
    width = float(np.ptp(truth, axis=0).max())
    return ProcrustesError(
        rmse=float(np.sqrt((errors**2).mean())), median=float(np.median(errors)) * rms_radius(truth) / width
    )


def unit_box(coords: FloatArray) -> FloatArray:
    """Scale each axis to [-1/2, 1/2]; an axis without extent becomes 0."""
    low, extent = coords.min(axis=0), np.ptp(coords, axis=0)
    flat = extent <= 1e-9 * extent.max()
    scaled: FloatArray = np.where(flat, 0.0, (coords - low) / np.where(flat, 1.0, extent) - 0.5)
    return scaled


def boxed_pair(true: FloatArray, pred: FloatArray, *, align: bool) -> tuple[FloatArray, FloatArray]:
    """Scale truth and prediction to the unit box, if `align` after aligning the prediction."""
    return unit_box(true), unit_box(procrustes_align(true, pred) if align else pred)


def orthogonal_residual(true: FloatArray, pred: FloatArray) -> float:
    """Root of the summed squared distances after the best rotation or reflection about the origin."""
    rotation, _ = _orthogonal(true, pred)
    return float(np.linalg.norm(true - pred @ rotation))
