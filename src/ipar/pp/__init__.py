"""Preprocessing: embeddings and candidate graphs."""

from ipar.pp._candidates import candidates
from ipar.pp._embed import LocalisabilityWarning, embed

__all__ = ["LocalisabilityWarning", "candidates", "embed"]
