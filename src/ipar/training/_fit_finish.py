"""How a layout is finished, as a left-out training slide says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ipar.metrics import e_geo_minisets, knn_hit, luna_spearman
from ipar.model._consensus import blend_layouts, principal_layout
from ipar.model._sharpen import Sharpening, sharpen_layout

WEIGHTS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_WEIGHT_COST, _SHARPENING_COST = 0.01, 0.1  # shares of E_geo that may be paid, each for what it buys
_MAX_CELLS = 1500  # scores of more cells take long and say the same


@dataclass(frozen=True)
class Finish:
    """The steps after the network, and what they were chosen by.

    Attributes
    ----------
    global_weight
        Share of the layout of what was taught distances across the tissue.
    sharpening
        Local step; None, where it finds no more true neighbours or costs too much.
    layout
        The layout of the left-out slide so finished, ``(n, 2)``.
    table
        E_geo, kNN hit@20 and LUNA's Spearman of every choice tried, in order: ``global_weight, reach, hold, e_geo,
        knn_hit_20, luna_spearman``; ``reach`` is zero without sharpening.
    """

    global_weight: float
    sharpening: Sharpening | None
    layout: NDArray[np.float32]
    table: pd.DataFrame


def pick_cells(n: int, random_state: int) -> NDArray[np.int64]:
    """At most 1,500 cells of the left-out slide."""
    return np.sort(np.random.default_rng(random_state).permutation(n)[:_MAX_CELLS])


def choose_finish(
    layout: NDArray[np.float32],
    h: NDArray[np.float32],
    far: NDArray[np.float32],
    coords: NDArray[np.float32],
    *,
    sharpening: Sharpening | None = None,
    random_state: int = 0,
) -> Finish:
    """Choose the weight of the overview, and whether to sharpen, on a slide that the network has not seen.

    Both buy something for E_geo, which is lowest near the network's own layout: the overview a better rank of distances
    across the tissue, sharpening more true neighbours. Taken is the largest weight, from a half on, that costs no more
    than 1 % of E_geo. Sharpening is taken unless it finds no more true neighbours, or costs more than 10 % of E_geo. Its
    strength is not chosen here: what a strength costs on one left-out slide tells too little of another.

    Parameters
    ----------
    layout
        The network's layout of the left-out slide, ``(n, 2)``.
    h, far
        Cross-fitted embedding and the part of it that was taught distances across the tissue, ``(n, d)``.
    coords
        True coordinates, ``(n, 2)``.
    sharpening
        What is tried; the default strength, if None.
    random_state
        Seed of minisets and pairs.
    """
    rows: list[tuple[float, ...]] = []

    def score(x: NDArray[np.float32], weight: float, sharp: Sharpening | None) -> tuple[float, float]:
        energy = e_geo_minisets(coords, x, random_state=random_state).total
        local = (0.0, 0.0) if sharp is None else (sharp.reach, sharp.hold)
        hit = knn_hit(coords, x)
        rows.append((weight, *local, energy, hit, luna_spearman(coords, x)))
        return energy, hit

    network, overview = torch.from_numpy(layout)[None], principal_layout(torch.from_numpy(far))
    blends = {w: blend_layouts(network, overview, w)[0].numpy() for w in WEIGHTS}
    plain = {w: score(x, w, None) for w, x in blends.items()}
    weight = max(w for w in WEIGHTS if plain[w][0] <= (1 + _WEIGHT_COST) * min(e for e, _ in plain.values()))
    energy, hit = plain[weight]
    sharpening = sharpening or Sharpening()
    sharp = sharpen_layout(blends[weight], h, far, sharpening, random_state=random_state)
    cost, found = score(sharp, weight, sharpening)
    chosen = sharpening if found > hit and cost <= (1 + _SHARPENING_COST) * energy else None
    finished = blends[weight] if chosen is None else sharp
    columns = ["global_weight", "reach", "hold", "e_geo", "knn_hit_20", "luna_spearman"]
    return Finish(weight, chosen, finished, pd.DataFrame(rows, columns=columns))
