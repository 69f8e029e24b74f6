"""Metrics of predicted coordinates, on arrays. None depends on the rotation, reflection or scale of the prediction.

All raise `ValueError` if shapes differ or are not (n_cells, 2), a value is NaN or infinite, there are fewer than four
cells, all true cells coincide, or an option is out of range.
"""

from __future__ import annotations

from ipar.metrics._alignment import (
    cell_errors,
    coverage,
    procrustes_align,
    procrustes_error,
    rssd,
    rssd_by_class,
    turned_onto,
)
from ipar.metrics._collapse import collapse
from ipar.metrics._distances import contact_f1, distance_pearson, luna_spearman, stress1
from ipar.metrics._e_geo import e_geo, e_geo_minisets
from ipar.metrics._evaluate import evaluate, evaluate_slides
from ipar.metrics._evenness import evenness
from ipar.metrics._neighbours import continuity, knn_hit, trustworthiness
from ipar.metrics._regions import in_regions, region_area, region_coverage
from ipar.metrics._uncertainty import certain_half_error, uncertainty_spearman

__all__ = [
    "cell_errors",
    "certain_half_error",
    "collapse",
    "contact_f1",
    "continuity",
    "coverage",
    "distance_pearson",
    "e_geo",
    "e_geo_minisets",
    "evaluate",
    "evaluate_slides",
    "evenness",
    "in_regions",
    "knn_hit",
    "luna_spearman",
    "procrustes_align",
    "procrustes_error",
    "region_area",
    "region_coverage",
    "rssd",
    "rssd_by_class",
    "stress1",
    "trustworthiness",
    "turned_onto",
    "uncertainty_spearman",
]
