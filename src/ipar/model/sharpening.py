"""Local structure of a layout, sharpened by the cells' own expression."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipar._chunks import row_slices
from ipar._cluster import pool
from ipar._descent import Descent
from ipar._options import Checked, Count, Distance, Pairs, Rate, Share, Steps, Weight
from ipar._run import Run, sent
from ipar.geometry import gauge_fix
from ipar.graph.candidates import fuzzy_edges
from ipar.graph.nearest import Nearest, nearest
from ipar.model.blend import principal_components
from ipar.model.evening import Evening, mean_distance, square_distances
from ipar.model.io import State
from ipar.model.outputs import Features


@dataclass(frozen=True)
class Sharpening(Checked):
    r"""How cells with similar expression are drawn together while the layout as a whole is held.

    A layout learned from distances blurs neighbourhoods: the embedding, and even more the expression, knows more true
    neighbours than two dimensions show. From the layout :math:`x^0`, minimise

    .. math:: \frac1n \sum_{(i,j) \in E} \tfrac32 w_{ij} \log\Big(1 + \frac{d_{ij}^2}{a^2}\Big)
              + \frac{\rho}n \sum_{(i,j) \in P} \log\Big(1 + \frac{1}{d_{ij}^2 / a^2 + 0.01}\Big)
              + 100\,\lambda \operatorname*{mean}_{(i,j) \in P} (d_{ij} - d_{ij}^0)^2

    over the edges E of :func:`ipar.graph.candidates.fuzzy_edges` and random pairs P, new in every step. There are 5n
    pairs; beyond 100,000, that many stand for 5n. The distance to hold is

    .. math:: d_{ij}^0 = (1 - \tau) \lVert x_i^0 - x_j^0 \rVert + \tau s \lVert z_i - z_j \rVert

    where z holds principal components of the global features and s brings both distances to one mean. The first two terms
    are UMAP's attraction and repulsion up to constants. The third keeps the map, which UMAP does not.

    The push is strong because a section is about equally dense everywhere. Where it is weak, cells gather in clumps. A
    strong push allows a loose hold.

    From half-way through the steps, two terms fill holes and thin out clumps, while the layout is less even than the tissue:

    .. math:: \frac{\sigma}n \sum_i \sum_{j \in N_i} \max\Big(0, 1 - \frac{d_{ij}}b\Big)^2 + \varepsilon (s - s^*)^2,
              \qquad s > s^*

    where s is the :func:`ipar.metrics.evenness` of the layout, and :math:`s^*` that of training slides. The first term
    spreads cells over several distances between neighbours. The second alone would line cells up in even strands around
    holes. The nearest cells in the layout :math:`N_i` are sought anew every few steps; some of them, drawn at random, stand
    for all.

    Edges join neighbours in the embedding and in the slide PCs: their distance is :math:`(1 - \omega)` of the first cosine
    distance plus :math:`\omega` of the second. They are sought among the nearest cells in the embedding. The slide PCs of a
    cell are averaged with those of similar cells (:meth:`GeometryEncoder.slide_pcs`).

    Results repeat, also for rows in another order. A difference in the last digits of the input may move single cells by
    some hundredths of an RMS radius.

    Attributes
    ----------
    reach
        a, in mean distances between cells: √(2π/n) RMS radii on a round tissue. Cells nearer than that are pulled
        no further.
    push
        ρ. With 1, as in UMAP, the same true neighbours cost more E_geo. Much more than 10 spreads neighbours again.
    hold
        λ, how firmly distances of the layout are held. :func:`ipar.tl.fit_ipalite` chooses it on a held-out slide: a loose
        hold finds more neighbours of single cells, but costs spots ranks of distances and E_geo.
    global_share
        τ, the share of the global features in the distances held.
    slide_pc_share
        ω, the share of the slide PCs in what makes neighbours; chosen on a held-out slide.
    held_dims
        Principal components of the global features whose distances are held: all of them would take far longer.
    evenness
        :math:`s^*`; with None, both terms that even the layout out are left out.
    evenness_weight
        ε.
    spread, spread_reach
        σ, and b in mean distances between cells. A stronger spread fills more of the tissue and finds fewer neighbours.
    n_spread, n_spread_drawn
        Nearest cells in the layout that are spread, and how many of them are drawn.
    search_every
        Steps between searches for them.
    n_neighbors, n_candidates
        k of the edges, and nearest cells in the embedding among which they are sought.
    pairs_per_cell, most_pairs
        Random pairs per step and cell, and at most in all.
    n_steps, lr, lr_end
        Steps of Adam; its learning rate in RMS radii, and the end of its cosine.

    References
    ----------
    McInnes et al., UMAP, arXiv:1802.03426 (2018), for the local terms.
    """

    reach: Distance = 1.6
    push: Weight = 10.0
    hold: Weight = 1.0
    global_share: Share = 0.6
    slide_pc_share: Share = 0.0
    held_dims: Count = 32
    evenness: Weight | None = None
    evenness_weight: Weight = 40.0
    spread: Weight = 0.3
    spread_reach: Distance = 4.0
    n_spread: Steps = 50
    n_spread_drawn: Steps = 6
    search_every: Count = 10
    n_neighbors: Steps = 8
    n_candidates: Steps = 100
    pairs_per_cell: Steps = 5
    most_pairs: Pairs = 100_000
    n_steps: Steps = 300
    lr: Rate = 0.02
    lr_end: Rate = 0.001

    def state(self) -> State:
        """Settings; it has no arrays."""
        return asdict(self), {}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Sharpening:
        """The object of :meth:`state`."""
        return cls(**config)


def fused_nearest(
    near: Nearest, slide_pcs: NDArray[np.float32] | None, share: float, k: int, n_rows: int = 512
) -> Nearest:
    """The k nearest by a weighted mean of two distances, among the nearest cells in the embedding.

    Without slide PCs ``(n, p)``, rows of norm 1, they are the first of these. ``n_rows`` cells are compared at a time, to fit the
    cache.
    """
    if slide_pcs is None or share == 0:
        return near.first(k)
    n = len(slide_pcs)
    index, distance = (np.empty((n, min(k, near.index.shape[1])), dtype=kind) for kind in (np.int32, np.float32))
    for rows in row_slices(n, n_rows):
        found = near.index[rows]
        apart = 1 - np.matmul(slide_pcs[found], slide_pcs[rows, :, None])[..., 0]
        fused = (1 - share) * near.distance[rows] + share * apart
        order = np.argsort(fused, axis=1, kind="stable")[:, :k]
        index[rows], distance[rows] = (np.take_along_axis(x, order, axis=1) for x in (found, fused))
    return Nearest(index, np.maximum(distance, 0))


def sharpen_layout(
    layout: NDArray[np.float32],
    features: Features,
    sharpening: Sharpening,
    slide_pcs: NDArray[np.float32] | None = None,
    run: Run | None = None,
    near: Nearest | None = None,
) -> NDArray[np.float32]:
    """Draw neighbours together; time and memory are linear in cells.

    Takes coordinates ``(n, 2)``, and features and slide PCs of the same cells; without these, neighbours are those of the
    embedding alone. ``near`` holds the nearest cells in the embedding, if they are known. Returns gauge-fixed coordinates,
    float32, ``(n, 2)``.
    """
    return start_sharpening(layout, features, sharpening, slide_pcs, run, near)()


def start_sharpening(
    layout: NDArray[np.float32],
    features: Features,
    sharpening: Sharpening,
    slide_pcs: NDArray[np.float32] | None = None,
    run: Run | None = None,
    near: Nearest | None = None,
) -> Callable[[], NDArray[np.float32]]:
    """Start the work of :func:`sharpen_layout`; gives a function that waits for the coordinates."""
    run = run or Run()
    near = nearest(features.embedding, sharpening.n_candidates) if near is None else near
    alike = fused_nearest(
        near.first(sharpening.n_candidates), slide_pcs, sharpening.slide_pc_share, sharpening.n_neighbors
    )
    edges = fuzzy_edges(alike)
    across = principal_components(features.global_features, sharpening.held_dims).numpy()
    run = run if pool().here else run.quiet()  # nobody sees a worker's bars
    return pool().start("sharpen", _drawn_together, layout, edges, across, sharpening, run)


def _drawn_together(
    layout: NDArray[np.float32],
    graph: tuple[NDArray[np.int64], NDArray[np.float32]],
    held_features: NDArray[np.float32],
    sharpening: Sharpening,
    run: Run,
) -> NDArray[np.float32]:
    """Take all steps, with the edges and their weights, and the features whose distances are held, ``(n, held_dims)``."""
    device = run.device
    edges, weights, across = (sent(torch.from_numpy(x), device) for x in (*graph, held_features))
    start = gauge_fix(sent(torch.from_numpy(np.ascontiguousarray(layout, dtype=np.float32)), device))
    n, reach = len(start), sharpening.reach * mean_distance(len(start))
    x = start.clone().requires_grad_()
    n_pairs = min(sharpening.pairs_per_cell * n, sharpening.most_pairs)
    pairs = _random_pairs(n, n_pairs, run.generator, device)
    held = _held_distances(start, across, sharpening.global_share, next(pairs))
    even = None if sharpening.evenness is None else Evening(sharpening, sharpening.evenness, run.generator)

    def loss(step: int) -> Tensor:
        first, second = next(pairs)
        pull = (weights * torch.log1p(square_distances(x, *edges) / reach**2)).sum()
        square = square_distances(x, first, second)
        # the floor bounds the push of coincident cells
        push = torch.log1p(1 / (square / reach**2 + 0.01)).sum() * (sharpening.pairs_per_cell * n / n_pairs)
        # the square is floored before the root, whose gradient at zero is infinite
        gap = square.clamp_min(1e-12).sqrt() - held(first, second)
        total = (1.5 * pull + sharpening.push * push) / n + 100.0 * sharpening.hold * gap.square().mean()
        return total if even is None or step < sharpening.n_steps // 2 else total + even(x, step)

    descent = Descent([x], lr=sharpening.lr, n_steps=sharpening.n_steps, lr_end=sharpening.lr_end)
    descent.minimise(loss, "sharpen" if run.progress else None)
    sharp: NDArray[np.float32] = gauge_fix(x.detach()).cpu().numpy()
    return sharp


def _held_distances(
    start: Tensor, across: Tensor, share: float, pairs: tuple[Tensor, Tensor]
) -> Callable[[Tensor, Tensor], Tensor]:
    """Distances to hold: the mean of those of the layout and of what was taught them, on the scale of the first."""
    mean, mean_taught = (square_distances(x, *pairs).sqrt().mean() for x in (start, across))
    scale = torch.where(mean_taught > 0, mean / mean_taught, 0.0)

    def held(first: Tensor, second: Tensor) -> Tensor:
        layout, taught = (square_distances(x, first, second).sqrt() for x in (start, across))
        return (1 - share) * layout + share * scale * taught

    return held


def _random_pairs(
    n: int, n_pairs: int, generator: torch.Generator, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of distinct cells, new every time, drawn on the host, so that they do not depend on the device."""
    while True:
        first = torch.randint(n, (n_pairs,), generator=generator)
        # an offset between 1 and n − 1 never leads back to the cell itself
        second = (first + torch.randint(1, n, first.shape, generator=generator)) % n
        yield sent(first, device), sent(second, device)
