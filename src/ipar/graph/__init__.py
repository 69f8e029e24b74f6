"""Nearest neighbours by embedding distance, and averages over them."""

from ipar.graph.averages import morans_i, neighbor_average
from ipar.graph.candidates import cosine_candidates, fuzzy_neighbors
from ipar.graph.neighbors import connectivities, neighbor_distances

__all__ = [
    "connectivities",
    "cosine_candidates",
    "fuzzy_neighbors",
    "morans_i",
    "neighbor_average",
    "neighbor_distances",
]
