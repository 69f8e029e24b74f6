"""How well an uncertainty ranks the true errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import ipar


def ranked(errors: NDArray[np.floating], uncertainty: NDArray[np.floating]) -> dict[str, float]:
    """How well an uncertainty ranks errors; the bound is that of the errors' own order: no other has less."""
    return {
        "uncertainty_spearman": ipar.metrics.uncertainty_spearman(errors, uncertainty),
        "certain_half_error": ipar.metrics.certain_half_error(errors, uncertainty),
        "certain_half_median": certain_half_median(errors, uncertainty),
        "certain_half_median_bound": certain_half_median(errors, errors),
    }


def certain_half_median(errors: NDArray[np.floating], uncertainty: NDArray[np.floating]) -> float:
    """Median error of the half of the cells that is more certain, over the median error of all."""
    certain = uncertainty <= np.median(uncertainty)
    return float(np.median(errors[certain]) / np.median(errors))
