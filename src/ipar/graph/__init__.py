"""Candidate search."""

from ipar.graph.averages import averaged_features, morans_i, neighbor_average, spatial_average
from ipar.graph.candidates import candidate_mask, cosine_candidates, fuzzy_neighbors, thinned_candidates
from ipar.graph.neighbors import cells_by_slide, connectivities, default_transformer, neighbor_distances

__all__ = [
    "averaged_features",
    "candidate_mask",
    "cells_by_slide",
    "connectivities",
    "cosine_candidates",
    "default_transformer",
    "fuzzy_neighbors",
    "morans_i",
    "neighbor_average",
    "neighbor_distances",
    "spatial_average",
    "thinned_candidates",
]
