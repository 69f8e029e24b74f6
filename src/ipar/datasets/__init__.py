"""Simulated tissues, slides that can be localised and slides that cannot, dissociated cells of both, and public data."""

from __future__ import annotations

from ipar.datasets._fetch import available, fetch
from ipar.datasets._smooth import smooth_tissue
from ipar.datasets._tissues import (
    layered_tissue,
    layered_tissue_dissociated,
    liver_lobules,
    liver_lobules_dissociated,
)

__all__ = [
    "available",
    "fetch",
    "layered_tissue",
    "layered_tissue_dissociated",
    "liver_lobules",
    "liver_lobules_dissociated",
    "smooth_tissue",
]
