from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ipar.metrics._alignment import boxed_pair, orthogonal_residual, procrustes_align
from ipar.metrics._checks import FloatArray, as_pair


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

    Raises
    ------
    ValueError
        As for `procrustes_align`, or if `n_bins` is below 1.
    """
    truth, _ = as_pair(true, pred)
    if n_bins < 1:
        msg = f"`n_bins` must be at least 1, found {n_bins}."
        raise ValueError(msg)
    low, extent = truth.min(axis=0), np.ptp(truth, axis=0)
    extent[extent == 0] = extent.max()
    occupied = _occupied(truth, low, extent, n_bins)
    reached = _occupied(procrustes_align(true, pred), low, extent, n_bins)
    return len(occupied & reached) / len(occupied)


def _occupied(coords: FloatArray, low: FloatArray, extent: FloatArray, n_bins: int) -> set[int]:
    # rounding keeps points on a grid line, as those of a regular array, on the same side
    place = np.round((coords - low) / extent * n_bins, 9)
    inside = ((place >= 0) & (place <= n_bins)).all(axis=1)
    x, y = np.minimum(place[inside], n_bins - 1).astype(np.intp).T
    return set((x * n_bins + y).tolist())


def _framed_pair(true: ArrayLike, pred: ArrayLike, *, normalise: bool) -> tuple[FloatArray, FloatArray]:
    truth, layout = as_pair(true, pred)
    return boxed_pair(truth, layout, align=True) if normalise else (truth, layout)


def rssd(true: ArrayLike, pred: ArrayLike, *, normalise: bool = True) -> float:
    r"""Root of the summed squared distances (RSSD) after the best rotation or reflection.

    .. math:: \min_{R \in O(2)} \sqrt{\sum_i \lVert t_i - p_i R \rVert^2}

    It is there for comparison with LUNA. Do not select models by it: it rewards shrinking to the centre and grows with the
    number of cells.

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

    Raises
    ------
    ValueError
        As for `procrustes_align`.

    Notes
    -----
    This is the score of LUNA (Yu et al., 2025), which pads a zero third axis and rotates in space. In the plane these
    rotations include reflections.
    """
    return orthogonal_residual(*_framed_pair(true, pred, normalise=normalise))


def rssd_by_class(true: ArrayLike, pred: ArrayLike, classes: ArrayLike, *, normalise: bool = True) -> dict[str, float]:
    """`rssd` of each class of cells, each rotated by itself.

    Parameters
    ----------
    true, pred
        Coordinates of the same cells in the same order, shape (n_cells, 2).
    classes
        Class of each cell, for example its cell type, shape (n_cells,).
    normalise
        As for `rssd`. The frame is that of all cells.

    Returns
    -------
    RSSD by class, in order of the names. LUNA reports their mean and their sum.

    Raises
    ------
    ValueError
        As for `procrustes_align`, or if `classes` does not hold one label per cell.
    """
    truth, layout = _framed_pair(true, pred, normalise=normalise)
    labels = np.asarray(classes)
    if labels.shape != (len(truth),):
        msg = f"`classes` must have shape ({len(truth)},), one label per cell, found {labels.shape}."
        raise ValueError(msg)
    labels = labels.astype(str)
    return {str(name): orthogonal_residual(truth[labels == name], layout[labels == name]) for name in np.unique(labels)}
