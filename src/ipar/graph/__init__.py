"""Candidate search."""

from ipar.graph._autocorrelation import morans_i, spatial_average
from ipar.graph._averages import averaged_features, neighbor_average
from ipar.graph._candidates import candidate_mask, cosine_candidates, thinned_candidates
from ipar.graph._fuzzy import fuzzy_neighbors
from ipar.graph._neighbors import cells_by_slide, connectivities, default_transformer, neighbor_distances

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
