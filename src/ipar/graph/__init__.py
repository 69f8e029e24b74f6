"""Nearest neighbours by embedding distance, and averages over them."""

from ipar.graph.averages import morans_i
from ipar.graph.neighbors import connectivities, neighbor_distances

__all__ = [
    "connectivities",
    "morans_i",
    "neighbor_distances",
]
