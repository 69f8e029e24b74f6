"""How much the set encoder says about distances across the tissue, as held-out training slides have it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ipar._run import Run
from ipar.metrics import e_geo_minisets, luna_spearman
from ipar.model import GeometryEncoder
from ipar.model._blend import global_map


def score_weights(
    encoder: GeometryEncoder,
    global_features: NDArray[np.float32],
    coords: NDArray[np.float32],
    weights: Sequence[float],
    run: Run,
    n_minisets: int = 20,
) -> pd.DataFrame:
    """Scores of the global map of a held-out slide at every weight of the set encoder.

    Parameters
    ----------
    encoder
        Trained without the slide, with a set encoder of weight 1.
    global_features, coords
        What it says of some cells of the slide, ``(n, d)``, and their true coordinates, ``(n, 2)``.
    weights
        Weights to try.
    run
        Seed of the minisets.
    n_minisets
        Minisets that E_geo is the mean of.

    Returns
    -------
    DataFrame
        ``weight, luna_spearman, e_geo``, one row per weight.
    """
    layouts = [global_map(weighted(encoder, global_features, weight)).numpy() for weight in weights]
    energies = [e_geo_minisets(coords, x, n_minisets=n_minisets, random_state=run.seed).total for x in layouts]
    ranks = [luna_spearman(coords, x) for x in layouts]
    return pd.DataFrame({"weight": weights, "luna_spearman": ranks, "e_geo": energies})


def weighted(encoder: GeometryEncoder, global_features: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """Global features, those of the set encoder, the last, times a weight."""
    if encoder.set_encoder is None:
        msg = "The encoder has no set encoder: fit it with set_encoder=True."
        raise ValueError(msg)
    scaled = global_features.copy()
    scaled[:, -encoder.set_encoder.n_output :] *= weight
    return scaled


def choose_weight(scores: Sequence[pd.DataFrame], energy_cost: float) -> tuple[float, pd.DataFrame]:
    """The weight of the best ranks of distances among those that cost no more than a share of the least E_geo.

    Parameters
    ----------
    scores
        Of :func:`score_weights`, one table per held-out slide; without any, the weight is 1.
    energy_cost
        Share of E_geo that better ranks may cost.

    Returns
    -------
    tuple
        The weight, and the mean table.
    """
    if not scores:
        return 1.0, pd.DataFrame(columns=["weight", "luna_spearman", "e_geo"], dtype=float)
    mean = pd.concat(scores).groupby("weight", as_index=False).mean()
    cheap = mean[mean["e_geo"] <= (1 + energy_cost) * mean["e_geo"].min()]
    return float(cheap.loc[cheap["luna_spearman"].idxmax(), "weight"]), mean
