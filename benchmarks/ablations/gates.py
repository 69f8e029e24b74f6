"""Gates that read how near two cells of a set are to each other, by the embedding and by the slide's own components.

What a gate may read stands in the columns of the embedding. So that it can read of pairs, a cell's columns hold, for every
cell of its set, how near that one is, and which of these columns is the cell's own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ipar.graph.candidates import cosine_candidates
from ipar.nn import EdgeGate

_MARK = 1000.0  # of a cell's own column: no noise hides it, and where dropout took it nothing is read
_SCALE = 10.0  # of relations in their columns: the noise that embeddings are trained with, 0.3, must not hide them
_HALF = 8.0  # rank at which a cell counts half as near as the nearest
_SHARED = 15  # near cells among which shared ones are counted
N_RELATIONS = 6
_HIDDEN = 64
_BY_RANK = slice(1, 3)


def ranks(h: Tensor) -> Tensor:
    """Rank of every other cell by similarity to each, ``(..., n, n)``; a cell itself has rank 0, as has its nearest."""
    n = h.shape[-2]
    order = cosine_candidates(h, n - 1)
    found = torch.zeros(*h.shape[:-1], n, dtype=torch.long)
    return found.scatter_(-1, order, torch.arange(n - 1).expand_as(order))


def relations(h: Tensor, width: int) -> Tensor:
    """What relates the cells of a set, ``(..., n, n)`` each.

    Cosine of own components; how near each is to the other by rank, 1 to 0, in the embedding and in own components; share
    of near cells that two have in common, in the embedding and in own components; :func:`sparseness` around the first.

    Parameters
    ----------
    h
        Embedding, the first ``width`` columns, with own components beside it, ``(..., n, width + p)``.

    Returns
    -------
    Tensor
        ``(..., n, 6, n)``.
    """
    own = functional.normalize(h[..., width:], dim=-1)
    found = [own @ own.mT]
    apart = ~torch.eye(h.shape[-2], dtype=torch.bool)
    rank = [ranks(part) for part in (h[..., :width], h[..., width:])]
    found += [apart / (1 + one / _HALF) for one in rank]
    near = [((one < _SHARED) & apart).to(h.dtype) for one in rank]
    found += [one @ one.mT / _SHARED for one in near]
    found.append(sparseness(h[..., :width])[..., None].expand_as(found[0]))
    return torch.stack(found, dim=-2)


def sparseness(h: Tensor) -> Tensor:
    """Log of the mean cosine distance of every cell to its nearest ones, less its mean over the set, ``(..., n)``."""
    unit = functional.normalize(h, dim=-1)
    near = (unit @ unit.mT).topk(min(_SHARED + 1, h.shape[-2]), dim=-1).values[..., 1:]
    found = (1 - near).mean(-1).clamp_min(1e-4).log()
    return found - found.mean(-1, keepdim=True)


def with_relations(h: Tensor, width: int, room: int) -> Tensor:
    """The embedding, then what relates each cell to all of its set, then which of them it is.

    Parameters
    ----------
    h
        Embedding with own components beside it, ``(..., n, width + p)``.
    room
        Cells of the largest set, at least ``n``.

    Returns
    -------
    Tensor
        ``(..., n, width + 7 * room)``.
    """
    n = h.shape[-2]
    pairs = functional.pad(_SCALE * relations(h, width), (0, room - n)).flatten(-2)
    mark = functional.pad(_MARK * torch.eye(n, dtype=h.dtype), (0, room - n)).expand(*h.shape[:-1], room)
    return torch.cat([h[..., :width], pairs, mark], dim=-1)


class NarrowGate(EdgeGate):
    """The gate, which does not see the columns beside the embedding."""

    def __init__(self, d_input: int, n_heads: int = 1) -> None:
        super().__init__(d_input, n_heads)
        self.d_input = d_input

    def forward(self, h: Tensor, source: Tensor, target: Tensor, **options: Any) -> Tensor:
        """Read edges of cells ``(m, d + ...)``."""
        return super().forward(h[:, : self.d_input].contiguous(), source, target, **options)


class RelationGate(NarrowGate):
    """The gate, with what a small network says of the relations of two cells added to its score."""

    def __init__(self, d_input: int, n_heads: int = 1) -> None:
        super().__init__(d_input, n_heads)
        n_read = 2 * N_RELATIONS + 2  # from either end, and the lesser nearness of the two ends
        self.relation = nn.Sequential(nn.Linear(n_read, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, n_heads))

    def forward(self, h: Tensor, source: Tensor, target: Tensor, *, both_ways: bool = False, **options: Any) -> Tensor:
        """Read edges of cells that :func:`with_relations` made, ``(m, d + 7 * room)``."""
        ends = [(source, target), (target, source)] if both_ways else [(source, target)]
        relations = torch.cat([self.relation(self.read(h, *one)) for one in ends])
        return super().forward(h, source, target, both_ways=both_ways, **options) + relations

    def read(self, h: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Relations of the ends of edges, ``(m, 14)``; zeros where a cell's mark was lost."""
        room = (h.shape[1] - self.d_input) // (N_RELATIONS + 1)
        _, pairs, mark = h.split([self.d_input, N_RELATIONS * room, room], dim=1)
        height, place = mark.max(dim=1)
        marked, blocks = height > _MARK / 2, pairs.unflatten(1, (N_RELATIONS, room)) / _SCALE
        there, back = blocks[source, :, place[target]], blocks[target, :, place[source]]
        mutual = torch.minimum(there[:, _BY_RANK], back[:, _BY_RANK])
        return torch.cat([there, back, mutual], dim=1) * (marked[source] & marked[target])[:, None]
