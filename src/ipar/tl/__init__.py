"""Tools: training, prediction, and experiments with fitted models."""

from ipar.tl._ablate import ablate_terms
from ipar.tl._adapt import adapt
from ipar.tl._attention import attention
from ipar.tl._cross_validate import cross_validate
from ipar.tl._diagnostics import attention_diagnostics
from ipar.tl._experiments import decompose_gap, shuffle_controls, sweep_beta
from ipar.tl._fit import fit_ipalite
from ipar.tl._fit_iga import fit_iga
from ipar.tl._map import map_to_reference
from ipar.tl._optimise import optimise_coords
from ipar.tl._predict import predict_coords
from ipar.tl._reference import FrameWarning
from ipar.tl._regions import predict_regions
from ipar.tl._report import Doubt, report
from ipar.tl._resemblance import ResemblanceWarning
from ipar.tl._sample import sample_coords
from ipar.tl._transfer import impute, transfer

__all__ = [
    "Doubt",
    "FrameWarning",
    "ResemblanceWarning",
    "ablate_terms",
    "adapt",
    "attention",
    "attention_diagnostics",
    "cross_validate",
    "decompose_gap",
    "fit_iga",
    "fit_ipalite",
    "impute",
    "map_to_reference",
    "optimise_coords",
    "predict_coords",
    "report",
    "predict_regions",
    "sample_coords",
    "shuffle_controls",
    "sweep_beta",
    "transfer",
]
