"""The candidate graph in two forms with one set of operations: a matrix for small sets, lists of neighbours for large.

Everything that runs over pairs of cells is written once, against these operations; its last axis holds the ``m`` slots
of a cell: all ``n`` cells in the dense form, ``k`` neighbours in the edge form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

Form = Literal["auto", "dense", "edges"]

_ROWS = 2_048  # cells whose neighbours are gathered at once: what is gathered stays in the cache, and memory small
DENSE_MAX = 500  # cells; beyond, a matrix of all pairs costs more than gathering neighbours


class CandidateGraph(Protocol):
    """Which cells each may attend to.

    Attributes
    ----------
    mask
        Which slots are candidates, bool ``(B, n, m)``.
    """

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
        """Values ``(B, n, d)`` of the cells in every slot, ``(B, n, m, d)``, or ``(B, 1, m, d)`` where all have the same."""
        ...

    def weighted_sum(self, weights: Tensor, values: Tensor) -> Tensor:
        """Sums over candidates of weights ``(B, H, n, m)`` times values ``(B, H, n, d)``, ``(B, H, n, d)``."""
        ...

    def edges(self) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Source and target of every candidate edge, counted over the batch, and the slots they fill in ``mask``."""
        ...


@dataclass(frozen=True)
class DenseGraph:
    """All pairs of cells with a mask."""

    mask: Tensor

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Products a_i · b_j."""
        return a @ b.mT

    def distance2(self, a: Tensor, b: Tensor) -> Tensor:
        """Squared distances of a_i and b_j, from explicit differences: no cancellation for close points."""
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
    """A list of ``k`` neighbours a cell: memory grows with n·k, not n².

    Attributes
    ----------
    index
        Neighbours of every cell, int64 ``(B, n, k)``; a cell of fewer has any index in the slots that ``mask`` closes.
    mask
        Which slots are candidates, bool ``(B, n, k)``.
    """

    index: Tensor
    mask: Tensor

    def _gather(self, values: Tensor) -> Tensor:
        """Values of the neighbours: ``(B, H, n, d)`` to ``(B, H, n, k, d)``."""
        batch, heads, cells, width = values.shape
        _, n, k = self.index.shape
        # whole rows by number: a fifth of the time of `gather`, which looks up every entry by itself
        starts = cells * torch.arange(batch * heads, device=values.device).view(batch, heads, 1, 1)
        rows = (self.index[:, None] + starts).flatten()
        return values.reshape(batch * heads * cells, width).index_select(0, rows).view(batch, heads, n, k, width)

    def _blocks(self) -> Iterator[tuple[slice, EdgeGraph]]:
        """Some cells at a time, and their part of the lists; neighbours are counted as before."""
        for start in range(0, max(self.index.shape[1], 1), _ROWS):
            rows = slice(start, start + _ROWS)
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
    """A graph as it is, or the dense graph of a mask ``(B, n, n)``."""
    return DenseGraph(candidates) if isinstance(candidates, Tensor) else candidates


def graph_of(index: Tensor, *, form: Form = "auto") -> CandidateGraph:
    """The graph of neighbour lists in the form that suits its size.

    Parameters
    ----------
    index
        Neighbours of every cell, int64 ``(B, n, k)``, without repeats.
    form
        ``"dense"``, ``"edges"``, or ``"auto"``: dense up to 500 cells.

    Raises
    ------
    ValueError
        If the form is not known.
    """
    if form not in ("auto", "dense", "edges"):
        msg = f"form must be 'auto', 'dense' or 'edges', found {form!r}."
        raise ValueError(msg)
    graph = EdgeGraph(index, torch.ones_like(index, dtype=torch.bool))
    dense = form == "dense" or (form == "auto" and index.shape[1] <= DENSE_MAX)
    return graph.dense() if dense else graph
