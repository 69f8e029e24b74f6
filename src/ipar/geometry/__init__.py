"""Functions on tensors: gauges, random walks, stress, Procrustes alignment, rotations and Gaussians."""

from ipar.geometry.ellipses import (
    area_moments,
    ellipse_table,
    ellipses_of_rigid,
    rigid_of_ellipses,
    ring_moments,
)
from ipar.geometry.overlap import gaussian_overlap, pack_symmetric
from ipar.geometry.rigid import OffsetGaussianRigid
from ipar.geometry.rotation import n_angles, random_rotation, rotation_exp, rotation_log
from ipar.geometry.similarity import apply_similarity, gauge_fix, procrustes_transform
from ipar.geometry.targets import (
    WalkTarget,
    landmark_count,
    log_edge_distance,
    log_stress,
    log_walk,
    multiscale_edges,
    neighbour_count,
    predicted_walk,
    squared_distances,
    walk_kl,
    walk_steps,
    walk_target,
)

__all__ = [
    "OffsetGaussianRigid",
    "WalkTarget",
    "apply_similarity",
    "area_moments",
    "ellipse_table",
    "ellipses_of_rigid",
    "gauge_fix",
    "gaussian_overlap",
    "landmark_count",
    "log_edge_distance",
    "log_stress",
    "log_walk",
    "multiscale_edges",
    "n_angles",
    "neighbour_count",
    "pack_symmetric",
    "predicted_walk",
    "procrustes_transform",
    "random_rotation",
    "rigid_of_ellipses",
    "ring_moments",
    "rotation_exp",
    "rotation_log",
    "squared_distances",
    "walk_kl",
    "walk_steps",
    "walk_target",
]
