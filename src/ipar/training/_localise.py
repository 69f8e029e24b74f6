"""Can this tissue be localised at all? Leave-one-slide-out recall and distance correlation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from sklearn.neighbors import NearestNeighbors

SPEARMAN_MIN = 0.3
RECALL_RATIO_MIN = 2.0
_N_TRUE = 20
_N_CANDIDATES = 100
_MAX_CELLS = 1500  # pairs grow with the square; the estimate's error at this size is far below the threshold
_N_PERMUTATIONS = 5


@dataclass(frozen=True)
class FoldScore:
    """How well a slide's geometry shows in the embedding of an encoder that never saw its coordinates.

    Attributes
    ----------
    slide
        The slide left out.
    recall
        Share of each cell's 20 nearest cells in the tissue found among its 100 candidates.
    recall_chance
        The same for random candidates.
    distance_spearman
        Spearman correlation of embedding and tissue distances over pairs of cells.
    permutation_spearman
        The largest absolute one over five permutations of the cells.
    """

    slide: str
    recall: float
    recall_chance: float
    distance_spearman: float
    permutation_spearman: float

    @property
    def recall_ratio(self) -> float:
        """Recall over chance."""
        return self.recall / self.recall_chance


def score_fold(slide: str, h: NDArray[np.float32], coords: NDArray[np.float32], *, random_state: int = 0) -> FoldScore:
    """Score one left-out slide.

    Parameters
    ----------
    slide
        Its name.
    h, coords
        Out-of-fold embedding ``(n, d)`` and true coordinates ``(n, 2)``.
    random_state
        Seed of subsampling and permutations.
    """
    rng = np.random.default_rng(random_state)
    pick = rng.permutation(len(h))[:_MAX_CELLS]
    h, coords = h[pick], coords[pick]
    n = len(h)
    n_candidates, n_true = min(_N_CANDIDATES, max(n // 4, 1)), min(_N_TRUE, n - 1)
    true = NearestNeighbors(n_neighbors=n_true).fit(coords).kneighbors(return_distance=False)
    candidates = NearestNeighbors(n_neighbors=n_candidates, metric="cosine").fit(h).kneighbors(return_distance=False)
    found = [len(np.intersect1d(a, b, assume_unique=True)) for a, b in zip(true, candidates, strict=True)]
    tissue, embedding = pdist(coords), pdist(h)
    permuted = [
        abs(float(spearmanr(embedding, pdist(coords[rng.permutation(n)])).statistic)) for _ in range(_N_PERMUTATIONS)
    ]
    return FoldScore(
        slide=slide,
        recall=float(np.mean(found)) / n_true,
        recall_chance=n_candidates / (n - 1),
        distance_spearman=float(spearmanr(embedding, tissue).statistic),
        permutation_spearman=max(permuted),
    )


@dataclass(frozen=True)
class Localisability:
    """The verdict over all folds.

    A tissue counts as localisable if, on average over slides left out, distances in the embedding follow distances in
    the tissue (Spearman of at least 0.3) and candidates hold at least twice as many true neighbours as chance.
    """

    folds: tuple[FoldScore, ...]

    def _mean(self, name: str) -> float:
        return float(np.mean([getattr(fold, name) for fold in self.folds]))

    @property
    def localisable(self) -> bool:
        """Whether predicted coordinates mean anything."""
        return self._mean("distance_spearman") >= SPEARMAN_MIN and self._mean("recall_ratio") >= RECALL_RATIO_MIN

    def table(self) -> pd.DataFrame:
        """One row a fold."""
        return pd.DataFrame([asdict(fold) | {"recall_ratio": fold.recall_ratio} for fold in self.folds])

    def to_dict(self) -> dict[str, float | bool]:
        """Verdict and means, as plain values."""
        names = ("recall", "recall_chance", "recall_ratio", "distance_spearman", "permutation_spearman")
        return {"localisable": self.localisable} | {name: self._mean(name) for name in names}

    def message(self) -> str:
        """The figures in a sentence."""
        return (
            f"leaving one slide out, distances in the embedding correlate with distances in the tissue at "
            f"{self._mean('distance_spearman'):.2f} (permuted: {self._mean('permutation_spearman'):.2f}; "
            f"{SPEARMAN_MIN:g} is needed), and candidates hold {self._mean('recall_ratio'):.1f} times as many true "
            f"neighbours as chance ({RECALL_RATIO_MIN:g} is needed)"
        )


def score_of(folds: Sequence[FoldScore]) -> float:
    """One figure to choose between encoders: mean distance correlation plus mean recall, both between 0 and 1."""
    return float(np.mean([fold.distance_spearman + fold.recall for fold in folds]))
