"""Processes that train together: each reads a part of every batch, and all take the same steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The processes of a fit, by default this one alone.

    A loss is a sum over ranks, so that gradients are summed, too. Random numbers are drawn for the whole batch on every
    rank (:func:`ipar.nn.draws.drawn`). Any number of ranks therefore takes the steps of one process.

    Attributes
    ----------
    rank, count
        Number of this process, from 0, and how many there are.
    fabric
        The launched ``lightning_fabric.Fabric``, whose collectives are used; None for one process.
    """

    rank: int = 0
    count: int = 1
    fabric: Any = None

    def sum(self, x: Tensor) -> Tensor:
        """Sum over ranks, without gradient."""
        if self.count == 1:
            return x.detach()
        total: Tensor = self.fabric.all_reduce(x.detach().clone(), reduce_op="sum")
        return total

    def gather(self, x: Tensor) -> Tensor:
        """The tensors of all ranks, all of one shape, ``(count, ...)``."""
        found = x.new_zeros(self.count, *x.shape)
        found[self.rank] = x.detach()
        return self.sum(found)

    def same(self, value: T) -> T:
        """What rank 0 has: what follows from it is then the same everywhere."""
        found: T = value if self.count == 1 else self.fabric.broadcast(value, src=0)
        return found

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Sum gradients over ranks, in place, in one message."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        total = self.sum(torch.cat([g.flatten() for g in gradients]))
        for g, own in zip(gradients, torch.split(total, [g.numel() for g in gradients]), strict=True):
            g.copy_(own.view_as(g))

    def part(self, total: int) -> Part:
        """What this rank reads of a batch of so many examples.

        If there are fewer than ranks, the last ranks read an example that counts nothing, since all take part in sums.
        """
        start, stop = (total * r // self.count for r in (self.rank, self.rank + 1))
        if self.count > total:
            start, stop = min(self.rank, total - 1), min(self.rank, total - 1) + 1
        return Part(slice(start, stop), total, float(self.rank < total), self)


@dataclass(frozen=True)
class Part:
    """The examples of a batch that one rank reads.

    Attributes
    ----------
    rows, total
        Which they are of how many.
    present
        1, or 0 if they count nothing.
    ranks
        All ranks.
    """

    rows: slice
    total: int
    present: float
    ranks: Ranks

    @property
    def whole(self) -> bool:
        """Whether it is the whole batch."""
        return self.ranks.count == 1

    @property
    def weight(self) -> float:
        """What a mean over these examples counts in the mean over the batch."""
        return self.present * len(range(self.total)[self.rows]) / self.total

    def count(self, x: Tensor) -> Tensor:
        """Sum over ranks of a number of things in each part."""
        return self.ranks.sum(x * self.present)

    def gathered(self, x: Tensor) -> Tensor:
        """Rows of all ranks, ``(total, ...)``, of which the own ones, ``x``, have a gradient."""
        if self.whole:
            return x
        rows = x.new_zeros(self.total, *x.shape[1:])
        rows[self.rows] = x * self.present
        return rows + (self.ranks.sum(rows) - rows.detach())

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Within, networks draw the random numbers of the whole batch, and use those of the part."""
        before = _part.set(None if self.whole else self)
        try:
            yield
        finally:
            _part.reset(before)


_part: ContextVar[Part | None] = ContextVar("part", default=None)


def current_part() -> Part | None:
    """The part that networks draw for; None for a whole batch."""
    return _part.get()
