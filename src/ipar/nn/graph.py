"""The candidate graph in two forms: a matrix for small sets of cells, lists of neighbours for large ones.

Both forms have the same operations. The last axis of their results holds the ``m`` slots of a cell: all ``n`` cells in
the dense form, ``k`` neighbours in the edge form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

Form = Literal["auto", "dense", "edges"]


class CandidateGraph(Protocol):
    """Which cells each cell may attend to."""

    @property
    def mask(self) -> Tensor:
        """Which slots are candidates, bool ``(B, n, m)``."""
        ...

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Products a_i · b_j of ``(B, H, n, d)`` tensors, ``(B, H, n, m)``."""
        ...

    def distance2(self, a: Tensor, b: Tensor) -> Tensor:
        """Squared distances of points a_i and b_j, ``(B, H, n, 2)`` each, ``(B, H, n, m)``."""
        ...

    def targets(self, values: Tensor) -> Tensor:
        """Values ``(B, n, d)`` of the cells in every slot, ``(B, n, m, d)`` or, if alike for all, ``(B, 1, m, d)``."""
        ...

    def weighted_sum(self, weights: Tensor, values: Tensor) -> Tensor:
        """Sums over candidates of weights ``(B, H, n, m)`` times values ``(B, H, n, d)``, ``(B, H, n, d)``."""
        ...

    def edges(self) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Source and target of every candidate edge, counted over the batch, and their slots in ``mask``."""
        ...


@dataclass(frozen=True)
class DenseGraph:
    """All pairs of cells with a mask."""

    mask: Tensor

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Products a_i · b_j."""
        return a @ b.mT

    def distance2(self, a: Tensor, b: Tensor) -> Tensor:
        """Squared distances of a_i and b_j, from explicit differences, which are exact for close points."""
        return (a[..., :, None, :] - b[..., None, :, :]).square().sum(-1)

    def targets(self, values: Tensor) -> Tensor:
        """Values of the cells in every slot."""
        return values[:, None]

    def weighted_sum(self, weights: Tensor, values: Tensor) -> Tensor:
        """Weighted sums of values."""
        return weights @ values

    def edges(self) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Source, target and slots of every candidate edge."""
        slots = self.mask.nonzero(as_tuple=True)
        batch, source, target = slots
        n = self.mask.shape[1]
        return batch * n + source, batch * n + target, slots


@dataclass(frozen=True)
class EdgeGraph:
    """A list of ``k`` neighbours per cell: memory grows with n·k, not n².

    Attributes
    ----------
    index
        Neighbours of every cell, int64 ``(B, n, k)``, with any index in slots outside the mask.
    mask
        Which slots are candidates, bool ``(B, n, k)``.
    """

    ROWS: ClassVar[int] = 2_048
    """Cells whose neighbours are gathered at once, which bounds memory and fits the cache."""

    index: Tensor
    mask: Tensor

    def _gather(self, values: Tensor) -> Tensor:
        """Values of the neighbours: ``(B, H, n, d)`` to ``(B, H, n, k, d)``."""
        batch, heads, cells, width = values.shape
        _, n, k = self.index.shape
        # whole rows by number, five times as fast as `gather`, which looks up every entry
        starts = cells * torch.arange(batch * heads, device=values.device).view(batch, heads, 1, 1)
        rows = (self.index[:, None] + starts).flatten()
        return values.reshape(batch * heads * cells, width).index_select(0, rows).view(batch, heads, n, k, width)

    def _blocks(self) -> Iterator[tuple[slice, EdgeGraph]]:
        """Some cells at a time, with their lists."""
        for start in range(0, max(self.index.shape[1], 1), self.ROWS):
            rows = slice(start, start + self.ROWS)
            yield rows, EdgeGraph(self.index[:, rows], self.mask[:, rows])

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Products a_i · b_j."""
        parts = [(part._gather(b) @ a[:, :, rows, :, None]).squeeze(-1) for rows, part in self._blocks()]
        return torch.cat(parts, dim=2)

    def distance2(self, a: Tensor, b: Tensor) -> Tensor:
        """Squared distances of a_i and b_j."""
        parts = [(a[:, :, rows, None] - part._gather(b)).square().sum(-1) for rows, part in self._blocks()]
        return torch.cat(parts, dim=2)

    def targets(self, values: Tensor) -> Tensor:
        """Values of the cells in every slot."""
        return self._gather(values[:, None])[:, 0]

    def weighted_sum(self, weights: Tensor, values: Tensor) -> Tensor:
        """Weighted sums of values."""
        parts = [(weights[:, :, rows, None] @ part._gather(values)).squeeze(-2) for rows, part in self._blocks()]
        return torch.cat(parts, dim=2)

    def edges(self) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Source, target and slots of every candidate edge."""
        slots = self.mask.nonzero(as_tuple=True)
        batch, source, _ = slots
        n = self.mask.shape[1]
        return batch * n + source, batch * n + self.index[slots], slots

    def dense(self) -> DenseGraph:
        """The same graph as a matrix."""
        batch, n, _ = self.index.shape
        counts = torch.zeros(batch, n, n, dtype=torch.int32, device=self.index.device)
        return DenseGraph(counts.scatter_add_(-1, self.index, self.mask.int()) > 0)


def as_graph(candidates: Tensor | CandidateGraph) -> CandidateGraph:
    """Candidates as a graph: a mask ``(B, n, n)`` becomes a dense one."""
    return DenseGraph(candidates) if isinstance(candidates, Tensor) else candidates


def graph_of(index: Tensor, *, form: Form = "auto", dense_max: int = 500) -> CandidateGraph:
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
    graph = EdgeGraph(index, torch.ones_like(index, dtype=torch.bool))
    dense = form == "dense" or (form == "auto" and index.shape[1] <= dense_max)
    return graph.dense() if dense else graph
