"""Minisets: random subsets of one slide, their targets and their padded batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ipar._ranks import Part
from ipar.geometry import gauge_fix
from ipar.geometry.targets import WalkTarget, log_walk, multiscale_edges, neighbour_count, walk_target
from ipar.graph.candidates import cosine_candidates


@dataclass(frozen=True)
class Miniset:
    """One training example."""

    h: Tensor  # embeddings, (n, e)
    coords: Tensor  # gauge-fixed, (n, d)
    walk: WalkTarget  # fixed edges, bandwidths and walk length
    edges: Tensor  # multiscale edges, (2, m)
    log_true: Tensor  # log true distance along them, (m,)
    candidates: Tensor  # candidate neighbours by the embedding, int (n, k)

    def __len__(self) -> int:
        return len(self.h)


@dataclass(frozen=True)
class MinisetBatch:
    """Minisets padded to one size; n and m are the largest of the batch."""

    h: Tensor  # embeddings, (B, n, e)
    mask: Tensor  # which cells are real, (B, n)
    candidates: Tensor  # mask, (B, n, n)
    adjacency: Tensor  # walk targets, (B, n, n)
    sigma: Tensor  # (B, n)
    steps: Tensor  # (B,)
    log_reference: Tensor  # log of the one-step target walk, (B, n, n)
    edges: Tensor  # multiscale edges, (B, 2, m)
    log_true: Tensor  # log distances along them, (B, m)
    edge_mask: Tensor  # which are real, (B, m)
    most_steps: int  # largest of steps
    everyone: Tensor  # mask of all sets, if these are a part of a batch

    def map(self, function: Callable[[Tensor], Tensor]) -> MinisetBatch:
        """Apply a function to every tensor."""
        mapped: dict[str, Any] = {name: function(x) for name, x in vars(self).items() if isinstance(x, Tensor)}
        return replace(self, **mapped)

    def of(self, part: Part) -> MinisetBatch:
        """The sets of a part."""
        return self if part.whole else replace(self.map(lambda x: x[part.rows]), everyone=self.mask)


def make_miniset(h: Tensor, coords: Tensor, n_neighbors: int, generator: torch.Generator) -> Miniset:
    """Fix the targets of one set of cells from its own coordinates ``(n, 2)`` or ``(n, 3)``.

    The generator draws ring edges and landmarks.
    """
    x = gauge_fix(coords)
    # not by the expanded product: its cancellation sets coincident cells 6e-4 apart and costs close ones a digit
    distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    edges = multiscale_edges(distance, neighbour_count(len(x)), generator)
    log_true = distance[edges[0], edges[1]].clamp_min(1e-6).log()
    return Miniset(h, x, walk_target(x), edges.to(torch.int16), log_true, cosine_candidates(h, n_neighbors).short())


def sample_minisets(
    embeddings: Sequence[Tensor],
    coords: Sequence[Tensor],
    n_minisets: int,
    *,
    size: tuple[int, int] = (96, 384),
    n_neighbors: int = 100,
    random_state: int = 0,
) -> list[Miniset]:
    """Draw minisets, balanced over slides.

    A slide with fewer cells than the smallest size gives sets of all its cells.

    Raises
    ------
    ValueError
        If there are fewer minisets than slides: some slide would never be learned from.
    """
    if n_minisets < len(embeddings):
        msg = f"n_minisets must be at least the number of slides, {len(embeddings)}, found {n_minisets}."
        raise ValueError(msg)
    generator = torch.Generator().manual_seed(random_state)
    drawn = draw_cells([len(h) for h in embeddings], n_minisets, size, random_state)
    return [
        make_miniset(embeddings[slide][cells], coords[slide][cells], n_neighbors, generator) for slide, cells in drawn
    ]


def draw_cells(
    n_cells: Sequence[int], n_minisets: int, size: tuple[int, int], random_state: int
) -> Iterator[tuple[int, Tensor]]:
    """Slide and cells of random subsets, slide by slide in turn; a slide of fewer cells gives all of them."""
    rng = np.random.default_rng(random_state)
    for index in range(n_minisets):
        slide = index % len(n_cells)
        n = min(int(rng.integers(size[0], size[1] + 1)), n_cells[slide])
        yield slide, torch.from_numpy(rng.choice(n_cells[slide], n, replace=False))


def batch_order(sizes: Sequence[int], batch_size: int, rng: np.random.Generator) -> list[list[int]]:
    """Batches of sets of like size, in random order: padding costs time with the square of the size.

    Sets are shuffled, then sorted within windows of eight batches, so that batches differ from epoch to epoch.
    """
    order = rng.permutation(len(sizes))
    window = 8 * batch_size
    batches = []
    for start in range(0, len(order), window):
        part = sorted(order[start : start + window].tolist(), key=lambda i: sizes[i])
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    rng.shuffle(batches)
    return batches


def collate(sets: Sequence[Miniset], device: torch.device | None = None) -> MinisetBatch:
    """Pad minisets to one batch."""
    b, n, m = len(sets), max(len(s) for s in sets), max(s.edges.shape[1] for s in sets)
    h = torch.zeros(b, n, sets[0].h.shape[1])
    coords = torch.zeros(b, n, sets[0].coords.shape[1])
    mask = torch.zeros(b, n, dtype=torch.bool)
    candidates, adjacency = torch.zeros(b, n, n, dtype=torch.bool), torch.zeros(b, n, n, dtype=torch.bool)
    sigma = torch.ones(b, n)
    edges, log_true = torch.zeros(b, 2, m, dtype=torch.long), torch.zeros(b, m)
    edge_mask = torch.zeros(b, m, dtype=torch.bool)
    for i, s in enumerate(sets):
        size, n_edges = len(s), s.edges.shape[1]
        h[i, :size], coords[i, :size], mask[i, :size] = s.h, s.coords, True
        candidates[i, :size].scatter_(1, s.candidates.long(), value=True)
        adjacency[i, :size, :size], sigma[i, :size] = s.walk.adjacency, s.walk.sigma
        edges[i, :, :n_edges], log_true[i, :n_edges], edge_mask[i, :n_edges] = s.edges, s.log_true, True
    steps = torch.tensor([s.walk.steps for s in sets])
    log_reference = log_walk(coords, adjacency, sigma)
    parts = (h, mask, candidates, adjacency, sigma, steps, log_reference, edges, log_true, edge_mask)
    batch = MinisetBatch(*parts, most_steps=max(s.walk.steps for s in sets), everyone=mask)
    return batch if device is None else batch.map(lambda part: part.to(device))
