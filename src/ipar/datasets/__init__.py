"""Simulated tissue, without network: one that can be localised, one that cannot, each also dissociated."""

from __future__ import annotations

from ipar.datasets._layered import layered_tissue, layered_tissue_dissociated
from ipar.datasets._liver import liver_lobules, liver_lobules_dissociated
from ipar.datasets._smooth import smooth_tissue

__all__ = [
    "layered_tissue",
    "layered_tissue_dissociated",
    "liver_lobules",
    "liver_lobules_dissociated",
    "smooth_tissue",
]
