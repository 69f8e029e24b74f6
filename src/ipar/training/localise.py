"""Can this tissue be localised at all? Recall, distance correlation and repeats on held-out slides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from ipar._options import Checked, Count


@dataclass(frozen=True)
class Limits(Checked):
    """From where on a tissue counts as localisable, and as repeated.

    Attributes
    ----------
    explained
        Share of the variance of true positions. On held-out slides liver, whose lobules repeat, has 0.16; embryos and
        half brains have 0.42 and more.
    distance_spearman, recall_ratio
        Just below those of every simulated tissue that can be localised, 0.31 and 1.75. Telling one half of a tissue from
        the other has a recall of 2.
    repeated
        Share of cells in two places. A mirrored simulation has 0.7; half brains have 0.22 on average and 0.37 at most.
    """

    explained: float = 0.25
    distance_spearman: float = 0.25
    recall_ratio: float = 1.5
    repeated: float = 0.4


@dataclass(frozen=True)
class FoldScoring(Checked):
    """How a held-out slide is scored.

    Attributes
    ----------
    n_true, n_candidates
        Nearest cells in the tissue, and in the embedding, per cell.
    most_cells
        Cells scored: pairs grow with their square, and the estimate's error at this size is far below the limits.
    n_permutations
        Permutations of the cells for the correlation of chance.
    """

    n_true: int = 20
    n_candidates: int = 100
    most_cells: Count = 1500
    n_permutations: int = 5


@dataclass(frozen=True)
class FoldScore:
    """How well a slide's geometry shows in the embedding of an encoder that never saw its coordinates.

    Attributes
    ----------
    slide
        The held-out slide.
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
    embedding: NDArray[np.float32],
    coords: NDArray[np.float32],
    *,
    global_columns: NDArray[np.intp] | slice = slice(None),
    scoring: FoldScoring = FoldScoring(),
    random_state: int = 0,
) -> FoldScore:
    """Score one held-out slide.

    ``global_columns`` are the columns of the embedding ``(n, d)`` that were taught distances across the tissue.
    """
    rng = np.random.default_rng(random_state)
    pick = rng.permutation(len(embedding))[: scoring.most_cells]
    embedding, coords = embedding[pick], coords[pick]
    n = len(embedding)
    n_candidates, n_true = min(scoring.n_candidates, max(n // 4, 1)), min(scoring.n_true, n - 1)
    true = NearestNeighbors(n_neighbors=n_true).fit(coords).kneighbors(return_distance=False)
    nearest = NearestNeighbors(n_neighbors=n_candidates, metric="cosine").fit(embedding)
    candidates = nearest.kneighbors(return_distance=False)
    found = [len(np.intersect1d(a, b, assume_unique=True)) for a, b in zip(true, candidates, strict=True)]
    orders = [rng.permutation(n) for _ in range(scoring.n_permutations)]
    true_spearman, permuted = _distance_spearman(embedding, coords, orders)
    return FoldScore(
        slide=slide,
        recall=float(np.mean(found)) / n_true,
        recall_chance=n_candidates / (n - 1),
        distance_spearman=true_spearman,
        permutation_spearman=max(map(abs, permuted)),
        two_places=share_in_two_places(coords, candidates[:, : scoring.n_true]),
        explained=_variance_explained(embedding[:, global_columns], coords),
    )


def _variance_explained(features: NDArray[np.float32], coords: NDArray[np.float32]) -> float:
    """Share of the variance of positions that the first principal components explain, turned and scaled onto them."""
    layout = PCA(coords.shape[1], svd_solver="full").fit_transform(features)
    return 1 - float(procrustes(coords, layout)[2]) if np.ptp(layout) > 0 else 0.0


def _distance_spearman(
    features: NDArray[np.float32], coords: NDArray[np.float32], orders: Sequence[NDArray[np.int64]]
) -> tuple[float, list[float]]:
    """Rank correlation of embedding and tissue distances, and with the tissue's cells in every other order."""
    embedding, tissue = (rankdata(pdist(x)) for x in (features, coords))
    # ranks of the same distances in another order of cells need no other sorting
    square = squareform(tissue, checks=False)
    shuffled = [squareform(square[np.ix_(order, order)], checks=False) for order in orders]
    found = [float(np.corrcoef(embedding, ranks)[0, 1]) for ranks in (tissue, *shuffled)]
    return found[0], found[1:]


def share_in_two_places(
    coords: NDArray[np.float32],
    near: NDArray[np.int64],
    *,
    minor_share: float = 0.2,
    separation: float = 0.7,
    tightness: float = 0.3,
    n_iterations: int = 10,
) -> float:
    """Share of cells whose neighbours in an embedding lie in two distant places, as in a tissue that repeats.

    The true positions of a cell's neighbours are split by two-means.

    Parameters
    ----------
    coords
        True coordinates, ``(n, 2)``.
    near
        Neighbours of every cell in the embedding, ``(n, k)``.
    minor_share
        Least share of the neighbours in either part.
    separation
        Least distance between the centres of the parts, in RMS radii; half a tissue is about 0.85 from the other half.
    tightness
        Spread of the parts must be below this share of that distance; places at random over a disc have 0.67.
    n_iterations
        Of two-means: a few settle twenty points.
    """
    centred = coords - coords.mean(axis=0)
    radius = np.sqrt(np.square(centred).sum(axis=1).mean())
    around = centred[near] / max(float(radius), np.finfo(np.float32).tiny)  # (n, k, 2)
    around -= around.mean(axis=1, keepdims=True)
    axis = np.linalg.eigh(around.transpose(0, 2, 1) @ around)[1][:, :, 1]  # of the widest spread, (n, 2)
    part = (around @ axis[:, :, None])[..., 0] > 0
    for _ in range(n_iterations):
        to_first, to_second, apart = _to_centres(around, part)
        part = to_first < to_second
    to_first, to_second, apart = _to_centres(around, part)
    spread = np.sqrt(np.where(part, to_first, to_second).mean(axis=1))
    share = part.mean(axis=1)
    two = (np.minimum(share, 1 - share) >= minor_share) & (apart >= separation) & (spread < tightness * apart)
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

    A tissue counts as localisable if, on average over held-out slides, the embedding explains at least a quarter of the
    variance of the true positions, distances in it follow distances in the tissue (Spearman of at least 0.25), and
    candidates hold at least 1.5 times as many true neighbours as chance.

    Attributes
    ----------
    folds
        Scores of the held-out slides.
    limits
        From where on.
    held_out
        What was held out: ``"slides"``, or ``"blocks"`` of a single section. Blocks share animal, section and batch with what
        teaches, so that they say too much good of other sections.
    oriented
        How sure held-out cells tell rotation and reflection of the tissue (:class:`~ipar.training.orientation.Orientation`);
        NaN where not measured, in three dimensions.
    """

    folds: tuple[FoldScore, ...]
    limits: Limits = Limits()
    held_out: Literal["slides", "blocks"] = "slides"
    oriented: float = float("nan")

    def _mean(self, name: str) -> float:
        return float(np.mean([getattr(fold, name) for fold in self.folds]))

    @property
    def localisable(self) -> bool:
        """Whether predicted coordinates mean anything."""
        needed = ("explained", "distance_spearman", "recall_ratio")
        return all(self._mean(name) >= getattr(self.limits, name) for name in needed)

    @property
    def repeated(self) -> bool:
        """Whether the tissue looks mirrored or repeated: places far apart that expression does not tell apart."""
        return self._mean("two_places") >= self.limits.repeated

    def table(self) -> pd.DataFrame:
        """One row per fold."""
        return pd.DataFrame([asdict(fold) | {"recall_ratio": fold.recall_ratio} for fold in self.folds])

    def to_dict(self) -> dict[str, Any]:
        """Verdict and means, as plain values."""
        verdict: dict[str, Any] = {"localisable": self.localisable, "repeated": self.repeated}
        verdict |= {"held_out": self.held_out, "oriented": self.oriented}
        return verdict | {name: self._mean(name) for name in self.table().columns.drop("slide")}

    def message(self) -> str:
        """The figures in a sentence."""
        where = "slides" if self.held_out == "slides" else "blocks of the one section, an optimistic test for others"
        return (
            f"on held-out {where}, the embedding explains {self._mean('explained'):.0%} of the variance of true positions "
            f"({self.limits.explained:.0%} is needed), distances in it correlate with distances in the tissue at "
            f"{self._mean('distance_spearman'):.2f} (permuted: {self._mean('permutation_spearman'):.2f}; "
            f"{self.limits.distance_spearman:g} is needed), and candidates hold {self._mean('recall_ratio'):.1f} times as many true "
            f"neighbours as chance ({self.limits.recall_ratio:g} is needed)"
        )


def repeated_message(two_places: float, limit: float = Limits.repeated) -> str:
    """What a repeat means, in a sentence or two."""
    return (
        f"It looks mirrored or repeated: the neighbours in the embedding of {two_places:.0%} of the cells lie in two distant "
        f"places of the tissue ({limit:.0%} or more is called repeated). Which of the places a cell came from is not in its "
        "expression: train and predict on one side or one repeat."
    )


def score_of(folds: Sequence[FoldScore]) -> float:
    """One figure to choose between encoders: mean distance correlation plus mean recall, both between 0 and 1."""
    return float(np.mean([fold.distance_spearman + fold.recall for fold in folds]))
