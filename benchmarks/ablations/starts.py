"""Networks that start from a layout: from the global map, or from their own first pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ipar.geometry import gauge_fix
from ipar.nn import EdgeGate, IPALiteConfig, IPALiteNet
from ipar.nn.block import Inputs, IPALiteBlock
from ipar.nn.draws import normal_like
from ipar.nn.gate import dense_gate
from ipar.nn.graph import CandidateGraph, as_graph
from ipar.training.gate import Part, Ready, augment
from ipar.training.minisets import Miniset, MinisetBatch, collate
from ipar.training.network import IPALiteTrainer

MAP_SCALE = 1000.0
"""Of places on the map in their columns: the noise that embeddings are trained with, 0.3, must not move them."""

_JITTER = 0.1  # of places on the map in training, in RMS radii
_LEAST_SPREAD = 0.05  # of a cell in the first layout, in RMS radii


class TurningBlock(IPALiteBlock):
    """A recycle whose steps turn with the layout: numbers per head and cell take the place of matrices."""

    def __init__(self, config: IPALiteConfig, recycle: int | None = None) -> None:
        super().__init__(config, recycle)
        self.amount = nn.Linear(config.d_state, config.n_heads)
        for parameter in self.amount.parameters():
            nn.init.zeros_(parameter)

    def move(self, s: Tensor, x: Tensor, attended: Tensor, inputs: Inputs, eta: Tensor | None) -> tuple[Tensor, Tensor]:
        """New states and the new layout."""
        pull = attended[..., -2:] - self._positions(x) * inputs.graph.filled[:, None, :, None]
        shift = torch.einsum("znh,zhnb->znb", self.amount(self.norm(s)), pull)
        moved, _ = super().move(s, x, attended, inputs, eta)
        return moved, gauge_fix(x + shift, inputs.mask)


class MapNet(IPALiteNet):
    """The network, whose first guess is the global map, the last two columns of what it reads."""

    def __init__(self, config: IPALiteConfig) -> None:
        super().__init__(config)
        self.blocks = nn.ModuleList(TurningBlock(config) for _ in self.blocks)

    def forward(self, h: Tensor, *graph: Any, **options: Any) -> Any:
        """Lay out sets ``(B, n, d + 2)``."""
        self._map = h[..., -2:] / MAP_SCALE
        return super().forward(h[..., : self.config.d_input].contiguous(), *graph, **options)

    def _first_guess(self, embedding: Tensor, mask: Tensor | None) -> Tensor:
        x = gauge_fix(self._map, mask)
        if self.training and self.config.coord_noise:
            x = x + self.config.coord_noise * normal_like(x)
        return gauge_fix(x, mask)


class MapTrainer(IPALiteTrainer):
    """Trains it with the map turned, mirrored and jittered at random, and without dropout of its columns."""

    def prepare(self, sets: Sequence[Miniset], part: Part) -> Ready:
        """A padded, augmented batch."""
        batch = collate(sets)
        augmented = augment(batch, self.config)
        h = torch.cat([augmented.h[..., :-2], moved_map(batch.h[..., -2:])], dim=-1)
        return Ready.of(replace(augmented, h=h), part, self.device)


def moved_map(places: Tensor) -> Tensor:
    """Columns of the map ``(B, n, 2)``, jittered, and turned and mirrored at random set by set."""
    angle = 2 * math.pi * torch.rand(len(places))
    side = torch.where(torch.rand(len(places)) < 0.5, 1.0, -1.0)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, -sin * side], -1), torch.stack([sin, cos * side], -1)], -2)
    return (places + _JITTER * MAP_SCALE * torch.randn_like(places)) @ turn


class TwoPassNet(IPALiteNet):
    """Two passes of one network: a second gate reads what is around each cell in the first layout.

    What is around a cell is the mean embedding of the set, weighted by exp(−d²/(u_i² + u_j²)). How uncertain a cell is, u_i,
    is how far the first pass moved it from its first guess. The gate sees no distances, and the first layout gets no gradient
    through it.
    """

    def __init__(self, config: IPALiteConfig) -> None:
        super().__init__(config)
        self.second = EdgeGate(config.d_input)

    def forward(
        self,
        embedding: Tensor,
        candidates: Tensor | CandidateGraph,
        gate: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        **options: Any,
    ) -> Any:
        """Layouts of both passes, the first pass first."""
        graph = as_graph(candidates)
        first = super().forward(embedding, graph, gate, mask=mask, **options)
        around = surroundings(embedding, first.layouts[-1].detach(), first.layouts[0].detach(), mask)
        scores = dense_gate(self.second, around, graph)
        second = super().forward(embedding, graph, scores if gate is None else gate + scores, mask=mask, **options)
        return replace(second, layouts=torch.cat([first.layouts, second.layouts]))


def surroundings(h: Tensor, x: Tensor, guess: Tensor, mask: Tensor | None) -> Tensor:
    """Mean embedding around every cell of a layout ``(B, n, 2)``, without its own, ``(B, n, d)``."""
    variance = (x - guess).square().sum(-1) + _LEAST_SPREAD**2
    logit = -torch.cdist(x, x).square() / (variance[:, :, None] + variance[:, None])
    left_out = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)[None]
    if mask is not None:
        left_out = left_out | ~mask[:, None]
    return logit.masked_fill(left_out, torch.finfo(logit.dtype).min / 2).softmax(-1) @ h


class TwoPassTrainer(IPALiteTrainer):
    """Losses of both passes."""

    def layout_terms(self, layouts: Tensor, batch: MinisetBatch) -> dict[str, Tensor]:
        """Means over the last layouts of both."""
        half = len(layouts) // 2
        first, second = super().layout_terms(layouts[:half], batch), super().layout_terms(layouts[half:], batch)
        return {name: (first[name] + second[name]) / 2 for name in first}
