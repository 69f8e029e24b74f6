"""Agreement of true and predicted pairwise distances."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist, pdist
from scipy.stats import rankdata

from ipar._options import OpenShare
from ipar._public import public
from ipar.metrics._alignment import boxed_pair
from ipar.metrics.checks import FloatArray, as_pair, ranged_pair


def distance_rows(
    true: FloatArray, pred: FloatArray, block: int = 2**22
) -> Iterator[tuple[int, FloatArray, FloatArray]]:
    """Yield (first row, true, predicted) of both distance matrices, for rows of about `block` distances at a time."""
    step = max(1, block // len(true))
    for start in range(0, len(true), step):
        rows = slice(start, start + step)
        yield start, cdist(true[rows], true), cdist(pred[rows], pred)


def _centred_ranks(rows: FloatArray) -> FloatArray:
    # scipy's rankdata is slow: only rows with ties need it
    n = rows.shape[1]
    order = np.argsort(rows, axis=1)
    values = np.take_along_axis(rows, order, axis=1)
    tied = (values[:, 1:] == values[:, :-1]).any(axis=1)
    ranks = np.empty_like(rows)
    np.put_along_axis(ranks, order, np.arange(1.0, n + 1)[None], axis=1)
    if tied.any():
        ranks[tied] = rankdata(rows[tied], axis=1)
    ranks -= (n + 1) / 2
    return ranks


def row_spearman(true: FloatArray, pred: FloatArray, *, align: bool, block: int = 2**22) -> FloatArray:
    """Spearman correlation of each row of the two distance matrices, shape (n,). Constant rows have 0."""
    result = np.empty(len(true))
    for start, a, b in distance_rows(*boxed_pair(true, pred, align=align), block):
        ranks_a, ranks_b = _centred_ranks(a), _centred_ranks(b)
        product = np.einsum("ij,ij->i", ranks_a, ranks_b)
        norm = np.sqrt(np.einsum("ij,ij->i", ranks_a, ranks_a) * np.einsum("ij,ij->i", ranks_b, ranks_b))
        result[start : start + len(a)] = np.divide(product, norm, out=np.zeros(len(a)), where=norm > 0)
    return result


@public
def luna_spearman(
    true: ArrayLike, pred: ArrayLike, *, reduce: Literal["median", "mean"] = "median", align: bool = True
) -> float:
    r"""Rank correlation between true and predicted distances from each cell to all others.

    .. math:: \operatorname{median}_i\ \rho_\mathrm{Spearman}\bigl(D^\mathrm{true}_{i\cdot},\ D^\mathrm{pred}_{i\cdot}\bigr)

    Parameters
    ----------
    true, pred
        Coordinates of the same cells in the same order, shape (n_cells, 2), in any unit.
    reduce
        Summary over cells; the published score is the median.
    align
        Align the prediction with the truth before each axis of both is scaled to [-1/2, 1/2]. False scales the
        prediction in its own frame, as in the published evaluation.

    Returns
    -------
    Correlation in [-1, 1]. A cell with equal distances to all others counts as 0.

    Notes
    -----
    This is the score of LUNA (Yu et al., 2025, *Tissue reassembly with generative AI*). Distances include that of the
    cell to itself, and tied distances share their average rank. The scaling depends on the frame, so that without
    alignment the score depends on the rotation of the prediction. Time grows with n² log n, memory with n.
    """
    rows = row_spearman(*as_pair(true, pred), align=align)
    return float(np.median(rows) if reduce == "median" else rows.mean())


def _full_matrix_quantile(condensed: FloatArray, quantile: float) -> float:
    # every pair occurs twice in the flattened matrix, which shifts the interpolated quantile by up to one pair
    position = (2 * len(condensed) - 1) * quantile
    low = int(position)
    high = min(low + 1, 2 * len(condensed) - 1)
    part = np.partition(condensed, (low // 2, high // 2))
    below, above = part[low // 2], part[high // 2]
    return float(below + (position - low) * (above - below))


@public
def contact_f1(true: ArrayLike, pred: ArrayLike, *, quantile: OpenShare = 0.01) -> float:
    """F1 score of contacts: pairs of cells closer than a quantile of all distances of their layout.

    Parameters
    ----------
    true, pred
        Coordinates of the same cells in the same order, shape (n_cells, 2), in any unit.
    quantile
        Share of pairs that count as contacts, in (0, 1). Use 0.01 for neighbours, 0.1 for regions.

    Returns
    -------
    F1 score in [0, 1]. A random layout scores about `quantile`, a prediction on one point 0.

    Notes
    -----
    This is the score of LUNA (Yu et al., 2025). Both distance matrices are flattened, entries whose product is 0 are
    dropped, and entries strictly below the quantile are contacts. Memory: three float64 values per pair of cells.
    """
    truth, layout = ranged_pair(true, pred)
    a, b = pdist(truth), pdist(layout)
    kept = a * b != 0
    if not kept.all():
        a, b = a[kept], b[kept]
    if not len(a):
        return 0.0
    contact_a, contact_b = a < _full_matrix_quantile(a, quantile), b < _full_matrix_quantile(b, quantile)
    total = int(contact_a.sum()) + int(contact_b.sum())
    return 2 * int((contact_a & contact_b).sum()) / total if total else 0.0


@public
def distance_pearson(true: ArrayLike, pred: ArrayLike) -> float:
    """Pearson correlation between true and predicted pairwise distances.

    Parameters
    ----------
    true, pred
        Coordinates of the same cells in the same order, shape (n_cells, 2), in any unit.

    Returns
    -------
    Correlation in [-1, 1]; 0 if all distances of one layout are equal.
    """
    truth, layout = ranged_pair(true, pred)
    a, b = pdist(truth), pdist(layout)
    a -= a.mean()
    b -= b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0


@public
def stress1(true: ArrayLike, pred: ArrayLike) -> float:
    r"""Kruskal's Stress-1 after the best uniform scaling of the prediction.

    .. math:: \min_a \sqrt{\frac{\sum_{i<j} (d_{ij} - a\,\hat d_{ij})^2}{\sum_{i<j} d_{ij}^2}}, \qquad
        a = \frac{\sum d_{ij}\hat d_{ij}}{\sum \hat d_{ij}^2}

    Parameters
    ----------
    true, pred
        Coordinates of the same cells in the same order, shape (n_cells, 2), in any unit.

    Returns
    -------
    Stress in [0, 1]. 0 is perfect, 1 is a prediction on one point.

    Notes
    -----
    Kruskal, Psychometrika 29 (1964).
    """
    truth, layout = ranged_pair(true, pred)
    a, b = pdist(truth), pdist(layout)
    norm = float(b @ b)
    b *= float(a @ b) / norm if norm > 0 else 0.0
    b -= a
    return float(np.sqrt((b @ b) / (a @ a)))
