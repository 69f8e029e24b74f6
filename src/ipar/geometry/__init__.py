"""Functions on tensors: gauges, Procrustes alignment, and poses that carry a Gaussian."""

from ipar.geometry.ellipses import ellipses_of_rigid, rigid_of_ellipses
from ipar.geometry.rigid import OffsetGaussianRigid
from ipar.geometry.similarity import apply_similarity, gauge_fix, procrustes_transform

__all__ = [
    "OffsetGaussianRigid",
    "apply_similarity",
    "ellipses_of_rigid",
    "gauge_fix",
    "procrustes_transform",
    "rigid_of_ellipses",
]
