"""Candidate search."""

from ipar.graph._candidates import candidate_mask, cosine_candidates
from ipar.graph._neighbors import connectivities, default_transformer, neighbor_distances

__all__ = ["candidate_mask", "connectivities", "cosine_candidates", "default_transformer", "neighbor_distances"]
