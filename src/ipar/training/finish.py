"""How a layout is finished, as the held-out training slide says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ipar._options import Checked, Count
from ipar._run import Run
from ipar.graph.nearest import nearest
from ipar.metrics import coverage, e_geo_minisets, evenness, knn_hit, luna_spearman
from ipar.model.blend import Blend
from ipar.model.outputs import Features
from ipar.model.sharpening import Sharpening, sharpen_layout


@dataclass(frozen=True)
class FinishRecipe(Checked):
    r"""How a layout is finished.

    The sharpening, or none, is the one with the best score on the held-out slide,

    .. math:: \log \text{kNN hit@20} - \log E_\text{geo} + \log \text{coverage} + 20\,\rho
              - \lvert \log (s / s^*) \rvert,

    where :math:`\rho` is LUNA's Spearman correlation of distances, s the :func:`ipar.metrics.evenness` of the layout, and
    :math:`s^*` the mean of the training slides. Clumps find neighbours, but cost coverage and evenness.

    Attributes
    ----------
    blend
        Shares of the layouts; a model without a flow does without its share. On held-out slides a fixed share is as good on
        average as one that is chosen, which differs by the seed.
    sharpening
        The other settings of every sharpening tried.
    holds, slide_pc_shares
        Grid of :attr:`ipar.model.Sharpening.hold` and :attr:`ipar.model.Sharpening.slide_pc_share`.
    rank_weight
        Weight of the rank correlation in the score.
    n_minisets
        Minisets that E_geo is the mean of.
    """

    blend: Blend = Blend(global_map=0.5, flow=0.5)
    sharpening: Sharpening = Sharpening()
    holds: tuple[float, ...] = (0.3, 0.6, 2.0)
    slide_pc_shares: tuple[float, ...] = (0.2, 0.6)
    rank_weight: float = 20.0
    n_minisets: Count = 20

    def score(self, scores: Mapping[str, float], tissue: float) -> float:
        """What the best sharpening has most of; ``tissue`` is the evenness to reach."""

        def log(value: float) -> float:
            return math.log(max(value, float(np.finfo(np.float32).tiny)))

        found = log(scores["knn_hit_20"]) - log(scores["e_geo"]) + log(scores["coverage"])
        uneven = abs(log(scores["evenness"]) - log(tissue))
        return found + self.rank_weight * scores["luna_spearman"] - uneven

    def tried(self, with_slide_pcs: bool, tissue: float) -> list[Sharpening | None]:
        """No sharpening, and every one of the grid."""
        grid = product(self.holds, self.slide_pc_shares if with_slide_pcs else (0.0,))
        evened = replace(self.sharpening, evenness=tissue)
        return [None, *(replace(evened, hold=hold, slide_pc_share=share) for hold, share in grid)]


@dataclass(frozen=True)
class Finish:
    """The sharpening of a layout, and what it was chosen by."""

    sharpening: Sharpening | None  # None, where it does not pay
    layout: NDArray[np.float32]  # of the held-out slide, so finished, (n, 2)
    table: pd.DataFrame  # every choice tried: hold, slide_pc_share, scores; the first is without, with an infinite hold


def tissue_evenness(slides: Sequence[NDArray[np.float32]]) -> float:
    """Mean evenness of slides, of their true coordinates ``(n_s, 2)``."""
    return float(np.mean([_evenness(coords) for coords in slides]))


def _evenness(coords: NDArray[np.float32]) -> float:
    return evenness(coords, n_neighbors=min(6, len(coords) - 1))


def choose_sharpening(
    layout: NDArray[np.float32],
    features: Features,
    coords: NDArray[np.float32],
    slide_pcs: NDArray[np.float32] | None,
    tissue: float,
    recipe: FinishRecipe,
    run: Run,
) -> Finish:
    """Choose whether and how to sharpen, on a slide that no layout stage was trained on.

    Takes its blended layout, cross-fitted features, true coordinates and slide PCs; without these, neighbours are those of
    the embedding alone. ``tissue`` is the :func:`tissue_evenness` of the training slides.
    """
    rows, layouts, options = [], [], recipe.tried(slide_pcs is not None, tissue)
    near = nearest(features.embedding, recipe.sharpening.n_candidates)
    for how in run.over(options, "finish", "layout"):
        x = layout if how is None else sharpen_layout(layout, features, how, slide_pcs, run.quiet(), near)
        setting = (np.inf, 0.0) if how is None else (how.hold, how.slide_pc_share)
        scores = {
            "e_geo": e_geo_minisets(coords, x, n_minisets=recipe.n_minisets, random_state=run.seed).total,
            "knn_hit_20": knn_hit(coords, x),
            "luna_spearman": luna_spearman(coords, x),
            "coverage": coverage(coords, x),
            "evenness": _evenness(x),
        }
        named = dict(zip(("hold", "slide_pc_share"), setting, strict=True))
        rows.append(named | scores | {"score": recipe.score(scores, tissue)})
        layouts.append(x)
    table = pd.DataFrame(rows)
    best = int(np.argmax(table["score"]))
    return Finish(options[best], layouts[best], table)
