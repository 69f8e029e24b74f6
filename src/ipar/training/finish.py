"""How a layout is finished, as the held-out training slide says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ipar._run import Run
from ipar.graph import neighbor_distances
from ipar.metrics import e_geo_minisets, knn_hit, luna_spearman
from ipar.model import Blend, Features, Sharpening
from ipar.model.sharpening import fused_features, sharpen_layout


@dataclass(frozen=True)
class FinishRecipe:
    """How a layout is finished.

    Attributes
    ----------
    blend, blend_without_flow
        Shares of the layouts, with a flow and without. On slides left out a fixed share is as good on average as one that
        is chosen, which differs by the seed.
    sharpening
        What is tried first, but for the share of the slide PCs.
    shares
        Shares of the slide PCs that are tried.
    looser_hold, firmer_hold
        Tried where the first is taken, or too dear.
    energy_cost
        Share of E_geo that sharpening may cost whatever it finds.
    looser_gain
        Share of true neighbours that a looser hold must find beyond the first.
    rate
        True neighbours that must be found for every share of E_geo beyond that, as a multiple of it.
    n_minisets
        Minisets that E_geo is the mean of.
    """

    blend: Blend = Blend(global_map=0.5, flow=0.5)
    blend_without_flow: Blend = Blend(global_map=0.8)
    sharpening: Sharpening = Sharpening()
    shares: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8)
    looser_hold: float = 0.3
    firmer_hold: float = 4.0
    energy_cost: float = 0.1
    looser_gain: float = 0.1
    rate: float = 5.0
    n_minisets: int = 20

    def pays(self, hit: float, before: float, energy: float) -> bool:
        """Whether the share of true neighbours, from ``before`` to ``hit``, is worth so many times E_geo."""
        return hit - before >= self.rate * (energy - 1) * before


@dataclass(frozen=True)
class Finish:
    """The sharpening of a layout, and what it was chosen by.

    Attributes
    ----------
    sharpening
        Local step; None, where it finds no more true neighbours or costs too much.
    layout
        The layout of the held-out slide so finished, ``(n, 2)``.
    table
        E_geo, kNN hit@20 and LUNA's Spearman of every choice tried, in order: ``hold, e_geo, knn_hit_20, luna_spearman``;
        ``hold`` is infinite without sharpening.
    neighbors
        How many nearest neighbours are true ones at every share of the slide PCs: ``own, hit``.
    """

    sharpening: Sharpening | None
    layout: NDArray[np.float32]
    table: pd.DataFrame
    neighbors: pd.DataFrame


def rank_shares(
    embedding: NDArray[np.float32],
    slide_pcs: NDArray[np.float32] | None,
    coords: NDArray[np.float32],
    shares: Sequence[float],
    n_neighbors: int = Sharpening.n_neighbors,
) -> pd.DataFrame:
    """How many of a cell's nearest neighbours are true ones, by the share that the slide PCs have in it.

    Parameters
    ----------
    embedding, slide_pcs
        Cross-fitted embedding ``(n, d)``, and slide PCs ``(n, p)``; the share is 0, if None.
    coords
        True coordinates, ``(n, 2)``.
    shares
        Shares to try, 0 first.
    n_neighbors
        Neighbours looked at.

    Returns
    -------
    DataFrame
        ``own``, the shares, and ``hit``, the part of the neighbours that is among the true 20 nearest.
    """
    true = neighbor_distances(coords, None, 20, metric="euclidean").astype(bool)
    shares = shares[:1] if slide_pcs is None else shares
    found = [neighbor_distances(fused_features(embedding, slide_pcs, one), None, n_neighbors) for one in shares]
    hits = [near.astype(bool).multiply(true).nnz / max(near.nnz, 1) for near in found]
    return pd.DataFrame({"own": shares, "hit": hits})


def choose_sharpening(
    layout: NDArray[np.float32],
    features: Features,
    coords: NDArray[np.float32],
    slide_pcs: NDArray[np.float32] | None,
    recipe: FinishRecipe,
    run: Run,
) -> Finish:
    """Choose whether and how to sharpen, on a slide that no layout stage was trained on.

    Sharpening is taken unless it finds no more true neighbours, or costs more than 10 % of E_geo without finding five per
    cent more of them for every per cent, also with a firmer hold. The share of the slide PCs is that of the most true
    neighbours. The hold is loosened where that finds a tenth more of them, and five per cent more for every per cent of
    E_geo: single cells, whose expression tells their neighbours well, gain much at hardly a cost.

    Parameters
    ----------
    layout
        The blended layout of the held-out slide, ``(n, 2)``.
    features
        Cross-fitted, as prediction will read them.
    coords
        True coordinates, ``(n, 2)``.
    slide_pcs
        Principal components of the slide by itself, ``(n, p)``; without a part in what makes neighbours, if None.
    recipe, run
        What is tried, and the seed of minisets and pairs.
    """
    neighbors = rank_shares(features.embedding, slide_pcs, coords, recipe.shares)
    own = recipe.shares[int(np.argmax(neighbors["hit"]))]
    trials = _Trials(features, coords, slide_pcs, recipe, run)
    chosen, finished = trials.choose(layout, replace(recipe.sharpening, own=own))
    table = pd.DataFrame(trials.tried, columns=["hold", "e_geo", "knn_hit_20", "luna_spearman"])
    return Finish(chosen, finished, table, neighbors)


@dataclass
class _Trials:
    """The slide that choices are made on, and what was tried on it so far, a row each."""

    features: Features
    coords: NDArray[np.float32]
    slide_pcs: NDArray[np.float32] | None
    recipe: FinishRecipe
    run: Run
    tried: list[tuple[float, ...]] = field(default_factory=list)

    def score(self, x: NDArray[np.float32], hold: float = np.inf) -> tuple[float, float]:
        """E_geo and kNN hit@20 of a layout."""
        n_minisets, seed = self.recipe.n_minisets, self.run.seed
        energy = e_geo_minisets(self.coords, x, n_minisets=n_minisets, random_state=seed).total
        hit = knn_hit(self.coords, x)
        self.tried.append((hold, energy, hit, luna_spearman(self.coords, x)))
        return energy, hit

    def choose(self, blend: NDArray[np.float32], mild: Sharpening) -> tuple[Sharpening | None, NDArray[np.float32]]:
        """The sharpening of a layout, if any, and its result."""
        recipe = self.recipe
        energy, hit = self.score(blend)
        chosen, finished = None, blend
        for how in (mild, replace(mild, hold=recipe.firmer_hold)):
            sharp, cost, found = self._sharpened(blend, how)
            if found > hit and (cost <= (1 + recipe.energy_cost) * energy or recipe.pays(found, hit, cost / energy)):
                chosen, finished = how, sharp
                break
        if chosen == mild:
            looser = replace(mild, hold=recipe.looser_hold)
            sharp, dearer, more = self._sharpened(blend, looser)
            if more / found - 1 >= recipe.looser_gain and recipe.pays(more, found, dearer / cost):
                chosen, finished = looser, sharp
        return chosen, finished

    def _sharpened(self, blend: NDArray[np.float32], how: Sharpening) -> tuple[NDArray[np.float32], float, float]:
        x = sharpen_layout(blend, self.features, how, self.slide_pcs, self.run.quiet())
        return x, *self.score(x, how.hold)
