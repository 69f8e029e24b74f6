"""How much the set encoder says about distances across the tissue, as left-out training slides have it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ipar.metrics import e_geo_minisets, luna_spearman
from ipar.model._consensus import principal_layout
from ipar.model._encoder import GeometryEncoder
from ipar.training._fit_finish import pick_cells

OVERVIEW_WEIGHTS = (1.0, 1.5, 2.0, 3.0)
_ENERGY_COST = 0.05  # share of E_geo that better ranks of distances may cost


def score_weights(
    encoder: GeometryEncoder, far: NDArray[np.float32], coords: NDArray[np.float32], random_state: int
) -> pd.DataFrame:
    """Scores of the overview's layout of a left-out slide at every weight of the set encoder.

    Parameters
    ----------
    encoder
        Trained without the slide, with a set encoder of weight 1.
    far
        What it says of distances across the slide, ``(n, d)``, see :meth:`GeometryEncoder.views`.
    coords
        True coordinates of the slide, ``(n, 2)``.
    random_state
        Seed of the cells and minisets that are scored.

    Returns
    -------
    DataFrame
        ``weight, luna_spearman, e_geo``, one row a weight.
    """
    some = pick_cells(len(far), random_state)
    layouts = [_layout(weighted(encoder, far, weight)[some]) for weight in OVERVIEW_WEIGHTS]
    true = coords[some]
    return pd.DataFrame(
        {
            "weight": OVERVIEW_WEIGHTS,
            "luna_spearman": [luna_spearman(true, x) for x in layouts],
            "e_geo": [e_geo_minisets(true, x, random_state=random_state).total for x in layouts],
        }
    )


def weighted(encoder: GeometryEncoder, far: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """What tells distances across the tissue, the set encoder's columns, the last, times a weight."""
    if encoder.overview is None:
        msg = "The encoder has no set encoder: fit it with overview=True."
        raise ValueError(msg)
    scaled = far.copy()
    scaled[:, -encoder.overview.n_output :] *= weight
    return scaled


def choose_weight(scores: Sequence[pd.DataFrame]) -> tuple[float, pd.DataFrame]:
    """The weight of the best ranks of distances among those that cost no more than 5 % of the least E_geo.

    Parameters
    ----------
    scores
        Of :func:`score_weights`, one table a left-out slide; without any, the weight is 1.

    Returns
    -------
    tuple
        The weight, and the mean table.
    """
    if not scores:
        return 1.0, pd.DataFrame(columns=["weight", "luna_spearman", "e_geo"], dtype=float)
    mean = pd.concat(scores).groupby("weight", as_index=False).mean()
    cheap = mean[mean["e_geo"] <= (1 + _ENERGY_COST) * mean["e_geo"].min()]
    return float(cheap.loc[cheap["luna_spearman"].idxmax(), "weight"]), mean


def _layout(far: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = principal_layout(torch.from_numpy(np.ascontiguousarray(far))).numpy()
    return found
