"""One frame for the training slides, which have no correspondences, of the benchmark's controls."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from benchmarks.methods.arrays import Rows
from ipar.baselines.inputs import FloatArray
from ipar.metrics import procrustes_align

_FRAME_ROUNDS = 5


def common_frame(x: FloatArray, coords: FloatArray, slides: Rows) -> FloatArray:
    """Turn and mirror the training slides so that like expression lies in like places.

    Sections share no points to align on, so predictions stand in for them: a ridge regression learns coordinates from
    the slides already placed, and the next slide is turned onto its own prediction, the one that fits best first; then
    every slide in turn is turned onto what the others predict for it. Every slide is tried as the start, and the frame
    in which slides predict each other best is kept.

    Parameters
    ----------
    x
        Features of all training cells, ``(n, d)``; about 50 principal components.
    coords
        Gauge-fixed coordinates, slide by slide in frames of their own, ``(n, 2)``.
    slides
        Rows of every slide.

    Returns
    -------
    Coordinates in one frame, ``(n, 2)``.
    """
    frames = [_frame_from(start, x, coords, slides) for start in range(len(slides))]
    return max(frames, key=lambda frame: frame[0])[1]


def _frame_from(start: int, x: FloatArray, coords: FloatArray, slides: Rows) -> tuple[float, FloatArray]:
    placed = coords.copy()
    done, waiting = [start], [i for i in range(len(slides)) if i != start]
    while waiting:
        turns = {i: _turned(x, placed, [slides[j] for j in done], slides[i]) for i in waiting}
        best = min(turns, key=lambda i: turns[i][0])
        placed[slides[best]] = turns[best][1]
        done.append(best)
        waiting.remove(best)
    residuals = [0.0]
    for _ in range(_FRAME_ROUNDS if len(slides) > 1 else 0):
        residuals = []
        for i, rows in enumerate(slides):
            residual, placed[rows] = _turned(x, placed, [other for j, other in enumerate(slides) if j != i], rows)
            residuals.append(residual)
    return -float(np.mean(residuals)), placed


def _turned(x: FloatArray, placed: FloatArray, known: Rows, rows: NDArray[np.intp]) -> tuple[float, FloatArray]:
    """A slide turned onto its prediction from others, and how badly it then fits (mean squared error)."""
    train = np.concatenate(known)
    predicted = Ridge(alpha=float(len(train)) * 0.01).fit(x[train], placed[train]).predict(x[rows])
    left, _, right = np.linalg.svd(placed[rows].T @ predicted)
    turned = placed[rows] @ (left @ right)
    return float(np.square(turned - predicted).mean()), turned


def align_by_labels(coords: FloatArray, labels: NDArray[np.str_], slides: Rows) -> FloatArray:
    """Bring slides into the frame of the first by Procrustes on the centroids of the labels they share."""
    placed = coords.copy()
    reference = label_centroids(coords[slides[0]], labels[slides[0]])
    for rows in slides[1:]:
        own = label_centroids(coords[rows], labels[rows])
        shared = sorted(set(own) & set(reference))
        if len(shared) >= 4:
            target = np.array([reference[name] for name in shared])
            moved = procrustes_align(target, np.array([own[name] for name in shared]))
            placed[rows] = _carry(np.array([own[name] for name in shared]), moved, coords[rows])
    return placed


def label_centroids(coords: FloatArray, labels: NDArray[np.str_]) -> dict[str, FloatArray]:
    """Mean position of every label."""
    return {str(name): coords[labels == name].mean(axis=0) for name in np.unique(labels)}


def _carry(source: FloatArray, moved: FloatArray, points: FloatArray) -> FloatArray:
    """Apply to points the similarity that took ``source`` to ``moved``."""
    a, b = (np.column_stack([z, np.ones(len(z))]) for z in (source, points))
    solution = np.linalg.lstsq(a, moved, rcond=None)[0]
    carried: FloatArray = (b @ solution).astype(np.float32)
    return carried
