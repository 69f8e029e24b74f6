"""Pure functions on tensors: gauges, random-walk operators, stress edges, Procrustes alignment."""

from ipar.geometry._gauge import gauge_fix
from ipar.geometry._procrustes import apply_similarity, procrustes_transform
from ipar.geometry._stress import landmark_count, log_edge_distance, log_stress, multiscale_edges
from ipar.geometry._walk import (
    WalkTarget,
    log_walk,
    neighbour_count,
    predicted_walk,
    squared_distances,
    walk_kl,
    walk_steps,
    walk_target,
)

__all__ = [
    "WalkTarget",
    "apply_similarity",
    "gauge_fix",
    "landmark_count",
    "log_edge_distance",
    "log_stress",
    "log_walk",
    "multiscale_edges",
    "neighbour_count",
    "predicted_walk",
    "procrustes_transform",
    "squared_distances",
    "walk_kl",
    "walk_steps",
    "walk_target",
]
