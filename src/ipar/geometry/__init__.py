"""Functions on tensors: gauges, Procrustes alignment, and poses that carry a Gaussian."""

from ipar.geometry.rigid import OffsetGaussianRigid
from ipar.geometry.similarity import apply_similarity, gauge_fix, procrustes_rotation, procrustes_transform

__all__ = [
    "OffsetGaussianRigid",
    "apply_similarity",
    "gauge_fix",
    "procrustes_rotation",
    "procrustes_transform",
]
