"""Preprocessing: embeddings, candidate graphs, ellipses of cells, and slides on disk."""

from ipar.pp._candidates import candidates
from ipar.pp._ellipses import cell_ellipses
from ipar.pp._embed import LocalisabilityWarning, embed
from ipar.pp._store import read_training_store, write_training_store

__all__ = [
    "LocalisabilityWarning",
    "candidates",
    "cell_ellipses",
    "embed",
    "read_training_store",
    "write_training_store",
]
