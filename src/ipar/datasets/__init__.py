"""Simulated tissues: slides that can be localised, slides that cannot, and dissociated cells of both."""

from __future__ import annotations

from ipar.datasets._smooth import smooth_tissue
from ipar.datasets._tissues import (
    layered_tissue,
    layered_tissue_dissociated,
    liver_lobules,
    liver_lobules_dissociated,
)

__all__ = [
    "layered_tissue",
    "layered_tissue_dissociated",
    "liver_lobules",
    "liver_lobules_dissociated",
    "smooth_tissue",
]
