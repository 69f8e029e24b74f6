"""How a layout is finished, as a left-out training slide says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ipar.graph import neighbor_distances
from ipar.metrics import e_geo_minisets, knn_hit, luna_spearman
from ipar.model._consensus import blend_layouts, principal_layout
from ipar.model._sharpen import Sharpening, fused_features, sharpen_layout

WEIGHTS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# on slides left out as good on average as the weight chosen, which differs by the seed (docs/levers.md)
RETRAINED_WEIGHT = 0.8
BESIDE_FLOW = 0.5  # the flow knows the tissue at large too: more of the overview costs E_geo (docs/levers.md)
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8)
_LOOSER_HOLD, _FIRMER_HOLD = 0.3, 4.0  # tried where the default is taken, or too dear
_LOOSER_GAIN, _RATE = 0.1, 5.0  # more neighbours that it must find: in all, and for every share of E_geo
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
        E_geo, kNN hit@20 and LUNA's Spearman of every choice tried, in order: ``global_weight, hold, e_geo,
        knn_hit_20, luna_spearman``; ``hold`` is infinite without sharpening.
    neighbors
        How many nearest neighbours are true ones at every share of the slide's own components: ``own, hit``.
    """

    global_weight: float
    sharpening: Sharpening | None
    layout: NDArray[np.float32]
    table: pd.DataFrame
    neighbors: pd.DataFrame


def pick_cells(n: int, random_state: int) -> NDArray[np.int64]:
    """At most 1,500 cells of the left-out slide."""
    return np.sort(np.random.default_rng(random_state).permutation(n)[:_MAX_CELLS])


def rank_shares(
    h: NDArray[np.float32],
    components: NDArray[np.float32] | None,
    coords: NDArray[np.float32],
    n_neighbors: int = Sharpening.n_neighbors,
) -> pd.DataFrame:
    """How many of a cell's nearest neighbours are true ones, by the share that its slide's own components have in it.

    Parameters
    ----------
    h, components
        Cross-fitted embedding ``(n, d)``, and principal components ``(n, p)``; the share is 0, if None.
    coords
        True coordinates, ``(n, 2)``.
    n_neighbors
        Neighbours looked at.

    Returns
    -------
    DataFrame
        ``own``, the shares, and ``hit``, the part of the neighbours that is among the true 20 nearest.
    """
    true = neighbor_distances(coords, None, 20, metric="euclidean").astype(bool)
    shares = SHARES[:1] if components is None else SHARES
    found = [neighbor_distances(fused_features(h, components, share), None, n_neighbors) for share in shares]
    hits = [near.astype(bool).multiply(true).nnz / max(near.nnz, 1) for near in found]
    return pd.DataFrame({"own": shares, "hit": hits})


def choose_finish(
    layout: NDArray[np.float32],
    h: NDArray[np.float32],
    far: NDArray[np.float32],
    coords: NDArray[np.float32],
    *,
    components: NDArray[np.float32] | None = None,
    global_weight: float | None = None,
    flow: NDArray[np.float32] | None = None,
    flow_weight: float = 0.0,
    sharpening: Sharpening | None = None,
    random_state: int = 0,
) -> Finish:
    """Choose the weight of the overview, and whether to sharpen, on a slide that the network has not seen.

    Both buy something for E_geo, which is lowest near the network's own layout: the overview a better rank of distances
    across the tissue, sharpening more true neighbours. Taken is the largest weight, from a half on, that costs no more
    than 1 % of E_geo, if none is given. Sharpening is taken unless it finds no more true neighbours, or costs more than
    10 % of E_geo without finding five per cent more of them for every per cent, also with a firmer hold. The share of the
    slide's own components is that of the most true neighbours. The hold is loosened where that finds a tenth more of them,
    and five per cent more for every per cent of E_geo: single cells, whose expression tells their neighbours well, gain
    much at hardly a cost, spots of many cells do not. Smaller gains are left alone, for what is gained and paid on the
    left-out slide is not quite what another one gains and pays.

    Parameters
    ----------
    layout
        The network's layout of the left-out slide, ``(n, 2)``.
    h, far
        Cross-fitted embedding and what tells distances across the slide, as prediction will read it, ``(n, d)``.
    coords
        True coordinates, ``(n, 2)``.
    components
        Principal components of the slide by itself, ``(n, p)``; without a part in what makes neighbours, if None.
    global_weight
        Weight of the overview where it is not to be chosen: for a network that is trained again afterwards, this one, which
        has seen half of the slides at worst, tells too little of how much it will be worth.
    flow, flow_weight
        A third layout, ``(n, 2)``, and its share beside the mean of the other two.
    sharpening
        What is tried, but for the share of the components; the default strength, if None.
    random_state
        Seed of minisets and pairs.
    """
    trials = _Trials(h, far, coords, components, random_state)
    network, overview = torch.from_numpy(layout)[None], principal_layout(torch.from_numpy(far))
    weights = WEIGHTS if global_weight is None else (global_weight,)
    means = {w: blend_layouts(network, overview, w) for w in weights}
    if flow is not None:
        means = {w: blend_layouts(x, torch.from_numpy(flow), flow_weight) for w, x in means.items()}
    blends = {w: x[0].numpy() for w, x in means.items()}
    plain = {w: trials.score(x, w) for w, x in blends.items()}
    weight = max(w for w in weights if plain[w][0] <= (1 + _WEIGHT_COST) * min(e for e, _ in plain.values()))
    neighbors = rank_shares(h, components, coords)
    own = SHARES[int(np.argmax(neighbors["hit"]))]
    mild = replace(sharpening or Sharpening(), own=own)
    chosen, finished = trials.choose_sharpening(blends[weight], weight, plain[weight], mild)
    table = pd.DataFrame(trials.tried, columns=["global_weight", "hold", "e_geo", "knn_hit_20", "luna_spearman"])
    return Finish(weight, chosen, finished, table, neighbors)


@dataclass
class _Trials:
    """The slide that choices are made on, and what was tried on it so far, a row each."""

    h: NDArray[np.float32]
    far: NDArray[np.float32]
    coords: NDArray[np.float32]
    components: NDArray[np.float32] | None
    random_state: int
    tried: list[tuple[float, ...]] = field(default_factory=list)

    def score(self, x: NDArray[np.float32], weight: float, hold: float = np.inf) -> tuple[float, float]:
        """E_geo and kNN hit@20 of a layout."""
        energy = e_geo_minisets(self.coords, x, random_state=self.random_state).total
        hit = knn_hit(self.coords, x)
        self.tried.append((weight, hold, energy, hit, luna_spearman(self.coords, x)))
        return energy, hit

    def choose_sharpening(
        self, blend: NDArray[np.float32], weight: float, plain: tuple[float, float], mild: Sharpening
    ) -> tuple[Sharpening | None, NDArray[np.float32]]:
        """The sharpening of a layout that scores ``plain`` without, if any, and its result."""
        energy, hit = plain
        chosen, finished = None, blend
        for how in (mild, replace(mild, hold=_FIRMER_HOLD)):
            sharp, cost, found = self._sharpened(blend, weight, how)
            if found > hit and (cost <= (1 + _SHARPENING_COST) * energy or _pays(found, hit, cost / energy)):
                chosen, finished = how, sharp
                break
        if chosen == mild:
            looser = replace(mild, hold=_LOOSER_HOLD)
            sharp, dearer, more = self._sharpened(blend, weight, looser)
            if more / found - 1 >= _LOOSER_GAIN and _pays(more, found, dearer / cost):
                chosen, finished = looser, sharp
        return chosen, finished

    def _sharpened(
        self, blend: NDArray[np.float32], weight: float, how: Sharpening
    ) -> tuple[NDArray[np.float32], float, float]:
        x = sharpen_layout(blend, self.h, self.far, how, components=self.components, random_state=self.random_state)
        return x, *self.score(x, weight, how.hold)


def _pays(hit: float, before: float, energy: float) -> bool:
    """Whether the share of true neighbours, from ``before`` to ``hit``, is worth so many times E_geo."""
    return hit - before >= _RATE * (energy - 1) * before
