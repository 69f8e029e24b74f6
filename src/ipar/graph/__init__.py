"""Candidate search."""

from ipar.graph._candidates import candidate_mask, cosine_candidates

__all__ = ["candidate_mask", "cosine_candidates"]
