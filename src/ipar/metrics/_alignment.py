"""Errors and coverage of a prediction after Procrustes alignment."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ipar._public import public
from ipar.metrics.checks import FloatArray, as_pair, gauge_fix, gauged_pair, rms_radius


class ProcrustesError(NamedTuple):
    """Errors after the best similarity transform; see `procrustes_error`."""

    rmse: float
    """Root mean squared error over cells, in RMS radii of the true layout."""
    median: float
    """Median error over cells, in tissue widths."""


def _orthogonal(true: FloatArray, pred: FloatArray) -> tuple[FloatArray, float]:
    """Rotation or reflection R that maximises tr(R' pred' true), and that maximum."""
    u, singular, vt = np.linalg.svd(pred.T @ true)
    return u @ vt, float(singular.sum())


@public
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

    Notes
    -----
    This solves the orthogonal Procrustes problem with scaling (Schönemann and Carroll, Psychometrika 35, 1970).
    Reflections are allowed because sections share no frame and some are mirrored.
    """
    truth, _ = as_pair(true, pred)
    aligned: FloatArray = _aligned(*gauged_pair(true, pred)) * rms_radius(truth) + truth.mean(axis=0)
    return aligned


def _aligned(truth: FloatArray, layout: FloatArray) -> FloatArray:
    """The second of two gauge-fixed layouts at the best rotation or reflection, and scale, for the first."""
    rotation, trace = _orthogonal(truth, layout)
    return layout @ rotation * (trace / len(layout))


@public
def turned_onto(layout: FloatArray, other: FloatArray) -> FloatArray:
    """Bring another layout to the centre and RMS radius of a layout, and turn or mirror it onto that.

    Parameters
    ----------
    layout, other
        Coordinates of the same cells in the same order, shape (n_cells, 2), float64.

    Returns
    -------
    The other layout, shape (n_cells, 2).

    Notes
    -----
    Unlike `procrustes_align`, this does not shrink a layout that fits badly. A layout on one point stays on one.
    """
    centre = layout.mean(axis=0)
    fixed = gauge_fix(other)
    rotation, _ = _orthogonal(gauge_fix(layout), fixed)
    turned: FloatArray = fixed @ rotation * rms_radius(layout) + centre
    return turned


@public
def cell_errors(true: ArrayLike, pred: ArrayLike) -> FloatArray:
    """Distance of each cell from its true position after Procrustes alignment.

    Parameters
    ----------
    true, pred
        Coordinates of the same cells in the same order, shape (n_cells, 2), in any unit.

    Returns
    -------
    Errors, shape (n_cells,), float64, in RMS radii of the true layout, which makes slides of any size comparable.
    """
    truth, layout = gauged_pair(true, pred)
    errors: FloatArray = np.linalg.norm(truth - _aligned(truth, layout), axis=1)
    return errors


@public
def procrustes_error(true: ArrayLike, pred: ArrayLike) -> ProcrustesError:
    """Error after the best shift, rotation or reflection, and uniform scale.

    Parameters
    ----------
    true, pred
        Coordinates of the same cells in the same order, shape (n_cells, 2), in any unit.

    Returns
    -------
    Named tuple of ``rmse`` in RMS radii of the truth and ``median`` in tissue widths. An ``rmse`` of 0 is perfect, 1 is
    every cell at the centroid. The tissue width is the longer side of the bounding box of `true`.
    """
    truth, _ = gauged_pair(true, pred)
    errors = cell_errors(true, pred)
    width = float(np.ptp(truth, axis=0).max())
    return ProcrustesError(float(np.sqrt((errors**2).mean())), float(np.median(errors)) / width)


def unit_box(coords: FloatArray) -> FloatArray:
    """Scale each axis to [-1/2, 1/2]; an axis without extent becomes 0."""
    low, extent = coords.min(axis=0), np.ptp(coords, axis=0)
    flat = extent <= 1e-9 * extent.max()
    scaled: FloatArray = np.where(flat, 0.0, (coords - low) / np.where(flat, 1.0, extent) - 0.5)
    return scaled


def boxed_pair(true: FloatArray, pred: FloatArray, *, align: bool) -> tuple[FloatArray, FloatArray]:
    """Scale truth and prediction to the unit box. With `align`, the prediction is aligned first."""
    truth, layout = gauge_fix(true), gauge_fix(pred)
    return unit_box(truth), unit_box(_aligned(truth, layout) if align else layout)


def orthogonal_residual(true: FloatArray, pred: FloatArray) -> float:
    """Root of the summed squared distances after the best rotation or reflection about the origin."""
    rotation, _ = _orthogonal(true, pred)
    return float(np.linalg.norm(true - pred @ rotation))


@public
def coverage(true: ArrayLike, pred: ArrayLike, *, n_bins: int = 20) -> float:
    """Share of the tissue that the aligned prediction reaches.

    The bounding box of the truth is divided into n_bins × n_bins squares. The score is the share of squares occupied by
    the truth that the Procrustes-aligned prediction occupies too. It reveals a layout that has shrunk to the centre, which
    correlations do not.

    Parameters
    ----------
    true, pred
        Coordinates of the same cells in the same order, shape (n_cells, 2), in any unit.
    n_bins
        Squares along each axis. With 20, a slide of 1,000 cells has a few cells in each square.

    Returns
    -------
    Share in (0, 1]. Predictions outside the box do not count.
    """
    truth, layout = gauged_pair(true, pred)
    if n_bins < 1:
        msg = f"`n_bins` must be at least 1, found {n_bins}."
        raise ValueError(msg)
    low, extent = truth.min(axis=0), np.ptp(truth, axis=0)
    extent[extent == 0] = extent.max()
    occupied = _occupied(truth, low, extent, n_bins)
    reached = _occupied(_aligned(truth, layout), low, extent, n_bins)
    return len(occupied & reached) / len(occupied)


def _occupied(coords: FloatArray, low: FloatArray, extent: FloatArray, n_bins: int) -> set[int]:
    # rounding keeps points on a grid line on the same side
    place = np.round((coords - low) / extent * n_bins, 9)
    inside = ((place >= 0) & (place <= n_bins)).all(axis=1)
    x, y = np.minimum(place[inside], n_bins - 1).astype(np.intp).T
    return set((x * n_bins + y).tolist())


def _framed_pair(true: ArrayLike, pred: ArrayLike, *, normalise: bool) -> tuple[FloatArray, FloatArray]:
    return boxed_pair(*as_pair(true, pred), align=True) if normalise else as_pair(true, pred)


@public
def rssd(true: ArrayLike, pred: ArrayLike, *, normalise: bool = True) -> float:
    r"""Root of the summed squared distances (RSSD) after the best rotation or reflection.

    .. math:: \min_{R \in O(2)} \sqrt{\sum_i \lVert t_i - p_i R \rVert^2}

    Use it only for comparison with LUNA: it rewards shrinking to the centre and grows with the number of cells.

    Parameters
    ----------
    true, pred
        Coordinates of the same cells in the same order, shape (n_cells, 2).
    normalise
        Align the prediction with the truth and scale each axis of both to [-1/2, 1/2] first. False takes the
        coordinates as they are, for files already in LUNA's frame.

    Returns
    -------
    RSSD over all cells, in sides of the unit box, or in the unit of the coordinates without `normalise`.

    Notes
    -----
    This is the score of LUNA (Yu et al., 2025), which pads a zero third axis and rotates in space. In the plane these
    rotations include reflections.
    """
    return orthogonal_residual(*_framed_pair(true, pred, normalise=normalise))


@public
def rssd_by_class(true: ArrayLike, pred: ArrayLike, classes: ArrayLike, *, normalise: bool = True) -> dict[str, float]:
    """`rssd` of each class of cells, each rotated by itself.

    Parameters
    ----------
    true, pred, normalise
        As for `rssd`. The frame is that of all cells.
    classes
        Class of each cell, for example its cell type, shape (n_cells,).

    Returns
    -------
    RSSD by class, in order of the names. LUNA reports their mean and their sum.
    """
    truth, layout = _framed_pair(true, pred, normalise=normalise)
    labels = np.asarray(classes)
    if labels.shape != (len(truth),):
        msg = f"`classes` must have shape ({len(truth)},), one label per cell, found {labels.shape}."
        raise ValueError(msg)
    labels = labels.astype(str)
    return {str(name): orthogonal_residual(truth[labels == name], layout[labels == name]) for name in np.unique(labels)}
