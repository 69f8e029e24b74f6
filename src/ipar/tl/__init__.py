"""Tools: training and prediction."""

from ipar.tl._fit import fit_ipalite
from ipar.tl._predict import predict_coords

__all__ = ["fit_ipalite", "predict_coords"]
