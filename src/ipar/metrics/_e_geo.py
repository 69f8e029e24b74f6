"""Geometric energy: the loss of training, as a score."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from scipy.special import log_softmax

from ipar._public import public
from ipar._seeds import as_rng
from ipar.metrics.checks import FloatArray, as_pair, gauge_fix


class EGeo(NamedTuple):
    """Geometric energy and its parts; see `e_geo`."""

    total: float
    """``1.0 * walk + 0.1 * stress``."""
    walk: float
    """Divergence of the random walks, L_RW, in nats."""
    stress: float
    """Mean squared log-ratio of distances, L_stress."""


def _n_neighbors(n: int) -> int:
    return min(max(20, 15 * n // 100), n - 1)


def _n_steps(n: int) -> int:
    return 3 if n <= 160 else 4 if n <= 300 else 5


def _log_step(squared: FloatArray, edges: NDArray[np.bool_], sigma: FloatArray) -> FloatArray:
    # log P of one step, -inf where there is no edge. Normalised in logs, because weights far from all neighbours underflow
    energy = np.where(edges, -squared / np.outer(sigma, sigma), -np.inf)
    return np.asarray(log_softmax(energy, axis=1), dtype=np.float64)


def _floored_kl(reference: FloatArray, other: FloatArray) -> float:
    ratio = np.log(np.maximum(reference, 1e-8)) - np.log(np.maximum(other, 1e-8))
    return float((reference * ratio).sum() / len(reference))


def _walk(d_true: FloatArray, d_pred: FloatArray, order: NDArray[np.intp], k: int) -> float:
    n = len(d_true)
    sigma = np.maximum(d_true[np.arange(n), order[:, k - 1]], 1e-6)
    edges = np.zeros((n, n), dtype=bool)
    edges[np.arange(n)[:, None], order[:, :k]] = True
    edges |= edges.T
    log_true, log_pred = _log_step(d_true**2, edges, sigma), _log_step(d_pred**2, edges, sigma)
    first_true, first_pred = np.exp(log_true), np.exp(log_pred)
    loss = float((first_true[edges] * (log_true[edges] - log_pred[edges])).sum() / n)
    power_true, power_pred = first_true, first_pred
    for step in range(1, _n_steps(n)):
        power_true, power_pred = power_true @ first_true, power_pred @ first_pred
        loss += 0.5**step * _floored_kl(power_true, power_pred)
    return loss


def _multiscale_edges(
    order: NDArray[np.intp], k: int, rng: np.random.Generator, n_ring: int = 10
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    # order (n, n - 1): the other cells, by true distance from each cell. Returns each undirected edge once, i < j
    n = len(order)
    cells = np.arange(n)[:, None]
    edges = np.zeros((n, n), dtype=bool)
    edges[cells, order[:, :k]] = True
    pool = order[:, k : 3 * k]
    picked = np.argsort(rng.random(pool.shape), axis=1)[:, : min(k, n_ring)]
    edges[cells, np.take_along_axis(pool, picked, axis=1)] = True
    landmarks = rng.choice(n, size=min(n, max(8, n // 16)), replace=False)
    edges[np.ix_(landmarks, landmarks)] = True
    i, j = np.nonzero(np.triu(edges | edges.T, 1))
    return i, j


def _log_stress(d_true: FloatArray, d_pred: FloatArray) -> float:
    ratio = np.log(np.maximum(d_pred, 1e-6)) - np.log(np.maximum(d_true, 1e-6))
    return float(ratio.var())  # the best offset alpha is minus the mean


def _gauge_fixed_prediction(pred: FloatArray) -> FloatArray:
    # equal weights on the true edges would score better than most layouts: a single point is scored as noise
    layout = gauge_fix(pred)
    return layout if layout.any() else gauge_fix(np.random.default_rng(0).standard_normal(pred.shape))


def _energy(true: FloatArray, pred: FloatArray, rng: np.random.Generator) -> EGeo:
    truth, layout = gauge_fix(true), _gauge_fixed_prediction(pred)
    n, k = len(truth), _n_neighbors(len(truth))
    d_true, d_pred = cdist(truth, truth), cdist(layout, layout)
    hidden = d_true.copy()
    np.fill_diagonal(hidden, np.inf)
    order = np.argsort(hidden, axis=1, kind="stable")[:, : n - 1]
    walk = _walk(d_true, d_pred, order, k)
    edges = _multiscale_edges(order, k, rng)
    stress = _log_stress(d_true[edges], d_pred[edges])
    return EGeo(1.0 * walk + 0.1 * stress, walk, stress)


@public
def e_geo(true: ArrayLike, pred: ArrayLike, *, random_state: int | np.random.Generator | None = 0) -> EGeo:
    r"""Geometric energy of a predicted layout.

    .. math::

        E_\mathrm{geo} &= 1.0\, L_\mathrm{RW} + 0.1\, L_\mathrm{stress} \\
        L_\mathrm{RW} &= \sum_{s=1}^{S} 2^{-(s-1)}\ \tfrac1n \sum_i
            \mathrm{KL}\bigl(P^{(s)}_{\mathrm{true}, i\cdot} \,\Vert\, P^{(s)}_{\mathrm{pred}, i\cdot}\bigr) \\
        L_\mathrm{stress} &= \min_\alpha\ \operatorname{mean}_{(i,j)}
            (\log \hat d_{ij} + \alpha - \log d_{ij})^2

    Parameters
    ----------
    true, pred
        Coordinates of the same cells in the same order, shape (n_cells, 2), in any unit.
    random_state
        Seed or generator for ring and landmark edges. The same seed gives the same edges for every prediction.

    Returns
    -------
    Named tuple of ``total``, ``walk`` and ``stress``. 0 is perfect.

    See Also
    --------
    e_geo_minisets : Mean over random subsets, for slides of any size.

    Notes
    -----
    Both layouts are first centred and scaled to unit RMS radius.

    **Walk.** Each cell has k = max(20, ⌊0.15 n⌋) true neighbours; σ_i is the true distance to the k-th. Pairs in which
    either cell is a true neighbour of the other have the weight w_ij = exp(−‖x_i − x_j‖² / (σ_i σ_j)). Normalising rows
    gives P⁽¹⁾, and P⁽ˢ⁾ is its s-th power. The prediction is weighted on the same pairs with the same σ. S is 3 up to 160
    cells, 4 up to 300, else 5.

    **Stress.** Edges join each cell to its k neighbours and to min(k, 10) random cells of the true ranks k+1 to 3k.
    Further edges join all pairs of max(8, ⌊n/16⌋) random landmarks.

    **Floors.** Probabilities of two or more steps are floored at 1e-8, distances and σ at 1e-6 RMS radii. A prediction that
    puts many cells on few points, such as cell-type centroids, therefore has a stress set by that floor. Spread such cells
    before scoring. A prediction on a single point is scored as Gaussian noise.

    Memory grows with n² and time with n³: a few seconds at 2,000 cells.
    """
    truth, layout = as_pair(true, pred)
    return _energy(truth, layout, as_rng(random_state))


@public
def e_geo_minisets(
    true: ArrayLike,
    pred: ArrayLike,
    *,
    n_minisets: int = 20,
    size: tuple[int, int] = (96, 384),
    random_state: int | np.random.Generator | None = 0,
) -> EGeo:
    """Mean `e_geo` over random subsets of the cells.

    Parameters
    ----------
    true, pred
        Coordinates of the same cells in the same order, shape (n_cells, 2), in any unit.
    n_minisets
        Number of subsets. With 20, the mean is stable to a few per cent.
    size
        Smallest and largest subset. Sizes are drawn uniformly, up to the number of cells.
    random_state
        Seed or generator for subsets and edges. The same seed gives the same subsets for every prediction.

    Returns
    -------
    Named tuple as from `e_geo`, each part averaged over the subsets.
    """
    truth, layout = as_pair(true, pred)
    low, high = size
    if n_minisets < 1:
        msg = f"`n_minisets` must be at least 1, found {n_minisets}."
        raise ValueError(msg)
    if not 4 <= low <= high:
        msg = f"`size` must be (smallest, largest) with 4 <= smallest <= largest, found {size}."
        raise ValueError(msg)
    rng = as_rng(random_state)
    n = len(truth)
    energies = []
    for _ in range(n_minisets):
        cells = rng.choice(n, size=min(n, int(rng.integers(low, high + 1))), replace=False)
        energies.append(_energy(truth[cells], layout[cells], rng))
    return EGeo(*(float(part) for part in np.mean(energies, axis=0)))
