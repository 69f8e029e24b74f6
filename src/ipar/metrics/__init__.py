"""Metrics of predicted coordinates, on arrays. None depends on the rotation, reflection or scale of the prediction."""

from __future__ import annotations

from ipar.metrics._alignment import ProcrustesError, cell_errors, procrustes_align, procrustes_error
from ipar.metrics._distances import contact_f1, distance_pearson, luna_spearman, stress1
from ipar.metrics._e_geo import EGeo, e_geo, e_geo_minisets
from ipar.metrics._evaluate import evaluate, evaluate_slides
from ipar.metrics._layout import coverage, rssd, rssd_by_class
from ipar.metrics._neighbours import continuity, knn_chance, knn_hit, trustworthiness
from ipar.metrics._uncertainty import certain_half_error, uncertainty_spearman

__all__ = [
    "EGeo",
    "ProcrustesError",
    "cell_errors",
    "certain_half_error",
    "contact_f1",
    "continuity",
    "coverage",
    "distance_pearson",
    "e_geo",
    "e_geo_minisets",
    "evaluate",
    "evaluate_slides",
    "knn_chance",
    "knn_hit",
    "luna_spearman",
    "procrustes_align",
    "procrustes_error",
    "rssd",
    "rssd_by_class",
    "stress1",
    "trustworthiness",
    "uncertainty_spearman",
]
