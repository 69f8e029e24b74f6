from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist, pdist

from ipar.metrics._alignment import boxed_pair
from ipar.metrics._checks import FloatArray, as_pair

_BLOCK_ELEMENTS = 2**22  # 32 MiB a float64 block: large enough to amortise the calls, small enough for any n


def distance_rows(true: FloatArray, pred: FloatArray) -> Iterator[tuple[int, FloatArray, FloatArray]]:
    """Yield (first row, true, predicted) blocks of rows of both distance matrices."""
    step = max(1, _BLOCK_ELEMENTS // len(true))
    for start in range(0, len(true), step):
        rows = slice(start, start + step)
        yield start, cdist(true[rows], true), cdist(pred[rows], pred)


def _centred_ranks(rows: FloatArray) -> FloatArray:
    # scipy.stats.rankdata(axis=1) minus its mean, three times as fast: only the rows with ties pay for averaging them
    n = rows.shape[1]
    order = np.argsort(rows, axis=1)
    values = np.take_along_axis(rows, order, axis=1)
    positions = np.tile(np.arange(n, dtype=np.float64), (len(rows), 1))
    changes = values[:, 1:] != values[:, :-1]
    tied = ~changes.all(axis=1)
    if tied.any():
        edge = np.ones((int(tied.sum()), 1), dtype=bool)
        index = np.arange(n)
        first = np.maximum.accumulate(np.where(np.hstack([edge, changes[tied]]), index, 0), axis=1)
        ends = np.where(np.hstack([changes[tied], edge]), index, n)
        last = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
        positions[tied] = (first + last) / 2
    ranks = np.empty_like(rows)
    np.put_along_axis(ranks, order, positions - (n - 1) / 2, axis=1)
    return ranks


def row_spearman(true: FloatArray, pred: FloatArray, *, align: bool) -> FloatArray:
    """Spearman correlation of every row of the two distance matrices, shape (n,); 0 where one is constant."""
    result = np.empty(len(true))
    for start, a, b in distance_rows(*boxed_pair(true, pred, align=align)):
        ranks_a, ranks_b = _centred_ranks(a), _centred_ranks(b)
        product = np.einsum("ij,ij->i", ranks_a, ranks_b)
        norm = np.sqrt(np.einsum("ij,ij->i", ranks_a, ranks_a) * np.einsum("ij,ij->i", ranks_b, ranks_b))
        result[start : start + len(a)] = np.divide(product, norm, out=np.zeros(len(a)), where=norm > 0)
    return result


def luna_spearman(
    true: ArrayLike, pred: ArrayLike, *, reduce: Literal["median", "mean"] = "median", align: bool = True
) -> float:
    r"""Rank correlation of each cell's distances to all cells, over the cells of one slide.

    .. math:: \operatorname{median}_i\ \rho_\mathrm{Spearman}\bigl(D^\mathrm{true}_{i\cdot},\ D^\mathrm{pred}_{i\cdot}\bigr)

    Parameters
    ----------
    true, pred
        Coordinates, shape (n_cells, 2), the same cells in the same order, each in any unit.
    reduce
        How the cells are summarised; the published figure is the median.
    align
        Align the prediction to the truth before each axis of both is scaled to [-1/2, 1/2]. On by default: that scaling
        depends on the frame, so without it the score of a turned prediction differs. False scales the prediction in
        its own frame, as the published evaluation does.

    Returns
    -------
    Correlation in [-1, 1]. A cell whose distances are all equal (a prediction on one point) counts 0.

    Raises
    ------
    ValueError
        As for `procrustes_align`, or if `reduce` is neither ``"median"`` nor ``"mean"``.

    Notes
    -----
    The evaluation of LUNA (Yu et al., 2025, *Tissue reassembly with generative AI*). Rows hold the cell itself at
    distance 0, tied distances share their average rank. Time grows with n² log n, memory with n.
    """
    if reduce not in ("median", "mean"):
        msg = f'`reduce` must be "median" or "mean", found {reduce!r}.'
        raise ValueError(msg)
    rows = row_spearman(*as_pair(true, pred), align=align)
    return float(np.median(rows) if reduce == "median" else rows.mean())


def _full_matrix_quantile(condensed: FloatArray, quantile: float) -> float:
    # every pair stands twice in the flattened matrix, which moves the interpolated quantile by up to one pair
    position = (2 * len(condensed) - 1) * quantile
    low = int(position)
    high = min(low + 1, 2 * len(condensed) - 1)
    part = np.partition(condensed, (low // 2, high // 2))
    below, above = part[low // 2], part[high // 2]
    return float(below + (position - low) * (above - below))


def contact_f1(true: ArrayLike, pred: ArrayLike, *, quantile: float = 0.01) -> float:
    """F1 of the contacts: pairs of cells nearer than the `quantile` of all distances of their own layout.

    Parameters
    ----------
    true, pred
        Coordinates, shape (n_cells, 2), the same cells in the same order, each in any unit.
    quantile
        Share of the pairs that count as contacts, in (0, 1). 0.01 looks at neighbours, 0.1 at regions.

    Returns
    -------
    F1 in [0, 1]; a random layout scores about `quantile`. 0 where the prediction has no contact at all, as when it lies
    on one point.

    Raises
    ------
    ValueError
        As for `procrustes_align`, or if `quantile` is outside (0, 1).

    Notes
    -----
    The evaluation of LUNA (Yu et al., 2025): both matrices are flattened, entries where their product is 0 dropped, and
    an entry is a contact strictly below the quantile. Memory: three float64 values for each pair of cells.
    """
    truth, layout = as_pair(true, pred)
    if not 0 < quantile < 1:
        msg = f"`quantile` must lie strictly between 0 and 1, found {quantile}; 0.01 and 0.1 are customary."
        raise ValueError(msg)
    a, b = pdist(truth), pdist(layout)
    kept = a * b != 0
    if not kept.all():
        a, b = a[kept], b[kept]
    if not len(a):
        return 0.0
    contact_a, contact_b = a < _full_matrix_quantile(a, quantile), b < _full_matrix_quantile(b, quantile)
    total = int(contact_a.sum()) + int(contact_b.sum())
    return 2 * int((contact_a & contact_b).sum()) / total if total else 0.0


def distance_pearson(true: ArrayLike, pred: ArrayLike) -> float:
    """Pearson correlation of all pairwise distances.

    Parameters
    ----------
    true, pred
        Coordinates, shape (n_cells, 2), the same cells in the same order, each in any unit. They are not rescaled.

    Returns
    -------
    Correlation in [-1, 1]; 0 where all distances of one layout are equal.

    Raises
    ------
    ValueError
        As for `procrustes_align`.
    """
    truth, layout = as_pair(true, pred)
    a, b = pdist(truth), pdist(layout)
    a -= a.mean()
    b -= b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0


def stress1(true: ArrayLike, pred: ArrayLike) -> float:
    r"""Kruskal's Stress-1 under the best uniform scale of the prediction.

    .. math:: \min_a \sqrt{\frac{\sum_{i<j} (d_{ij} - a\,\hat d_{ij})^2}{\sum_{i<j} d_{ij}^2}}, \qquad
        a = \frac{\sum d_{ij}\hat d_{ij}}{\sum \hat d_{ij}^2}

    Parameters
    ----------
    true, pred
        Coordinates, shape (n_cells, 2), the same cells in the same order, each in any unit.

    Returns
    -------
    Stress in [0, 1]; 0 is perfect, 1 a prediction on one point.

    Raises
    ------
    ValueError
        As for `procrustes_align`.

    Notes
    -----
    Kruskal, Psychometrika 29 (1964).
    """
    truth, layout = as_pair(true, pred)
    a, b = pdist(truth), pdist(layout)
    norm = float(b @ b)
    b *= float(a @ b) / norm if norm > 0 else 0.0
    b -= a
    return float(np.sqrt((b @ b) / (a @ a)))
