"""Agreement of predicted uncertainty and actual error."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import spearmanr

from ipar._public import public
from ipar.metrics.checks import FloatArray, as_cell_vector


def _checked(error: ArrayLike, uncertainty: ArrayLike) -> tuple[FloatArray, FloatArray]:
    errors = as_cell_vector(error, "error")
    if len(errors) < 2:
        msg = f"`error` has {len(errors)} cells; at least 2 are needed to compare them."
        raise ValueError(msg)
    if (errors < 0).any():
        msg = "`error` has negative values; pass distances, for example from `cell_errors`."
        raise ValueError(msg)
    return errors, as_cell_vector(uncertainty, "uncertainty", len(errors))


@public
def uncertainty_spearman(error: ArrayLike, uncertainty: ArrayLike) -> float:
    """Spearman correlation between predicted uncertainty and actual error.

    Parameters
    ----------
    error
        Distance of each cell from its true position, shape (n_cells,), for example from `cell_errors`.
    uncertainty
        Predicted uncertainty per cell, shape (n_cells,), in any unit. Larger is less certain.

    Returns
    -------
    Correlation in [-1, 1]; 0 if either is the same for all cells.
    """
    errors, doubts = _checked(error, uncertainty)
    if np.ptp(errors) == 0 or np.ptp(doubts) == 0:
        return 0.0
    return float(spearmanr(errors, doubts).statistic)


@public
def certain_half_error(error: ArrayLike, uncertainty: ArrayLike) -> float:
    """Mean error of the most certain half of the cells, relative to the mean error of all.

    Parameters
    ----------
    error, uncertainty
        As for `uncertainty_spearman`.

    Returns
    -------
    Ratio of 0 or more. 1 means that the uncertainty is uninformative, or that all errors are 0; lower is better. Cells
    tied at the middle count in proportion.
    """
    errors, doubts = _checked(error, uncertainty)
    if not errors.any():
        return 1.0
    half = (len(errors) + 1) // 2
    cut = np.partition(doubts, half - 1)[half - 1]
    inside, tied = doubts < cut, doubts == cut
    kept = errors[inside].sum() + errors[tied].mean() * (half - inside.sum())
    return float(kept / half / errors.mean())
