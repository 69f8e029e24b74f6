"""Preprocessing: embeddings, candidate graphs, and ellipses of cells."""

from ipar.pp._candidates import candidates
from ipar.pp._ellipses import cell_ellipses
from ipar.pp._embed import LocalisabilityWarning, embed

__all__ = ["LocalisabilityWarning", "candidates", "cell_ellipses", "embed"]
