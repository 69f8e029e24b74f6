"""Can this tissue be localised at all? Recall, distance correlation and repeats on slides left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

# what "can be localised" means; on slides left out liver, whose lobules repeat, has 0.16, embryos and half brains 0.42 and more
EXPLAINED_MIN = 0.25
# below those of every simulated tissue that can be localised, 0.31 and 1.75 (docs/localisability.md, seeds 0 to 2); telling
# one half of a tissue from the other has a recall of 2
SPEARMAN_MIN = 0.25
RECALL_RATIO_MIN = 1.5
REPEATED_MIN = 0.4  # a mirrored simulation has 0.7, half brains 0.22 on average and 0.37 at most
_N_TRUE = 20
_N_CANDIDATES = 100
_MAX_CELLS = 1500  # pairs grow with the square; the estimate's error at this size is far below the threshold
_N_PERMUTATIONS = 5
_SEPARATION = 0.7  # RMS radii; half a tissue is about 0.85 from the other half
_TIGHTNESS = 0.3  # spread over separation: 0.67 for places at random over a disc
_MINOR_SHARE = 0.2
_N_ITERATIONS = 10  # two means of twenty points settle in a few


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
    two_places
        Share of cells whose neighbours in the embedding lie in two distant places, see :func:`share_in_two_places`.
    explained
        Share of the variance of the true positions that the embedding's first principal components explain, as many as the
        tissue has dimensions, after the best rotation, reflection and scale; near 0, where they say nothing.
    """

    slide: str
    recall: float
    recall_chance: float
    distance_spearman: float
    permutation_spearman: float
    two_places: float = 0.0
    explained: float = 0.0

    @property
    def recall_ratio(self) -> float:
        """Recall over chance."""
        return self.recall / self.recall_chance


def score_fold(
    slide: str,
    h: NDArray[np.float32],
    coords: NDArray[np.float32],
    *,
    far: NDArray[np.float32] | None = None,
    random_state: int = 0,
) -> FoldScore:
    """Score one left-out slide.

    Parameters
    ----------
    slide
        Its name.
    h, coords
        Out-of-fold embedding ``(n, d)`` and true coordinates ``(n, 2)``.
    far
        What of the embedding was taught distances across the tissue, ``(n, d)``; all of it, if None.
    random_state
        Seed of subsampling and permutations.
    """
    rng = np.random.default_rng(random_state)
    pick = rng.permutation(len(h))[:_MAX_CELLS]
    h, far, coords = h[pick], (h if far is None else far)[pick], coords[pick]
    n = len(h)
    n_candidates, n_true = min(_N_CANDIDATES, max(n // 4, 1)), min(_N_TRUE, n - 1)
    true = NearestNeighbors(n_neighbors=n_true).fit(coords).kneighbors(return_distance=False)
    candidates = NearestNeighbors(n_neighbors=n_candidates, metric="cosine").fit(h).kneighbors(return_distance=False)
    found = [len(np.intersect1d(a, b, assume_unique=True)) for a, b in zip(true, candidates, strict=True)]
    true_spearman, permuted = _distance_spearman(h, coords, [rng.permutation(n) for _ in range(_N_PERMUTATIONS)])
    return FoldScore(
        slide=slide,
        recall=float(np.mean(found)) / n_true,
        recall_chance=n_candidates / (n - 1),
        distance_spearman=true_spearman,
        permutation_spearman=max(map(abs, permuted)),
        two_places=share_in_two_places(coords, candidates[:, :_N_TRUE]),
        explained=_variance_explained(far, coords),
    )


def _variance_explained(far: NDArray[np.float32], coords: NDArray[np.float32]) -> float:
    """Share of the variance of positions that the first principal components explain, turned and scaled onto them."""
    layout = PCA(coords.shape[1], svd_solver="full").fit_transform(far)
    return 1 - float(procrustes(coords, layout)[2]) if np.ptp(layout) > 0 else 0.0


def _distance_spearman(
    h: NDArray[np.float32], coords: NDArray[np.float32], orders: Sequence[NDArray[np.int64]]
) -> tuple[float, list[float]]:
    """Rank correlation of embedding and tissue distances, and with the tissue's cells in every other order."""
    embedding, tissue = (rankdata(pdist(x)) for x in (h, coords))
    # ranks of the same distances in another order of cells need no other sorting
    square = squareform(tissue, checks=False)
    shuffled = [squareform(square[np.ix_(order, order)], checks=False) for order in orders]
    found = [float(np.corrcoef(embedding, ranks)[0, 1]) for ranks in (tissue, *shuffled)]
    return found[0], found[1:]


def share_in_two_places(coords: NDArray[np.float32], near: NDArray[np.int64]) -> float:
    """Share of cells whose neighbours in an embedding lie in two distant places, as in a tissue that repeats.

    The true positions of a cell's neighbours are split by two-means. They lie in two places if each part has a fifth of
    them or more, the parts' centres are 0.7 RMS radii of the tissue or more apart, and the parts' spread is below 0.3 of
    that.

    Parameters
    ----------
    coords
        True coordinates, ``(n, 2)``.
    near
        Neighbours of every cell in the embedding, ``(n, k)``.
    """
    centred = coords - coords.mean(axis=0)
    radius = np.sqrt(np.square(centred).sum(axis=1).mean())
    around = centred[near] / max(float(radius), np.finfo(np.float32).tiny)  # (n, k, 2)
    around -= around.mean(axis=1, keepdims=True)
    axis = np.linalg.eigh(around.transpose(0, 2, 1) @ around)[1][:, :, 1]  # of the widest spread, (n, 2)
    part = (around @ axis[:, :, None])[..., 0] > 0
    for _ in range(_N_ITERATIONS):
        to_first, to_second, apart = _to_centres(around, part)
        part = to_first < to_second
    to_first, to_second, apart = _to_centres(around, part)
    spread = np.sqrt(np.where(part, to_first, to_second).mean(axis=1))
    share = part.mean(axis=1)
    two = (np.minimum(share, 1 - share) >= _MINOR_SHARE) & (apart >= _SEPARATION) & (spread < _TIGHTNESS * apart)
    return float(two.mean())


def _to_centres(
    around: NDArray[np.floating], part: NDArray[np.bool_]
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
    """Squared distances to both parts' means ``(n, k)``, and those means' distance ``(n,)``."""
    first, second = (
        (around * own[..., None]).sum(axis=1, keepdims=True) / np.maximum(own.sum(axis=1), 1)[:, None, None]
        for own in (part, ~part)
    )
    apart = np.linalg.norm(first - second, axis=-1)[:, 0]
    return np.square(around - first).sum(axis=-1), np.square(around - second).sum(axis=-1), apart


@dataclass(frozen=True)
class Localisability:
    """The verdict over all folds.

    A tissue counts as localisable if, on average over slides left out, the embedding explains at least a quarter of the
    variance of the true positions, distances in it follow distances in the tissue (Spearman of at least 0.25), and
    candidates hold at least 1.5 times as many true neighbours as chance.
    """

    folds: tuple[FoldScore, ...]

    def _mean(self, name: str) -> float:
        return float(np.mean([getattr(fold, name) for fold in self.folds]))

    @property
    def localisable(self) -> bool:
        """Whether predicted coordinates mean anything."""
        limits = {"explained": EXPLAINED_MIN, "distance_spearman": SPEARMAN_MIN, "recall_ratio": RECALL_RATIO_MIN}
        return all(self._mean(name) >= limit for name, limit in limits.items())

    @property
    def repeated(self) -> bool:
        """Whether the tissue looks mirrored or repeated: places far apart that expression does not tell apart."""
        return self._mean("two_places") >= REPEATED_MIN

    def table(self) -> pd.DataFrame:
        """One row a fold."""
        return pd.DataFrame([asdict(fold) | {"recall_ratio": fold.recall_ratio} for fold in self.folds])

    def to_dict(self) -> dict[str, float | bool]:
        """Verdict and means, as plain values."""
        verdict = {"localisable": self.localisable, "repeated": self.repeated}
        return verdict | {name: self._mean(name) for name in self.table().columns.drop("slide")}

    def message(self) -> str:
        """The figures in a sentence."""
        return (
            f"leaving one slide out, the embedding explains {self._mean('explained'):.0%} of the variance of true positions "
            f"({EXPLAINED_MIN:.0%} is needed), distances in it correlate with distances in the tissue at "
            f"{self._mean('distance_spearman'):.2f} (permuted: {self._mean('permutation_spearman'):.2f}; "
            f"{SPEARMAN_MIN:g} is needed), and candidates hold {self._mean('recall_ratio'):.1f} times as many true "
            f"neighbours as chance ({RECALL_RATIO_MIN:g} is needed)"
        )


REPEATED = (
    "It looks mirrored or repeated: the neighbours in the embedding of {share:.0%} of the cells lie in two distant places "
    "of the tissue ({limit:.0%} or more is called repeated). Which of the places a cell came from is not in its "
    "expression: train and predict on one side or one repeat."
)


def repeated_message(two_places: float) -> str:
    """What a repeat means, in a sentence or two."""
    return REPEATED.format(share=two_places, limit=REPEATED_MIN)


def score_of(folds: Sequence[FoldScore]) -> float:
    """One figure to choose between encoders: mean distance correlation plus mean recall, both between 0 and 1."""
    return float(np.mean([fold.distance_spearman + fold.recall for fold in folds]))
