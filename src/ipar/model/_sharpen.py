"""Local structure of a layout, sharpened by the cells' own expression."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ipar.geometry import gauge_fix
from ipar.graph import mutual_neighbors

_PULL = 1.5  # of an edge against the push of a pair
_PUSH_FLOOR = 0.01  # in squared reaches: bounds the push of coincident cells
_HOLD = 100.0
_PAIRS_PER_CELL = 5
_LR, _LR_END = 0.02, 0.001


@dataclass(frozen=True)
class Sharpening:
    r"""How cells that choose each other in the embedding are drawn together while the layout as a whole is held.

    A layout that was learned from distances blurs what is near: the embedding of a cell holds more of its true
    neighbours than two dimensions of it show. From the layout :math:`x^0`, minimise

    .. math:: \frac1n \sum_{(i,j) \in E} \tfrac32 w_{ij} \log\Big(1 + \frac{d_{ij}^2}{a^2}\Big)
              + \frac1n \sum_{(i,j) \in P} \log\Big(1 + \frac{1}{d_{ij}^2 / a^2 + 0.01}\Big)
              + 100\,\lambda \operatorname*{mean}_{(i,j) \in P} (d_{ij} - d_{ij}^0)^2

    over mutual neighbours E (:func:`ipar.graph.mutual_neighbors`) and 5n random pairs P, new in every step, with

    .. math:: d_{ij}^0 = (1 - \tau) \lVert x_i^0 - x_j^0 \rVert + \tau s \lVert z_i - z_j \rVert

    where z is what was taught distances across the tissue and s brings both to one mean. The first two terms are UMAP's
    attraction and repulsion up to constants; the third is what UMAP lacks, and keeps the map. Distances of z count as
    they are: two principal components of z, which the layout is made of, leave out what the others say.

    Attributes
    ----------
    reach
        a, in mean distances between cells: √(2π/n) RMS radii on a round tissue. Cells nearer than that are pulled
        no further.
    hold
        λ, how firmly distances of the layout are held. The defaults are mild: on left-out brain sections a quarter of the hold
        found up to a fifth more true neighbours, at the cost of a tenth of E_geo and more.
    taught
        τ: with some, development folds had the same or better ranks of distances and more true neighbours than with none.
    n_neighbors
        Neighbours among which mutual ones are found.
    n_steps
        Of Adam.

    References
    ----------
    McInnes et al., UMAP, arXiv:1802.03426 (2018), for the local terms.
    """

    reach: float = 1.6
    hold: float = 8.0
    taught: float = 0.3
    n_neighbors: int = 15
    n_steps: int = 300


def sharpen_layout(
    layout: NDArray[np.float32],
    h: NDArray[np.float32],
    far: NDArray[np.float32],
    sharpening: Sharpening,
    *,
    random_state: int = 0,
    progress: bool = False,
) -> NDArray[np.float32]:
    """Draw mutual neighbours together; time and memory are linear in cells.

    Parameters
    ----------
    layout
        Coordinates, ``(n, 2)``.
    h
        Embeddings of the same cells, ``(n, d)``.
    far
        What was taught distances across the tissue (z), ``(n, d)``.
    sharpening
        How.
    random_state
        Seed of the pairs.
    progress
        Show a bar.

    Returns
    -------
    NDArray
        Gauge-fixed coordinates, float32, ``(n, 2)``.
    """
    edges, weights = (torch.from_numpy(x) for x in mutual_neighbors(h, sharpening.n_neighbors))
    start = gauge_fix(torch.from_numpy(np.ascontiguousarray(layout, dtype=np.float32)))
    n, reach = len(start), sharpening.reach * math.sqrt(2 * math.pi / len(start))
    x = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([x], lr=_LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, sharpening.n_steps, eta_min=_LR_END)
    pairs = _random_pairs(n, torch.Generator().manual_seed(random_state))
    across = torch.from_numpy(np.ascontiguousarray(far, dtype=np.float32))
    held = _held_distances(start, across, sharpening.taught, next(pairs))
    for _ in tqdm(range(sharpening.n_steps), desc="sharpen", disable=not progress):
        first, second = next(pairs)
        pull = (weights * torch.log1p(_square(x, *edges) / reach**2)).sum()
        square = _square(x, first, second)
        push = torch.log1p(1 / (square / reach**2 + _PUSH_FLOOR)).sum()
        # the square is floored before the root, whose gradient at zero is infinite
        gap = square.clamp_min(1e-12).sqrt() - held(first, second)
        loss = (_PULL * pull + push) / n + _HOLD * sharpening.hold * gap.square().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    sharp: NDArray[np.float32] = gauge_fix(x.detach()).numpy()
    return sharp


def _held_distances(
    start: Tensor, far: Tensor, share: float, pairs: tuple[Tensor, Tensor]
) -> Callable[[Tensor, Tensor], Tensor]:
    """Distances to hold: the mean of those of the layout and of what was taught them, on the scale of the first."""
    mean, mean_taught = (_square(x, *pairs).sqrt().mean() for x in (start, far))
    scale = torch.where(mean_taught > 0, mean / mean_taught, 0.0)

    def held(first: Tensor, second: Tensor) -> Tensor:
        layout, taught = (_square(x, first, second).sqrt() for x in (start, far))
        return (1 - share) * layout + share * scale * taught

    return held


def _square(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Squared distances of pairs, ``(m,)``."""
    return (x.index_select(0, first) - x.index_select(0, second)).square().sum(-1)


def _random_pairs(n: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of distinct cells, five times as many as cells, new every time."""
    while True:
        first = torch.randint(n, (_PAIRS_PER_CELL * n,), generator=generator)
        # an offset between 1 and n − 1 never leads back to the cell itself
        yield first, (first + torch.randint(1, n, first.shape, generator=generator)) % n
