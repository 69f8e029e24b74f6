"""Preprocessing: embeddings, candidate graphs, ellipses of cells, and single cells read like spots."""

from ipar.pp._candidates import candidates
from ipar.pp._ellipses import cell_ellipses
from ipar.pp._embed import LocalisabilityWarning, embed
from ipar.pp._pseudo_spots import pseudo_spots

__all__ = ["LocalisabilityWarning", "candidates", "cell_ellipses", "embed", "pseudo_spots"]
