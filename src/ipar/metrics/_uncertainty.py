from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import spearmanr

from ipar.metrics._checks import FloatArray, as_cell_vector


def _checked(error: ArrayLike, uncertainty: ArrayLike) -> tuple[FloatArray, FloatArray]:
    errors = as_cell_vector(error, "error")
    if len(errors) < 2:
        msg = f"`error` has {len(errors)} cells; at least 2 are needed to compare them."
        raise ValueError(msg)
    if (errors < 0).any():
        msg = "`error` has negative values; pass distances, for example from `cell_errors`."
        raise ValueError(msg)
    return errors, as_cell_vector(uncertainty, "uncertainty", len(errors))


def uncertainty_spearman(error: ArrayLike, uncertainty: ArrayLike) -> float:
    """Spearman correlation between the predicted uncertainty of the cells and their actual error.

    Parameters
    ----------
    error
        Distance of each cell from its true place, shape (n_cells,), for example from `cell_errors`.
    uncertainty
        Predicted uncertainty of each cell, shape (n_cells,), larger meaning less certain, in any unit.

    Returns
    -------
    Correlation in [-1, 1]; 0 where either is the same for all cells.

    Raises
    ------
    ValueError
        If the shapes differ, a value is NaN or infinite, or an error is negative.
    """
    errors, doubts = _checked(error, uncertainty)
    if np.ptp(errors) == 0 or np.ptp(doubts) == 0:
        return 0.0
    return float(spearmanr(errors, doubts).statistic)


def certain_half_error(error: ArrayLike, uncertainty: ArrayLike) -> float:
    """Mean error of the most certain half of the cells over the mean error of all.

    Parameters
    ----------
    error
        Distance of each cell from its true place, shape (n_cells,), for example from `cell_errors`.
    uncertainty
        Predicted uncertainty of each cell, shape (n_cells,), larger meaning less certain, in any unit.

    Returns
    -------
    Ratio, 0 or more: 1 if the uncertainty tells nothing (or there is no error at all), less if it can be used to keep
    the better cells. Cells tied at the middle count in proportion, so the order of the rows plays no part.

    Raises
    ------
    ValueError
        If the shapes differ, a value is NaN or infinite, or an error is negative.
    """
    errors, doubts = _checked(error, uncertainty)
    if not errors.any():
        return 1.0
    half = (len(errors) + 1) // 2
    cut = np.partition(doubts, half - 1)[half - 1]
    inside, tied = doubts < cut, doubts == cut
    kept = errors[inside].sum() + errors[tied].mean() * (half - inside.sum())
    return float(kept / half / errors.mean())
