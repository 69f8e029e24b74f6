"""Scores of sampled poses of one set, in the plane and in space."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from ipar import metrics
from ipar.geometry import OffsetGaussianRigid
from ipar.geometry.similarity import apply_similarity, procrustes_transform
from ipar.model import PoseSamples

Coords = NDArray[np.floating]


def scores_of(truth: Coords, rigid: OffsetGaussianRigid, samples: PoseSamples) -> dict[str, float]:
    """Scores of layouts ``(S, n, d)``, and the error of log-scales."""
    own = in_plane if truth.shape[1] == 2 else in_space
    d = truth.shape[1]
    errors = np.log(samples.ellipses[..., d : 2 * d]) - rigid.scaling_log.numpy()
    return own(truth, samples) | {"log_scale_rmse": float(np.sqrt(np.square(errors).mean()))}


def in_plane(truth: Coords, samples: PoseSamples) -> dict[str, float]:
    """By ipar's metrics."""
    mean = samples.point("mean")
    errors = [metrics.procrustes_error(truth, layout).rmse for layout in samples.coords]
    return {
        "sample_rmse": float(np.mean(errors)),
        "mean_rmse": metrics.procrustes_error(truth, mean).rmse,
        "luna_spearman": metrics.luna_spearman(truth, mean),
        "knn_hit_20": metrics.knn_hit(truth, mean, n_neighbors=20),
        "uncertainty_spearman": metrics.uncertainty_spearman(metrics.cell_errors(truth, mean), samples.uncertainty),
    }


def in_space(truth: Coords, samples: PoseSamples) -> dict[str, float]:
    """The same in three dimensions, where ipar has no metrics; the rank correlation is without LUNA's scaling of axes."""
    mean = samples.point("mean")
    return {
        "sample_rmse": float(np.mean([rmse(truth, layout) for layout in samples.coords])),
        "mean_rmse": rmse(truth, mean),
        "luna_spearman": rank_correlation(truth, mean),
        "knn_hit_20": shared_neighbors(truth, mean, 20),
    }


def rmse(truth: Coords, layout: Coords) -> float:
    """Root mean squared error after Procrustes alignment, in RMS radii of the truth."""
    true, found = (torch.from_numpy(np.asarray(x, dtype=np.float64)) for x in (truth, layout))
    aligned = apply_similarity(found, procrustes_transform(found, true))
    centred = true - true.mean(0)
    return float(((aligned - true).square().sum() / centred.square().sum()).sqrt())


def rank_correlation(truth: Coords, layout: Coords) -> float:
    """Spearman correlation of true and predicted distances from a cell to all others, the median over cells."""
    ranks = [rankdata(cdist(x, x), axis=1) for x in (truth, layout)]
    a, b = (x - x.mean(axis=1, keepdims=True) for x in ranks)
    norm = np.sqrt(np.square(a).sum(axis=1) * np.square(b).sum(axis=1))
    return float(np.median((a * b).sum(axis=1) / norm))


def shared_neighbors(truth: Coords, layout: Coords, n_neighbors: int) -> float:
    """Share of a cell's nearest neighbours that are near in the layout, too."""
    near = [cKDTree(x).query(x, n_neighbors + 1)[1][:, 1:] for x in (truth, layout)]
    return float(np.mean([len(np.intersect1d(a, b)) / n_neighbors for a, b in zip(*near, strict=True)]))
