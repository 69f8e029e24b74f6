"""The candidate graph in two forms: a matrix for small sets of cells, lists of neighbours for large ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

Form = Literal["auto", "dense", "edges"]


@dataclass(frozen=True)
class CandidateGraph:
    """Which cells each cell may attend to.

    A cell has ``m`` slots: all ``n`` cells in a matrix, or its ``k`` neighbours in lists, whose memory grows with n·k.

    Attributes
    ----------
    mask
        Which slots are candidates, bool ``(B, n, m)``.
    index
        Cells in the slots of lists, int64 ``(B, n, k)``; None for a matrix.
    found
        Slots of the pairs of a matrix, or of the edges of lists, if they are known. To find them on an accelerator, the host
        waits for it.
    """

    ROWS: ClassVar[int] = 2_048
    """Cells whose neighbours are gathered at once, which bounds memory and fits the cache."""

    DENSE_MAX: ClassVar[int] = 500
    """Number of cells beyond which lists are faster than a matrix."""

    mask: Tensor
    index: Tensor | None = None
    found: tuple[Tensor, ...] | None = None

    @cached_property
    def filled(self) -> Tensor:
        """Which cells have any candidate, bool ``(B, n)``."""
        return self.mask.any(-1)

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Products a_i · b_j of ``(B, H, n, d)`` tensors, ``(B, H, n, m)``."""
        if self.index is None:
            return a @ b.mT
        return torch.cat([(self._gather(b, i) @ a[:, :, rows, :, None]).squeeze(-1) for rows, i in self._blocks()], 2)

    def distance2(self, a: Tensor, b: Tensor) -> Tensor:
        """Squared distances of points a_i and b_j, ``(B, H, n, 2)`` each, ``(B, H, n, m)``, exact for close points."""
        if self.index is None:
            return (a[..., :, None, :] - b[..., None, :, :]).square().sum(-1)
        return torch.cat([(a[:, :, rows, None] - self._gather(b, i)).square().sum(-1) for rows, i in self._blocks()], 2)

    def targets(self, values: Tensor) -> Tensor:
        """Values ``(B, n, d)`` of the cells in every slot, ``(B, n, k, d)``, or ``(B, 1, n, d)`` for a matrix."""
        return values[:, None] if self.index is None else self._gather(values[:, None], self.index)[:, 0]

    def weighted_sum(self, weights: Tensor, values: Tensor) -> Tensor:
        """Sums over candidates of weights ``(B, H, n, m)`` times values ``(B, H, n, d)``, ``(B, H, n, d)``."""
        if self.index is None:
            return weights @ values
        blocks = self._blocks()
        return torch.cat([(weights[:, :, rows, None] @ self._gather(values, i)).squeeze(-2) for rows, i in blocks], 2)

    def edges(self) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Source and target of every candidate edge, counted over the batch, and their slots in ``mask``."""
        known = None if self.index is None else self.found
        batch, source, target = slots = self.mask.nonzero(as_tuple=True) if known is None else known
        n = self.mask.shape[1]
        return batch * n + source, batch * n + (target if self.index is None else self.index[slots]), slots

    def pairs(self) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Both cells of every pair with an edge in a matrix, counted over the batch, and their slots ``(batch, i, j)``."""
        batch, first, second = slots = self._sought() if self.found is None else self.found
        n = self.mask.shape[1]
        return batch * n + first, batch * n + second, slots

    def with_found(self) -> CandidateGraph:
        """The same with the slots that the gate reads."""
        return replace(self, found=self._sought())

    def _sought(self) -> tuple[Tensor, ...]:
        return ((self.mask | self.mask.mT).triu() if self.index is None else self.mask).nonzero(as_tuple=True)

    def map(self, function: Callable[[Tensor], Tensor]) -> CandidateGraph:
        """Apply a function to every tensor."""
        index = None if self.index is None else function(self.index)
        return CandidateGraph(
            function(self.mask), index, None if self.found is None else tuple(map(function, self.found))
        )

    def of_pairs(self, values: Tensor) -> Tensor:
        """Values of all pairs, ``(B, n, n)``, in the slots, ``(B, n, m)``."""
        return values if self.index is None else values.gather(-1, self.index)

    def lists(self) -> CandidateGraph:
        """The same graph as lists, all as long as the longest."""
        if self.index is not None:
            return self
        mask, index = self.mask.to(torch.uint8).topk(int(self.mask.sum(-1).max()), dim=-1)
        return CandidateGraph(mask.bool(), index)

    def dense(self) -> CandidateGraph:
        """The same graph as a matrix."""
        if self.index is None:
            return self
        batch, n, _ = self.index.shape
        counts = torch.zeros(batch, n, n, dtype=torch.int32, device=self.index.device)
        return CandidateGraph(counts.scatter_add_(-1, self.index, self.mask.int()) > 0)

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Some cells at a time, with their neighbours."""
        if self.index is not None:
            for start in range(0, max(self.index.shape[1], 1), self.ROWS):
                rows = slice(start, start + self.ROWS)
                yield rows, self.index[:, rows]

    def _gather(self, values: Tensor, index: Tensor) -> Tensor:
        """Values of neighbours: ``(B, H, n, d)`` to ``(B, H, len(index), k, d)``."""
        batch, heads, cells, width = values.shape
        _, n, k = index.shape
        # whole rows by number, five times as fast as `gather`, which looks up every entry
        starts = cells * torch.arange(batch * heads, device=values.device).view(batch, heads, 1, 1)
        rows = (index[:, None] + starts).flatten()
        return values.reshape(batch * heads * cells, width).index_select(0, rows).view(batch, heads, n, k, width)


def as_graph(candidates: Tensor | CandidateGraph) -> CandidateGraph:
    """Candidates as a graph: a mask ``(B, n, n)`` becomes a matrix."""
    return CandidateGraph(candidates) if isinstance(candidates, Tensor) else candidates


def graph_of_mask(mask: Tensor, *, dense_max: int = CandidateGraph.DENSE_MAX) -> CandidateGraph:
    """Candidates ``(B, n, n)`` as a graph: a matrix up to `dense_max` cells, lists beyond."""
    graph = CandidateGraph(mask)
    return graph if mask.shape[-1] <= dense_max else graph.lists()


def graph_of(index: Tensor, *, form: Form = "auto", dense_max: int = CandidateGraph.DENSE_MAX) -> CandidateGraph:
    """Make the candidate graph of neighbour lists.

    Parameters
    ----------
    index
        Neighbours of every cell, int64 ``(B, n, k)``, without repeats.
    form
        ``"dense"`` (a matrix), ``"edges"`` (lists), or ``"auto"``: a matrix up to `dense_max` cells.
    dense_max
        Number of cells beyond which lists are faster.

    Raises
    ------
    ValueError
        If the form is not known.
    """
    if form not in ("auto", "dense", "edges"):
        msg = f"form must be 'auto', 'dense' or 'edges', found {form!r}."
        raise ValueError(msg)
    graph = CandidateGraph(torch.ones_like(index, dtype=torch.bool), index)
    dense = form == "dense" or (form == "auto" and index.shape[1] <= dense_max)
    return graph.dense() if dense else graph
